from __future__ import annotations

from hashlib import sha256

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from deconf.causal.graph import CausalGraph
from deconf.errors import SettingsError
from deconf.worlds import RadiographWorld, darkroom, mechanisms, radiograph, worlds
from deconf.worlds.acquisition import REFERENCE, SCANNERS, blurred, counted
from deconf.worlds.curves import Curves, splat
from deconf.worlds.markings import stamp
from deconf.worlds.mechanisms import MARKED

SMALL = {"n": 40, "size": 64}


def digest(pixels):
    return sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def phi(table, a="portable", b="pneumonia"):
    return np.corrcoef(table[a], table[b])[0, 1]


def coarse(images, side=16):
    k = images.shape[1] // side
    return images.reshape(len(images), side, k, side, k).mean((2, 4)).reshape(len(images), -1) / 255


# ------------------------------------------------------------------ the same seed, the same film


def test_the_same_seed_gives_the_same_pixels_however_many_are_drawn_at_a_time(monkeypatch):
    world = RadiographWorld(**SMALL, seed=1)
    whole = digest(world.train().images)
    monkeypatch.setattr(darkroom, "PIXELS", 7 * 64**2)
    assert digest(RadiographWorld(**SMALL, seed=1).train().images) == whole
    monkeypatch.setattr(darkroom, "PIXELS", 1)
    assert digest(world.train().images) == whole
    assert digest(RadiographWorld(**SMALL, seed=2).train().images) != whole


def test_a_longer_draw_begins_with_the_films_of_a_shorter_one():
    few, many = (RadiographWorld(n=n, size=64, seed=3).train() for n in (9, 21))
    pd.testing.assert_frame_equal(many.table.iloc[:9], few.table)
    assert_array_equal(many.images[:9], few.images)


def test_draws_share_neither_patients_nor_pixels():
    world = RadiographWorld(n=12, size=48)
    draws = [world.train(), *(world.test(e, 12) for e in ("aligned", "balanced", "reversed"))]
    patients = [set(d.table["patient"]) for d in draws]
    assert len(set.union(*patients)) == sum(map(len, patients))
    assert len({digest(d.oracle) for d in draws}) == 4


def test_films_of_a_patient_share_the_patient_and_not_the_device():
    table = RadiographWorld(n=3000).train().table
    by = table.groupby("patient")
    assert set(by.size()) == {1, 2, 3}
    fixed = ["site", "age", "sex", "severity", "pneumonia", "effusion", "nodule", "cardiomegaly"]
    assert (by[fixed].nunique() == 1).all(axis=None)
    assert (by[["portable", "scanner"]].nunique() == 2).any().all()


# ------------------------------------------------------------------ interventions


def test_doing_nothing_changes_nothing():
    draw = RadiographWorld(**SMALL, seed=4).train()
    assert_array_equal(draw.do(), draw.images)


def test_setting_a_film_to_what_it_is_leaves_it_as_it_is():
    draw = RadiographWorld(**SMALL, seed=5).train()
    for name, values in {"portable": (0, 1), "site": "ABCD", "scanner": list(SCANNERS)[:3]}.items():
        for value in values:
            same = (draw.table[name] == value).to_numpy()
            again = draw.do(**{name: value})
            assert_array_equal(again[same], draw.images[same])
            assert same.any()
            assert (again[~same] != draw.images[~same]).any(axis=(1, 2)).all()


def test_the_word_appears_in_its_corner_with_the_device_and_the_patient_stays():
    draw = RadiographWorld(n=40, size=128, sites=1, seed=6).train()
    before = draw.table.copy()
    still, mobile = (draw.do(portable=k).astype(float) for k in (0, 1))
    pd.testing.assert_frame_equal(draw.table, before)
    corner = (slice(None), slice(0, 16), slice(0, 48))
    brighter = mobile[corner].mean((1, 2)) > still[corner].mean((1, 2)) + 5
    assert 0.6 < brighter.mean() < 1  # the word is not on every film
    bare = darkroom.films(draw.truth.assign(marker=False), 128, 6, 0)
    apart = draw.images != bare
    assert_array_equal(apart.any(axis=(1, 2)), draw.truth["marker"])
    apart[corner] = False
    assert not apart.any()


@pytest.mark.parametrize(
    ("do", "reached"),
    [
        ({"portable": 1}, {"portable", "projection", "exposure", "marker", "leads"}),
        ({"site": "E"}, {"site", "style", "scanner", "exposure"}),  # never who is ill
        ({"scanner": "Granite 300"}, {"scanner", "exposure"}),
    ],
)
def test_an_intervention_works_out_anew_what_it_reaches_and_nothing_else(do, reached):
    noise = mechanisms.background(5000, seed=16, draw=0)
    fixed = {"draw": "train", "sites": 4, "association": 1.0, "severity": "visible"}
    before, after = (mechanisms.facts(noise, **fixed, do=d) for d in ({}, do))
    assert {name for name in before if not before[name].equals(after[name])} == reached


def test_moved_to_another_site_a_film_changes_in_scanner_and_letters_only():
    draw = RadiographWorld(n=16, size=64, seed=7).train()
    moved = draw.do(portable=0, site="B", scanner=REFERENCE)
    apart = moved != draw.oracle
    apart[:, :16, :16] = apart[:, :16, -16:] = False  # where L and R are written
    assert not apart.any()
    assert (moved != draw.oracle).any(axis=(1, 2)).all()
    assert_array_equal(draw.do(portable=0, site="A", scanner=REFERENCE), draw.oracle)


def test_the_oracle_does_not_know_how_the_device_was_chosen():
    aligned, against = (
        RadiographWorld(n=12, size=48, association=a, seed=8).train() for a in (1.0, -1.0)
    )
    assert (aligned.table["portable"] != against.table["portable"]).any()
    assert_array_equal(aligned.oracle, against.oracle)


def test_the_device_can_be_read_from_the_films_and_not_from_the_oracle():
    draw = RadiographWorld(n=360, size=32, seed=9).test("balanced", 360)
    portable = draw.table["portable"].to_numpy()
    half = np.arange(360) < 200
    half &= ~draw.table["patient"].isin(set(draw.table["patient"][200:])).to_numpy()

    def read(images):
        x = coarse(images)
        probe = LogisticRegression(C=0.1, max_iter=500).fit(x[half], portable[half])
        return roc_auc_score(portable[200:], probe.decision_function(x[200:]))

    assert read(draw.images) > 0.85
    assert 0.35 < read(draw.oracle) < 0.65


@pytest.mark.parametrize("finding", ["pneumonia", "effusion", "nodule"])
def test_a_finding_whitens_the_lungs_and_leaves_the_corners(finding):
    draw = RadiographWorld(n=12, size=64, seed=10).train()
    healthy = draw.truth.assign(**{finding: 0}, portable=0, projection="PA", leads=False)
    pictures = [
        darkroom.films(healthy.assign(**{finding: k}), 64, 10, 0).astype(int) for k in (0, 1)
    ]
    step = pictures[1] - pictures[0]
    assert (step.max(axis=(1, 2)) > 3 * -step.min(axis=(1, 2))).mean() > 0.8
    assert np.median(np.abs(step[:, :8, :]).max(axis=(1, 2))) <= 4  # the window moves a little


# ------------------------------------------------------------------ the table alone


def test_environments_have_the_association_their_name_says():
    world = RadiographWorld()
    trained = phi(world.test("aligned", 20_000).table)
    assert 0.45 < trained < 0.6
    assert abs(phi(RadiographWorld(n=20_000).train().table) - trained) < 0.03
    assert abs(phi(world.test("balanced", 20_000).table)) < 0.02
    assert abs(phi(world.test("reversed", 20_000).table) + trained) < 0.03
    unseen = world.test("unseen", 500).table
    assert set(unseen["site"]) == {"E"}
    assert set(world.train().table["site"]) == set("ABCD")


def test_sites_differ_in_prevalence_in_use_and_in_scanners_and_share_some():
    table = RadiographWorld(n=20_000, seed=11).train().table
    by = table.groupby("site")
    assert np.ptp(by["pneumonia"].mean()) > 0.15
    assert np.ptp(by["portable"].mean()) > 0.15
    owned = {site: set(rows["scanner"]) for site, rows in by}
    assert len(owned["A"]) == 3
    assert owned["A"] & owned["B"]
    assert owned["A"] != owned["B"]
    assert {k: set(v) for k, v in RadiographWorld().scanners.items()} == owned


def test_most_portable_films_carry_the_word_and_no_other_does():
    truth = RadiographWorld(n=20_000, seed=12).train().truth
    portable = truth["portable"] == 1
    assert abs(truth["marker"][portable].mean() - MARKED) < 0.015
    assert not truth["marker"][~portable].any()
    assert abs(truth["marker"][portable].corr(truth["pneumonia"][portable])) < 0.03
    assert (truth["projection"] == np.where(portable, "AP", "PA")).all()
    assert (truth["exposure"][portable].mean() / truth["exposure"][~portable].mean()) < 0.65


def design(values):
    """Columns of numbers for one column of any kind, (n, k)."""
    if values.nunique() < 12 or values.dtype == object:
        return np.array(pd.get_dummies(values), dtype=float)[:, 1:]
    return np.array(values, dtype=float)[:, None]


def within(table, given):
    """Return a function that takes out of a column its means within the strata of others."""
    stratum = np.zeros(len(table), dtype=int)
    for name in given:
        codes = pd.cut(table[name], 12).cat.codes if name == "age" else pd.factorize(table[name])[0]
        stratum = np.unique(stratum * 100 + codes, return_inverse=True)[1]
    count = np.bincount(stratum)

    def inner(name):
        x = design(table[name])
        means = [np.bincount(stratum, column) / count for column in x.T]
        return x - np.stack(means, axis=1)[stratum]

    return inner


def dependence(x, y):
    """Largest |z| of the covariances of two sets of columns; 0 if none varies."""
    spread = np.sqrt((x**2).T @ y**2)
    z = np.divide(x.T @ y, spread, out=np.zeros_like(spread), where=spread > 1e-9)
    return np.abs(z).max(initial=0)


@pytest.mark.parametrize("sites", [1, 4])
@pytest.mark.parametrize("severity", ["silent", "visible"])
def test_every_column_is_independent_of_what_it_does_not_cause_given_its_causes(severity, sites):
    # The local Markov property, which with the graph implies all of its d-separations.
    world = RadiographWorld(n=30_000, sites=sites, severity=severity, seed=13)
    table = world.train().table.drop_duplicates("patient")
    digraph = nx.DiGraph(CausalGraph.parse(world.graph).edges)
    digraph.remove_node("image")
    assert set(digraph) == set(table.columns) - {"patient", "image"}
    for node in digraph:
        causes = list(digraph.predecessors(node))
        inner = within(table, causes)
        for other in set(digraph) - nx.descendants(digraph, node) - {node, *causes}:
            found = dependence(inner(node), inner(other))
            assert found < 4.8, (node, other, causes, found)
        for cause in causes:  # and every arrow is there
            inner = within(table, set(causes) - {cause})
            found = dependence(inner(node), inner(cause))
            assert found > 8, (cause, node, found)


def test_the_graph_asks_for_the_sets_that_the_docstring_promises():
    def sets(**settings):
        world = RadiographWorld(**settings)
        found = CausalGraph.parse(world.graph).invariance(world.confounders, "pneumonia")
        assert found.is_identified
        return {frozenset(s) for s in found.valid_sets} | {frozenset(found.given)}, found.given

    every, chosen = sets(sites=4)
    assert chosen == ("pneumonia",)
    assert every == {frozenset({"pneumonia"})}
    every, chosen = sets(sites=1)
    assert chosen == ("pneumonia",)
    assert frozenset({"severity"}) in every
    assert sets(sites=1, severity="visible")[1] == ("severity",)
    assert set(sets(sites=4, severity="visible")[1]) == {"pneumonia", "severity"}


def test_severity_spreads_the_consolidation_only_where_it_is_visible():
    for severity, seen in (("silent", False), ("visible", True)):
        draw = RadiographWorld(n=4000, severity=severity, seed=14).train()
        extent = draw.truth.groupby("severity")["extent"].mean()
        assert (extent[3] > 1.5 * extent[0]) == seen
        assert ("severity -> image" in draw.world.graph) == seen


# ------------------------------------------------------------------ physics


def test_blur_keeps_a_flat_film_flat_and_spreads_a_point_by_its_width():
    sigma = np.array([0.02, 0.06], dtype=np.float32)[:, None, None]
    flat = np.full((2, 64, 64), 3.0, dtype=np.float32)
    assert_allclose(blurred(flat, sigma), flat, rtol=1e-5)
    point = np.zeros((2, 65, 65), dtype=np.float32)
    point[:, 32, 32] = 1
    spread = blurred(point, sigma)
    offset = (np.arange(65) - 32) * (2 / 65)
    width = np.sqrt((spread.sum(1) * offset**2).sum(1))
    assert_allclose(width, sigma[:, 0, 0], rtol=0.02)


def test_half_the_photons_make_the_noise_the_square_root_of_two_larger():
    noise = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32)
    noise[1] = noise[0]
    path = np.full((2, 64, 64), 5.0, dtype=np.float32)
    zero = np.zeros((2, 1, 1), dtype=np.float32)
    photons = np.array([4000.0, 2000.0], dtype=np.float32)[:, None, None]
    film = counted(path, noise, photons=photons, scatter=zero, blur=zero, grain=zero)
    spread = film.std(axis=(1, 2))
    assert_allclose(spread[1] / spread[0], np.sqrt(2), rtol=0.01)
    assert_allclose(film.mean(), np.exp(-0.155 * 5), rtol=0.01)


def test_curves_keep_their_mass_whatever_the_resolution():
    rng = np.random.default_rng(1)
    curves = Curves(*rng.uniform(-0.9, 0.9, (2, 3, 50)), rng.random((3, 50)))
    for size in (32, 100):
        pixels = splat(curves, size)
        assert_allclose(pixels.sum((1, 2)) * (2 / size) ** 2, curves.mass.sum(1), rtol=1e-5)


@pytest.mark.parametrize("boxed", [False, True])
@pytest.mark.parametrize("corner", [(-1, -1), (1, -1), (-1, 1), (1, 1)])
def test_letters_stay_in_their_corner(corner, boxed):
    picture = np.full((96, 96), 0.4)
    stamp(picture, "AP", corner, 0.12, boxed=boxed)
    rows, columns = np.nonzero(picture != 0.4)
    assert ((columns > 48) == (corner[0] > 0)).all()
    assert ((rows > 48) == (corner[1] > 0)).all()
    assert picture.max() > 0.9
    assert len(rows) > 20


# ------------------------------------------------------------------ files, settings, errors


def test_a_saved_draw_comes_back_as_it_was(tmp_path):
    from PIL import Image

    draw = RadiographWorld(n=8, size=40, seed=15).train()
    cohort = draw.save(tmp_path / "films")
    pd.testing.assert_frame_equal(cohort.table, draw.table)
    assert dict(cohort.roles) == dict(draw.cohort.roles) | {"image": "image"}
    for name, picture in zip(cohort.table["image"], draw.images, strict=True):
        with Image.open(tmp_path / "films" / name) as file:
            assert_array_equal(np.asarray(file), picture)
    with pytest.raises(SettingsError, match=r"studies\.csv.*there already: name another folder"):
        draw.save(tmp_path / "films")


def test_one_site_is_no_column_and_no_confounder():
    world = RadiographWorld(n=50, sites=1)
    assert "site" not in world.train().table
    assert world.train().cohort.roles["site"] is None
    assert world.confounders == ["portable"]
    assert "site" not in world.graph
    assert RadiographWorld().confounders == ["site", "portable"]


def test_the_registered_world_is_the_class_and_says_what_must_be_reached():
    assert radiograph(60, 64, seed=1) == RadiographWorld(n=60, size=64, seed=1)
    assert worlds["radiograph"] is radiograph
    assert any("gap closed" in line for line in worlds.card("radiograph").expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 31}, "no size=31: give a whole number from 32 to 1024"),
        ({"size": 64.0}, "no size=64.0: give a whole number"),
        ({"sites": 0}, "no sites=0: give a whole number from 1 to 25"),
        ({"n": 0}, "no n=0: give a whole number from 1"),
        ({"n": True}, "no n=True"),
        ({"association": 1.5}, r"no association=1.5: give a number from -1.0 to 1.0"),
        ({"association": float("nan")}, "no association=nan"),
        ({"seed": -1}, "no seed=-1"),
        ({"severity": "visble"}, "no severity='visble'. Did you mean 'visible'"),
    ],
)
def test_a_world_that_cannot_be_is_refused_with_the_remedy(settings, words):
    with pytest.raises(SettingsError, match=words):
        radiograph(**settings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"site": "Q"}, r"do\(site='Q'\): the world has no such site.*A, B, C, D, E"),
        ({"scanner": "Aurora"}, r"no such scanner. Did you mean 'Aurora DR'"),
        ({"portable": 2}, r"do\(portable=2\).*Choose from 0, 1"),
    ],
)
def test_an_intervention_that_cannot_be_is_refused_with_its_choices(change, words):
    with pytest.raises(SettingsError, match=words):
        RadiographWorld(n=2, size=32).train().do(**change)


def test_an_environment_that_is_not_there_is_refused_with_its_choices():
    world = RadiographWorld(n=2, size=32)
    with pytest.raises(SettingsError, match=r"no environment 'reverse'. Did you mean 'reversed'"):
        world.test("reverse")
    with pytest.raises(SettingsError, match="n=0 films: give a whole number"):
        world.test("aligned", 0)
