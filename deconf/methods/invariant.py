"""Invariant risk: the settings, the fit and the misgivings that these methods have in common.

They ask for a predictor that is as good, in one sense or another, in every environment.  What they
return is a map with the head that was trained with it (`Adapter.score`): a fresh head on the mapped
embedding would find again whatever the map left in it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor

from deconf.errors import SettingsError
from deconf.maths.maps import Adapter, Residual
from deconf.maths.moments import Given
from deconf.maths.threads import one_thread
from deconf.methods.base import Method, as_arrays
from deconf.methods.environments import (
    Batch,
    Environments,
    Fitting,
    Predictor,
    Watch,
    calmed,
    trained,
)
from deconf.methods.misgivings import left, misgivings
from deconf.methods.selection import (
    Learner,
    Rule,
    TestEnvironment,
    choose,
    told,
)


@dataclass(frozen=True)
class InvariantRisk(Method):
    """What every invariant-risk method can be told.

    Parameters
    ----------
    selection : "training", "held_out_site" or "oracle"
        Who chooses among the penalties given, and the epoch; see `deconf.methods.selection`.
        It has to be said, and every table shows it: figures of these methods mean little without
        the rule.  The bare name of a method, as in ``method="irm"``, stands for "training".
    oracle : TestEnvironment, optional
        Rows of the test environment; for ``selection="oracle"`` and nothing else.
    hidden : int
        Width of the layer of the adapter.
    epochs, batch, learning_rate, weight_decay
        See `deconf.training.Schedule`; a batch of all rows where they are fewer.
    """

    selection: Rule = field(kw_only=True)
    oracle: TestEnvironment | None = None
    hidden: int = 64
    epochs: int = 40
    batch: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.05

    searched: ClassVar[str] = "penalty"  # the setting of which several values may be given

    def __post_init__(self) -> None:
        if (self.selection == "oracle") != (self.oracle is not None):
            raise SettingsError(
                "selection='oracle' chooses on the test environment: hand its rows over with "
                "oracle=TestEnvironment(z, outcome), and with no other rule."
            )
        if not isinstance(self.oracle, TestEnvironment | None):
            raise SettingsError(
                f"oracle is {self.oracle!r}: hand over TestEnvironment(z, outcome). The rows "
                "themselves are never saved, so a certificate of such a fit cannot be made again."
            )
        if not (isinstance(self.hidden, int) and self.hidden > 0):
            raise SettingsError(f"hidden is a number of units above zero, not {self.hidden!r}.")
        for value in self.values():
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise SettingsError(
                    f"{self.searched} is a number from zero or a tuple of them, not {value!r}."
                )
        self.fitting()

    @classmethod
    def by_name(cls) -> Self:
        """Return the settings that the bare name stands for: "training" selects."""
        return cls(selection="training")

    @property
    def compares_environments(self) -> bool:
        """Whether ``c`` is environments; else it is the shortcut itself, to be balanced."""
        return True

    def values(self) -> tuple[float, ...]:
        """Return the values to choose from."""
        given = getattr(self, self.searched)
        return tuple(given) if isinstance(given, list | tuple) else (given,)

    def fitting(self) -> Fitting:
        """Return how the network is trained."""
        return Fitting(
            **{f.name: getattr(self, f.name) for f in fields(Fitting) if hasattr(self, f.name)}
        )

    def at(self, value: float) -> Self:
        """Return these settings with one value of the setting that is searched."""
        change: dict[str, Any] = {self.searched: value}
        return replace(self, **change)

    @abstractmethod
    def learn(self, data: Environments, watch: Watch, *, seed: int) -> Predictor:
        """Train one network with one value of the setting that is searched."""

    def fit(
        self,
        z: Any,
        c: Any,
        *,
        given: Given | None = None,
        outcome: Any = None,
        weights: Any = None,
        patients: Any = None,
        seed: int = 0,
    ) -> Adapter:
        """Fit on training rows; the environments are the levels of ``c``.

        The adjustment set is not read: these methods compare environments, not strata.
        """
        z, c, given = as_arrays(z, c, given)
        name = self.registered_name
        with one_thread(z.size):
            data = Environments.of(z, c, outcome, weights, patients, name)
            if data.count < 2:
                fitted = Adapter.of(Residual(z.shape[1], 1), data.centre, data.scale)
                fitted.remarks = ("one environment: nothing to compare, nothing was trained",)
                return fitted
            learners = {
                f"{self.searched} {value:g}": _learner(self.at(value), seed)
                for value in self.values()
            }
            chosen = choose(learners, data, self.selection, self.oracle, seed=seed)
            fitted = chosen.net.frozen(data)
            said = [
                f"{told(self.selection)}: {chosen.remark}",
                *(misgivings(data, seed=seed) if self.compares_environments else ()),
            ]
            if chosen.held_out is not None:
                said.append(left(fitted, data.rows(chosen.held_out), seed=seed))
        count = np.asarray(outcome).reshape(len(z), -1).shape[1]
        if count > 1:
            said.append(f"the head is trained for the first of {count} outcomes")
        if data.unlabelled:
            said.append(f"{data.unlabelled:,} rows without an outcome were left out")
        fitted.remarks = tuple(f"{name}: {text}" for text in said)
        return fitted


@dataclass(frozen=True)
class Penalised(InvariantRisk):
    """Mean risk of the environments plus a penalty that comes into force after a warm-up.

    Parameters
    ----------
    penalty : float or tuple of float
        Strength; of several, `selection` chooses one.
    warmup : float in [0, 1)
        Share of the epochs in which the strength is 1 instead.  An epoch inside it is no
        candidate of the selection.
    """

    penalty: float | tuple[float, ...] = 100.0
    warmup: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.warmup < 1:
            raise SettingsError(f"warmup is a share of the epochs in [0, 1), not {self.warmup!r}.")

    @abstractmethod
    def penalty_of(self, batch: Batch, strength: float) -> Tensor:
        """Return the penalty of a batch times its strength, a scalar."""

    def learn(self, data: Environments, watch: Watch, *, seed: int) -> Predictor:
        """Train one network at one strength."""
        (strength,) = self.values()

        def objective(batch: Batch) -> Tensor:
            now = strength if batch.settled else 1.0
            return calmed(batch.average() + self.penalty_of(batch, now), now)

        return trained(data, self.fitting(), objective, seed=seed, watch=watch)


def _learner(method: InvariantRisk, seed: int) -> Learner:
    return lambda data, watch: method.learn(data, watch, seed=seed)
