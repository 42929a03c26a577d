from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import deconf
from deconf.cli import app, terminal
from deconf.worlds import linear

HEAVY = ("torch", "numpy", "pandas", "sklearn", "scipy", "matplotlib", "networkx", "pyarrow")
COLUMNS = ["--patient", "patient_id", "-y", "pneumonia"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with films of a world as files: train, new, and a world without overlap."""
    home = tmp_path_factory.mktemp("films")
    world = linear(trace="shift", n=500, d=24)
    draws = {
        "train": world.train(),
        "new": world.test("aligned", 500),
        "torn": linear(trace="shift", n=300, d=24, overlap=False).train(),
    }
    for name, draw in draws.items():
        draw.cohort.table.to_csv(home / f"{name}.csv", index=False)
        np.save(home / f"{name}.npy", draw.cohort.embeddings)
    (home / "graph.txt").write_text(world.graph)
    return home


@pytest.fixture
def deconf_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Return ``deconf(*words)`` as typed in the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "160")  # the tests read lines, wherever the folder lies
    return lambda *words: CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture(scope="module")
def cleaner(folder: Path) -> Path:
    out = folder / "clean"
    words = ["fit", folder / "train.csv", "-e", folder / "train.npy", "-c", "portable", *COLUMNS]
    result = CliRunner().invoke(app, [*map(str, words), "-m", "aligned", "-o", str(out)])
    assert result.exit_code == 0, result.output
    return out


def in_a_process(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    code = "from deconf.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def refused(result: object, *words: str) -> None:
    """Require the error of a user: status 2, one message on stderr, no traceback."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "Error" in result.stderr
    for word in words:
        assert word in " ".join(result.stderr.split()), word


# --- what can be typed -----------------------------------------------------------------------


def test_help_loads_nothing_heavy_and_names_every_command() -> None:
    code = (
        "import sys, deconf.cli\n"
        "try: deconf.cli.app(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        f"print('LOADED', [m for m in {HEAVY} if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "LOADED []" in said
    for command in (
        "demo",
        "run",
        "embed",
        "zoo",
        "plan",
        "fit",
        "compare",
        "audit",
        "verify",
        "methods",
        "doctor",
    ):
        assert f" {command} " in said


def test_an_unknown_command_is_answered_with_the_nearest(deconf_in: Callable) -> None:
    refused(deconf_in("comprae"), "comprae", "Did you mean 'compare'?")


def test_the_version_is_that_of_the_package(deconf_in: Callable) -> None:
    assert deconf_in("--version").stdout == f"deconf {deconf.__version__}\n"


# --- errors, warnings, interruption ----------------------------------------------------------


def test_a_wrong_column_is_answered_with_the_nearest(deconf_in: Callable) -> None:
    said = deconf_in("plan", "train.csv", "-c", "protable", *COLUMNS)
    refused(said, "no column 'protable'", "Did you mean 'portable'?")


def test_an_error_in_a_real_process_is_a_line_and_not_a_traceback(folder: Path) -> None:
    ended = in_a_process(folder, "plan", "train.csv", "-c", "protable", *COLUMNS)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("Error: the table has no column 'protable'")
    assert len(ended.stderr.splitlines()) == 1


def test_a_missing_table_is_answered_with_the_nearest_file(deconf_in: Callable) -> None:
    refused(
        deconf_in("plan", "tran.csv", "-c", "portable"), "tran.csv", "Did you mean 'train.csv'?"
    )


def test_a_truncated_file_of_embeddings_is_named(deconf_in: Callable, folder: Path) -> None:
    (folder / "cut.npy").write_bytes((folder / "train.npy").read_bytes()[:3000])
    said = deconf_in("audit", "train.csv", "-e", "cut.npy", "-c", "portable", *COLUMNS)
    refused(said, "cut.npy", "truncated")


def test_our_own_bugs_are_not_dressed_up_as_the_users(
    deconf_in: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(deconf.Cohort, "read", broken)
    said = deconf_in("plan", "train.csv", "-c", "portable")
    assert isinstance(said.exception, ZeroDivisionError)


def test_an_interruption_exits_with_130(
    deconf_in: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deconf.Cohort, "read", interrupted)
    said = deconf_in("plan", "train.csv", "-c", "portable")
    assert said.exit_code == 130
    assert "Interrupted" in said.stderr
    assert "Traceback" not in said.output


def test_rows_as_patients_are_warned_of_once_and_only_without_patients(
    deconf_in: Callable,
) -> None:
    without = deconf_in("plan", "train.csv", "-c", "portable", "-y", "pneumonia")
    assert without.exit_code == 0
    assert without.stderr.count("Warning: no --patient") == 1
    assert "Warning" not in without.stdout
    assert deconf_in("plan", "train.csv", "-c", "portable", *COLUMNS).stderr == ""


def test_missing_overlap_is_a_warning_line_and_the_map_is_saved(
    deconf_in: Callable, tmp_path: Path
) -> None:
    out = tmp_path / "torn"
    said = deconf_in("fit", "torn.csv", "-e", "torn.npy", "-c", "portable", *COLUMNS, "-o", out)
    assert said.exit_code == 0, said.output
    assert "Warning: overlap is not given" in said.stderr
    assert "OverlapWarning" not in said.stderr  # Python's format: file, line, category
    assert not deconf.load(out).plan.is_identified


# --- plan ------------------------------------------------------------------------------------


def test_the_plan_is_that_of_the_library(deconf_in: Callable, folder: Path) -> None:
    graph = (folder / "graph.txt").read_text()
    cohort = deconf.Cohort.read(folder / "train.csv", patient="patient_id", outcome="pneumonia")
    plan = deconf.deconfound("stored", "portable", graph=graph).plan(cohort)
    said = deconf_in("plan", "train.csv", "-c", "portable", *COLUMNS, "--graph", graph)
    assert said.stdout == f"{plan}\n"


def test_a_graph_may_be_text_or_a_file(deconf_in: Callable, folder: Path) -> None:
    words = ["plan", "train.csv", "-c", "portable", *COLUMNS]
    as_text = deconf_in(*words, "--graph", (folder / "graph.txt").read_text())
    as_file = deconf_in(*words, "--graph", "graph.txt")
    assert as_text.stdout == as_file.stdout
    assert as_text.stdout != deconf_in(*words).stdout  # the default graph says less


def test_a_graph_may_be_a_preset_and_is_not_guessed(deconf_in: Callable) -> None:
    words = ["plan", "train.csv", "-c", "portable", *COLUMNS]
    assert "z ⊥ portable | severity" in deconf_in(*words, "--graph", "portable_xray").stdout
    refused(deconf_in(*words, "--graph", "portable_xary"), "Did you mean 'portable_xray'?", "file")


@pytest.mark.parametrize(
    ("said", "demanded"),
    [
        ([], "z ⊥ portable | pneumonia\n"),
        (["--given", "severity"], "z ⊥ portable | severity\n"),
        (["--given", "severity", "--given", "pneumonia"], "z ⊥ portable | severity, pneumonia\n"),
        (["--given", ""], "z ⊥ portable\n"),
    ],
)
def test_your_own_adjustment_set_is_taken_and_called_yours(
    deconf_in: Callable, said: list[str], demanded: str
) -> None:
    out = deconf_in("plan", "train.csv", "-c", "portable", *COLUMNS, *said).stdout
    assert demanded in out
    assert ("your assumption" in " ".join(out.split())) == bool(said)


def test_several_confounders_are_planned_together(deconf_in: Callable) -> None:
    words = ["plan", "train.csv", *COLUMNS, "-c", "portable", "-c", "severity"]
    assert "z ⊥ portable, severity | pneumonia" in deconf_in(*words).stdout


# --- fit -------------------------------------------------------------------------------------


def test_a_fit_saves_what_the_library_would_fit_and_says_why(
    deconf_in: Callable, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "map"
    words = ["train.csv", "-e", "train.npy", "-c", "portable", *COLUMNS]
    said = deconf_in("fit", *words, "-o", out, "--seed", 3)
    assert said.exit_code == 0, said.output
    cohort = deconf.Cohort.read(
        folder / "train.csv",
        embedding=folder / "train.npy",
        patient="patient_id",
        outcome="pneumonia",
    )
    fitted = deconf.deconfound("stored", "portable", seed=3).fit(cohort)
    loaded = deconf.load(out)
    assert np.array_equal(loaded.embed(cohort), fitted.embed(cohort))
    assert loaded.reasons == fitted.reasons  # their figures change with the seed
    assert len(loaded.reasons) > 1
    for told in (*fitted.reasons, fitted.method, "z ⊥ portable | pneumonia"):
        assert told in " ".join(said.stdout.split())
    assert str(out) in said.stdout.replace("\n", "")


def test_a_method_that_reads_the_record_needs_leave(deconf_in: Callable, tmp_path: Path) -> None:
    words = ["fit", "train.csv", "-e", "train.npy", "-c", "portable", *COLUMNS, "-m", "centre"]
    refused(deconf_in(*words, "-o", tmp_path / "a"), "--at-inference")
    assert deconf_in(*words, "--at-inference", "-o", tmp_path / "b").exit_code == 0


def test_rows_without_an_embedding_are_an_error_or_counted(
    deconf_in: Callable, folder: Path
) -> None:
    table = linear(n=40, d=24).train().cohort.table.assign(image=[f"f{i}" for i in range(40)])
    table.to_csv(folder / "images.csv", index=False)
    np.savez(
        folder / "some.npz",
        emb=np.random.default_rng(0).normal(size=(37, 8)),
        image=table["image"].to_numpy(dtype=str)[:37],
    )
    words = ["plan", "images.csv", "-e", "some.npz", "-c", "portable", *COLUMNS]
    refused(deconf_in(*words), "3 rows have no embedding")
    dropped = deconf_in(*words, "--on-missing", "drop")
    assert "3 rows without an embedding left out" in dropped.stderr
    assert dropped.stdout.splitlines()[1].startswith("37 rows")


def test_a_map_never_falls_among_other_files(deconf_in: Callable, folder: Path) -> None:
    words = ["fit", "nowhere.csv", "-e", "train.npy", "-c", "portable"]  # refused before reading
    refused(deconf_in(*words, "-o", folder), "holds other files")
    refused(deconf_in(*words, "-o", "train.csv"), "is a file")


# --- audit -----------------------------------------------------------------------------------


def test_a_leak_fails_only_where_that_was_asked(deconf_in: Callable) -> None:
    words = ["audit", "new.csv", "-e", "new.npy", "-c", "portable", *COLUMNS]
    plain = deconf_in(*words)
    assert plain.exit_code == 0
    assert "leaks: " in plain.stdout
    assert deconf_in(*words, "--fail-if", "undecided").stdout == plain.stdout
    both = deconf_in(*words, "--fail-if", "undecided", "--fail-if", "leaks")
    assert both.exit_code == 1
    assert both.stdout == plain.stdout + "\nFailed: portable leaks\n"


def test_clean_is_nothing_to_fail_on(deconf_in: Callable) -> None:
    words = ["audit", "new.csv", "-e", "new.npy", "-c", "portable", *COLUMNS]
    refused(deconf_in(*words, "--fail-if", "clean"), "leaks", "undecided")


def test_a_cleaner_is_not_judged_on_its_own_training_patients(
    deconf_in: Callable, cleaner: Path
) -> None:
    said = deconf_in("audit", "train.csv", "-e", "train.npy", *COLUMNS, "--cleaner", cleaner)
    refused(said, "its own training data")


def test_a_cleaner_is_audited_in_a_new_process_for_what_it_was_fitted_for(
    folder: Path, cleaner: Path
) -> None:
    ended = in_a_process(
        folder, "audit", "new.csv", "-e", "new.npy", *COLUMNS, "--cleaner", cleaner
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("portable  (z ⊥ portable | pneumonia)")
    assert "held to the representation's own plan" in ended.stdout


def test_an_altered_cleaner_is_refused(deconf_in: Callable, cleaner: Path, tmp_path: Path) -> None:
    for file in cleaner.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = bytearray((tmp_path / "map.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "map.safetensors").write_bytes(data)
    said = deconf_in("audit", "new.csv", "-e", "new.npy", *COLUMNS, "--cleaner", tmp_path)
    refused(said, "altered")


def test_an_audit_of_nothing_says_what_to_name(deconf_in: Callable) -> None:
    refused(deconf_in("audit", "new.csv", "-e", "new.npy"), "--confounder", "--cleaner")


# --- compare, demo, run ----------------------------------------------------------------------


def test_a_comparison_prints_and_saves_the_report_of_the_library(
    deconf_in: Callable, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    words = ["train.csv", "-e", "train.npy", "-c", "portable", *COLUMNS, "-m", "leace"]
    said = deconf_in("compare", *words, "--folds", 2, "--seed", 1, "-o", out)
    assert said.exit_code == 0, said.output
    assert said.stdout.endswith(f"\nSaved: {out}\n")
    report = json.loads(out.read_text())
    assert report["config"]["seed"] == 1
    assert report["representations"][:2] == ["raw", "clean"]
    for sentence in report["sentences"]:
        assert sentence in " ".join(said.stdout.split())


def test_a_report_that_cannot_be_written_is_refused_before_any_work(deconf_in: Callable) -> None:
    words = ["compare", "nowhere.csv", "-e", "train.npy", "-c", "portable", *COLUMNS]
    refused(deconf_in(*words, "-o", "report.htm"), "Did you mean '.html'?")
    refused(deconf_in(*words, "-o", "nowhere/report.html"), "no folder 'nowhere'")


def test_a_column_to_hold_out_must_be_there(deconf_in: Callable) -> None:
    words = ["compare", "train.csv", "-e", "train.npy", "-c", "portable", *COLUMNS]
    refused(deconf_in(*words, "--hold-out", "siet"), "'siet'")


@pytest.mark.slow
def test_the_demo_goes_the_whole_way_and_ends_with_a_page_that_opens_offline(
    deconf_in: Callable, tmp_path: Path
) -> None:
    said = deconf_in("demo", "--out", tmp_path / "demo", "--films", 800)
    assert said.exit_code == 0, said.output
    order = ["The world: 800", "THE PLAN", "THE TABLE", "THE VERDICTS", "In short: "]
    places = [said.stdout.index(part) for part in order]
    assert places == sorted(places)
    page = Path(said.stdout.splitlines()[-1])
    assert page == tmp_path / "demo" / "report.html"
    text = page.read_text()
    assert "<script" not in text
    assert 'src="http' not in text
    assert max(map(len, said.stdout.splitlines())) <= 100


def test_experiments_are_listed_and_a_wrong_name_is_answered(deconf_in: Callable) -> None:
    from deconf import experiment

    listed = deconf_in("run", "--list").stdout.split()
    assert listed == experiment.names()
    refused(deconf_in("run", listed[0][:-1]), f"Did you mean '{listed[0]}'?")
    refused(deconf_in("run"), "--list")


def test_an_experiment_without_its_data_says_which_variable_to_set(
    deconf_in: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deconf import experiment

    monkeypatch.delenv("DECONF_DATA", raising=False)
    refused(deconf_in("run", experiment.names()[0]), "DECONF_DATA")


# --- methods, doctor -------------------------------------------------------------------------


def test_every_registered_method_is_listed_with_what_it_promises(deconf_in: Callable) -> None:
    said = " ".join(deconf_in("methods").stdout.split())
    for name in deconf.methods.names():
        assert f"{name} " in said
        assert deconf.methods.card(name).guarantee.split()[-1] in said


def test_a_card_tells_of_needs_and_settings(deconf_in: Callable) -> None:
    centre, leace = deconf_in("methods", "centre").stdout, deconf_in("methods", "leace").stdout
    assert "--at-inference" in centre
    assert "--at-inference" not in leace
    assert "deconf.methods.LEACE" in leace
    assert "shrinkage" in leace
    refused(deconf_in("methods", "leaec"), "Did you mean 'leace'?")


def test_the_doctor_names_every_requirement_and_its_version(deconf_in: Callable) -> None:
    said = deconf_in("doctor")
    assert said.exit_code == 0
    for line in importlib.metadata.requires("deconf") or ():
        if "extra" not in line:
            name = line.split(">")[0].split("<")[0].split("=")[0].strip()
            assert f"  {name} " in said.stdout
            assert importlib.metadata.version(name) in said.stdout


def test_the_doctor_fails_where_something_needed_is_missing(
    deconf_in: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.version

    def without_jinja(name: str) -> str:
        if name == "jinja2":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", without_jinja)
    said = deconf_in("doctor")
    assert said.exit_code == 1
    assert said.stdout.endswith("Missing: pip install jinja2\n")


def test_the_doctor_tells_whether_the_data_can_be_read(
    deconf_in: Callable, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value, answer in {
        "": "not set",
        str(folder): str(folder),
        str(folder / "gone"): "NOT A FOLDER",
    }.items():
        monkeypatch.setenv("DECONF_DATA", value)
        line = next(x for x in deconf_in("doctor").stdout.splitlines() if "DECONF_DATA" in x)
        assert answer in line


# --- the terminal ----------------------------------------------------------------------------


@given(st.lists(st.text("abc :-", max_size=200), max_size=6), st.integers(0, 12))
def test_wrapping_loses_no_word_and_keeps_lines_short(parts: list[str], indent: int) -> None:
    text = "\n".join(" " * indent + part for part in parts)
    shown = terminal.wrapped(text)
    assert shown.split() == text.split()
    longest = max((len(word) for word in text.split()), default=0)
    widest = max((len(line) for line in shown.splitlines()), default=0)
    assert widest <= max(terminal.width(), longest + indent + 8)


def test_work_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.working("Fitting", seconds=100):
        terminal.murmur("half way")
    assert capsys.readouterr() == ("", "")
