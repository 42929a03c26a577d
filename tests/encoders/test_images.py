from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import deconf
from deconf.encoders import Preprocess
from deconf.errors import CohortError, ReadError, SettingsError

SIZE = Preprocess(height=16, width=16)


class Small(nn.Module):
    """A convolution, a pool and a dropout that must be off: (n, 3, h, w) to (n, 6)."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5)
        )

    def forward(self, images):
        return self.net(images)


def encoder(seed=0, **settings):
    return deconf.load_encoder(Small(seed), **{"preprocess": SIZE} | settings)


def pixels(n=48, seed=0):
    """Return grey films (n, 20, 24) and whether each is portable: those have a bright frame."""
    rng = np.random.default_rng(seed)
    portable = rng.integers(2, size=n)
    x = rng.integers(0, 120, (n, 20, 24), dtype=np.uint8)
    x[portable == 1, :5] = 250
    return x, portable


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of films and their table."""
    place = tmp_path_factory.mktemp("films")
    x, portable = pixels()
    names = [f"film-{i}.png" for i in range(len(x))]
    for name, film in zip(names, x, strict=True):
        Image.fromarray(film).save(place / name)
    table = pd.DataFrame({"path": names, "portable": portable})
    table.to_csv(place / "studies.csv", index=False)
    return place


def cohort(folder, **more):
    return deconf.Cohort.read(folder / "studies.csv", image="path", **more)


# ---------------------------------------------------------------- one film, however it comes


def test_a_film_has_one_embedding_however_it_is_passed(folder):
    x, _ = pixels()
    e = encoder()
    expected = e.embed(torch.stack([SIZE(film) for film in x]))  # as forward takes it
    own = cohort(folder)
    paths = [folder / name for name in own.table["path"]]
    colour = np.repeat(x[..., None], 3, axis=3)
    ways = {
        "cohort of files": own,
        "paths": paths,
        "names": [str(p) for p in paths],
        "PIL images": [Image.fromarray(film) for film in x],
        "arrays": list(x),
        "grey pixels": x,
        "colour pixels": colour,
        "tensor": torch.tensor(x),
        "stack in a cohort": deconf.Cohort.from_arrays(x, own.table),
        "colour stack in a cohort": deconf.Cohort.from_arrays(colour, own.table),
        "files and a stack": deconf.Cohort.from_arrays(x, own.table, image="path"),
    }
    for way, what in ways.items():
        assert_allclose(e.embed(what), expected, atol=1e-6, err_msg=way)


def test_films_of_different_sizes_go_together():
    films = [Image.fromarray(np.full(shape, 90, dtype=np.uint8)) for shape in ((9, 30), (40, 8))]
    z = encoder().embed(films)
    assert_allclose(z[0], z[1], atol=1e-6)


def test_one_batch_encoded_is_what_embed_returns_and_leaves_the_mode():
    e = encoder()
    e.module.train()
    x = torch.stack([SIZE(film) for film in pixels()[0]])
    z = e.encode(x)
    assert z.dtype == np.float32
    assert_allclose(z, e.embed(x), atol=1e-6)
    assert e.module.net[0].training


def test_progress_is_told_to_the_last_image():
    told = []
    encoder().embed(pixels(80)[0], progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (80, 80)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) > 1


def test_the_embedding_of_the_named_encoder_goes_before_the_one_at_hand(folder, caplog):
    own = cohort(folder)
    stale = own.with_embeddings(np.zeros((len(own), 6)))
    with caplog.at_level("INFO"):
        z = encoder().embed(stale)
    assert_array_equal(z, encoder().embed(own))
    assert "embeds the images" in caplog.text
    assert_array_equal(deconf.load_encoder("stored").embed(stale), 0)


def test_a_cache_changes_no_number(folder, tmp_path):
    own = cohort(folder)
    first = encoder().embed(own, cache=tmp_path)
    assert_array_equal(encoder().embed(own, cache=tmp_path), first)
    assert_array_equal(encoder().embed(own), first)
    assert not np.array_equal(encoder(seed=1).embed(own, cache=tmp_path), first)


# ---------------------------------------------------------------- what it refuses


def test_images_without_a_preprocess_and_stored_are_told_what_to_pass(folder):
    own = cohort(folder)
    bare = deconf.load_encoder(Small())
    film = [Image.fromarray(pixels()[0][0])]
    for what in (own, own.image_paths, film):
        with pytest.raises(CohortError, match=r"no preprocess.*load_encoder\(module, preprocess="):
            bare.embed(what)
        with pytest.raises(CohortError, match=r"Name the encoder.*load_encoder\(.timm:"):
            deconf.load_encoder("stored").embed(what)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (np.zeros((5, 3, 16, 16), dtype=np.uint8), r"raw pixels.*\(5, 3, 16, 16\): expected \(n,"),
        (np.full((5, 16, 16, 3), 0.4), r"colour images .* run from 0.4 to 0.4: expected whole"),
        (np.full((5, 16, 16, 3), 20.5), "from 20.5 to 20.5: expected whole numbers from 0 to 255"),
        (np.full((5, 16, 16, 4), 20), r"reads images.*\(5, 16, 16, 4\).*\(n, 3, height, width\)"),
        (np.zeros((5, 1, 16, 16)), r"shape \(5, 1, 16, 16\)"),
        (np.zeros((5, 6)), r"shape \(5, 6\).*go with 'stored'"),
        (np.random.default_rng(0).random((5, 16, 16)), "run from 0.* to 0.99.*from 0 to 255"),
        (np.full((5, 16, 16), 4095.0), "run from 4095 to 4095: expected pixels"),
        (np.full((5, 16, 16), -1.0), "run from -1 to -1"),
        ("images/", r"'images/' is one path: pass a list of image files, or a cohort"),
        (np.zeros((0, 16, 16), dtype=np.uint8), "nothing to embed"),
    ],
)
def test_arrays_that_are_no_images_are_refused_with_their_shape(what, words):
    with pytest.raises(CohortError, match=words):
        encoder().embed(what)


def test_an_unreadable_film_stops_the_run_or_is_named_at_its_end(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for name in ("film-3.png", "film-7.png"):
        (tmp_path / name).write_bytes(b"no image")
    own = cohort(tmp_path)
    with pytest.raises(ReadError, match=r"film-3\.png"):
        encoder().embed(own)
    with pytest.raises(CohortError, match=r"2 of 48 files.*film-3\.png.*`deconf embed`.*on_missin"):
        encoder().embed(own, on_error="skip")


@pytest.mark.parametrize("given", [3, "squash", [16, 16]])
def test_what_is_no_preprocess_is_refused(given):
    with pytest.raises(SettingsError, match=r"expected deconf.encoders.Preprocess"):
        encoder(preprocess=given)
    with pytest.raises(SettingsError, match=r"takes no preprocess="):
        deconf.load_encoder("stored", preprocess=SIZE)
    with pytest.raises(SettingsError, match=r"pad_type= goes with a name"):
        encoder(pad_type="same")


# ---------------------------------------------------------------- the recipe of a module


def made(scale):
    def of(image):
        return scale * SIZE(image)

    return of


def test_the_recipe_of_a_module_tells_its_preprocess_by_code_and_closure():
    recipes = [
        encoder(preprocess=p).recipe
        for p in (made(1), made(2), lambda i: SIZE(i), lambda i: SIZE(i) + 1, SIZE)
    ]
    assert encoder(preprocess=made(1)).recipe == recipes[0]
    assert len({str(r) for r in recipes}) == 5
    x = pixels()[0]
    assert_allclose(encoder(preprocess=made(1)).embed(x), encoder().embed(x), atol=1e-6)


# ---------------------------------------------------------------- de-confounded, end to end


@pytest.fixture(scope="module")
def clean(folder):
    return deconf.deconfound(encoder(), "portable", method="leace").fit(cohort(folder))


def test_new_films_are_cleaned_however_they_come(clean, folder):
    own = cohort(folder)
    z = clean.embed(own)
    raw = encoder().embed(own)
    c = own.table["portable"].to_numpy() == 1
    gap, after = (np.linalg.norm(v[c].mean(0) - v[~c].mean(0)) for v in (raw, z))
    assert gap > 0.1
    assert after < 1e-3 * gap
    x, _ = pixels()
    for what in (x, list(x), own.image_paths, raw, torch.tensor(raw)):
        assert_allclose(clean.embed(what), z, atol=1e-5)
    batch = torch.stack([SIZE(film) for film in x])
    clean.eval()
    with torch.inference_mode():
        assert_allclose(clean(batch), z, atol=1e-5)
        assert_allclose(clean.fold()(batch), z, atol=1e-5)


def test_embeddings_of_another_width_are_still_refused(clean):
    with pytest.raises(CohortError, match="5 columns; this map was fitted on 6"):
        clean.embed(np.zeros((4, 5), dtype=np.float32))


def test_a_map_is_not_put_on_images_made_otherwise(clean, tmp_path):
    folder = clean.save(tmp_path)
    assert deconf.load(folder, encoder()).encoder.preprocess == SIZE
    other = encoder(preprocess=Preprocess(height=16, width=16, resize="crop"))
    with pytest.raises(SettingsError, match=r"made with resize = 'squash'.*'crop': pass preproc"):
        deconf.load(folder, other)


def test_a_map_on_a_timm_model_asks_for_it_by_the_line_to_type(folder, tmp_path, monkeypatch):
    import timm

    torch.manual_seed(0)
    for name in ("net", "other"):
        state = timm.create_model("test_resnet", pretrained=False).state_dict()
        save_file(state, tmp_path / f"{name}.safetensors")

    def load(name):
        return deconf.load_encoder(
            "timm:test_resnet", weights=tmp_path / f"{name}.safetensors", device="cpu",
            preprocess=Preprocess(height=32, width=32),
        )  # fmt: skip

    fitted = deconf.deconfound(load("net"), "portable", method="leace").fit(cohort(folder))
    saved = fitted.save(tmp_path / "clean")
    with pytest.raises(SettingsError, match=r"load\(folder, encoder\), with encoder = ") as told:
        deconf.load(saved)
    line = str(told.value).split("encoder = ")[-1].removesuffix(".")
    monkeypatch.chdir(tmp_path)
    again = deconf.load(saved, eval(line, {"deconf": deconf}))
    assert_allclose(again.embed(pixels()[0]), fitted.embed(pixels()[0]), atol=1e-5)
    with pytest.raises(SettingsError, match="its weights differ"):
        deconf.load(saved, load("other"))
    assert str(tmp_path).encode() not in (saved / "deconf.json").read_bytes()
