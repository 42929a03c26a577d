"""The map keeps neighbours, shows the same films for all, and names nobody."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from deconf.evidence.page.scatter import PALETTE, REST, dots, maps, palette
from deconf.evidence.pictures.atlas import FEWEST, MOST_FILMS, atlas, layout, points_of, principal


def cloud(n: int = 200, d: int = 40, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    view = rng.choice(["AP", "PA"], size=n)
    z = rng.standard_normal((n, d)).astype(np.float32)
    z[:, 0] += 8 * (view == "AP")
    return z, pd.DataFrame({"view": view, "patient": [f"Zebra-{i}" for i in range(n)]})


def test_principal_components_keep_distances_on_either_side_of_d():
    rng = np.random.default_rng(0)
    for n, d in ((60, 8), (8, 60), (20, 20)):
        z = rng.standard_normal((n, d))
        full = principal(z, min(n, d))
        gaps = np.linalg.norm(z[:, None] - z[None], axis=2)
        assert np.allclose(np.linalg.norm(full[:, None] - full[None], axis=2), gaps, atol=1e-4)
        spread = full.std(axis=0)
        assert (np.diff(spread) <= 1e-5).all()  # the largest first


def test_clouds_apart_in_the_embedding_are_apart_on_the_map():
    z, table = cloud()
    found = atlas(points_of({"raw": z}, table, ["view"], seed=0))
    place = found[["x", "y"]].to_numpy()
    gaps = np.linalg.norm(place[:, None] - place[None], axis=2) + np.diag([np.inf] * len(place))
    nearest = found["view"].to_numpy()[gaps.argmin(axis=1)]
    assert (nearest == found["view"]).mean() > 0.95


def test_the_same_films_stand_in_every_map_and_at_most_600():
    z, table = cloud(MOST_FILMS + 150, 5)
    points = points_of({"raw": z, "clean": z[:, 1:]}, table, ["view"], seed=3)
    assert {len(c) for c in points.components.values()} == {MOST_FILMS}
    assert len(points.colours) == MOST_FILMS
    turned = points_of({"raw": z, "moved": z + 5}, table, ["view"], seed=3)
    assert np.allclose(turned.components["raw"], turned.components["moved"], atol=1e-3)
    shown = points.components["raw"][:, 0] > 0  # the first component is the view
    assert shown.tolist() in ([v == w for v in points.colours["view"]] for w in ("AP", "PA"))


def test_the_same_seed_gives_the_same_map_and_another_draws_other_films():
    z, table = cloud(120, 6)
    a, b = (atlas(points_of({"raw": z}, table, ["view"], seed=0)) for _ in range(2))
    pd.testing.assert_frame_equal(a, b)
    c = atlas(points_of({"raw": z}, table, ["view"], seed=1))
    assert not np.allclose(a["x"], c["x"])


def test_few_films_stand_on_their_principal_components():
    z = np.random.default_rng(0).standard_normal((FEWEST - 1, 7))
    parts = principal(z, 30)
    assert np.array_equal(layout(parts, seed=0), parts[:, :2])


@pytest.mark.parametrize(
    "z", [np.zeros((80, 3)), np.ones((80, 1)), np.eye(80)[:, :1], np.repeat(np.eye(4), 20, axis=0)]
)
def test_a_constant_thin_or_repeated_embedding_has_a_map_too(z):
    assert np.isfinite(layout(principal(z, 30), seed=0)).all()


def test_no_patient_stands_in_it_and_a_column_called_x_is_not_the_place():
    z, table = cloud(40, 4)
    table["x"] = table.pop("view")
    found = atlas(points_of({"raw": z}, table, ["x"], seed=0))
    assert list(found.columns) == ["representation", "x", "y", "x (column)"]
    assert "Zebra" not in found.to_csv()
    assert set(found["x (column)"]) == {"AP", "PA"}


def test_missing_levels_are_grey_and_rare_ones_share_a_colour():
    column = pd.Series([None, *"aabbccddeeffgghi"], dtype=object)
    colour = palette(column)
    assert list(colour) == list("abcdefg")
    assert len(set(colour.values())) == len(PALETTE)
    frame = pd.DataFrame({"x": np.arange(17.0), "y": 0.0, "site": column})
    assert dots(frame, "site", colour).count(REST) == 3  # missing, h and i


def test_dots_stay_inside_their_square_and_names_cannot_write_svg():
    z, table = cloud(60, 4)
    nasty = 'v"<i>'
    table = table.rename(columns={"view": nasty})
    frame = atlas(points_of({'r"<b>': z}, table, [nasty], seed=0))
    (row,) = maps(SimpleNamespace(atlas=frame, confounders=(nasty,)))  # type: ignore[arg-type]
    svg = row["maps"][0]["svg"]
    assert "<i>" not in svg
    places = np.array(re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', svg), dtype=float)
    assert places.shape == (60, 2)
    assert (places >= 0).all()
    assert (places <= 220).all()


def test_without_points_there_is_no_map():
    z, table = cloud(10, 3)
    none = replace(points_of({"raw": z}, table, ["view"], seed=0), components={})
    assert atlas(none).empty
    assert maps(SimpleNamespace(atlas=atlas(none), confounders=())) == []  # type: ignore[arg-type]
