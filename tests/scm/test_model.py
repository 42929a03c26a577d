"""A structural model against worlds with a known truth: tables, embeddings, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import deconf
from deconf import scm
from deconf.causal.graph import CausalGraph
from deconf.errors import CohortError, LeakageError, NotIdentified, SettingsError
from deconf.scm.affine import fit_affine
from deconf.scm.structure import projected, structure

GRAPH = "age -> dose; age -> ill; ill -> image; device -> image; dose -> image; device <-> ill"


def films(n: int, seed: int) -> tuple[deconf.Cohort, dict[int, np.ndarray]]:
    """Return films, and what they would have been on each device: affine noise, scale by device."""
    rng = np.random.default_rng(seed)
    hidden = rng.integers(2, size=n)
    age = rng.normal(60, 10, size=n)
    dose = 2 + 0.05 * age + rng.normal(0, 0.4, size=n)
    ill = (rng.random(n) < 0.2 + 0.5 * hidden).astype(int)
    device = np.where(rng.random(n) < 0.25 + 0.5 * hidden, "B", "A")
    u = rng.normal(size=(n, 5))

    def embed(b: np.ndarray) -> np.ndarray:
        z = u.copy()
        z[:, 0] += 2 * ill + 1.5 * b
        z[:, 1] = (z[:, 1] + 0.8 * (dose - 5)) * (1 + b)
        z[:, 2] += 2 * b * ill
        return z

    sides = {name: embed(np.full(n, float(name == "B"))) for name in ("A", "B")}
    z = np.where((device == "B")[:, None], sides["B"], sides["A"])
    table = pd.DataFrame({"age": age, "dose": dose, "ill": ill, "device": device})
    table["patient"] = np.arange(n) // 2
    return deconf.Cohort.from_arrays(z, table, patient="patient", outcome="ill"), sides


@pytest.fixture(scope="module")
def model():
    return scm.fit(films(3000, 0)[0], GRAPH, embedding="affine", numbers="affine")


@pytest.mark.parametrize("device", ["A", "B"])
def test_the_counterfactual_embedding_is_the_true_one_on_new_films(model, device):
    cohort, sides = films(1000, 1)
    there = model.counterfactual(cohort, {"device": device})
    truth = sides[device][there.rows]
    before = np.abs(cohort.embeddings[there.rows] - truth).mean()
    assert (
        np.abs(there.cohort.embeddings - truth).mean() < 0.2 * before
    )  # one scale for all leaves 0.3
    assert len(there.rows) > 970
    assert set(there.cohort.table["device"]) == {device}


def test_the_scale_of_the_noise_follows_its_causes():
    # Twin of the above: with one covariance for all, the stretched coordinate stays wrong.
    rng = np.random.default_rng(0)
    d = np.eye(2)[rng.integers(2, size=4000)]
    x = rng.normal(size=(4000, 3)) * np.where(d[:, :1] == 1, [1.0, 3.0, 1.0], [1.0, 1.0, 0.5])
    half = np.arange(2000), np.arange(2000, 4000)
    fitted = fit_affine(x, d, *half)
    for level in (0, 1):
        own = d[:, level] == 1
        u = fitted.abduct(x[own], d[own])
        np.testing.assert_allclose(np.cov(u.T), np.eye(3), atol=0.1)
        np.testing.assert_allclose(fitted.predict(u, d[own]), x[own], atol=1e-10)
    true = np.where(d[:, 0] == 1, np.log(3.0), np.log(0.5))  # log |dx/du|
    np.testing.assert_allclose(fitted.log_scale(d), true, atol=0.1)


def test_the_density_of_the_affine_mechanism_is_the_normal_one():
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(1)
    x, d = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3)), np.zeros((300, 0))
    fitted = fit_affine(x, d, np.arange(200), np.arange(200, 300))
    expected = multivariate_normal(x.mean(axis=0), np.cov(x.T, bias=True)).logpdf(x)
    np.testing.assert_allclose(fitted.log_prob(x, d), expected, atol=1e-8)


def test_a_counterfactual_does_not_depend_on_the_basis_of_the_embedding():
    cohort, _ = films(800, 2)
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    turned = cohort.with_embeddings(cohort.embeddings @ basis + 3.0)
    out = []
    for one in (cohort, turned):
        model = scm.fit(one, GRAPH, embedding="affine", numbers="affine")
        out.append(model.counterfactual(one, {"device": "A"}).cohort.embeddings)
    np.testing.assert_allclose(out[0] @ basis + 3.0, out[1], atol=2e-3)


def test_descendants_in_the_table_follow_and_the_rest_stays(model):
    cohort, _ = films(500, 3)
    there = model.counterfactual(cohort, {"age": cohort.table["age"] + 5})
    before, after = cohort.table.iloc[there.rows], there.cohort.table
    change = after["dose"].to_numpy() - before["dose"].to_numpy()
    np.testing.assert_allclose(change, 0.25, atol=0.06)  # 0.05 a year, the same noise
    assert (after["device"].to_numpy() == before["device"].to_numpy()).all()


def test_no_change_of_a_level_leaves_every_level_as_it_was(model):
    cohort, _ = films(500, 4)
    same = model.counterfactual(cohort, {"age": cohort.table["age"]}, seed=3)
    rows = same.rows
    assert (same.cohort.table["ill"].to_numpy() == cohort.table["ill"].to_numpy()[rows]).all()
    np.testing.assert_allclose(
        same.cohort.table["dose"], cohort.table["dose"].to_numpy()[rows], atol=1e-9
    )
    np.testing.assert_allclose(same.cohort.embeddings, cohort.embeddings[rows], atol=1e-4)


def test_gumbel_noise_has_its_law_and_a_level_made_likelier_is_never_lost():
    rng = np.random.default_rng(5)
    cause = rng.integers(2, size=4000)
    chance = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])[cause]
    level = (rng.random((4000, 1)) > np.cumsum(chance, axis=1)[:, :-1]).sum(axis=1)
    table = pd.DataFrame({"cause": cause, "level": level})
    model = scm.fit(deconf.Cohort.read(table), "cause -> level")
    noise = model.nodes["level"].abduct(table, rng)
    assert abs(noise.mean() - np.euler_gamma) < 0.03  # standard Gumbel, unconditionally
    assert abs(noise.std() - np.pi / np.sqrt(6)) < 0.03
    there = model.counterfactual(deconf.Cohort.read(table), {"cause": 1}).cohort.table
    assert (there["level"][level == 2] == 2).all()
    shares = np.bincount(there["level"], minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.2, 0.3, 0.5], atol=0.03)


def test_samples_have_the_law_of_the_table_and_of_the_intervention(model):
    cohort, _ = films(3000, 0)
    drawn = model.sample(4000, seed=1)
    joint = pd.crosstab(drawn.table["device"], drawn.table["ill"], normalize=True).to_numpy()
    true = pd.crosstab(cohort.table["device"], cohort.table["ill"], normalize=True).to_numpy()
    np.testing.assert_allclose(joint, true, atol=0.03)  # the hidden cause is kept
    assert abs(true[0, 1] - true[0].sum() * true[:, 1].sum()) > 0.04  # and was there
    forced = model.sample(4000, do={"device": "B"}, seed=1).table
    assert abs(forced["ill"].mean() - cohort.table["ill"].mean()) < 0.03


def test_causes_never_seen_together_are_refused_by_name():
    cohort, _ = films(1200, 6)
    table = cohort.table
    lacking = cohort.subset(~((table["device"] == "B") & (table["ill"] == 1)).to_numpy())
    model = scm.fit(lacking, GRAPH, embedding="affine", numbers="affine")
    there = model.counterfactual(cohort, {"device": "B"})
    ill = cohort.table["ill"].to_numpy() == 1
    assert set(there.refused["row"]) >= set(np.flatnonzero(ill))
    assert (there.cohort.table["ill"] == 0).all()
    assert "device=B, ill=1: fewer than 10 patients" in str(there)
    with pytest.raises(CohortError, match=r"no film can be answered.*device='B'"):
        model.counterfactual(cohort.subset(ill), {"device": "B"})


def test_a_number_beyond_what_was_seen_is_refused(model):
    cohort, _ = films(200, 7)
    there = model.counterfactual(cohort, {"dose": [50.0] + [5.0] * 199})
    assert "dose outside" in there.refused.set_index("row").loc[0, "why"]


def test_a_missing_value_is_refused_and_left_out_of_the_fit():
    cohort, _ = films(400, 8)
    table = cohort.table
    table.loc[3, "dose"] = np.nan
    gappy = deconf.Cohort.from_arrays(cohort.embeddings, table, patient="patient")
    model = scm.fit(gappy, GRAPH, embedding="affine", numbers="affine")
    assert "1 rows left out" in model.notes[0]
    there = model.counterfactual(gappy, {"device": "A"})
    assert there.refused.values.tolist()[0] == [3, "dose is missing"]
    for reading in (model.noise, model.log_prob):
        with pytest.raises(CohortError, match=r"row 3 .*1 of 400.*dose is missing.*subset"):
            reading(gappy)
    whole = gappy.subset(np.arange(400) != 3)
    assert np.isfinite(model.log_prob(whole)).all()


def test_an_unmeasured_cause_of_device_and_image_is_not_identified():
    cohort, _ = films(300, 9)
    graph = "severity -> device; severity -> image; ill -> image; device -> image"
    model = scm.fit(cohort, graph, embedding="affine")
    assert "no counterfactual of image" in model.notes[0]
    with pytest.raises(NotIdentified, match=r"something unmeasured.*'image'.*'device'"):
        model.counterfactual(cohort, {"device": "A"})


def test_bad_input_is_named(model):
    cohort, _ = films(100, 10)
    for do, words in (
        ({"devise": "A"}, "no column 'devise'. Did you mean 'device'"),
        ("device", "do is {'column': value}, as .*, not 'device'"),
        ({"device": "C"}, r"do\(device='C'\): never seen in training. Levels: A, B"),
        ({"device": ["A", "B"]}, "2 values for 100 films"),
        ({"device": None}, r"do\(device=None\): never seen"),
        ({"dose": "high"}, r"do\(dose='high'\): 'dose' is a number.*do=\{'dose': 5"),
        ({"dose": True}, r"do\(dose=True\): 'dose' is a number"),
        ({"dose": None}, r"do\(dose=None\): 'dose' is a number"),
        ({"dose": [5.0] * 99 + [np.nan]}, r"do\(dose=nan\): 'dose' is a number"),
    ):
        with pytest.raises(SettingsError, match=words):
            model.counterfactual(cohort, do)
    for n in (0, -1, 2.5, True):
        with pytest.raises(SettingsError, match=f"n is a whole number from 1 up, not {n}"):
            model.sample(n)
    assert len(model.sample(1)) == 1
    with pytest.raises(CohortError, match="embeddings of width 5; the cohort: none"):
        model.counterfactual(deconf.Cohort.read(cohort.table), {"device": "A"})
    with pytest.raises(CohortError, match="no column 'dose'"):
        model.counterfactual(deconf.Cohort.read(cohort.table.drop(columns="dose")), {"age": 60.0})
    with pytest.raises(CohortError, match=r"20 rows of 10 patients.*at least 40"):
        scm.fit(cohort.subset(np.arange(20)), GRAPH)
    with pytest.raises(CohortError, match="none of the graph's columns"):
        scm.fit(cohort, "x -> y")
    with pytest.raises(SettingsError, match="embedding is 'auto', 'affine' or 'flow', not 'vae'"):
        scm.fit(cohort, GRAPH, embedding="vae")


def test_a_level_never_seen_and_a_number_turned_text_are_named(model):
    cohort, _ = films(100, 11)
    foreign = cohort.table
    foreign.loc[7, "device"] = "C"
    foreign = deconf.Cohort.from_arrays(cohort.embeddings, foreign, patient="patient")
    for reading in (model.log_prob, model.noise):
        with pytest.raises(CohortError, match=r"row 7 .*device=C was never seen in training"):
            reading(foreign)
    there = model.counterfactual(foreign, {"age": 60.0})
    assert there.refused.set_index("row").loc[7, "why"] == "device=C was never seen in training"
    text = cohort.table.assign(dose="high")
    text = deconf.Cohort.from_arrays(cohort.embeddings, text, patient="patient")
    for reading in (model.log_prob, model.noise, lambda c: model.counterfactual(c, {"age": 60.0})):
        with pytest.raises(CohortError, match=r"'dose' was a number.*holds 'high' here"):
            reading(text)


def test_patients_of_the_fit_are_known_again(model):
    with pytest.raises(LeakageError, match="train, test"):
        model.require_unseen(films(3000, 0)[0].subset(np.arange(10)))
    other = films(10, 0)[0].table.assign(patient=np.arange(10) + 10**6)
    model.require_unseen(deconf.Cohort.read(other, patient="patient"))


def test_projection_keeps_what_unmeasured_nodes_did():
    graph = CausalGraph.parse("a -> m -> b; h -> m; h -> c; c -> b; s -> [in]")
    own = projected(graph, ["a", "b", "c", "in"])
    assert own.edges == (("a", "b"), ("c", "b"))
    assert own.bidirected == (("b", "c"),)
    assert own.selected == ("in",)


def test_selection_on_what_the_image_shows_blocks_it():
    graph = CausalGraph.parse("device -> image; image -> [included]; device -> included")
    assert "selection" in structure(graph, ["device"]).blocked["image"]
    plain = CausalGraph.parse("device -> image; device -> [included]")
    assert not structure(plain, ["device"]).blocked
