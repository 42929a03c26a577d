"""The calibration intercept by its equation, and calibration at each site that was left out."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.cohort.cohort import Cohort
from deconf.evidence import inspection
from deconf.evidence.calibration import (
    calibration_error,
    calibration_intercept,
    calibration_slope,
    expit,
)
from deconf.evidence.compare import compare
from deconf.evidence.leakage import audit
from deconf.evidence.report import Report
from deconf.maths.intervals import patient_weights

seeds = st.integers(0, 10_000)
FIGURES = {
    "calibration error": calibration_error,
    "calibration slope": calibration_slope,
    "calibration intercept": calibration_intercept,
}


def films(seed: int, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Stated log-odds, and outcomes whose true log-odds lie higher by the shift."""
    rng = np.random.default_rng(seed)
    logit = 1.5 * rng.normal(size=n)
    return logit, (rng.random(n) < expit(logit + shift)).astype(float)


@settings(max_examples=15)
@given(seed=seeds, shift=st.floats(-2, 2))
def test_the_intercept_makes_stated_and_observed_share_equal_and_finds_the_shift(seed, shift):
    logit, y = films(seed, 4000, shift)
    found = calibration_intercept(logit, y, np.ones((1, 4000)))[0]
    assert expit(logit + found).mean() == pytest.approx(y.mean(), abs=1e-9)
    assert found == pytest.approx(shift, abs=0.2)


@given(seed=seeds, shift=st.floats(-30, 30))
@settings(max_examples=15)
def test_what_is_added_to_every_stated_log_odds_is_taken_off_the_intercept(seed, shift):
    logit, y = films(seed, 200, 0.0)
    one = np.ones((1, 200))
    before = calibration_intercept(logit, y, one)[0]
    assert calibration_intercept(logit + shift, y, one)[0] == pytest.approx(before - shift)


def test_one_step_of_a_draw_is_close_to_solving_it():
    logit, y = films(0, 400, 0.7)
    w = patient_weights(np.arange(400), 40, 0)
    found = calibration_intercept(logit, y, w)
    for own, row in zip(found, w, strict=True):
        rows = np.repeat(np.arange(400), row.astype(int))
        whole = calibration_intercept(logit[rows], y[rows], np.ones((1, len(rows))))[0]
        assert own == pytest.approx(whole, abs=0.02)
    assert found.std() > 0.08


def test_one_class_has_no_intercept_in_the_films_or_in_a_draw():
    assert np.isnan(calibration_intercept(np.zeros(3), np.ones(3), np.ones((2, 3)))).all()
    y, w = np.array([1.0, 0.0, 0.0]), np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]])
    assert np.isnan(calibration_intercept(np.zeros(3), y, w)).tolist() == [False, True]


# ------------------------------------------------------------------ at each site


@pytest.fixture(scope="module")
def report() -> Report:
    """Three hospitals: illness is commoner at B than elsewhere, and C sent ill films only."""
    rng = np.random.default_rng(0)
    n = 900
    site = rng.choice(["A", "B", "C"], size=n, p=[0.45, 0.45, 0.1])
    share = pd.Series(site).map({"A": 0.2, "B": 0.6, "C": 1.0}).to_numpy()
    ill = (rng.random(n) < share).astype(int)
    z = rng.standard_normal((n, 4)).astype(np.float32)
    z[:, 0] += 1.5 * ill
    table = pd.DataFrame({"site": site, "ill": ill, "side": rng.choice(["left", "right"], n)})
    cohort = Cohort.from_arrays(z, table, site="site", outcome="ill")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
        return compare(
            {"raw": "stored"}, cohort, confounders="side", hold_out="site", pictures=False
        )


def cell(report: Report, metric: str, environment: str) -> pd.Series:
    t = report.to_frame()
    t = t[(t.representation == "raw") & (t.metric == metric) & (t.environment == environment)]
    assert len(t) == 1, (metric, environment)
    return t.iloc[0]


def test_every_site_has_error_slope_and_intercept_each_with_an_interval(report):
    for metric in FIGURES:
        for site in "AB":
            one = cell(report, metric, f"held out: site={site}")
            assert one.status == "ok"
            assert one.low < one.estimate < one.high
        lone = cell(report, metric, "held out: site=C")
        assert lone.status == "REFUSED"
        assert lone.reason == "C holds only ill=1: site cannot be told from ill there"
        assert cell(report, metric, "pooled").n == cell(report, metric, "held out: site=A").n + (
            cell(report, metric, "held out: site=B").n
        )


def test_where_illness_is_commoner_than_in_training_risks_are_stated_too_low(report):
    low, high = (cell(report, "calibration intercept", f"held out: site={s}") for s in "AB")
    assert low.high < 0 < high.low  # pooled they half cancel
    assert low.estimate < cell(report, "calibration intercept", "pooled").estimate < high.estimate
