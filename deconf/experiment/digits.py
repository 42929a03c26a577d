"""Colored MNIST: digits whose colour predicts the label in training and contradicts it in the test.

The label is whether the digit is below five, flipped for a share of the digits; colour agrees with
the label but for a share that differs between two training environments, and in the test it mostly
disagrees.  An image is 14 x 14 pixels in two channels, one of them empty: the colour.

Arjovsky et al., "Invariant risk minimization", 2019, https://arxiv.org/abs/1907.02893, section 5.2.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from deconf.cohort.cohort import Cohort
from deconf.encoders.deconfounded import DeconfoundedEncoder
from deconf.errors import OverlapWarning, SettingsError
from deconf.experiment.answer import Found, Job
from deconf.experiment.config import ColoredMNIST, Contender
from deconf.experiment.idx import read_idx
from deconf.front import deconfound
from deconf.maths.intervals import interval, patient_weights
from deconf.maths.maps import Adapter, EmbeddingMap
from deconf.methods.base import Method, methods
from deconf.methods.environments import Batch, Environments, Predictor, Watch, trained
from deconf.methods.invariant import InvariantRisk
from deconf.methods.paired import Paired
from deconf.methods.selection import TestEnvironment
from deconf.resources import development_data

DRAWS = 1000
DEFAULT = "auto"
OURS = "the default: colour named, graph-derived"
COPIES = "paired: every digit and its copy in the other colour"
GREY = "grey-scale oracle"
CEILING = "grey-scale oracle, digits weighted as the default weights them"
APART = "the same, one network for each colour: none learns from the other's digits"
REVERSED, ALIGNED = "test environment", "as in training"
PUBLISHED = (  # 50,000 digits, settings chosen on the test environment
    ("irm, published", 66.9),
    ("vrex, published", 68.6),
    ("grey-scale oracle, published", 73.0),
)


@dataclass(frozen=True)
class MeanRisk(InvariantRisk):
    """Empirical risk minimisation (ERM): the baseline, and the head of every representation."""

    registered_name: ClassVar[str] = "erm"
    searched: ClassVar[str] = "weight_decay"

    def learn(self, data: Environments, watch: Watch, *, seed: int) -> Predictor:
        """Train one network by the mean risk."""
        return trained(data, self.fitting(), Batch.average, seed=seed, watch=watch)


@dataclass(frozen=True)
class Split:
    """One draw of label noise, colours and environments.

    Attributes
    ----------
    grey : (n, 196) float32
        The digits without colour, training rows first.
    label, colour, environment : (n,) int
        Label 0 or 1 as recorded, that is with its noise; environment 0 or 1, and 2 in the test.
    usual : (n,) int
        Another colour for each digit, agreeing with the label as often as in training.
    digit : (n,) int
        Number of the digit in the file.
    """

    grey: Float[ndarray, "n p"]
    label: Int[ndarray, " n"]
    colour: Int[ndarray, " n"]
    usual: Int[ndarray, " n"]
    environment: Int[ndarray, " n"]
    digit: Int[ndarray, " n"]

    @classmethod
    def of(cls, images: ndarray, numbers: ndarray, asked: ColoredMNIST, seed: int) -> Split:
        """Draw it; every digit serves once, in training or in the test."""
        rng = np.random.default_rng(seed)
        n = len(numbers)
        digit = rng.permutation(n)
        label = (numbers[digit] < 5).astype(int) ^ (rng.random(n) < asked.label_noise)
        environment = np.full(n, len(asked.environments))
        environment[: asked.train] = np.arange(asked.train) % len(asked.environments)
        disagrees = np.array([*asked.environments, asked.test])[environment]
        chance = rng.random(n)
        colour, usual = (
            label ^ (chance < share) for share in (disagrees, np.mean(asked.environments))
        )
        small = images[digit][:, ::2, ::2].reshape(n, -1).astype(np.float32) / 255
        return cls(small, label, colour, usual, environment, digit)

    @property
    def is_test(self) -> Bool[ndarray, " n"]:
        """Which rows are in the test."""
        last: ndarray = self.environment == self.environment.max()
        return last

    def coloured(self, colour: Int[ndarray, " n"]) -> Float[ndarray, "n 2p"]:
        """Return the digits in the channel of their colour, the other channel empty."""
        first = (colour == 0)[:, None]
        both: ndarray = np.hstack([self.grey * first, self.grey * ~first])
        return both

    def cohort(self) -> Cohort:
        """Return the training rows as a cohort of stored embeddings."""
        train = ~self.is_test
        table = pd.DataFrame(
            {
                "label": self.label[train],
                "colour": np.where(self.colour[train] == 1, "red", "green"),
                "environment": [f"environment {e + 1}" for e in self.environment[train]],
            }
        )
        return Cohort.from_arrays(self.coloured(self.colour)[train], table, outcome="label")


def run_colored_mnist(
    asked: ColoredMNIST, *, seed: int = 0, progress: Callable[[str], object] = str
) -> tuple[pd.DataFrame, list[str]]:
    """Return a tidy table of accuracies with intervals, and notes.

    Intervals come from a bootstrap over splits and over digits, with the same draws for every
    method; ``minus_grey`` is the paired difference to our own grey-scale oracle.

    Raises
    ------
    ReadError
        The digits are not there.
    """
    folder = development_data()
    images, numbers = read_idx(folder / asked.images), read_idx(folder / asked.labels)
    if not 0 < asked.train < len(numbers):
        raise SettingsError(f"train is {asked.train}: between 1 and {len(numbers) - 1} digits.")
    missing = list(dict.fromkeys(c.name for c in asked.contenders if c.name not in methods))
    right: dict[tuple[str, str, str], list[ndarray]] = {}
    digits: list[ndarray] = []
    chosen: list[str] = []
    for number in range(asked.splits):
        progress(f"split {number + 1} of {asked.splits}")
        split = Split.of(images, numbers, asked, seed + number)
        digits.append(split.digit[split.is_test])
        for name, selection, found in _scores(split, asked, number, chosen):
            for metric, score in found.items():
                hit = (score > 0) == split.label[split.is_test]
                right.setdefault((name, selection, metric), []).append(hit)
    notes = [f"Not registered here, so not run: {', '.join(missing)}."] if missing else []
    notes += [f"{what} ({count} splits)" for what, count in Counter(chosen).items()]
    return _tabled(right, digits, len(numbers), seed), notes


def _scores(
    split: Split, asked: ColoredMNIST, seed: int, chosen: list[str]
) -> Iterator[tuple[str, str, dict[str, ndarray]]]:
    """Yield name, selection rule, and the log-odds of the test digits by metric."""
    plain = MeanRisk(selection="training", **asked.network.model_dump())
    train, test = ~split.is_test, split.is_test
    y = split.label[train].astype(float)
    coloured = split.coloured(split.colour)
    tests = {REVERSED: coloured[test], ALIGNED: split.coloured(split.usual)[test]}
    codes = {
        "environment": np.eye(len(asked.environments))[split.environment[train]],
        "colour": np.eye(2)[split.colour[train]],
    }

    grey = plain.fit(split.grey[train], codes["environment"], outcome=y, seed=seed)
    yield GREY, "training", dict.fromkeys(tests, _log_odds(grey, split.grey[test]))
    erm = plain.fit(coloured[train], codes["environment"], outcome=y, seed=seed)
    yield "erm", "training", {metric: _log_odds(erm, z) for metric, z in tests.items()}

    copies = Paired().fit_pairs(coloured[train], split.coloured(1 - split.colour)[train], seed=seed)
    head = plain.fit(_mapped(copies, coloured[train]), codes["colour"], outcome=y, seed=seed)
    odds = {metric: _log_odds(head, _mapped(copies, z)) for metric, z in tests.items()}
    yield COPIES, "training", odds

    own = Contender(name=DEFAULT, against="colour")
    for contender in (own, *(c for c in asked.contenders if c.name in methods)):
        method = _settings(contender, asked, coloured[test], split.label[test])
        cleaner = deconfound("stored", [contender.against], method=method, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OverlapWarning)
            clean = cleaner.fit(split.cohort())
        chosen.append(f"{_called(contender)}: {_in_short(clean)}")
        selection = contender.selection or "training"
        if contender is own and clean.weights is not None:
            grey = plain.fit(
                split.grey[train], codes["colour"], outcome=y, weights=clean.weights, seed=seed
            )
            yield CEILING, "training", dict.fromkeys(tests, _log_odds(grey, split.grey[test]))
            yield APART, "training", _apart(split, plain, codes["environment"], clean.weights, seed)
        if isinstance(method, InvariantRisk) and isinstance(clean.map, Adapter):
            found = {metric: _log_odds(clean.map, z) for metric, z in tests.items()}
        else:
            found = _by_head(
                clean, plain, coloured[train], codes[contender.against], y, tests, seed
            )
        yield (OURS if contender is own else _called(contender)), selection, found


def _apart(
    split: Split, plain: MeanRisk, c: ndarray, weights: ndarray, seed: int
) -> dict[str, ndarray]:
    """Return the log-odds of two grey-scale networks, each trained and asked on its colour."""
    train, test = ~split.is_test, split.is_test
    found = {metric: np.empty(test.sum()) for metric in (REVERSED, ALIGNED)}
    for colour in (0, 1):
        own = split.colour[train] == colour
        fitted = plain.fit(
            split.grey[train][own],
            c[own],
            outcome=split.label[train][own].astype(float),
            weights=weights[own],
            seed=seed,
        )
        odds = _log_odds(fitted, split.grey[test])
        for metric, shown in ((REVERSED, split.colour), (ALIGNED, split.usual)):
            mine = shown[test] == colour
            found[metric][mine] = odds[mine]
    return found


def _by_head(
    clean: DeconfoundedEncoder,
    plain: MeanRisk,
    z: ndarray,
    c: ndarray,
    y: ndarray,
    tests: dict[str, ndarray],
    seed: int,
) -> dict[str, ndarray]:
    """Return the log-odds of the common network, trained on what a cleaner makes of the digits."""
    head = plain.fit(clean.embed(z), c, outcome=y, weights=clean.weights, seed=seed)
    return {metric: _log_odds(head, clean.embed(test)) for metric, test in tests.items()}


def _settings(contender: Contender, asked: ColoredMNIST, z: ndarray, label: ndarray) -> Method:
    """Return the settings of a contender, with the common network where it trains one."""
    kind = methods[contender.name]
    known = {f.name for f in fields(kind)}
    told: dict[str, Any] = {}
    if issubclass(kind, InvariantRisk):
        told |= asked.network.model_dump()
    told |= contender.settings
    if "selection" in known and contender.selection is not None:
        told["selection"] = contender.selection
    if contender.selection == "oracle":
        told["oracle"] = TestEnvironment(z, label)
    settings: Method = kind(**told)
    return settings


def _in_short(clean: DeconfoundedEncoder) -> str:
    """Return what was chosen: the method, and the value that its selection chose."""
    said = clean.reasons[0].split(": ", 1)[-1].split(", epoch")[0] if clean.reasons else ""
    return f"{clean.method}; {said}" if said.startswith("selection") else clean.method


def _called(contender: Contender) -> str:
    oracle = ", ORACLE" if contender.selection == "oracle" else ""
    return f"{contender.name} (by {contender.against}{oracle})"


def _mapped(fitted: EmbeddingMap, z: ndarray) -> ndarray:
    with torch.inference_mode():
        mapped: ndarray = fitted(torch.tensor(z)).numpy()
    return mapped


def _log_odds(fitted: Adapter, z: ndarray) -> Float[ndarray, " n"]:
    with torch.inference_mode():
        odds: ndarray = fitted.score(torch.tensor(z))[:, 0].numpy()
    return odds


def _tabled(
    right: dict[tuple[str, str, str], list[ndarray]], digits: list[ndarray], n: int, seed: int
) -> pd.DataFrame:
    """Return accuracies in per cent, the published figures last."""
    rng = np.random.default_rng(seed)
    weight = np.vstack([np.ones(n), patient_weights(np.arange(n), DRAWS, seed)])
    splits = rng.multinomial(len(digits), np.full(len(digits), 1 / len(digits)), DRAWS)
    splits = np.vstack([np.ones(len(digits)), splits])
    means = {}
    for key, hits in right.items():
        each = [
            100 * (weight[:, d] @ hit) / weight[:, d].sum(axis=1)
            for d, hit in zip(digits, hits, strict=True)
        ]
        means[key] = (splits * np.stack(each, axis=1)).sum(axis=1) / len(digits)
    lines = []
    for (name, selection, metric), mean in means.items():
        found = interval(mean[1:], float(mean[0]))
        gap = mean - means[GREY, "training", metric]
        behind = interval(gap[1:], float(gap[0]))
        each = [100 * hit.mean() for hit in right[name, selection, metric]]
        lines.append(
            {
                "method": name,
                "selection": selection,
                "metric": metric,
                "accuracy": found.estimate,
                "low": found.low,
                "high": found.high,
                "minus_grey": behind.estimate,
                "minus_grey_low": behind.low,
                "minus_grey_high": behind.high,
                "sd_over_splits": float(np.std(each)),
                "splits": len(each),
                "protocol": "ours",
            }
        )
    for name, accuracy in PUBLISHED:
        lines.append(
            {
                "method": name,
                "selection": "oracle",
                "metric": REVERSED,
                "accuracy": accuracy,
                "protocol": "other protocol",
            }
        )
    return pd.DataFrame(lines)


def text_of(asked: ColoredMNIST, title: str, table: pd.DataFrame, notes: list[str]) -> str:
    """Return the table for people."""
    lines = [
        title,
        f"{asked.train:,} training digits, colour against label in {asked.environments} of two "
        f"environments and {asked.test} of the test; label noise {asked.label_noise}.",
        "Accuracy in per cent, mean over splits [95 % over splits and digits].",
        "",
    ]
    width = max(len(m) for m in table["method"]) + 2
    lines.append(
        f"{'':<{width}}{'selection':<15}{REVERSED:>22}{'less grey oracle':>22}{ALIGNED:>22}"
    )
    for key, rows in table.groupby(["method", "selection"], sort=False):
        name, selection = cast(tuple[str, str], key)
        by = rows.set_index("metric")
        here = dict(by.loc[REVERSED])
        if here["protocol"] != "ours":
            lines.append(f"{name:<{width}}{selection:<15}{here['accuracy']:>8.1f}  other protocol")
            continue
        usual = dict(by.loc[ALIGNED])
        cells = [
            f"{here['accuracy']:.1f} [{here['low']:.1f}, {here['high']:.1f}]",
            f"{here['minus_grey']:+.1f} [{here['minus_grey_low']:+.1f}, "
            f"{here['minus_grey_high']:+.1f}]",
            f"{usual['accuracy']:.1f} [{usual['low']:.1f}, {usual['high']:.1f}]",
        ]
        lines.append(f"{name:<{width}}{selection:<15}" + "".join(f"{c:>22}" for c in cells))
    return "\n".join([*lines, "", *notes])


def answered(job: Job) -> Found:
    """Answer a config of this kind."""
    digits = job.config.colored_mnist
    if digits is None:
        raise ValueError("kind 'colored_mnist' needs a table of its own")
    if job.quick:
        digits = digits.model_copy(update={"splits": 2})
    table, told = run_colored_mnist(digits, seed=job.config.seed, progress=job.progress)
    return Found(table, text_of(digits, job.config.title, table, told))
