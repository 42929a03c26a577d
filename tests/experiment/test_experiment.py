"""Experiments: configs are checked, the shortcut protocol does what it says, results are whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from deconf.errors import ReadError, SettingsError
from deconf.experiment import names, run
from deconf.experiment.answer import Found
from deconf.experiment.config import EditSetting, Setting, Shortcut, read_config
from deconf.experiment.data import load_cohort
from deconf.experiment.interventions import edit_of
from deconf.experiment.results import write_results
from deconf.experiment.shortcut import Films, figure, run_shortcut
from deconf.resources import packaged
from deconf.worlds import linear

needs_data = pytest.mark.skipif(
    "DECONF_DATA" not in os.environ, reason="the real films are not here: set DECONF_DATA"
)


def shortcut(**changes) -> Shortcut:
    kept = {"confounder": "portable", "with_disease": "1", "splits": 2, "target_per_cell": 60}
    settings = [Setting(name="90/10", majority=90, minority=10)]
    return Shortcut(**(kept | {"settings": settings} | changes))


@pytest.fixture(scope="module")
def cohort():
    return linear(n=1500, d=24, trace="shift").train().cohort


def test_the_shipped_configs_are_read():
    assert {"cxr_view", "cxr_sites"} <= set(names())
    for name in names():
        assert read_config(packaged("experiments/configs") / f"{name}.toml").title


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("majority = 90", "majorty = 90"), "unknown key.*majorty.*Did you mean 'majority'"),
        (('kind = "shortcut"', 'kind = "sites"'), r"needs a table \[sites\]"),
        (("splits = 20", 'splits = "many"'), "shortcut.splits.*got 'many'"),
    ],
)
def test_a_mistyped_config_is_refused_by_key(tmp_path, change, words):
    text = (packaged("experiments/configs") / "cxr_view.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(*change))
    with pytest.raises(SettingsError, match=words):
        read_config(path)


def test_a_truncated_config_is_a_read_error(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "half a')
    with pytest.raises(ReadError, match=r"mine.toml cannot be read as TOML"):
        read_config(path)


def test_an_unknown_experiment_is_named_with_the_nearest():
    with pytest.raises(SettingsError, match=r"'cxr_veiw'.*Did you mean 'cxr_view'"):
        run("cxr_veiw")


def test_without_the_data_folder_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("DECONF_DATA", raising=False)
    with pytest.raises(ReadError, match="DECONF_DATA"):
        run("cxr_view")


def test_resampling_gives_the_counts_and_a_film_of_each_patient_first(cohort):
    films = Films.of(cohort, shortcut())
    rows = films.resampled(np.arange(len(cohort)), (90, 10), seed=0)
    agrees = films.agrees[rows]
    ill = films.ill[rows] == 1
    assert [int(x.sum()) for x in (agrees & ill, agrees & ~ill, ~agrees & ill)] == [90, 90, 10]
    assert len(np.unique(rows)) == len(rows) == 200
    minority = rows[~agrees & ill]
    assert len(np.unique(cohort.patients[minority])) == 10


def test_the_planted_shortcut_misleads_raw_and_conditional_erasure_mends_it(cohort, tmp_path):
    table, notes = run_shortcut(cohort, shortcut())
    found = table.set_index(["method", "metric"])["estimate"]
    assert found["raw", "crossed"] < 0.35 < 0.9 < found["raw", "aligned"]
    assert found["leace, conditional", "crossed"] > found["raw", "crossed"] + 0.2
    assert found["auto", "crossed"] > found["raw", "crossed"] + 0.2
    assert found["leace, marginal", "within"] < found["leace, conditional", "within"]
    target = "target: unconfounded training films"
    gap = {m: found[m, "aligned"] - found[m, "crossed"] for m in ("raw", target)}
    assert gap[target] < gap["raw"] / 2  # not zero: this trace lies partly along the disease
    inside = (table["low"] <= table["estimate"]) & (table["estimate"] <= table["high"])
    assert inside.all()
    assert "auto chose" in notes[0]

    path = packaged("experiments/configs") / "cxr_view.toml"
    write_results(
        tmp_path,
        read_config(path),
        path,
        cohort,
        Found(table, "said", {"figure.png": lambda p: figure(table, p)}),
    )
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "report.json").read_text())["table"]) == len(table)
    everything = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"train-0" not in everything  # no patient is named in a result


@pytest.mark.slow
def test_the_protocol_is_the_same_twice(cohort):
    first = run_shortcut(cohort, shortcut(splits=1), seed=3)[0]
    again = run_shortcut(cohort, shortcut(splits=1), seed=3)[0]
    assert first.equals(again)


@needs_data
@pytest.mark.slow
def test_the_real_films_of_the_view_experiment_are_all_there():
    config = read_config(packaged("experiments/configs") / "cxr_view.toml")
    cohort, told = load_cohort(config.data)
    films = Films.of(cohort, config.shortcut)
    assert float(told[0].split()[-1].rstrip(".")) < 1e-3  # embedded anew, against the stored
    assert len(films.ill) == 949
    assert np.isnan(films.ill).sum() == 294
    cells = {(i, e): int(((films.ill == i) & (films.exposed == e)).sum())
             for i in (0, 1) for e in (False, True)}  # fmt: skip
    assert cells == {(0, False): 147, (0, True): 207, (1, False): 172, (1, True): 129}


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("TextMarkr", {}, "no edit is called 'TextMarkr'.*Did you mean 'TextMarker'"),
        ("Gamma", {"strongness": 1}, "'mine': .*strongness"),
        ("Box", {"top": 0, "bottom": 1, "left": 0, "right": 1}, "'Box' is no edit"),
        ("TextMarker", {"strength": 2}, "strength of TextMarker is 2"),
    ],
)  # fmt: skip
def test_a_mistyped_edit_of_a_config_is_refused(kind, settings, words):
    with pytest.raises(SettingsError, match=words):
        edit_of(EditSetting(name="mine", kind=kind, settings=settings))


def test_an_experiment_of_edits_needs_films_and_stored_embeddings(tmp_path):
    text = (packaged("experiments/configs") / "interventions.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('embedding = "embeddings/cxr_mobilenetv2.npz"\n', ""))
    with pytest.raises(SettingsError, match=r"needs \[data\] with embedding"):
        read_config(path)
    edits = read_config(packaged("experiments/configs") / "interventions.toml").interventions.edits
    assert len({str(edit_of(edit)) for edit in edits}) == 11


@needs_data
@pytest.mark.slow
def test_the_edits_experiment_runs_from_the_command_to_its_folder(tmp_path):
    answer = run("interventions", out=tmp_path, quick=True)
    kinds = {"config.toml", "summary.txt", "table.csv", "report.json", "figure.png"}
    assert kinds <= {p.name for p in Path(tmp_path).iterdir()}
    assert "fitted on 934 films" in str(answer)
    assert set(answer.table["representation"]) == {"raw", "clean"}


@needs_data
@pytest.mark.slow
def test_the_view_experiment_runs_from_the_command_to_its_folder(tmp_path):
    answer = run("cxr_view", out=tmp_path, quick=True)
    kinds = {"config.toml", "summary.txt", "table.csv", "report.json", "figure.png"}
    assert kinds <= {p.name for p in Path(tmp_path).iterdir()}
    assert "auto chose" in str(answer)
