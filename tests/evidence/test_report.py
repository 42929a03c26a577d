"""A report says its verdicts first, carries no patient, and is whole in one file."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deconf.cohort.cohort import Cohort
from deconf.errors import SettingsError
from deconf.evidence import inspection
from deconf.evidence.compare import compare
from deconf.evidence.leakage import audit
from deconf.evidence.narrative import WIDTH, aligned, number, signed
from deconf.evidence.page.figures import Scale, axis, bar, ticks_of
from deconf.evidence.report import Report
from deconf.worlds.linear import LinearWorld
from tests.evidence.small_world import SmallCleaner

WORLD = LinearWorld(n=700, d=24, sites=2)
NASTY = "clean <b>&\"'"
VOID = {"meta", "link", "br", "img", "line", "circle", "path", "use", "rect", "input"}


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    rows = WORLD.train().cohort
    table = rows.table
    table["age"] = np.random.default_rng(0).normal(60, 10, len(table))
    table["patient_id"] = "Zebra-" + table["patient_id"]
    table["fever"] = (table["severity"] > 1).astype(int)
    # One site has one class of fever.
    table.loc[table["site"] == "hospital B", "fever"] = 1
    return Cohort.from_arrays(
        np.asarray(rows.embeddings), table, patient="patient_id", site="site", outcome="pneumonia"
    )


@pytest.fixture(scope="module")
def report(cohort: Cohort) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "audit", partial(audit, attackers=["logistic"]))
        return compare(
            {"raw": "stored", NASTY: SmallCleaner(graph=WORLD.graph)},
            cohort,
            hold_out="site",
            tasks=["pneumonia", "fever"],
        )


@pytest.fixture(scope="module")
def html(report: Report, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report.save(tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects words and complains of tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.words.append(data)


@pytest.fixture(scope="module")
def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    return reader


def spoken(reader: Reader) -> str:
    return " ".join(" ".join(reader.words).split())


# ------------------------------------------------------------------ text


def test_the_verdicts_come_before_any_table(report):
    text = str(report)
    assert text.index("VERDICTS") < text.index("raw / portable: leaks") < text.index("TASK")
    assert "the price of the shortcut" in text or "no certain price" in text


def test_no_line_is_wider_than_the_terminal_and_no_column_is_lost(report):
    assert max(map(len, str(report).splitlines())) <= WIDTH
    rows = [["", *(f"a heading {k}" for k in range(20))], ["x", *map(str, range(20))]]
    lines = aligned(rows)
    assert max(map(len, lines)) <= WIDTH
    assert all(f"a heading {k}" in "\n".join(lines) for k in range(20))


def test_what_is_refused_reads_refused_and_says_why_in_text_and_page(report, read):
    why = "hospital B holds only fever=1: site cannot be told from fever there"
    assert why in " ".join(str(report).split())
    assert why in spoken(read)
    cells = report.to_frame().query("environment == 'held out: site=hospital B' and task=='fever'")
    assert (cells.status == "REFUSED").all()
    assert cells[["estimate", "low", "high", "difference"]].isna().all(axis=None)


def test_handing_out_the_frame_hands_out_a_copy(report):
    frame = report.to_frame()
    frame.loc[:, "estimate"] = 7.0
    assert not (report.to_frame()["estimate"] == 7.0).any()


def test_a_minus_is_a_minus_sign():
    assert [signed(x) for x in (-0.05, 0.05, 0.0)] == ["−0.05", "+0.05", "+0.00"]


# ------------------------------------------------------------------ files


def test_no_file_names_a_patient(report, html):
    for text in (str(report), report.to_json(), html, report.to_frame().to_csv()):
        assert "Zebra" not in text


def test_json_is_strict_and_holds_the_figures_of_the_frame(report):
    def never(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    found = json.loads(report.to_json(), parse_constant=never)
    assert found["config"]["films"] == 700
    frame = report.to_frame()
    assert [r["estimate"] for r in found["task"]] == [
        None if np.isnan(x) else x for x in frame["estimate"]
    ]
    assert {(v["representation"], v["confounder"]) for v in found["verdicts"]} == set(
        report.verdict
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_frame_comes_back_from_disk(report, tmp_path, suffix):
    path = report.save(tmp_path / f"report{suffix}")
    back = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    pd.testing.assert_series_equal(back["estimate"], report.to_frame()["estimate"])
    assert list(back["environment"]) == list(report.to_frame()["environment"])


def test_an_unknown_suffix_or_folder_is_refused_with_the_choices(report, tmp_path):
    with pytest.raises(SettingsError, match=r"\.html, \.json, \.csv, \.parquet.*mean '\.html'"):
        report.save(tmp_path / "report.htm")
    with pytest.raises(SettingsError, match="there is no folder"):
        report.save(tmp_path / "nowhere" / "report.html")


# ------------------------------------------------------------------ the page


def test_the_page_needs_nothing_from_outside_and_runs_nothing(html, read):
    for tag, attributes in read.tags:
        assert tag not in ("script", "link", "iframe", "object", "img")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_says_every_verdict_and_price_in_full(report, read):
    said = spoken(read)
    for sentence in report.sentences():
        assert sentence.split(": ", 2)[-1].split(" ", 1)[1] in said


def test_names_from_the_user_cannot_write_html(html, read):
    assert NASTY in spoken(read)
    assert "<b>&\"'" not in html


def test_the_page_shows_graph_overlap_and_assumptions(html, read):
    assert any(tag == "div" and a.get("class") == "graph" for tag, a in read.tags)
    assert ">severity<" in html  # text of the drawing stays text
    said = spoken(read)
    for word in ("Overlap", "Assumed", "Under other stories", "Out of span", "effective rank"):
        assert word in said


def test_the_same_report_gives_the_same_bytes(report, html, tmp_path):
    again = report.save(tmp_path / "again.html").read_text(encoding="utf-8")
    assert again == html


def test_every_figure_of_the_frame_is_on_the_page(report, read):
    said = spoken(read)
    for row in report.to_frame().itertuples():
        if row.status == "ok":
            assert number(row.estimate, 3) in said


def test_a_saved_plan_without_graph_or_overlap_still_makes_a_page(report, tmp_path):
    class Saved:
        invariances = report.plans[NASTY].invariances

        def __str__(self) -> str:
            return "as it was saved"

    page = replace(report, plans={NASTY: Saved()}).save(tmp_path / "saved.html").read_text()
    assert "What the graph demands of" in page


# ------------------------------------------------------------------ bars


def test_a_bar_lies_where_its_scale_puts_it():
    scale = Scale(0.5, 1.0)
    found = bar(scale, 0.75, 0.6, 0.9, marks=[(0.5, "chance")])
    assert 'cx="50.0%"' in found
    assert re.search(r'class="reach" x1="20\.0%" x2="80\.0%"', found)
    assert 'class="chance" x1="0.0%"' in found


def test_a_point_off_the_scale_becomes_an_arrow_at_its_end_and_no_point_no_bar():
    scale = Scale(0.4, 1.0)
    assert "<circle" not in bar(scale, 0.2, 0.1, 0.3)
    assert '<svg x="0%"' in bar(scale, 0.2, 0.1, 0.3)
    assert '<svg x="100%"' in bar(scale, 1.2, 0.1, 0.3)
    assert bar(scale, np.nan, np.nan, np.nan) == ""
    assert "reach" not in bar(scale, 0.6, np.nan, np.nan)


@pytest.mark.parametrize("ends", [(0.4, 1.0), (0.0, 0.1), (0.0, 50.0), (-3.0, 27.0), (0.0, 4000.0)])
def test_an_axis_has_a_few_round_ticks_inside_its_ends(ends):
    scale = Scale(*ends)
    ticks = ticks_of(scale)
    assert 2 <= len(ticks) <= 6
    assert all(ends[0] <= t <= ends[1] for t in ticks)
    assert axis(scale, ticks).count("<text") == len(ticks)


def test_the_page_ships_with_the_package():
    folder = Path(inspection.__file__).parent / "page" / "templates"
    assert {p.name for p in folder.iterdir()} >= {"report.html", "report.css"}
