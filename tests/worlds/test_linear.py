from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from deconf.errors import SettingsError
from deconf.worlds import LinearWorld, linear, worlds


def readable(z, label, rows=slice(None), seed=0):
    """AUROC of a linear probe, trained on one half of the patients' films and read on the other."""
    z, label = z[rows], label[rows]
    half = np.random.default_rng(seed).random(len(z)) < 0.5
    probe = LogisticRegression(C=0.1, max_iter=200).fit(z[half], label[half])
    return roc_auc_score(label[~half], probe.decision_function(z[~half]))


def column(draw, name):
    return draw.cohort.table[name].to_numpy()


def association(draw, a="portable", b="pneumonia"):
    return np.corrcoef(column(draw, a), column(draw, b))[0, 1]


@pytest.mark.parametrize("trace", ["shift", "rotation+gain"])
def test_the_trace_can_be_read_within_disease_and_the_oracle_has_none(trace):
    draw = LinearWorld(trace=trace, n=6000, seed=1).train()
    portable, disease = column(draw, "portable"), column(draw, "pneumonia")
    for y in (0, 1):
        rows = disease == y
        assert readable(draw.cohort.embeddings, portable, rows) > 0.9
        assert 0.45 < readable(draw.oracle, portable, rows) < 0.55
    assert readable(draw.oracle, portable) > 0.65  # pooled it can be guessed, from the disease
    assert readable(draw.oracle, disease) > 0.8


def test_the_null_world_has_no_trace_though_portable_still_follows_severity():
    draw = LinearWorld(trace="none", n=4000, seed=2).train()
    assert_array_equal(draw.cohort.embeddings, draw.oracle)
    assert_array_equal(*draw.do_portable)
    assert association(draw, "portable", "severity") > 0.5


@pytest.mark.parametrize("settings", [{}, {"sites": 3}, {"trace": "rotation+gain"}])
def test_the_same_film_on_two_devices_differs_by_the_trace_alone(settings):
    world = LinearWorld(n=500, seed=3, **settings)
    draw = world.test("balanced", n=500)
    stationary, mobile = draw.do_portable
    portable = column(draw, "portable") == 1
    z = draw.cohort.embeddings
    assert_array_equal(z[portable], mobile[portable])
    assert_array_equal(z[~portable], stationary[~portable])
    if world.sites == 1:
        assert_allclose(stationary, draw.oracle, atol=1e-6)
    if world.trace == "shift":
        step = mobile - stationary
        assert_allclose(step, np.broadcast_to(step[0], step.shape), atol=1e-5)
        assert np.linalg.norm(step[0]) > 2
    else:  # turned and stretched: an affine map of the clean film, the same for all
        x = np.hstack([draw.oracle, np.ones((500, 1))]).astype(float)
        fitted = x @ np.linalg.lstsq(x, mobile.astype(float), rcond=None)[0]
        assert_allclose(mobile, fitted, atol=1e-4)
        assert np.ptp(mobile - stationary, axis=0).max() > 1


@pytest.mark.parametrize("direction", ["anticausal", "causal"])
def test_environments_have_the_association_their_name_says(direction):
    world = LinearWorld(direction=direction, seed=4)
    trained = association(world.train())
    assert trained > 0.3
    assert abs(association(world.test("aligned", 6000)) - trained) < 0.06
    assert abs(association(world.test("balanced", 6000))) < 0.05
    assert abs(association(world.test("reversed", 6000)) + trained) < 0.06
    assert (
        abs(association(LinearWorld(direction=direction, association=0.0, seed=4).train())) < 0.05
    )


def test_the_shortcut_helps_where_aligned_and_hurts_where_reversed():
    world = LinearWorld(seed=5, trace="shift")
    train = world.train()
    head = LogisticRegression(C=0.1, max_iter=300).fit(
        train.cohort.embeddings, column(train, "pneumonia")
    )
    area = {
        name: roc_auc_score(column(d, "pneumonia"), head.decision_function(d.cohort.embeddings))
        for name in ("aligned", "balanced", "reversed")
        for d in [world.test(name)]
    }
    assert area["aligned"] > area["balanced"] + 0.03 > area["reversed"] + 0.06


def test_the_same_seed_gives_the_same_films_and_draws_share_none():
    one, same, other = (LinearWorld(n=300, seed=s) for s in (6, 6, 7))
    assert_array_equal(one.train().cohort.embeddings, same.train().cohort.embeddings)
    assert one.train().cohort.table.equals(same.train().cohort.table)
    assert np.abs(one.train().oracle - other.train().oracle).max() > 1
    drawn = [
        one.train(),
        *(one.test(e, 300) for e in ("aligned", "balanced", "reversed", "unseen")),
    ]
    patients = [set(column(d, "patient_id")) for d in drawn]
    assert len(set.union(*patients)) == sum(map(len, patients))
    assert len({d.oracle.tobytes() for d in drawn}) == 5


def test_films_of_a_patient_share_the_disease_and_some_patients_have_several():
    table = LinearWorld(n=2000, seed=8).train().cohort.table
    films = table.groupby("patient_id")
    assert films.size().max() >= 2
    assert (films["pneumonia"].nunique() == 1).all()
    assert (films["portable"].nunique() == 2).any()  # while the device may change


def test_an_unseen_site_shifts_half_outside_the_span_of_those_seen():
    world = LinearWorld(sites=4, seed=9, n=4000)
    train, unseen = world.train(), world.test("unseen")
    assert set(column(unseen, "site")).isdisjoint(column(train, "site"))
    stationary = train.do_portable[0].astype(float) - train.oracle
    sites = column(train, "site")
    seen = np.stack([stationary[sites == s].mean(axis=0) for s in np.unique(sites)])
    assert np.linalg.matrix_rank(seen, tol=1e-3) == 4
    shift = (unseen.do_portable[0].astype(float) - unseen.oracle).mean(axis=0)
    inside = np.linalg.lstsq(seen.T, shift, rcond=None)[0] @ seen
    share = np.linalg.norm(shift - inside) ** 2 / np.linalg.norm(shift) ** 2
    assert 0.2 < share < 0.8


def test_sites_differ_in_prevalence():
    draw = LinearWorld(sites=4, seed=10, n=8000).train()
    rate = draw.cohort.table.groupby("site")["pneumonia"].mean()
    assert np.ptp(rate) > 0.1
    assert LinearWorld(sites=4).confounders == ["site", "portable"]
    assert LinearWorld().confounders == ["portable"]
    assert "site" not in LinearWorld(n=50).train().cohort.table


def test_a_label_read_from_the_image_is_kept_by_the_empty_set_and_spoilt_by_the_outcome():
    draw = LinearWorld(direction="causal", n=12_000, seed=11).train()
    portable, disease = column(draw, "portable"), column(draw, "pneumonia")
    assert 0.46 < readable(draw.oracle, portable) < 0.54
    for y in (0, 1):  # the collider: among the sick, habit and content trade off
        assert readable(draw.oracle, portable, disease == y) > 0.56


def test_severity_seen_in_the_image_remains_given_the_disease_and_may_go_unrecorded():
    visible = LinearWorld(severity="visible", n=8000, seed=12).train()
    portable, disease = column(visible, "portable"), column(visible, "pneumonia")
    severity = column(visible, "severity")
    assert readable(visible.oracle, portable, disease == 1) > 0.55
    for s in (1, 2):
        assert 0.45 < readable(visible.oracle, portable, severity == s) < 0.55
    unrecorded = LinearWorld(severity="unrecorded", n=100, seed=12)
    assert "severity" not in unrecorded.train().cohort.table
    assert "severity -> image" in unrecorded.graph
    assert "severity -> image" not in LinearWorld().graph


def test_without_overlap_every_portable_film_shows_disease():
    table = LinearWorld(overlap=False, seed=13).train().cohort.table
    cells = table.groupby(["portable", "pneumonia"]).size()
    assert (1, 0) not in cells.index
    assert cells.min() > 200
    full = LinearWorld(seed=13).train().cohort.table.groupby(["portable", "pneumonia"]).size()
    assert len(full) == 4


def test_the_registered_world_is_the_class_and_says_what_must_be_reached():
    assert linear(n=60, seed=1) == LinearWorld(n=60, seed=1)
    assert worlds["linear"] is linear
    assert any("unchanged" in line for line in worlds.card("linear").expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trace": "blur"}, "no trace='blur'; choose from .*rotation"),
        ({"severity": "hidden"}, "no severity='hidden'"),
        ({"direction": "up"}, "no direction='up'; choose from .*anticausal"),
        ({"d": 8}, "d >= 24.*not d=8"),
        ({"n": 0}, "n >= 1.*n=0"),
        ({"sites": 0}, "sites >= 1.*sites=0"),
    ],
)
def test_a_world_that_is_not_there_is_refused_with_its_choices(settings, words):
    with pytest.raises(SettingsError, match=words):
        LinearWorld(**settings)


def test_an_environment_that_is_not_there_is_refused_with_its_choices():
    with pytest.raises(SettingsError, match=r"no environment 'sideways'; choose from .*reversed"):
        LinearWorld().test("sideways")
