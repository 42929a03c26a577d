"""The experiment on pixels: exact effects of known encoders, pairs of the phantom's mechanism."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import deconf
from deconf.encoders.preprocess import Preprocess
from deconf.errors import CohortError, LeakageError, ReadError, SettingsError
from deconf.hypotheses.interventions import (
    BlankMarker,
    Custom,
    Gamma,
    PointSpread,
    QuantumNoise,
    Stain,
    TextMarker,
)
from deconf.hypotheses.reactions import streaming
from deconf.hypotheses.reactions.estimates import CROSSED, EMBEDDING, MOVES, SHIFTS, TOWARDS
from deconf.hypotheses.reactions.result import RATIO
from deconf.maths.intervals import auroc
from deconf.methods.leace import LEACE
from deconf.worlds import radiograph
from deconf.worlds.acquisition import SCANNERS
from deconf.worlds.radiograph import films

SIZE = 24
RAISED = 10  # grey levels


class Means(nn.Module):
    """Embedding: mean brightness of the upper half, of the lower half, and a constant grid."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[2] // 2
        parts = [x[:, :, :half].mean((1, 2, 3)), x[:, :, half:].mean((1, 2, 3))]
        return 255 * torch.stack(parts, 1)


def upper(pixels, strength, _rng):
    """Raise the upper half by RAISED grey levels at strength 1."""
    pixels[: len(pixels) // 2] += strength * RAISED
    return pixels


def encoder():
    plain = Preprocess(height=SIZE, width=SIZE, mean=(0.0,), std=(1.0,), channels=1)
    return deconf.load_encoder(Means(), preprocess=plain)


def pictures(n: int = 60, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """Grey pictures, brighter below where the patient is ill; two of each patient."""
    rng = np.random.default_rng(seed)
    patient = np.arange(n) // 2
    ill = (patient % 2 == 0).astype(int)
    level = 90 + 20 * rng.standard_normal((n // 2, 1, 1))[patient]
    grain = 4 * rng.standard_normal((n, SIZE, SIZE))
    stack = level + grain
    stack[:, SIZE // 2 :] += 25 * ill[:, None, None]
    table = pd.DataFrame({"patient": [f"p{p:03d}" for p in patient], "ill": ill})
    return np.clip(np.rint(stack), 0, 240).astype(np.uint8), table


@pytest.fixture(scope="module")
def cohort():
    stack, table = pictures()
    return deconf.Cohort.from_arrays(stack, table, patient="patient", outcome="ill")


RAISE = {"raise": Custom(upper)}
DIRECTION = np.array([2.0, 1.0])


def test_a_linear_encoder_gives_the_exact_effect(cohort):
    found = deconf.intervene(encoder(), cohort, RAISE, score=DIRECTION, doses=[0, 0.5, 1])
    z = encoder().embed(cohort)
    between = pd.Series(z @ DIRECTION).groupby(cohort.patients).mean().std(ddof=0)
    spread = np.sqrt(z.var(axis=0).sum())
    for dose in (0, 0.5, 1):
        exact = 2 * RAISED * dose / between
        assert found.effect("raise", SHIFTS, dose=dose).estimate == pytest.approx(exact, rel=1e-4)
        assert found.effect("raise", MOVES, dose=dose).estimate == pytest.approx(exact, rel=1e-4)
        moved = found.effect("raise", EMBEDDING, dose=dose).estimate
        assert moved == pytest.approx(RAISED * dose / spread, rel=1e-4)
    # Every film moves by the same amount: the interval is about the sd between patients alone.
    it = found.effect("raise", SHIFTS)
    assert it.low < it.estimate < it.high
    assert found.effect("raise", SHIFTS, dose=0) == replace(it, estimate=0.0, low=0.0, high=0.0)


def test_shift_towards_disease_and_aurocs_are_those_of_the_scores(cohort):
    found = deconf.intervene(encoder(), cohort, RAISE, score=DIRECTION)
    s, y = encoder().embed(cohort) @ DIRECTION, cohort.table["ill"].to_numpy()
    apart = s[y == 1].mean() - s[y == 0].mean()
    assert found.effect("raise", TOWARDS).estimate == pytest.approx(2 * RAISED / apart, rel=1e-4)
    crossed = auroc(s + 2 * RAISED * (y == 0), y)
    assert found.effect("raise", CROSSED).estimate == pytest.approx(crossed, abs=2e-3)
    assert found.effect("raise", CROSSED).estimate < found.effect("raise", "AUROC before").estimate


def test_an_edit_that_the_score_cannot_see_is_ignored_and_one_it_sees_is_not(cohort):
    found = deconf.intervene(encoder(), cohort, RAISE, score=np.array([0.0, 1.0]))
    assert found.effect("raise", MOVES).estimate == 0
    assert found.effect("raise", EMBEDDING).low > 0.1
    assert found.ranking["verdict"].tolist() == ["ignores"]
    seen = deconf.intervene(encoder(), cohort, RAISE, score=DIRECTION)
    assert seen.ranking["verdict"].tolist() == ["reacts"]
    wide = deconf.intervene(encoder(), cohort, RAISE, score=DIRECTION, margin=9.0)
    assert wide.ranking["verdict"].tolist() == ["ignores"]


def test_the_ranking_is_by_the_move_and_the_paragraph_says_it(cohort):
    edits = {
        "small": Custom(upper, "x").at(0.3),
        "large": Custom(upper, "x"),
        "none": Gamma(strength=0),
    }
    found = deconf.intervene(encoder(), cohort, edits, score=DIRECTION)
    assert found.interventions == ["large", "small", "none"]
    assert found.ranking["first"].tolist() == [1.0, 0.0, 0.0]
    assert found.ranking["verdict"].iloc[2] == "no film was changed"
    ratio = found.effect("large").estimate / found.effect("small").estimate
    assert ratio == pytest.approx(10 / 3, rel=1e-3)
    text = str(found)
    assert "60 films of 30 patients, 3 edits" in text
    assert "'raw' reacts most to 'large'" in text
    assert "No film was changed by 'none'" in text
    assert "outranks" in text
    assert "\n" not in text


def test_intervals_widen_with_the_patients_not_with_the_films():
    stack, table = pictures(40)
    ten = {"stack": np.repeat(stack, 10, 0), "table": table.loc[table.index.repeat(10)]}
    one = deconf.Cohort.from_arrays(stack, table, patient="patient")
    many = deconf.Cohort.from_arrays(ten["stack"], ten["table"], patient="patient")
    alone = deconf.Cohort.from_arrays(ten["stack"], ten["table"].drop(columns="patient"))
    wide = {}
    for name, cohort in (("one", one), ("many", many), ("alone", alone)):
        it = deconf.intervene(encoder(), cohort, {"g": Gamma()}, score=DIRECTION, doses=[1]).effect(
            "g"
        )
        wide[name] = it.high - it.low
    assert wide["many"] == pytest.approx(wide["one"], rel=0.15)  # copies of a film tell nothing new
    assert wide["alone"] < wide["one"] / 2


def test_the_default_score_is_a_head_of_other_patients(cohort):
    found = deconf.intervene(encoder(), cohort, RAISE)
    assert "a head of 'ill' fitted on other patients" in str(found)
    assert found.effect("raise", "AUROC before").estimate > 0.9
    # Labels dealt by chance to patients: a head that had seen the film would score it right.
    table = cohort.table
    rng = np.random.default_rng(1)
    chance = dict(zip(table["patient"].unique(), rng.permutation(np.arange(30) % 2), strict=True))
    table["chance"] = table["patient"].map(chance)
    blind = deconf.Cohort.from_arrays(cohort.embeddings, table, patient="patient")
    by_chance = deconf.intervene(encoder(), blind, RAISE, score="chance", doses=[1])
    assert by_chance.effect("raise", "AUROC before").low < 0.6


def test_files_and_a_stack_of_the_same_images_give_the_same_numbers(cohort, tmp_path):
    table = cohort.table
    table["image"] = [f"{i}.png" for i in range(len(table))]
    for name, picture in zip(table["image"], cohort.embeddings, strict=True):
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / name)
    files = deconf.Cohort.read(table, image="image", patient="patient", folder=tmp_path)
    edits = {"noise": QuantumNoise(), "blur": PointSpread(strength=9)}
    told = []
    one = deconf.intervene(
        encoder(), files, edits, score=DIRECTION, workers=2,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    two = deconf.intervene(encoder(), cohort, edits, score=DIRECTION, workers=1)
    part = two.to_frame()
    part = part[part["metric"].isin(set(one.table["metric"]))].reset_index(drop=True)
    pd.testing.assert_frame_equal(one.to_frame(), part)
    assert told[-1] == (60, 60)
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(tmp_path / "7.png")
    with pytest.raises(CohortError, match=r"'noise' on .*7.png.*medium='light'"):
        deconf.intervene(encoder(), files, edits, score=DIRECTION)
    (tmp_path / "7.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ReadError, match=r"7\.png"):
        deconf.intervene(encoder(), files, edits, score=DIRECTION)


def test_a_temporary_file_holds_what_memory_should_not(cohort, monkeypatch):
    inside = deconf.intervene(encoder(), cohort, RAISE, score=DIRECTION)
    monkeypatch.setattr(streaming, "HELD", 10)
    outside = deconf.intervene(encoder(), cohort, RAISE, score=DIRECTION)
    pd.testing.assert_frame_equal(inside.table, outside.table)


def test_a_cleaner_that_erases_the_edited_direction_ignores_the_edit():
    stack, table = pictures(120)
    # A confounder that brightens the upper half as the edit does.
    flag = np.random.default_rng(3).integers(0, 2, 60)[np.arange(120) // 2]
    stack = stack.astype(np.int64)
    stack[:, : SIZE // 2] += 14 * flag[:, None, None]
    table["flag"] = flag
    stack = np.clip(stack, 0, 255).astype(np.uint8)
    whole = deconf.Cohort.from_arrays(stack, table, patient="patient", outcome="ill")
    train, test = whole.split(0.5, seed=0)
    fitted = deconf.deconfound(encoder(), ["flag"], method=LEACE(rank="full"), given=()).fit(train)
    found = deconf.intervene(fitted, test, RAISE, score=None)
    assert found.names == ["raw", "clean"]
    z = encoder().embed(test)
    clean = fitted.embed(z)
    moved = np.linalg.norm(fitted.embed(z + np.array([RAISED, 0])) - clean, axis=1).mean()
    exact = moved / np.sqrt(clean.var(axis=0).sum()) / (RAISED / np.sqrt(z.var(axis=0).sum()))
    ratio = found.effect("raise", RATIO[EMBEDDING], representation="clean")
    assert ratio.estimate == pytest.approx(exact, rel=1e-4)
    assert ratio.high < 0.8
    assert "'clean' moves less under 'raise'" in str(found)
    with pytest.raises(LeakageError, match="patients"):
        deconf.intervene(fitted, train, RAISE)
    # The same cleaner fitted on stored embeddings, beside the encoder that made them.
    z = train.with_embeddings(encoder().embed(train))
    stored = deconf.deconfound("stored", ["flag"], method=LEACE(rank="full"), given=()).fit(z)
    both = deconf.intervene({"raw": encoder(), "clean": stored}, test, RAISE, score=None)
    assert np.allclose(both.table["estimate"], found.table["estimate"], rtol=1e-4, atol=1e-6)


def test_figure_and_files_are_written(cohort, tmp_path):
    found = deconf.intervene(encoder(), cohort, {"raise": Custom(upper), "gamma": Gamma()})
    assert len(found.figure().axes) == 3
    found.save(tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as picture:
        assert min(picture.size) > 100
    pd.testing.assert_index_equal(
        pd.read_csv(found.save(tmp_path / "t.csv")).columns, found.table.columns
    )
    assert found.save(tmp_path / "t.txt").read_text() == f"{found}\n"
    with pytest.raises(SettingsError, match=r"t.docx.*\.png"):
        found.save(tmp_path / "t.docx")
    with pytest.raises(SettingsError, match=r"no intervention 'rise'"):
        found.effect("rise")


def test_without_outcome_or_score_the_embedding_is_ranked():
    stack, table = pictures()
    cohort = deconf.Cohort.from_arrays(stack, table[["patient"]], patient="patient")
    found = deconf.intervene(encoder(), cohort, RAISE)
    assert set(found.table["metric"]) == {EMBEDDING}
    assert "spread of the embedding" in str(found)
    assert len(found.figure().axes) == 1


def constant(z):
    return np.zeros(len(z))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"interventions": []}, SettingsError, "there is no intervention"),
        ({"interventions": ["blur"]}, SettingsError, "'blur' is 'blur', no intervention"),
        ({"interventions": "blur"}, SettingsError, "'blur' is 'blur', no intervention"),
        ({"interventions": [Gamma(), Gamma()]}, SettingsError, "two interventions are called"),
        ({"interventions": Stain()}, CohortError, r"on the image in row 0.*colour image"),
        ({"doses": []}, SettingsError, r"doses=\[\]"),
        ({"doses": [-1]}, SettingsError, r"doses=\[-1\]"),
        ({"margin": 0}, SettingsError, "margin is 0"),
        ({"score": "il"}, SettingsError, r"score='il' is not a column. Did you mean 'ill'"),
        ({"score": "patient"}, SettingsError, "'patient' has 30 different values"),
        ({"score": np.ones(3)}, SettingsError, r"shape \(3,\) and 'raw' has 2 columns"),
        ({"score": {"row": DIRECTION}}, SettingsError, "not the representation 'raw'"),
        ({"score": constant}, CohortError, "the score of 'raw' is the same for every patient"),
        ({"score": lambda z: z}, SettingsError, r"shape \(60, 2\) for 60 films"),
        ({"encoder": "stored"}, SettingsError, "nothing here reads images"),
        ({"encoder": Means()}, CohortError, "'Means' has no preprocess"),
        ({"encoder": deconf.deconfound("stored", ["ill"])}, SettingsError, "has to be fitted"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(cohort, change, error, words):
    asked = {"encoder": encoder(), "interventions": RAISE, "score": DIRECTION} | change
    with pytest.raises(error, match=words):
        deconf.intervene(asked.pop("encoder"), cohort, asked.pop("interventions"), **asked)


def test_a_cohort_without_images_is_refused():
    z = deconf.Cohort.from_arrays(np.zeros((4, 3)), pd.DataFrame({"site": list("abcd")}))
    with pytest.raises(CohortError, match=r"no images, and an intervention edits pixels"):
        deconf.intervene(encoder(), z, RAISE)


@pytest.fixture(scope="module")
def phantom():
    """Phantom films of the development seed, and the facts they were drawn from."""
    world = radiograph(n=32, size=96, sites=1, seed=98)
    draw = world.test("balanced", 32)
    truth = draw._facts({})
    truth["portable"], truth["leads"] = 0, False
    truth["scanner"] = "Aurora DR"
    return draw, truth


def as_films(draw, truth):
    return films(truth, draw.world.size, draw.world.seed, 2)


def effect(before, after, direction, patients):
    """The shift of true pairs, in the same unit as the experiment's."""
    net = deconf.load_encoder("zoo:phantom")
    z, new = net.embed(before), net.embed(after)
    between = pd.Series(z @ direction).groupby(patients).mean().std(ddof=0)
    spread = np.sqrt(z.var(axis=0).sum())
    moved = np.linalg.norm(new - z, axis=1).mean() / spread
    return ((new - z) @ direction).mean() / between, moved


@pytest.mark.parametrize("what", ["marker", "gamma"])
def test_an_edit_does_what_the_mechanism_of_the_phantom_does(phantom, what, monkeypatch):
    draw, truth = phantom
    truth = truth.assign(marker=False)
    before = as_films(draw, truth)
    if what == "marker":
        after = as_films(draw, truth.assign(marker=True))
        edit = TextMarker("PORTABLE", height=0.0425, inset=(0.035, 0.035))
    else:
        monkeypatch.setitem(SCANNERS, "Bent", replace(SCANNERS["Aurora DR"], gamma=2**0.5))
        after = as_films(draw, truth.assign(scanner="Bent"))
        edit = Gamma(strength=0.5)
    net = deconf.load_encoder("zoo:phantom")
    patients = truth["patient"].to_numpy()
    cohort = deconf.Cohort.from_arrays(before, truth[["patient"]], patient="patient")
    direction = net.embed(after).mean(0) - net.embed(before).mean(0)
    found = deconf.intervene(net, cohort, {what: edit}, score=direction, doses=[1])
    shift, moved = effect(before, after, direction, patients)
    # The world jitters the place of its letters and writes the side after the curve.
    assert found.effect(what, SHIFTS).estimate == pytest.approx(shift, rel=0.1)
    assert found.effect(what, EMBEDDING).estimate == pytest.approx(moved, rel=0.1)
    assert shift > 0.2


def test_the_word_alone_is_a_part_of_what_the_portable_scanner_does(phantom):
    draw, _ = phantom
    fixed, portable = draw.do(portable=0), draw.do(portable=1)
    net = deconf.load_encoder("zoo:phantom")
    direction = net.embed(portable).mean(0) - net.embed(fixed).mean(0)
    patients = draw.table["patient"].to_numpy()
    cohort = deconf.Cohort.from_arrays(fixed, draw.table, patient="patient")
    word = TextMarker("PORTABLE", height=0.0425)
    edits = {"word": word, "word and blur": word | PointSpread()}
    found = deconf.intervene(net, cohort, edits, score=direction, doses=[1])
    whole, _ = effect(fixed, portable, direction, patients)
    assert found.effect("word", SHIFTS).low > 0
    assert found.effect("word", SHIFTS).high < whole / 2
    assert found.effect("word and blur", SHIFTS).estimate < whole


def test_blanking_takes_back_what_the_marker_did(phantom):
    draw, truth = phantom
    plain, marked = (as_films(draw, truth.assign(marker=m)) for m in (False, True))
    net = deconf.load_encoder("zoo:phantom")
    direction = net.embed(marked).mean(0) - net.embed(plain).mean(0)
    cohort = deconf.Cohort.from_arrays(marked, truth[["patient"]], patient="patient")
    found = deconf.intervene(net, cohort, {"blank": BlankMarker()}, score=direction, doses=[1])
    assert found.ranking["films"].item() == len(truth)
    assert found.effect("blank", SHIFTS).high < -0.15
