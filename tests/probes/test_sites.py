"""Sites apart: nobody is on both sides, and as many as can be are judged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.errors import CohortError
from deconf.probes.leakage import leakage
from deconf.probes.sites import sites_apart


@settings(max_examples=30, deadline=None)
@given(patients=st.integers(4, 60), sites=st.integers(2, 14), seed=st.integers(0, 99))
def test_no_site_and_no_patient_is_on_both_sides(patients, sites, seed):
    rng = np.random.default_rng(seed)
    who = rng.integers(patients, size=3 * patients)
    site = np.r_[0, 1, rng.integers(sites, size=len(who) - 2)]
    c = rng.integers(2, size=len(who))
    train, test = sites_apart(c, np.zeros(len(who)), who, site, seed=seed)
    assert len(test)
    assert not set(site[train]) & set(site[test])
    assert not set(who[train]) & set(who[test])


def test_a_site_with_one_level_trains_and_is_not_held_out():
    site = np.repeat(["A", "B", "C"], [40, 40, 100])
    c = np.where(site == "C", 1, np.arange(180) % 2)
    _, test = sites_apart(c, np.zeros(180), np.arange(180), site, seed=0)
    assert "C" not in set(site[test])


def test_one_site_is_refused():
    one = np.zeros(20)
    with pytest.raises(CohortError, match=r"every row is of site 0.0.*Leave sites= out"):
        sites_apart(np.arange(20) % 2, one, np.arange(20), one, seed=0)


def world(turned: bool):
    """Return a trace of the view at four sites, alike or turned round at half of them."""
    rng = np.random.default_rng(0)
    site, c = rng.integers(4, size=1600), rng.integers(2, size=1600)
    z = rng.standard_normal((1600, 6)) + 3 * rng.standard_normal((4, 6))[site]
    sign = np.where(turned & (site < 2), -1, 1)
    z[:, 0] += 1.5 * sign * c
    return z, c, np.array([f"site {s}" for s in site])


def test_a_trace_that_all_sites_share_is_read_at_sites_never_seen():
    z, c, site = world(turned=False)
    far = leakage(z, c, sites=site, attackers=["logistic"], seed=0)
    assert far.p < 0.05
    assert far.estimate.low > 0.75
    assert all(name.startswith("all rows, site ") for name in far.per_stratum)


def test_a_trace_that_turns_round_between_sites_is_read_at_home_and_the_wrong_way_elsewhere():
    z, c, site = world(turned=True)
    ask = {"attackers": ["logistic"], "seed": 0}
    half = np.where(np.isin(site, ["site 0", "site 1"]), "north", "south")
    assert leakage(z, c, site, **ask).estimate.low > 0.7
    far = leakage(z, c, sites=half, **ask)
    assert far.artefacts == ("logistic",)
    assert far.intervals["logistic"].high < 0.4


def test_a_trace_of_the_sites_themselves_is_not_read_within_a_site():
    rng = np.random.default_rng(0)
    site = rng.integers(6, size=1200)
    c = (rng.random(1200) < 0.15 + 0.14 * site).astype(int)
    z = rng.standard_normal((1200, 4)) + site[:, None]  # the site is all there is
    assert leakage(z, c, attackers=["logistic"], seed=0).estimate.low > 0.65
    far = leakage(z, c, sites=site, attackers=["logistic"], seed=0)
    assert far.p > 0.05


def test_sites_of_one_level_each_leave_a_reason_instead_of_a_number():
    site = np.arange(200) % 4
    far = leakage(np.random.default_rng(0).standard_normal((200, 3)), site // 2, sites=site)
    assert "no stratum has two levels" in far.reason


def test_a_trace_at_one_site_of_four_is_found_site_by_site():
    rng = np.random.default_rng(0)
    site, c = rng.integers(4, size=1600), rng.integers(2, size=1600)
    z = rng.standard_normal((1600, 30))  # wide enough that a fit across sites is made, too
    z[:, 0] += 2 * c * (site == 2)
    found = leakage(z, c, site, attackers=["logistic"], seed=0)
    assert found.worst == "logistic"
    assert found.p < 0.05
    only = leakage(z[site == 2], c[site == 2], attackers=["logistic"], seed=0)
    rest = leakage(z[site != 2], c[site != 2], site[site != 2], attackers=["logistic"], seed=0)
    assert only.estimate.low > 0.8
    assert rest.p > 0.05
