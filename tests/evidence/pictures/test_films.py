from __future__ import annotations

import doctest
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder, load_encoder
from deconf.encoders.preprocess import Preprocess
from deconf.errors import SettingsError
from deconf.evidence.pictures import films as module
from deconf.evidence.pictures import heat as heat_module
from deconf.evidence.pictures.films import CHOSEN, Film, example_films
from deconf.evidence.pictures.heat import laid_on, origins
from deconf.evidence.pictures.saliency import share_in
from deconf.maths.design import design
from deconf.maths.maps import AffineMap, LevelMap
from deconf.methods.leace import LEACE

HEIGHT, WIDTH, GRID = 48, 64, 8
WHOLE = Preprocess(height=32, width=32, channels=1)
MIDDLE = Preprocess(height=32, width=32, channels=1, resize="crop")


class Squares(nn.Module):
    """The mean brightness of 8 x 8 squares: an embedding that can be read by eye."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x.mean(1, keepdim=True), GRID).flatten(1)


@dataclass(frozen=True)
class World:
    cohort: Cohort
    encoder: Encoder
    z: np.ndarray
    train: np.ndarray
    test: np.ndarray

    def films(self, after: dict[str, np.ndarray] | None = None, **how: object) -> tuple[Film, ...]:
        asked = {"confounder": "portable", "outcome": "lung_oedema", **how}
        return example_films(
            asked.pop("cohort", self.cohort), {"raw": self.z}, after or {}, self.train, self.test,
            asked.pop("confounder"), asked.pop("outcome"), **asked,
        )  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Portable films wear a mark in the top left corner, ill ones a cloud at the lower right."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(0)
    n = 160
    ill = rng.integers(2, size=n)
    portable = (rng.random(n) < np.where(ill == 1, 0.8, 0.2)).astype(int)
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    names = []
    for i in range(n):
        pixels = rng.normal(90, 12, (HEIGHT, WIDTH)) + rng.normal(0, 10)
        pixels[:8, :8] += 110 * portable[i]
        pixels += 90 * ill[i] * np.exp(-((down - 33) ** 2 + (across - 38) ** 2) / 60)
        names.append(f"secret-name-{i:03}.png")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / names[-1])
    table = pd.DataFrame(
        {
            "file": names,
            "who": [f"patient-{i // 2}" for i in range(n)],
            "portable": portable,
            "lung_oedema": np.where(rng.random(n) < 0.1, np.nan, ill),
            "view": np.where(portable == 1, "AP", "PA"),
            "day": "2020-01-31",
        }
    )
    cohort = Cohort.read(table, image="file", patient="who", folder=folder, outcome="lung_oedema")
    encoder = load_encoder(Squares(), preprocess=WHOLE)
    z = encoder.embed(cohort)
    return World(cohort.with_embeddings(z), encoder, z, np.arange(100), np.arange(100, n))


def cleaned(world: World) -> tuple[AffineMap, np.ndarray]:
    arrays = design(world.cohort.table.iloc[world.train], ("portable",), ())
    fitted = LEACE(rank="full").fit(world.z[world.train], arrays.c)
    return fitted, fitted(torch.tensor(world.z)).numpy().astype(np.float32)


def test_aligned_films_bear_the_association_out_and_crossed_ones_contradict_it(world):
    shown = world.films(per_kind=4)
    said = {kind: {f.caption for f in shown if f.kind == kind} for kind in ("aligned", "crossed")}
    assert said["aligned"] == {"portable, lung oedema", "not portable, no lung oedema"}
    assert said["crossed"] == {"portable, no lung oedema", "not portable, lung oedema"}
    assert [f.kind for f in shown] == ["aligned"] * 4 + ["crossed"] * 4
    assert CHOSEN == "drawn at random among held-out films"


def test_the_kinds_follow_the_association_of_the_training_part(world):
    turned = world.cohort.table.assign(portable=lambda t: 1 - t["portable"])
    cohort = Cohort.read(turned, image="file", patient="who", folder=folder_of(world))
    said = {f.caption for f in world.films(cohort=cohort, per_kind=4) if f.kind == "aligned"}
    assert said == {"not portable, lung oedema", "portable, no lung oedema"}


def folder_of(world: World) -> Path:
    return world.cohort.image_paths[0].parent


def test_what_a_film_shows_is_the_film_of_its_caption(world):
    for film in world.films(per_kind=4):
        is_marked = film.image[:8, :8].mean() > film.image[:8, 20:].mean() + 50
        assert is_marked == film.caption.startswith("portable")
        assert film.image.dtype == np.uint8


def test_films_are_held_out_of_different_patients_and_have_an_outcome(world):
    shown = {f.image.tobytes() for f in world.films(per_kind=6, size=WIDTH)}
    rows = [
        i
        for i, path in enumerate(world.cohort.image_paths)
        if np.asarray(Image.open(path)).tobytes() in shown
    ]
    assert len(rows) == len(shown) > 8
    assert set(rows) <= set(world.test)
    assert world.cohort.table["lung_oedema"].iloc[rows].notna().all()
    assert world.cohort.table["who"].iloc[rows].is_unique


def test_a_caption_says_the_level_and_the_outcome_and_nothing_else(world):
    for film in world.films(confounder="view", per_kind=3):
        assert film.caption in {f"view {v}, {no}lung oedema" for v in ("AP", "PA")
                                for no in ("", "no ")}  # fmt: skip


def test_the_draw_depends_on_the_seed_alone(world):
    drawn = [[f.image.tobytes() for f in world.films(seed=s, per_kind=4)] for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_films_are_drawn_without_looking_at_the_scores(world):
    first = [f.image.tobytes() for f in world.films({"clean": world.z})]
    other = np.random.default_rng(0).normal(size=world.z.shape).astype(np.float32)
    assert first == [f.image.tobytes() for f in world.films({"clean": other})]


def test_scores_are_probabilities_that_tell_ill_from_healthy(world):
    shown = world.films({"noise": np.zeros_like(world.z)}, per_kind=5)
    ill = np.array([", lung" in f.caption for f in shown])
    raw = np.array([f.scores["raw"] for f in shown])
    assert raw[ill].min() > raw[~ill].max()
    share = world.cohort.table["lung_oedema"].iloc[world.train].mean()
    for film in shown:  # a head with nothing to read says how many are ill
        assert film.scores["noise"] == pytest.approx(share, abs=0.01)


def test_the_confounder_head_looks_at_the_mark_and_the_outcome_head_at_the_cloud(world):
    film = next(
        f for f in world.films(encoder=world.encoder) if f.caption == "portable, no lung oedema"
    )
    confounder, outcome = (film.heat["raw", role] for role in ("confounder", "outcome"))
    height, width = film.image.shape
    mark = (0, 0, height * 12 // HEIGHT, width * 12 // WIDTH)
    assert confounder.shape == outcome.shape == (height, width)
    assert share_in(confounder, mark) > 0.8
    ill = next(
        f for f in world.films(encoder=world.encoder) if f.caption == "not portable, lung oedema"
    )
    cloud = tuple(round(v * height / HEIGHT) for v in (20, 24, 46, 52))
    assert share_in(ill.heat["raw", "outcome"], cloud) > 0.5


def test_after_erasure_the_map_of_the_confounder_is_pale(world):
    fitted, clean = cleaned(world)
    for film in world.films({"clean": clean}, encoder=world.encoder, fitted=fitted):
        assert set(film.heat) == {
            (name, role) for name in ("raw", "clean") for role in ("confounder", "outcome")
        }
        before, after = (film.heat[name, "confounder"] for name in ("raw", "clean"))
        assert np.percentile(before, 99) == pytest.approx(1, abs=0.3)  # 1 before it was laid on
        # A map on a scale of its own would show the noise of a head at chance in full colour.
        assert after.max() < 0.01 * before.max()


def test_a_head_is_read_through_the_map_it_was_fitted_behind(world):
    # A map that mirrors the squares left to right: a head behind it looks where it did before.
    d = world.z.shape[1]
    mirror = np.eye(d)[np.arange(d).reshape(GRID, GRID)[:, ::-1].ravel()]
    fitted = AffineMap(np.eye(d) - mirror, np.eye(d), np.zeros(d))
    after = {"mirrored": (world.z @ mirror.T).astype(np.float32)}
    for film in world.films(after, encoder=world.encoder, fitted=fitted, per_kind=1):
        for role in ("confounder", "outcome"):
            raw, mirrored = film.heat["raw", role], film.heat["mirrored", role]
            np.testing.assert_allclose(mirrored, raw, atol=0.02 * raw.max())


def test_an_embedding_that_the_encoder_did_not_make_has_no_heat(world):
    fitted, clean = cleaned(world)
    forgotten = world.films({"clean": clean}, encoder=world.encoder)  # the map was not passed
    assert {name for f in forgotten for name, _ in f.heat} == {"raw"}
    others = example_films(
        world.cohort, {"raw": world.z[::-1]}, {}, world.train, world.test, "portable",
        "lung_oedema", encoder=world.encoder, fitted=fitted,
    )  # fmt: skip
    assert not any(f.heat for f in others)
    assert not any(f.heat for f in world.films(encoder=load_encoder("stored")))
    assert not any(f.heat for f in world.films(encoder=load_encoder(Squares())))
    assert not any(f.heat for f in world.films())


def test_a_map_that_reads_the_image_has_heat_and_one_that_reads_records_has_none(world):
    d = world.z.shape[1]
    zero = {"left": np.zeros((2, d, 1)), "right": np.zeros((2, 1, d)), "centre": np.zeros((2, d))}
    rest = {
        "slope": np.random.default_rng(0).normal(size=(2, d)), "bias": np.zeros(2),
        "stretch": np.zeros((0, d)), "middle": np.zeros(d), "design": np.eye(2),
    }  # fmt: skip
    shift = 0.1 * np.random.default_rng(1).normal(size=(2, d))
    mixed = LevelMap(**zero, **rest, shift=shift)
    after = {"clean": mixed(torch.tensor(world.z)).numpy()}
    for film in world.films(after, encoder=world.encoder, fitted=mixed, per_kind=1):
        assert ("clean", "outcome") in film.heat
    reads = LevelMap(**zero, **rest, shift=shift, reads=True)
    for film in world.films(after, encoder=world.encoder, fitted=reads, per_kind=1):
        assert {name for name, _ in film.heat} == {"raw"}


def test_outside_a_crop_there_is_no_heat(world):
    encoder = load_encoder(Squares(), preprocess=MIDDLE)
    z = encoder.embed(world.cohort.image_paths)
    shown = example_films(
        world.cohort, {"raw": z}, {}, world.train, world.test, "portable", "lung_oedema",
        encoder=encoder, size=WIDTH,
    )  # fmt: skip
    left = (WIDTH - HEIGHT) // 2
    for film in shown:
        heat = film.heat["raw", "outcome"]
        assert not heat[:, : left - 1].any()
        assert not heat[:, WIDTH - left + 1 :].any()
        assert heat[:, left + 2 : WIDTH - left - 2].any(axis=0).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "F"])
@pytest.mark.parametrize("size", [(64, 48), (48, 64), (37, 200)])
def test_where_the_encoder_looked_is_found_again_on_the_film(mode, size):
    width, height = size
    film = Image.new(mode, size)
    for preprocess, share_down, share_across in [
        (Preprocess(height=40, width=56), 1.0, 1.0),
        (Preprocess(height=40, width=40, resize="crop", crop_share=0.8),
         0.8 * min(1, width / height), 0.8 * min(1, height / width)),
    ]:  # fmt: skip
        rows, columns = origins(preprocess, film)
        for found, share in ((rows, share_down), (columns, share_across)):
            expected = 0.5 + share * ((np.arange(len(found)) + 0.5) / len(found) - 0.5)
            np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_point_of_heat_comes_back_to_its_place():
    heat = np.zeros((40, 40))
    heat[10, 30] = 1
    places = origins(Preprocess(height=40, width=40, resize="crop"), Image.new("L", (200, 100)))
    found = laid_on(heat, places, (50, 100))
    at = np.unravel_index(found.argmax(), found.shape)
    # Row 10.5 of 40 over the whole height; column 30.5 of 40 over the middle half of the width.
    assert abs(at[0] + 0.5 - 50 * 10.5 / 40) <= 1
    assert abs(at[1] + 0.5 - 100 * (0.25 + 0.5 * 30.5 / 40)) <= 1


def test_padding_is_left_out_and_what_is_no_picture_has_no_places():
    def letterbox(image: Image.Image) -> Tensor:
        small = torch.tensor(np.asarray(image.resize((40, 20)), dtype=np.float32))
        return nn.functional.pad(small, (0, 0, 10, 10), value=7.0)[None] / 255

    film = Image.new("L", (200, 100))
    rows, columns = origins(letterbox, film)
    assert np.isnan(rows[:10]).all()
    assert np.isnan(rows[30:]).all()
    np.testing.assert_allclose(rows[10:30], (np.arange(20) + 0.5) / 20, atol=0.02)
    heat = laid_on(np.ones((40, 40)), (rows, columns), (10, 20))
    np.testing.assert_allclose(heat, 1)

    def turned(image: Image.Image) -> Tensor:
        return letterbox(image.rotate(30))

    def by_its_own_content(image: Image.Image) -> Tensor:
        x = torch.tensor(np.asarray(image, dtype=np.float32))
        return ((x - x.mean()) / (x.std() + 1e-6))[None]

    assert origins(turned, film) is None
    assert origins(by_its_own_content, film) is None


def test_a_file_that_cannot_be_read_makes_room_for_another_draw(world, tmp_path):
    table = world.cohort.table
    chosen = [f.image.tobytes() for f in world.films(size=WIDTH)]
    for path in world.cohort.image_paths:
        whole = path.read_bytes()
        is_chosen = np.asarray(Image.open(path)).tobytes() in chosen
        (tmp_path / path.name).write_bytes(whole[:60] if is_chosen else whole)
    cohort = Cohort.read(table, image="file", patient="who", folder=tmp_path)
    again = world.films(cohort=cohort, size=WIDTH)
    assert len(again) == 4
    assert not {f.image.tobytes() for f in again} & set(chosen)


def test_there_are_no_films_where_nothing_can_be_shown(world):
    table = world.cohort.table
    bare = Cohort.from_arrays(world.z, table, patient="who")
    assert world.films(cohort=bare) == ()
    gone = Cohort.from_arrays(world.z, table.assign(file="gone.png"), image="file", patient="who")
    assert world.films(cohort=gone) == ()
    # A level that is held out whole was never met in training.
    rest = np.flatnonzero(table["portable"] == 0), np.flatnonzero(table["portable"] == 1)
    assert example_films(
        world.cohort, {"raw": world.z}, {}, *rest, "portable", "lung_oedema"
    ) == ()  # fmt: skip


def test_of_many_levels_the_two_that_differ_most_are_shown(world):
    y = world.cohort.table["lung_oedema"].to_numpy()
    rng = np.random.default_rng(0)
    site = np.where(rng.random(len(y)) < 0.4, "B", np.where(rng.random(len(y)) < 0.85,
                    np.where(y == 1, "A", "C"), np.where(y == 1, "C", "A")))  # fmt: skip
    site[:3] = "D"  # three ill films: too few to be believed
    table = world.cohort.table.assign(site=site)
    table.loc[:2, "lung_oedema"] = 1.0
    cohort = Cohort.read(table, image="file", patient="who", folder=folder_of(world))
    shown = world.films(cohort=cohort, confounder="site", per_kind=6)
    aligned = {f.caption for f in shown if f.kind == "aligned"}
    assert aligned == {"site A, lung oedema", "site C, no lung oedema"}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"confounder": "protable"}, "the confounder 'protable' is not a column.* 'portable'"),
        ({"outcome": "lung_edema"}, "the outcome 'lung_edema' is not a column.* 'lung_oedema'"),
        ({"outcome": "file"}, r"'file' has 160 different values .* \(160 in all\)\): films are"),
    ],
)
def test_a_wrong_column_is_named_with_its_remedy(world, how, words):
    with pytest.raises(SettingsError, match=words):
        world.films(**how)
    with pytest.raises(SettingsError, match="before= is empty"):
        example_films(world.cohort, {}, {}, world.train, world.test, "portable", "lung_oedema")


def test_the_examples_of_the_docstrings_hold():
    for part in (module, heat_module):
        assert doctest.testmod(part).failed == 0


@pytest.mark.skipif("DECONF_DATA" not in os.environ, reason="real films: set DECONF_DATA")
def test_on_real_films_the_maps_lie_on_the_film():
    folder = Path(os.environ["DECONF_DATA"])
    table = pd.read_csv(folder / "embeddings" / "cxr_mobilenetv2.csv")
    z = np.load(folder / "embeddings" / "cxr_mobilenetv2.npz")["emb"]
    kept = ((table["site"] == "nih") & table["view"].isin(["AP", "PA"])).to_numpy()
    cohort = Cohort.read(
        table[kept], image="image", patient="patient_id", outcome="disease",
        folder=folder / "cxr_sites",
    )  # fmt: skip
    encoder = load_encoder(
        "timm:mobilenetv2_100", weights=folder / "weights" / "mobilenetv2_100_imagenet.safetensors",
        pad_type="same", preprocess=Preprocess(), device="cpu",
    )  # fmt: skip
    train = np.isin(cohort.patients, np.unique(cohort.patients)[::2])
    shown = example_films(
        cohort, {"raw": z[kept]}, {}, np.flatnonzero(train), np.flatnonzero(~train), "view",
        "disease", encoder=encoder, per_kind=1,
    )  # fmt: skip
    assert len(shown) == 2
    for film in shown:
        for heat in film.heat.values():
            assert heat.shape == film.image.shape
            assert np.isfinite(heat).all()
        assert len(film.heat) == 2
