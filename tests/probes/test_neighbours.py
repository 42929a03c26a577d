"""Neighbours are exact; the measures built on them know mixed from separated, and chance."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deconf.errors import CohortError, SettingsError
from deconf.probes.neighbours import (
    Measure,
    average_performance_drop,
    biology_kept,
    biology_silhouette,
    clustering_score,
    cramers_v,
    integrated_degradation,
    kbet,
    lisi,
    nearest,
    neighbourhood,
    paired_robustness_index,
    robustness_index,
    robustness_margin,
    shortcut_sweep,
    silhouettes,
    site_mixing,
    site_silhouette,
    training_plans,
    weighted_index,
)
from deconf.probes.neighbours import search as search_file


def world(
    n: int = 400, *, site: float = 0.0, biology: float = 0.0, sites: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return z (n, 8), site and biology; how far sites and classes lie apart, in deviations."""
    rng = np.random.default_rng(seed)
    s, y = rng.integers(sites, size=n), rng.integers(2, size=n)
    z = rng.standard_normal((n, 8))
    z[:, 0] += biology * y
    z[:, 1:4] += site * np.eye(3)[s]
    return z, s, y


def by_hand(z, k, patients=None, metric="euclidean"):
    """Return neighbours and distances of all pairs in float64, ties by row."""
    z = z.astype(float)
    if metric == "cosine":
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
    squared = np.array([((z - row) ** 2).sum(axis=1) for row in z])
    np.fill_diagonal(squared, np.inf)
    if patients is not None:
        squared[patients[:, None] == patients] = np.inf
    index = np.argsort(squared, axis=1, kind="stable")[:, :k]
    squared = np.take_along_axis(squared, index, axis=1)
    distance = np.sqrt(squared) if metric == "euclidean" else squared / 2
    return np.where(np.isinf(distance), -1, index), distance


# ---- the search


@settings(max_examples=60)
@given(
    n=st.integers(5, 300),
    d=st.integers(1, 40),
    seed=st.integers(0, 10_000),
    away=st.sampled_from([0.0, 30.0, 3e4]),
    grid=st.booleans(),
    repeated=st.booleans(),
    metric=st.sampled_from(["euclidean", "cosine"]),
    share=st.floats(0.01, 1.0),
)
def test_neighbours_are_those_of_all_float64_distances(
    n, d, seed, away, grid, repeated, metric, share
):
    """Ties, copies, far from the origin, fewer patients than neighbours: the same rows."""
    rng = np.random.default_rng(seed)
    z = (rng.integers(1, 4, (n, d)) if grid else rng.standard_normal((n, d))) + away
    z = z.astype(np.float32)
    if metric == "cosine" and d == 1:
        z[:, 0] *= rng.choice([-1.0, 1.0], n)
    if np.ptp(search_file.checked(z, metric)) == 0:
        return
    patients = rng.integers(max(2, n // 3), size=n) if repeated else None
    if patients is not None and len(np.unique(patients)) < 2:
        return
    k = max(1, int(share * (n - 1)))
    found = nearest(z, k, metric=metric, patients=patients)
    index, distance = by_hand(z, k, patients, metric)
    if metric == "euclidean" or not grid:  # unit vectors off a grid tie but for rounding
        assert np.array_equal(found.index, index)
    assert np.allclose(found.distance, distance, rtol=1e-9, atol=1e-12)


def test_a_search_in_small_blocks_finds_the_same(monkeypatch):
    z = np.random.default_rng(0).standard_normal((700, 12)).astype(np.float32)
    patients = np.arange(700) // 3
    whole = nearest(z, 20, patients=patients)
    monkeypatch.setattr(search_file, "BLOCK", 5_000)
    monkeypatch.setattr(search_file, "PAIRS", 600)
    parts = nearest(z, 20, patients=patients)
    assert np.array_equal(whole.index, parts.index)
    assert np.array_equal(whole.distance, parts.distance)


def test_rounding_in_float32_does_not_choose_the_neighbours():
    """Rows 1e-5 apart around points 1 apart: float32 products cannot order them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((20, 200))
    z = np.repeat(centres, 15, axis=0) + 1e-5 * rng.standard_normal((300, 200))
    near32 = np.argsort(
        ((z**2).sum(1)[None] - 2 * z.astype(np.float32) @ z.T.astype(np.float32)), axis=1
    )[:, 1:11]
    index, _ = by_hand(z, 10)
    assert (near32 != index).mean() > 0.1
    assert np.array_equal(nearest(z, 10).index, index)


def test_no_neighbour_is_of_the_same_patient_and_missing_ones_are_said():
    z = np.random.default_rng(0).standard_normal((12, 3))
    patients = np.array([0] * 8 + [1] * 4)
    found = nearest(z, 6, patients=patients)
    assert (found.known.sum(axis=1) == np.where(patients == 0, 4, 6)).all()
    assert np.isinf(found.distance[~found.known]).all()
    rows, columns = np.nonzero(found.known)
    assert (patients[rows] != patients[found.index[rows, columns]]).all()


def test_a_row_is_its_own_first_neighbour_where_asked():
    z = np.repeat(np.random.default_rng(0).standard_normal((10, 3)), 2, axis=0)
    found = nearest(z, 4, with_self=True)
    assert np.array_equal(found.index[:, 0], np.arange(20))
    assert np.array_equal(found.index[:, 1:], nearest(z, 3).index)


@pytest.mark.parametrize(
    ("z", "k", "settings_", "says"),
    [
        (np.eye(4), 4, {}, r"k = 4 .* 3 other rows: choose k from 1 to 3"),
        (np.eye(4), 0, {}, "choose k from 1 to 3"),
        (np.ones((4, 2)), 1, {}, "all 4 embeddings point to the same place"),
        (np.array([[1.0, 2], [2, 4], [3, 6]]), 1, {"metric": "cosine"}, "the same place"),
        (np.array([[1.0], [np.nan]]), 1, {}, "row 1 is not finite"),
        (np.array([[1.0], [0.0]]), 1, {"metric": "cosine"}, "row 1 is all zeros"),
        (np.eye(4), 1, {"patients": np.zeros(4)}, "all rows are of one patient"),
        (np.ones(4), 1, {}, r"\(n, d\) embeddings"),
    ],
)
def test_a_search_that_cannot_be_made_says_why(z, k, settings_, says):
    with pytest.raises(CohortError, match=says):
        nearest(z, k, **settings_)


def test_an_unknown_metric_names_the_known_ones():
    with pytest.raises(SettingsError, match="'euclidean' or 'cosine'"):
        nearest(np.eye(4), 1, metric="manhattan")


# ---- laws of all measures


def measures(z, site, biology, patients) -> dict[str, float]:
    return neighbourhood(z, site, biology, patients=patients).figures


@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_rows_and_the_names_of_the_levels_change_nothing(seed):
    rng = np.random.default_rng(seed)
    z, site, biology = world(150, site=1.0, biology=1.0, seed=seed)
    patients, order = rng.integers(90, size=150), rng.permutation(150)
    once = measures(z, site, biology, patients)
    names = np.array(["north", "east", "south"])
    again = measures(z[order], names[site[order]], biology[order] * 7, patients[order])
    assert again == pytest.approx(once, abs=1e-9)


@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_turning_moving_and_stretching_the_embedding_changes_no_order(seed):
    """All but LISI: its weights are made scale-free by the bisection, to within a tolerance."""
    z, site, biology = world(150, site=1.0, biology=1.0, seed=seed)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((8, 8)))[0]
    near, turned = nearest(z, 30), nearest(7 * z @ turn + 3, 30)
    assert np.array_equal(near.index, turned.index)
    for measure in (site_mixing, biology_kept):
        assert measure(turned, site) == pytest.approx(measure(near, site), abs=1e-3)
    moved = site_silhouette(7 * z @ turn + 3, site, biology)
    assert moved == pytest.approx(site_silhouette(z, site, biology), abs=1e-9)


def test_mixed_sites_are_found_mixed_and_separated_ones_separated():
    mixed, apart = world(1200), world(1200, site=40.0)
    near, far = (nearest(z, 300) for z, _, _ in (mixed, apart))  # so many that chance is small
    assert 2.85 < np.median(lisi(near, mixed[1])) <= 3
    assert np.median(lisi(far, apart[1])) == pytest.approx(1)
    assert site_mixing(near, mixed[1]) > 0.9
    assert site_mixing(far, apart[1]) == pytest.approx(0)
    assert kbet(near, mixed[1]).accepted > 0.9
    assert kbet(far, apart[1]).accepted == 0
    assert site_silhouette(*mixed) > 0.95
    assert site_silhouette(*apart) < 0.3


def test_disease_apart_is_found_apart():
    z, _, biology = world(600, biology=40.0)
    near = nearest(z, 90)
    assert biology_kept(near, biology) == pytest.approx(1)
    assert biology_silhouette(z, biology) > 0.9
    z, _, biology = world(1200)
    assert biology_kept(nearest(z, 300), biology) < 0.05


def test_the_index_and_the_margin_rise_with_disease_and_fall_with_site():
    found = {}
    for name, strengths in {
        "disease": {"biology": 6.0},
        "site": {"site": 6.0},
        "neither": {},
    }.items():
        z, site, biology = world(500, **strengths)
        z = z - z.mean(axis=0)
        near = nearest(z, 60, metric="cosine")
        margins = robustness_margin(z, site, biology)
        found[name] = (
            robustness_index(near, site, biology, k=21).index,
            weighted_index(near, site, biology, k=21)[0],
            paired_robustness_index(z, site, biology, k=21).index,
            margins.median,
            -margins.site_nearer,
            margins.tail,
            clustering_score(z, site, biology, clusters=2, trials=3).score,
        )
    assert (np.array(found["disease"]) > np.array(found["neither"]) + 0.05).all()
    assert (np.array(found["neither"]) > np.array(found["site"]) + 0.05).all()
    assert found["disease"][0] > 0.99
    assert found["site"][0] < 0.1


def test_with_sites_dealt_at_random_every_measure_reads_chance():
    """Within classes, in an embedding that separates both: what remains is chance."""
    z, site, biology = world(800, site=3.0, biology=3.0)
    found = neighbourhood(z, site, biology)
    dealt = np.empty_like(site)
    for level in (0, 1):
        rows = np.flatnonzero(biology == level)
        dealt[rows] = np.random.default_rng(5).permutation(site[rows])
    null = neighbourhood(z, dealt, biology, k=found.k)
    for name in ("robustness index", "site mixing (iLISI)"):
        measure = null.measures[name]
        assert measure.figure == pytest.approx(measure.shuffled, abs=0.02), name
        assert found.measures[name].figure < found.measures[name].shuffled - 0.2, name
    accepted = null.measures["neighbourhoods accepted (kBET)"]
    assert min(accepted.figure, accepted.shuffled) > 0.93
    assert found.figures["neighbourhoods accepted (kBET)"] < 0.3
    assert null.figures["silhouette of sites"] > 0.97


def test_a_neighbourhood_reads_what_each_measure_reads_alone():
    z, site, biology = world(300, site=1.0, biology=1.0)
    patients = np.arange(300) // 2
    found = neighbourhood(z, site, biology, patients=patients)
    plain = nearest(z, 90, patients=patients)
    alone = {
        "robustness index": robustness_index(
            nearest(z, 90, metric="cosine", patients=patients), site, biology
        ).index,
        "margin": robustness_margin(z, site, biology, patients=patients).median,
        "site mixing (iLISI)": site_mixing(plain, site),
        "disease kept (cLISI)": biology_kept(plain, biology),
        "neighbourhoods accepted (kBET)": kbet(plain, site).accepted,
        "silhouette of sites": site_silhouette(z, site, biology),
        "silhouette of the disease": biology_silhouette(z, biology),
    }
    assert found.figures == pytest.approx(alone, abs=1e-12)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_a_row_that_weighs_two_is_a_row_that_stands_there_twice(seed):
    rng = np.random.default_rng(seed)
    values, share = rng.standard_normal((2, 40))
    share, twice = np.abs(share), rng.integers(1, 3, size=40)
    rows = np.repeat(np.arange(40), twice)
    for kind in (None, share):
        here = Measure(values, kind, scale=2.0, offset=-1.0)
        laid_out = Measure(values[rows], None if kind is None else kind[rows], 2.0, -1.0)
        assert here.read(twice[None])[0] == pytest.approx(laid_out.figure)


def test_films_of_a_patient_pass_for_a_site_until_they_are_left_out():
    """Patients lie apart, sites do not: only with patients known does the index see that."""
    rng = np.random.default_rng(0)
    patients = np.arange(600) // 6
    site, biology = rng.integers(3, size=100)[patients], rng.integers(2, size=100)[patients]
    biology = np.where(rng.random(600) < 0.5, biology, 1 - biology)  # a patient changes
    z = (3 * rng.standard_normal((100, 8)))[patients] + rng.standard_normal((600, 8))
    with_them = robustness_index(nearest(z, 5, metric="cosine"), site, biology, k=5).index
    near = nearest(z, 5, metric="cosine", patients=patients)
    without = robustness_index(near, site, biology, k=5).index
    assert with_them < 0.4
    assert without == pytest.approx(2 / 3, abs=0.06)  # two of three sites are others


# ---- single measures


def test_lisi_of_equal_weights_is_the_inverse_simpson_index():
    """Neighbours at one distance weigh the same, so counts decide: 4, 2 and 2 of 8."""
    z = np.vstack([np.zeros((1, 8)), np.eye(8)])
    codes = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2])
    found = lisi(nearest(z, 8), codes, perplexity=3)[0]
    assert found == pytest.approx(1 / (0.5**2 + 0.25**2 + 0.25**2))


def test_kbet_rejects_a_true_null_no_more_often_than_its_level():
    """Independent neighbourhoods of random sites: the level is met within its error."""
    rng = np.random.default_rng(0)
    site = rng.integers(3, size=4000)
    near = nearest(rng.standard_normal((4000, 6)), 60)
    assert kbet(near, rng.permutation(site)).accepted == pytest.approx(0.95, abs=0.03)


def test_silhouettes_are_those_of_scikit_learn():
    from sklearn.metrics import silhouette_samples

    rng = np.random.default_rng(0)
    z = rng.standard_normal((200, 5)) + 100
    z[50:60] = z[0]
    labels = np.stack([rng.integers(4, size=200), np.r_[0, rng.integers(1, 9, 199)]], axis=1)
    for metric in ("euclidean", "cosine"):
        ours = silhouettes(z, labels, metric=metric)
        for column in (0, 1):
            theirs = silhouette_samples(z, labels[:, column], metric=metric)
            assert np.allclose(ours[:, column], theirs, atol=1e-6)


def test_the_weighted_index_tends_to_the_plain_one_as_the_temperature_rises():
    z, site, biology = world(200, site=1.0, biology=1.0)
    near = nearest(z, 15, metric="cosine")
    plain = robustness_index(near, site, biology, k=15).index
    assert weighted_index(near, site, biology, k=15, temperature=1e9)[0] == pytest.approx(plain)
    assert weighted_index(near, site, biology, k=15)[0] != pytest.approx(plain, abs=1e-4)


def test_an_image_and_its_mirror_have_opposite_margins():
    """Swap what is called site and what is called biology: SO becomes OS."""
    z, site, biology = world(200, site=1.0, biology=1.0, sites=2)
    ours = robustness_margin(z, site, biology).margins
    assert np.allclose(ours, -robustness_margin(z, biology, site).margins)


def test_a_probe_that_cannot_see_the_site_loses_nothing_and_one_that_can_loses():
    rng = np.random.default_rng(0)
    patients = np.arange(480) // 2
    site, biology = patients % 2, patients // 2 % 2
    clean = rng.standard_normal((480, 4))
    clean[:, 0] += 3.0 * biology
    bent = clean.copy()
    bent[:, 1] += 8.0 * site
    kept, lost = (
        shortcut_sweep(z, site, biology, patients=patients, repetitions=4) for z in (clean, bent)
    )
    drops = [average_performance_drop(sweep.accuracy) for sweep in (kept, lost)]
    areas = [
        integrated_degradation(sweep.accuracy, sweep.association, classes=2)
        for sweep in (kept, lost)
    ]
    assert abs(drops[0]) < 0.03
    assert abs(areas[0]) < 0.05
    assert drops[1] < drops[0] - 0.04
    assert areas[1] < areas[0] - 0.1


@given(sites=st.integers(2, 5), classes=st.integers(2, 6), step=st.integers(1, 6))
def test_plans_keep_the_size_of_every_class_and_run_from_no_association_to_full(
    sites, classes, step
):
    plans = training_plans(sites, classes, step=step)
    assert (plans.sum(axis=1) == sites * step).all()
    v = [cramers_v(plan) for plan in plans]
    assert v[0] == 0
    assert v[-1] == pytest.approx(1)
    assert (np.diff(v[:-1]) > 0).all()


def test_no_patient_trains_and_judges():
    """A probe that can only remember patients is at chance on others."""
    rng = np.random.default_rng(1)
    patients = np.arange(400) // 5
    site, biology = patients % 2, patients // 2 % 2
    z = np.eye(80)[patients] + 0.01 * rng.standard_normal((400, 80))
    sweep = shortcut_sweep(z, site, biology, patients=patients, repetitions=3)
    assert abs(sweep.accuracy.mean() - 0.5) < 0.1


# ---- what cannot be measured says why


def test_one_site_or_a_missing_code_is_refused_by_every_measure():
    z, site, biology = world(60)
    near = nearest(z, 12)
    one, gap = np.zeros(60, int), np.where(np.arange(60) == 4, -1, site)
    for codes, says in ((one, "one level only, 0"), (gap, "of row 4 is missing")):
        for measure in (
            lambda: robustness_index(near, codes, biology),  # noqa: B023
            lambda: paired_robustness_index(z, codes, biology),  # noqa: B023
            lambda: robustness_margin(z, codes, biology),  # noqa: B023
            lambda: clustering_score(z, codes, biology),  # noqa: B023
            lambda: shortcut_sweep(z, codes, biology),  # noqa: B023
            lambda: site_mixing(near, codes),  # noqa: B023
            lambda: kbet(near, codes),  # noqa: B023
            lambda: site_silhouette(z, codes, biology),  # noqa: B023
            lambda: neighbourhood(z, codes, biology),  # noqa: B023
        ):
            with pytest.raises(CohortError, match=says):
                measure()


def test_a_constant_embedding_is_refused_by_every_measure():
    z, site, biology = np.ones((60, 3)), np.arange(60) % 3, np.arange(60) % 2
    for measure in (
        neighbourhood,
        paired_robustness_index,
        robustness_margin,
        clustering_score,
        site_silhouette,
    ):
        with pytest.raises(CohortError, match="same place"):
            measure(z, site, biology)


def test_sites_with_one_class_each_cannot_be_told_from_it():
    z, site, _ = world(60, sites=2)
    for measure in (paired_robustness_index, clustering_score):
        with pytest.raises(CohortError, match="no two biological classes both occur at two sites"):
            measure(z, site, site)
    with pytest.raises(CohortError, match="no biological class was seen at two sites"):
        site_silhouette(z, site, site)


def test_a_margin_without_enough_neighbours_names_the_row_and_the_remedy():
    z, site, biology = world(60)
    site[:3], site[3:], biology[:3] = 2, np.arange(57) % 2, 0
    with pytest.raises(CohortError, match=r"row 0 \(3 such rows\) .* m = 5 .* choose a smaller m"):
        robustness_margin(z, site, biology)
    found = neighbourhood(z, site, biology)
    assert "margin" not in found.measures
    assert "smaller m" in found.reasons[0]


def test_a_row_on_top_of_all_its_neighbours_has_no_margin():
    z, site, biology = world(80)
    z[:40] = z[0]
    with pytest.raises(CohortError, match=r"exactly on its neighbours of both kinds"):
        robustness_margin(z, site, biology, m=2)


def test_copies_leave_the_weighted_index_without_a_temperature():
    z, site, biology = world(80)
    z[:70] = z[0]
    near = nearest(z, 9, metric="cosine")
    with pytest.raises(CohortError, match="leave copies out"):
        weighted_index(near, site, biology, k=9)


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        (lambda w: lisi(w.near.first(5), w.site), "at least 6"),
        (lambda w: lisi(w.near, w.site, perplexity=30), "below their number"),
        (lambda w: kbet(w.near, w.site, alpha=0), "alpha = 0"),
        (lambda w: robustness_index(w.near, w.site, w.biology, k=13), "k = 13, but 12 neighbours"),
        (lambda w: robustness_margin(w.z, w.site, w.biology, m=0), "m is at least 1"),
        (lambda w: clustering_score(w.z, w.site, w.biology, trials=0), "at least one trial"),
        (lambda w: shortcut_sweep(w.z, w.site, w.biology, repetitions=0), "from 1 to 10000"),
        (
            lambda w: shortcut_sweep(w.z, w.site, w.biology, plans=np.ones((1, 2, 2))),
            r"\(splits, 3",
        ),
        (lambda _: training_plans(2, 2, step=0), "at least one step"),
        (lambda _: average_performance_drop(np.ones((1, 3))), "one more at least"),
        (
            lambda _: integrated_degradation(np.ones((2, 1)), np.array([0, 0.5]), classes=2),
            "must span 0 to 1",
        ),
    ],
)
def test_a_setting_out_of_range_says_the_range(measure, says):
    z, site, biology = world(60)
    with pytest.raises(SettingsError, match=says):
        measure(SimpleNamespace(near=nearest(z, 12), z=z, site=site, biology=biology))


def test_a_sweep_refuses_small_cells_and_patients_of_two_cells():
    z, site, biology = world(60)
    with pytest.raises(CohortError, match="need two more to choose and to judge"):
        shortcut_sweep(z, site, biology, plans=training_plans(3, 2, step=5))
    with pytest.raises(CohortError, match="patients have films of two sites"):
        shortcut_sweep(z, site, biology, patients=np.arange(60) // 2)


def test_a_balanced_probe_at_chance_has_nothing_to_lose():
    with pytest.raises(CohortError, match="no skill to lose"):
        integrated_degradation(np.full((2, 3), 0.5), np.array([0.0, 1.0]), classes=2)
