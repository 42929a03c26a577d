"""Label errors and poor proxies, put in on purpose: known attenuation, conclusions that turn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deconf.causal.plan import make_plan
from deconf.causal.sensitivity import label_errors, proxy_range
from deconf.errors import CohortError, SettingsError


def frame(n: int = 4000, seed: int = 0) -> pd.DataFrame:
    """Severity drives disease and device; the score reads severity and nothing of the device."""
    rng = np.random.default_rng(seed)
    severity = rng.standard_normal(n)
    ill = (severity + rng.standard_normal(n) > 0).astype(int)
    portable = (severity + rng.standard_normal(n) > 0).astype(int)
    return pd.DataFrame(
        {"patient": np.arange(n) // 2, "severity": severity, "ill": ill, "portable": portable,
         "score": severity + 0.1 * rng.standard_normal(n)}
    )  # fmt: skip


def gap(table, given):
    """The mean difference of ill between devices, to two decimals."""
    return f"{table.groupby('portable')['ill'].mean().diff().iloc[-1]:.2f}"


def test_random_flips_shrink_a_difference_by_what_theory_says():
    seen = []
    label_errors(
        frame(), "ill", "portable",
        lambda table, _given: seen.append(float(gap(table, ()))) or "x",
        shares=[0.1, 0.2], repeats=5,
    )  # fmt: skip
    base = seen.pop(0)
    # P(y' = 1) = p (1 - f) + (1 - p) f, so differences shrink by 1 - 2 f.
    assert np.mean(seen[:5]) == pytest.approx(0.8 * base, abs=0.02)
    assert np.mean(seen[5:10]) == pytest.approx(0.6 * base, abs=0.02)


def test_flips_by_level_touch_that_level_alone():
    table = frame()

    def untouched(new, _given):
        changed = new["ill"] != table["ill"]
        return " ".join(f"{changed[table['portable'] == k].mean():.1f}" for k in (0, 1))

    found = label_errors(table, "ill", "portable", untouched, shares=[0.2], repeats=3).table
    assert found["mostly"].tolist() == ["0.2 0.2", "0.2 0.0", "0.0 0.2"]
    assert (found["turned"] == 1).all()


def test_the_rate_at_which_a_conclusion_turns_grows_with_the_error():
    def sign(table, _given):
        rate = table.groupby("portable")["ill"].mean()
        return "clear" if rate[1] - rate[0] > 0.25 else "not clear"

    found = label_errors(frame(), "ill", "portable", sign, repeats=10)
    assert found.baseline == "clear"
    random = found.table[found.table["change"] == "ill flipped at random"]
    assert random["turned"].is_monotonic_increasing
    assert random["turned"].iloc[0] == 0 < random["turned"].iloc[-1] == 1
    assert not found.is_firm
    assert "ill flipped at random, 20 %: in 100 % of 10 draws, mostly to 'not clear'" in str(found)
    steady = label_errors(frame(), "ill", "portable", lambda *_: "same", repeats=2)
    assert steady.is_firm
    assert "stands under every change" in str(steady)


def test_labels_of_a_patient_flip_together_and_missing_ones_stay_missing():
    table = frame(400)
    table["ill"] = table["patient"] % 2 * 1.0
    table.loc[:19, "ill"] = np.nan

    def whole(new, _given):
        assert new["ill"].isna().sum() == 20
        return str((new.groupby("patient")["ill"].nunique() <= 1).all())

    found = label_errors(table, "ill", "portable", whole, patient="patient", repeats=3)
    random = found.table[found.table["change"] == "ill flipped at random"]
    assert set(random["mostly"]) == {"True"}


def partial(table, given):
    """Whether device and score still go together once linear terms of the set are out of both."""
    held = np.column_stack([np.ones(len(table)), *(table[g].astype(float) for g in given)])
    left = [
        table[c] - held @ np.linalg.lstsq(held, table[c].astype(float), rcond=None)[0]
        for c in ("portable", "score")
    ]
    return "linked" if abs(np.corrcoef(*left)[0, 1]) > 0.1 else "not linked"


def test_sets_disagree_where_the_outcome_alone_leaves_the_path_open():
    found = proxy_range(frame(), "ill", "severity", partial, repeats=3)
    assert found.baseline == "not linked"
    by = found.table.set_index(["change", "amount"])["turned"]
    assert by["only ill held", "as recorded"] == 1  # severity still links device and score
    assert by["severity held", "reliability 1"] == 0
    assert by["severity held", "reliability 0.5"] == 1  # half of it is left
    assert by["ill and severity held", "reliability 1"] == 0


@pytest.mark.parametrize("kind", ["number", "category"])
def test_a_blurred_proxy_has_the_reliability_asked_for(kind):
    table = frame()
    if kind == "category":
        table["severity"] = (table["severity"] > 0).astype(int)
    seen = []

    def watch(new, given):
        if given == ("severity",):
            seen.append(np.corrcoef(new["severity"], table["severity"])[0, 1])
        return "x"

    proxy_range(table, "ill", "severity", watch, reliabilities=[1, 0.64], repeats=3)
    # A number with noise correlates with its own self by sqrt(r); of two blurred copies of a
    # category r each is what is kept, so that one copy keeps r of the link.
    expected = 0.8 if kind == "number" else 0.64
    assert seen[0] == pytest.approx(1)
    assert np.mean(seen[1:]) == pytest.approx(expected, abs=0.03)


def test_a_plan_that_leans_on_label_or_proxy_says_where_to_look():
    table = frame()
    told = str(make_plan(table, "portable", outcome="ill"))
    assert "deconf.label_errors flips 5, 10 and 20 %" in " ".join(told.split())
    assert "proxy_range" not in told
    graph = (
        "hidden -> ill; hidden -> portable; hidden -> severity; hidden -> image; ill -> image; "
        "portable -> image"
    )
    by_proxy = str(make_plan(table, "portable", outcome="ill", graph=graph))
    assert "deconf.proxy_range holds outcome, proxy and both" in " ".join(by_proxy.split())
    without = str(make_plan(table, "portable", graph="portable -> image"))
    assert "label_errors" not in without


def test_bad_input_is_refused_in_words():
    table = frame(100)
    with pytest.raises(CohortError, match=r"no column 'il'.*Did you mean 'ill'"):
        label_errors(table, "il", "portable", partial)
    with pytest.raises(CohortError, match=r"'score' has 100 values"):
        label_errors(table, "score", "portable", partial)
    with pytest.raises(SettingsError, match=r"shares=\[1.5\]"):
        label_errors(table, "ill", "portable", partial, shares=[1.5])
    with pytest.raises(SettingsError, match=r"reliabilities=\[0\]"):
        proxy_range(table, "ill", "severity", partial, reliabilities=[0])
    with pytest.raises(SettingsError, match="repeats=0"):
        label_errors(table, "ill", "portable", partial, repeats=0)
