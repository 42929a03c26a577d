from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import deconf
from deconf.cli import app
from deconf.worlds import radiograph

NET = ["--encoder", "timm:test_resnet", "--weights", "random", "--device", "cpu"]
READ = ["--image", "image", "--patient", "patient"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 40 films of 48 pixels and their table."""
    home = tmp_path_factory.mktemp("archive")
    radiograph(n=40, size=48, sites=1).train().save(home)
    return home


@pytest.fixture
def deconf_in(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Return ``deconf(*words)`` as typed in a copy of the archive."""
    shutil.copytree(archive, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *words: CliRunner().invoke(app, [*map(str, words)])


def refused(result: object, *words: str) -> None:
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in " ".join(result.stderr.split()), result.stderr


def test_films_become_a_store_that_the_other_commands_read(deconf_in: Callable) -> None:
    said = deconf_in("embed", "studies.csv", *READ, *NET, "-o", "store")
    assert said.exit_code == 0, said.output
    assert "40 embedded now, 0 were there, 0 unread" in said.stdout
    encoder = deconf.load_encoder("timm:test_resnet", weights="random", device="cpu")
    cohort = deconf.Cohort.read("studies.csv", image="image", embedding="store", patient="patient")
    assert np.array_equal(cohort.embeddings, encoder.embed(cohort))
    # What it says to type next works as it stands.
    typed = next(line for line in said.stdout.splitlines() if line.startswith("Next: deconf "))
    words = typed.removeprefix("Next: deconf ").replace("<confounder>", "portable")
    planned = deconf_in(*words.replace("<outcome>", "pneumonia").split())
    assert planned.exit_code == 0, planned.output
    assert "z ⊥ portable | pneumonia" in planned.stdout


def test_the_same_command_again_finds_everything_there(deconf_in: Callable) -> None:
    words = ["embed", "studies.csv", *READ, *NET, "-o", "store"]
    deconf_in(*words)
    assert "0 embedded now, 40 were there" in deconf_in(*words).stdout


def test_another_encoder_is_not_mixed_into_a_store(deconf_in: Callable) -> None:
    deconf_in("embed", "studies.csv", *READ, *NET, "-o", "store")
    other = ["--encoder", "timm:test_vit", "--weights", "random", "--device", "cpu"]
    refused(deconf_in("embed", "studies.csv", *READ, *other, "-o", "store"), "store", "recipe")


def test_a_truncated_film_stops_the_work_or_is_listed_with_its_reason(deconf_in: Callable) -> None:
    film = Path(pd.read_csv("studies.csv")["image"][7])
    film.write_bytes(film.read_bytes()[:200])
    words = ["embed", "studies.csv", *READ, *NET, "-o", "store"]
    refused(deconf_in(*words), film.name, 'on_error="skip"')
    said = deconf_in(*words, "--on-error", "skip")
    assert said.exit_code == 0, said.output
    assert "1 unread" in said.stdout
    listed = pd.read_csv("store/unread.csv")
    assert listed["image"].str.endswith(film.name).tolist() == [True]
    assert "--on-missing drop" in said.stdout


def test_a_film_that_is_not_there_is_named(deconf_in: Callable) -> None:
    film = Path(pd.read_csv("studies.csv")["image"][3])
    film.unlink()
    refused(deconf_in("embed", "studies.csv", *READ, *NET, "-o", "store"), film.name)


def test_a_mistyped_column_or_encoder_is_answered_with_the_nearest(deconf_in: Callable) -> None:
    words = ["embed", "studies.csv", "-o", "store"]
    refused(deconf_in(*words, "--image", "imgae", *NET), "no column 'imgae'", "'image'")
    wrong = ["--encoder", "timm:test_resent", "--weights", "random"]
    refused(deconf_in(*words, *READ, *wrong), "test_resent", "Did you mean 'test_resnet'")
    refused(deconf_in(*words, *READ, "--encoder", "zoo:phantm"), "Did you mean 'phantom'")
    assert not Path("store").exists()


def test_the_zoo_is_listed_and_a_card_says_what_it_is_not_for(deconf_in: Callable) -> None:
    assert "zoo:phantom" in deconf_in("zoo").stdout
    card = deconf_in("zoo", "phantom").stdout
    assert "not for" in card
    assert "sha256" in card
    refused(deconf_in("zoo", "phantm"), "Did you mean 'phantom'")


RECIPE = """
title = "A net of one minute"
world = "radiograph"
settings = { n = 64, size = 32, sites = 1 }
architecture = "test_resnet"
targets = ["pneumonia", "age"]
epochs = 1
batch = 32
"""


def test_a_recipe_becomes_weights_and_a_card(deconf_in: Callable) -> None:
    Path("recipe.toml").write_text(RECIPE)
    said = deconf_in("pretrain", "recipe.toml", "-o", "tiny")
    assert said.exit_code == 0, said.output
    assert {p.name for p in Path("tiny").iterdir()} == {"weights.safetensors", "card.toml"}
    assert "never seen a patient" in Path("tiny/card.toml").read_text()


def test_a_typo_in_a_recipe_is_named(deconf_in: Callable) -> None:
    Path("recipe.toml").write_text(RECIPE.replace("epochs", "epoch"))
    refused(deconf_in("pretrain", "recipe.toml", "-o", "tiny"), "recipe.toml", "epoch")


def test_a_second_demo_finds_its_films_and_one_of_another_seed_is_turned_away(
    tmp_path: Path,
) -> None:
    from deconf.cli.demonstration import _developed
    from deconf.errors import SettingsError

    first = _developed(radiograph(n=20, size=32, sites=2), tmp_path / "films")
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "films" / "images").iterdir()}
    again = _developed(radiograph(n=20, size=32, sites=2), tmp_path / "films")
    assert again.table.equals(first.table)
    assert again.roles == first.roles
    assert {p: p.stat().st_mtime_ns for p in written} == written
    for other in (radiograph(n=20, size=32, sites=2, seed=1), radiograph(n=30, size=32, sites=2)):
        with pytest.raises(SettingsError, match="name another folder with --out"):
            _developed(other, tmp_path / "films")
