"""Who chooses the penalty and the epoch of an invariant-risk method: stated, and told with the map.

Published figures of these methods differ more by this choice than by the method: a penalty chosen
on the test environment has seen what it is judged on.  Three rules:

- ``"training"``: a fifth of the patients of the training environments, held out;
- ``"held_out_site"``: each environment left out in turn, then a fit on all of them;
- ``"oracle"``: rows of the test environment, handed over as such.  Its figures show what a method
  could do if somebody told it; they are no estimate of anything.

Settings name one of them, there is no default; the bare name of a method stands for ``"training"``.
The map and every table show the rule.

Gulrajani & Lopez-Paz, "In search of lost domain generalization", ICLR 2021,
https://arxiv.org/abs/2007.01434.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.cohort.splits import leave_one_level_out, patient_split
from deconf.errors import CohortError, SettingsError
from deconf.maths.intervals import stratified_auroc
from deconf.maths.moments import where_not_finite
from deconf.methods.base import numbers
from deconf.methods.environments import Environments, Predictor, Watch

Rule = Literal["training", "held_out_site", "oracle"]
HELD_OUT = 0.2  # share of the patients that choose under "training"

Learner = Callable[[Environments, Watch], Predictor]


@dataclass(frozen=True, eq=False)
class TestEnvironment:
    """Rows of the test environment, for ``selection="oracle"`` alone.

    Parameters
    ----------
    z : (m, d)
        Embeddings.
    outcome : (m,) of 0 and 1
    """

    __test__ = False  # no test case, whatever pytest makes of the name
    wanted: ClassVar[str] = (
        "TestEnvironment(z, outcome), whose rows are never saved (so a certificate of such a fit "
        "cannot be made again)"
    )

    z: Float[ndarray, "m d"]
    outcome: ndarray

    def __repr__(self) -> str:
        return f"TestEnvironment({len(self.outcome):,} rows)"


@dataclass(frozen=True)
class Chosen:
    """What was chosen.

    Attributes
    ----------
    net : Predictor
    label : str
        The candidate, in words.
    epoch : int
    held_out : (m,) int or None
        Rows that the network was not trained on.
    remark : str
        What was chosen, and on whom.
    """

    net: Predictor
    label: str
    epoch: int
    held_out: Int[ndarray, " m"] | None
    remark: str


def told(selection: Rule) -> str:
    """Return how the remark of a map begins.

    >>> told("oracle")
    "selection 'oracle'"
    """
    return f"selection {selection!r}"


def read(reasons: Iterable[str]) -> str:
    """Return the rule that the reasons of a fitted map tell; empty where they tell none.

    >>> read(["irm: selection 'training': penalty 100, epoch 3"])
    'training'
    """
    found = (re.match(r"(?:\w+: )?selection '(\w+)'", reason) for reason in reasons)
    return "; ".join(dict.fromkeys(one[1] for one in found if one))


@dataclass
class _Judge:
    """Scores a network after each epoch on rows it is not trained on, and keeps the best."""

    x: torch.Tensor
    y: ndarray
    codes: ndarray
    weight: ndarray
    scores: dict[int, float] = field(default_factory=dict)
    best: Predictor | None = None

    @classmethod
    def of(cls, rows: Environments) -> _Judge:
        y, codes, weight = (t.cpu().numpy() for t in (rows.y, rows.codes, rows.weight))
        return cls(rows.x, y, codes, weight)

    def __call__(self, net: Predictor, epoch: int) -> None:
        with torch.inference_mode():
            score = net(self.x)[1].cpu().numpy()
        area = stratified_auroc(score, self.y, self.codes, self.weight)
        area = -1.0 if np.isnan(area) else area  # one class alone: the last epoch counts
        if area >= max(self.scores.values(), default=-1.0):
            self.best = deepcopy(net)
        self.scores[epoch] = area

    @property
    def peak(self) -> tuple[float, int]:
        """The best score and its last epoch.

        Raises
        ------
        SettingsError
            No epoch was scored.
        """
        if not self.scores:
            raise SettingsError(
                "no epoch may be chosen: every one lies in the warm-up. Raise epochs, or lower "
                "warmup."
            )
        return max((score, epoch) for epoch, score in self.scores.items())


def choose(
    learners: Mapping[str, Learner],
    data: Environments,
    rule: Rule,
    test: TestEnvironment | None,
    *,
    seed: int,
) -> Chosen:
    """Return the network of the best candidate at its best epoch, by the rule.

    The score is the AUROC of the outcome within environments: pooled over them, it would pay for
    telling environments apart.

    Raises
    ------
    CohortError
        "held_out_site" with fewer than three environments.
    SettingsError
        A test environment of another width, or of one class.
    """
    if rule == "held_out_site":
        return _by_held_out_site(learners, data)
    if rule == "oracle":
        if test is None:
            raise SettingsError("selection='oracle' needs oracle=TestEnvironment(z, outcome).")
        label, judge = _best(learners, data, lambda: _judge_of(test, data))
        remark = (
            f"{label}, epoch {judge.peak[1]}, chosen on "
            f"{len(judge.y):,} rows of the test environment, so no figure on it is an estimate; "
            "mark every one 'oracle'"
        )
        return Chosen(_kept(judge), label, judge.peak[1], None, remark)
    cells = data.codes.cpu().numpy() * 2 + data.y.cpu().numpy().astype(int)
    train, held = patient_split(data.patients, HELD_OUT, strata=cells, seed=seed)
    label, judge = _best(learners, data.rows(train), lambda: _Judge.of(data.rows(held)))
    remark = (
        f"{label}, epoch {judge.peak[1]}, chosen on {len(held):,} rows of "
        "held-out patients of the training environments, which cannot show what a new environment "
        "does"
    )
    return Chosen(_kept(judge), label, judge.peak[1], held, remark)


def _best(
    learners: Mapping[str, Learner], data: Environments, judge: Callable[[], _Judge]
) -> tuple[str, _Judge]:
    found = {}
    for label, learner in learners.items():
        found[label] = judge()
        learner(data, found[label])
    label = max(found, key=lambda name: found[name].peak[0])
    return label, found[label]


def _by_held_out_site(learners: Mapping[str, Learner], data: Environments) -> Chosen:
    if data.count < 3:
        raise CohortError(
            f"selection='held_out_site' leaves an environment out and compares the rest, and there "
            f"are {data.count}: bring a third, or choose selection='training'."
        )
    turns = list(leave_one_level_out(data.codes.cpu().numpy(), data.patients))
    curves: dict[tuple[str, int], list[float]] = {}
    for label, learner in learners.items():
        for _, train, held in turns:
            judge = _Judge.of(data.rows(held))
            learner(data.rows(train), judge)
            for epoch, score in judge.scores.items():
                curves.setdefault((label, epoch), []).append(score)
    label, epoch = max(curves, key=lambda key: np.mean(curves[key]))
    kept: dict[str, Predictor] = {}

    def keep(net: Predictor, at: int) -> None:
        if at == epoch:
            kept["net"] = deepcopy(net)

    learners[label](data, keep)
    remark = (
        f"{label}, epoch {epoch}, chosen with each of "
        f"{data.count} environments left out in turn, then fitted on all of them"
    )
    return Chosen(kept["net"], label, epoch, None, remark)


def _judge_of(test: TestEnvironment, data: Environments) -> _Judge:
    z = numbers(test.z, "z of the test environment").astype(np.float64, copy=False)
    y = numbers(test.outcome, "outcome of the test environment").astype(np.float64, copy=False)
    if z.ndim != 2 or z.shape[1] != len(data.centre) or len(z) != len(y):
        raise SettingsError(
            f"the test environment has embeddings {z.shape} and outcomes {y.shape}; the training "
            f"rows have {len(data.centre)} columns."
        )
    if not np.isfinite(z).all():
        raise SettingsError(f"of the test environment, {where_not_finite(z, z[:, :0])}")
    if set(np.unique(y)) != {0.0, 1.0}:
        raise SettingsError(
            "the outcome of the test environment must hold 0 and 1, and nothing else."
        )
    x = torch.from_numpy(((z - data.centre.numpy()) / data.scale.numpy()).astype(np.float32))
    return _Judge(x.to(data.x.device), y, np.zeros(len(y), dtype=int), np.ones(len(y)))


def _kept(judge: _Judge) -> Predictor:
    if judge.best is None:
        raise SettingsError("no epoch is left to choose: raise epochs or lower warmup.")
    return judge.best
