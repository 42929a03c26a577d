"""The page: sections in their order, films inside the file, curves that say what they are."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from deconf.errors import ReadError
from deconf.evidence import inspection, pictures
from deconf.evidence.compare import compare
from deconf.evidence.curves import GREY, LINE, RAW, colours, curves, spread
from deconf.evidence.leakage import audit
from deconf.evidence.overlay import layer, picture, plates
from deconf.evidence.report import Report
from deconf.worlds.linear import LinearWorld
from tests.evidence.small_world import SmallCleaner

WORLD = LinearWorld(n=500, d=24)
CHOSEN = "drawn by lot"


@dataclass(frozen=True)
class Film:
    kind: str
    caption: str
    image: np.ndarray
    scores: dict[str, float]
    heat: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)


def film(seed: int, *, heat: bool = True, caption: str = "portable, no pneumonia") -> Film:
    """A film as noisy as films get, so that its picture cannot be packed small."""
    rng = np.random.default_rng(seed)
    hot = {
        (name, role): rng.random((160, 130)).astype(np.float32)
        for name in ("raw", "clean")
        for role in ("confounder", "outcome")
    }
    return Film(
        kind="crossed" if seed % 2 else "aligned",
        caption=caption,
        image=rng.integers(256, size=(160, 130), dtype=np.uint8),
        scores={"raw": 0.834, "clean": 0.41},
        heat=hot if heat else {},
    )


@pytest.fixture(autouse=True)
def _chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Films are made here, not drawn: only the words about the drawing are borrowed."""
    stand_in = ModuleType("deconf.evidence.films")
    stand_in.CHOSEN = CHOSEN  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "deconf.evidence.films", stand_in)


@pytest.fixture(scope="module")
def report() -> Report:
    cohort = WORLD.train().cohort
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
        clean = SmallCleaner(graph=WORLD.graph)
        return compare({"raw": "stored", "clean": clean}, cohort, folds=2)


def with_films(report: Report, films: list[Film]) -> Report:
    shown = replace(report, films=tuple(films))  # type: ignore[arg-type]
    shown.__dict__["atlas"] = report.atlas  # laid out once for all tests
    return shown


def html_of(report: Report, folder: Any) -> str:
    return report.save(folder / "report.html").read_text(encoding="utf-8")


def headings(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


# ------------------------------------------------------------------ sections


def test_verdicts_come_first_and_every_section_in_its_place(report, tmp_path):
    found = headings(html_of(with_films(report, [film(0), film(1)]), tmp_path))
    assert found == [
        "Verdicts", "Three questions, often taken for one", "Leakage", "Task: pneumonia",
        "When the shift comes", "A map of the films",
        "Neighbours", "A few films", "What the graph demands of clean", "What else was lost",
        "Method, assumptions, figures",
    ]  # fmt: skip


def test_what_does_not_apply_leaves_no_heading(report, tmp_path):
    bare = replace(report, points=None, lost=report.lost.iloc[:0], out_of_span=pd.DataFrame())
    found = headings(html_of(bare, tmp_path))
    assert not {"A map of the films", "A few films", "What else was lost"} & set(found)
    assert "Verdicts" in found


def test_the_map_is_called_a_picture_and_not_evidence(report, tmp_path):
    html = html_of(with_films(report, []), tmp_path)
    assert "A picture, not evidence: attackers judge." in html
    assert html.count('class="map"') == 2 * 2  # raw and clean; portable and pneumonia


# ------------------------------------------------------------------ films


class Sources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag, attrs):
        self.found += [(tag, v) for k, v in attrs if k in ("src", "href", "xlink:href")]


def test_films_lie_inside_the_file_and_eight_of_them_take_less_than_3_mb(report, tmp_path):
    html = html_of(with_films(report, [film(k) for k in range(8)]), tmp_path)
    assert len(html.encode()) < 3_000_000
    reader = Sources()
    reader.feed(html)
    assert sum(tag == "image" for tag, _ in reader.found) == 8 * (1 + 4)
    assert all(v.startswith(("data:image/png;base64,", "#")) for _, v in reader.found)
    marks = {v for tag, v in reader.found if tag == "use"}
    assert marks == {f"#film{k}" for k in range(8)}  # a film is stored once, drawn five times
    assert all(f'id="film{k}"' in html for k in range(8))


def test_films_come_by_kind_with_scores_before_and_after_and_how_they_were_chosen(report, tmp_path):
    html = html_of(with_films(report, [film(1), film(0)]), tmp_path)
    assert html.index("the shortcut tells the truth") < html.index("the shortcut misleads")
    assert CHOSEN in html
    assert html.count("83 %") == 2
    assert html.count("41 % <small>−0.42</small>") == 2


def test_without_heat_the_film_and_its_scores_stay(report, tmp_path):
    html = html_of(with_films(report, [film(0, heat=False)]), tmp_path)
    assert html.count("<image ") == 1
    assert "plates bare" in html
    assert "The heat lies" not in html


def test_a_caption_cannot_write_html(report, tmp_path):
    html = html_of(with_films(report, [film(0, caption='<script>"x"')]), tmp_path)
    assert "<script" not in html


def read(uri: str) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_a_film_comes_back_as_it_was():
    for shape in ((30, 20), (30, 20, 3)):
        image = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
        assert np.array_equal(np.asarray(read(picture(image))), image)


def test_heat_is_clear_where_cold_and_never_hides_the_film_where_hot():
    heat = np.zeros((160, 120))
    heat[:80] = 1.0
    heat[80:100] = np.nan
    drawn = np.asarray(read(layer(heat)).convert("RGBA"))
    assert max(drawn.shape) == 72
    assert (drawn[50:, :, 3] == 0).all()
    assert (drawn[:30, :, 3] > 150).all()
    assert (drawn[..., 3] < 230).all()
    assert (drawn[:30, :, 0] > drawn[:30, :, 2]).all()  # warm


def test_more_heat_is_more_opaque():
    alpha = np.asarray(read(layer(np.linspace(0, 1, 50)[np.newaxis])).convert("RGBA"))[0, :, 3]
    assert (np.diff(alpha.astype(int)) >= 0).all()
    assert alpha[-1] > alpha[25] > alpha[0] == 0


def test_plates_keep_the_order_of_the_comparison(report):
    (kind,) = plates(with_films(report, [film(0)]))
    (one,) = kind["films"]
    assert [(h["name"], h["role"]) for h in one["heats"]] == [
        ("raw", "confounder"), ("raw", "outcome"), ("clean", "confounder"), ("clean", "outcome"),
    ]  # fmt: skip
    assert [s["change"] for s in one["scores"]] == ["", "−0.42"]


# ------------------------------------------------------------------ curves


def test_raw_and_own_have_colours_and_bands_and_baselines_are_grey(report):
    found = colours(report)
    assert found["raw"] == RAW
    assert len({found["raw"], found["clean"], GREY}) == 3
    assert {found[n] for n in report.baselines} - {RAW} == {GREY}
    svg = curves(report.sweep, found, salt="0")
    assert svg.count("<polyline") == len(report.names)
    assert svg.count("<polygon") == 2


def test_a_curve_runs_from_left_to_right_and_falls_with_its_figure(report):
    own = report.sweep.query("representation == 'raw'").sort_values("power")
    svg = curves(own, {"raw": RAW}, salt="0")
    line = re.search(r'<polyline[^>]*points="([^"]*)"', svg)
    assert line is not None
    x, y = np.array([p.split(",") for p in line[1].split()], dtype=float).T
    assert (np.diff(x) > 0).all()
    assert np.corrcoef(-y, own["estimate"])[0, 1] > 0.999


def test_every_curve_is_named_at_its_end_and_no_two_names_touch(report):
    svg = curves(report.sweep, colours(report), salt="0")
    named = re.findall(r'y="([\d.]+)" class="end[^>]*>([^<]+)<', svg)
    assert {text.rsplit(" ", 1)[0] for _, text in named} == {n[:17] for n in report.names}
    places = sorted(float(y) for y, _ in named)
    assert all(b - a >= LINE - 1e-6 for a, b in pairwise(places))


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_names_stand_a_line_apart_inside_the_frame_in_the_order_of_their_ends(count):
    ends = [(y, f"n{k}") for k, y in enumerate(np.random.default_rng(count).uniform(0, 200, count))]
    found = spread(ends, low=0, high=200)
    assert [name for *_, name in found] == [name for _, name in sorted(ends)]
    places = [place for place, *_ in found]
    assert min(places) >= 0
    assert max(places) <= 200
    assert all(b - a >= LINE - 0.11 for a, b in pairwise(places))


def test_where_nothing_is_associated_there_is_no_curve_and_the_page_says_so(report, tmp_path):
    loose = with_films(report, [])
    loose = replace(loose, sweep=report.sweep.assign(correlation=0.001))
    loose.__dict__["atlas"] = report.atlas
    html = html_of(loose, tmp_path)
    assert "portable and pneumonia are hardly associated in these films (correlation 0.00)" in html
    assert 'class="curves"' not in html


# ------------------------------------------------------------------ what is kept


def test_json_carries_the_sweep_and_no_picture(report):
    found = json.loads(with_films(report, [film(0)]).to_json())
    assert len(found["sweep"]) == len(report.sweep)
    assert found["sweep"][0]["estimate"] == pytest.approx(report.sweep["estimate"].iloc[0])
    assert not {"atlas", "films", "points"} & set(found)


def test_the_map_shows_raw_and_what_was_passed_on_films_of_strangers(report):
    assert list(dict.fromkeys(report.atlas["representation"])) == ["raw", "clean"]
    assert list(report.atlas.columns) == ["representation", "x", "y", "portable", "pneumonia"]
    attacked = re.search(r"([\d,]+) films", report.config["attacked"])
    assert attacked is not None
    assert len(report.atlas) == 2 * int(attacked[1].replace(",", ""))


def test_pictures_can_be_left_out(report, monkeypatch):
    monkeypatch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
    cohort = WORLD.train().cohort
    plain = compare({"raw": "stored", "clean": SmallCleaner(graph=WORLD.graph)}, cohort, folds=2,
                    pictures=False)  # fmt: skip
    assert plain.points is None
    assert plain.atlas.empty
    assert plain.films == ()
    pd.testing.assert_frame_equal(plain.to_frame(), report.to_frame())


def test_films_that_cannot_be_had_cost_a_reason_and_not_the_comparison(monkeypatch):
    def none(*args: object, **options: object) -> None:
        raise ReadError("'st-07/im3.png' is not there.")

    monkeypatch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
    monkeypatch.setattr(pictures, "_films", none)
    cohort = WORLD.train().cohort
    table = cohort.table.assign(file="a.png")
    from deconf.cohort.cohort import Cohort

    named = Cohort.read(table, image="file", embedding=np.asarray(cohort.embeddings),
                        patient="patient_id", outcome="pneumonia")  # fmt: skip
    found = compare({"raw": "stored"}, named, confounders="portable", folds=2)
    assert found.films == ()
    assert "no example films: 'st-07/im3.png' is not there." in found.reasons
    assert not found.atlas.empty
