"""Colored MNIST: the draws are what the paper says, and the protocol tells its methods apart."""

from __future__ import annotations

import gzip
import os
import struct
from dataclasses import replace

import numpy as np
import pytest

from deconf.errors import ReadError, SettingsError
from deconf.experiment import run
from deconf.experiment.config import ColoredMNIST, Contender, Network, read_config
from deconf.experiment.digits import (
    ALIGNED,
    APART,
    CEILING,
    GREY,
    OURS,
    REVERSED,
    MeanRisk,
    Split,
    _apart,
    run_colored_mnist,
    text_of,
)
from deconf.experiment.idx import read_idx
from deconf.resources import packaged

needs_data = pytest.mark.skipif(
    "DECONF_DATA" not in os.environ, reason="the real digits are not here: set DECONF_DATA"
)


def asked(**changes) -> ColoredMNIST:
    network = Network(hidden=8, epochs=8, batch=100, learning_rate=0.01, weight_decay=0.1)
    kept = {"images": "images.gz", "labels": "labels.gz", "train": 600, "splits": 1}
    return ColoredMNIST(**(kept | {"network": network} | changes))


def digits(n: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return small images and numbers: below five the upper half is bright, else the lower."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(10, size=n).astype(np.uint8)
    images = rng.integers(60, size=(n, 12, 12))
    upper = np.arange(12) < 6
    bright = np.where((numbers < 5)[:, None], upper, ~upper)
    images += 60 * bright[:, :, None]
    return images.astype(np.uint8), numbers


@pytest.fixture
def folder(tmp_path, monkeypatch):
    images, numbers = digits()
    for name, values in (("images.gz", images), ("labels.gz", numbers)):
        head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        (tmp_path / name).write_bytes(gzip.compress(head + values.tobytes()))
    monkeypatch.setenv("DECONF_DATA", str(tmp_path))
    return tmp_path


def test_labels_colours_and_environments_are_drawn_as_in_the_paper():
    images, numbers = digits(20_000)
    split = Split.of(images, numbers, asked(train=16_000), seed=4)
    noisy = split.label != (numbers[split.digit] < 5)
    assert noisy.mean() == pytest.approx(0.25, abs=0.01)
    disagree = split.colour != split.label
    for environment, share in enumerate((0.2, 0.1, 0.9)):
        assert disagree[split.environment == environment].mean() == pytest.approx(share, abs=0.02)
    assert (split.usual != split.label)[split.is_test].mean() == pytest.approx(0.15, abs=0.02)
    assert len(np.unique(split.digit)) == 20_000  # no digit on both sides
    assert split.is_test.sum() == 4000


def test_the_colour_is_the_channel_and_the_grey_digit_does_not_know_it():
    images, numbers = digits(100)
    split = Split.of(images, numbers, asked(train=80), seed=0)
    z = split.coloured(split.colour)
    first, second = z[:, :36], z[:, 36:]
    assert np.array_equal(first + second, split.grey)
    assert not first[split.colour == 1].any()
    assert not second[split.colour == 0].any()
    assert np.array_equal(split.grey, split.coloured(1 - split.colour).reshape(100, 2, 36).sum(1))


def test_the_protocol_tells_the_shortcut_from_the_digit(folder):
    contenders = [
        Contender(name="vrex", against="environment", selection="training"),
        Contender(name="vrex", against="environment", selection="oracle"),
        Contender(name="reweight", against="colour"),
        Contender(name="not_there_yet", against="colour"),
    ]
    table, notes = run_colored_mnist(asked(contenders=contenders))
    found = table.set_index(["method", "metric"])["accuracy"]
    assert found[GREY, REVERSED] > 68  # 75 is all that the label noise leaves
    assert found["erm", REVERSED] < 40 < 75 < found["erm", ALIGNED]
    assert found[OURS, REVERSED] > found["erm", REVERSED] + 20
    assert {(name, REVERSED) for name in (CEILING, APART)} <= set(found.index)
    assert found["reweight (by colour)", REVERSED] > found["erm", REVERSED] + 20
    assert found["vrex (by environment, ORACLE)", REVERSED] > found["erm", REVERSED]
    ours = table[table["protocol"] == "ours"]
    assert ((ours["low"] <= ours["accuracy"]) & (ours["accuracy"] <= ours["high"])).all()
    assert set(ours[ours["method"].str.contains("ORACLE")]["selection"]) == {"oracle"}
    assert "not_there_yet" in notes[0]
    text = text_of(asked(), "Digits", table, notes)
    assert "66.9  other protocol" in text
    assert "[" in next(line for line in text.splitlines() if line.startswith("erm"))


def test_networks_apart_learn_from_the_digits_of_their_own_colour_alone():
    split = Split.of(*digits(), asked(train=600, label_noise=0.0), seed=0)
    turned = replace(split, label=split.label ^ split.colour)  # no network for both could follow
    plain = MeanRisk(selection="training", **asked().network.model_dump())
    codes = np.eye(2)[turned.environment[:600]]
    odds = _apart(turned, plain, codes, np.ones(600), seed=0)
    for metric, shown in ((REVERSED, turned.colour), (ALIGNED, turned.usual)):
        truth = (split.label ^ shown)[split.is_test]
        assert ((odds[metric] > 0) == truth).mean() > 0.95


def test_the_same_seed_gives_the_same_table(folder, monkeypatch):
    monkeypatch.setattr("deconf.experiment.digits.DEFAULT", "leace")  # auto has its own test
    first, again = (run_colored_mnist(asked(), seed=7)[0] for _ in range(2))
    other = run_colored_mnist(asked(), seed=8)[0]
    assert first.equals(again)
    assert not first.equals(other)


def test_a_file_that_is_missing_or_cut_short_is_named(folder):
    with pytest.raises(ReadError, match=r"absent\.gz cannot be read"):
        read_idx(folder / "absent.gz")
    whole = gzip.decompress((folder / "images.gz").read_bytes())
    (folder / "images.gz").write_bytes(gzip.compress(whole[:-10]))
    with pytest.raises(ReadError, match=r"images\.gz holds .* bytes: cut short"):
        read_idx(folder / "images.gz")
    (folder / "images.gz").write_bytes(gzip.compress(b"\x00\x00\x0d\x01"))
    with pytest.raises(ReadError, match=r"images\.gz is no IDX file of bytes"):
        read_idx(folder / "images.gz")


def test_more_training_digits_than_there_are_is_refused(folder):
    with pytest.raises(SettingsError, match="train is 1000: between 1 and 999"):
        run_colored_mnist(asked(train=1000))


def test_without_the_data_folder_the_variable_is_named(monkeypatch):
    monkeypatch.delenv("DECONF_DATA", raising=False)
    with pytest.raises(ReadError, match="DECONF_DATA"):
        run("colored_mnist")


@needs_data
@pytest.mark.slow
def test_the_real_digits_run_from_the_command_to_their_folder(tmp_path):
    answer = run("colored_mnist", out=tmp_path, quick=True)
    assert {"config.toml", "summary.txt", "table.csv"} <= {p.name for p in tmp_path.iterdir()}
    assert set(answer.table["splits"].dropna()) == {2}


def test_the_shipped_config_names_methods_by_rule():
    config = read_config(packaged("experiments/configs") / "colored_mnist.toml").colored_mnist
    own = [c for c in config.contenders if c.name in ("irm", "vrex", "fishr", "ib_irm", "dfr")]
    assert own
    assert all(c.selection for c in own)
