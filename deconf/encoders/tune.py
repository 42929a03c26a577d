"""How an encoder is to be trained further: settings, which methods carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, Literal

import numpy as np

from deconf.errors import SettingsError

MODES = ("lora", "full")


@dataclass(frozen=True)
class Tune:
    """Train the encoder itself before a closed form cleans what is left.

    Parameters
    ----------
    mode : "lora" or "full"
        "lora" learns a thin correction beside every linear layer and 1 x 1 convolution, a
        hundredth of the weights; "full" moves all of them, norms and the first convolution too.
    rank : int
        Of the corrections of "lora".
    epochs, batch, accumulate : int
        As in `deconf.training.Schedule`; for pairs a batch counts pairs, each of two images.
    learning_rate : float, optional
        Default 1e-3 for "lora", 1e-4 for "full".
    strength : float
        Of what removes the trace (adversary or pairs), relative to the task.
    keep : float
        Of the mean squared distance to the untouched embedding, in its standard deviations: what
        nobody asked to change stays near where it was.
    budget : float
        AUROC of the outcome within levels that may be lost; an epoch that loses more is not taken.

    Raises
    ------
    SettingsError
        A value is of another kind or out of range.
    """

    mode: Literal["lora", "full"] = "lora"
    rank: int = 8
    epochs: int = 10
    batch: int = 64
    accumulate: int = 1
    learning_rate: float | None = None
    strength: float = 1.0
    keep: float = 0.1
    budget: float = 0.02

    def __post_init__(self) -> None:
        for f in fields(self):  # numbers of numpy become Python's: a checkpoint writes them down
            if isinstance(value := getattr(self, f.name), np.generic):
                object.__setattr__(self, f.name, value.item())
        if not isinstance(self.mode, str) or self.mode not in MODES:
            raise SettingsError(f"tune is 'none', 'lora' or 'full', not {self.mode!r}.")
        for name in ("rank", "epochs", "batch", "accumulate"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SettingsError(f"{name} is {value!r}: expected a whole number from 1 on.")
        for name in ("strength", "keep", "budget"):
            value = getattr(self, name)
            if not (_is_number(value) and value >= 0):
                raise SettingsError(f"{name} is {value!r}: expected a number, 0 or more.")
        rate = self.learning_rate
        if rate is not None and not (_is_number(rate) and rate > 0):
            raise SettingsError(f"learning_rate is {rate!r}: expected a number above zero.")
        if self.batch % self.accumulate:
            raise SettingsError(
                f"a batch of {self.batch} cannot be computed in {self.accumulate} equal parts: "
                "choose an accumulate that divides batch."
            )

    @classmethod
    def of(cls, value: Any) -> Tune | None:
        """Return the settings meant by "none", "lora", "full", a mapping, or settings; None for no.

        Raises
        ------
        SettingsError
            It is none of these.

        Examples
        --------
        >>> Tune.of("none"), Tune.of("full").mode, Tune.of({"mode": "lora", "rank": 4}).rank
        (None, 'full', 4)
        """
        if value is None or (isinstance(value, str) and value == "none"):
            return None
        if isinstance(value, Tune):
            return value
        if isinstance(value, Mapping) and set(value) <= set(asdict(cls())):
            return cls(**value)
        if isinstance(value, str):
            return cls(value)  # type: ignore[arg-type]
        raise SettingsError(f"tune is 'none', 'lora', 'full' or a Tune(...), not {value!r}.")

    @property
    def rate(self) -> float:
        """The learning rate, chosen or by mode."""
        return self.learning_rate or (1e-3 if self.mode == "lora" else 1e-4)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
