"""What an attacker is, what it returns, and where attackers are registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deconf.errors import CohortError
from deconf.probes.target import votes
from deconf.registry import Registry

attackers = Registry("attacker")


@dataclass(frozen=True)
class Probe:
    """A fitted attacker: rows of an embedding in, one score per level out.

    Attributes
    ----------
    levels : int
        Number of levels L, the columns of the scores; 1 for a number.
    width : int
        Number of coordinates d of the embedding it was fitted on.
    read : callable
        From (m, d) rows to (m, L) scores; ``scores`` checks its input first.
    """

    levels: int
    width: int
    read: Callable[[np.ndarray], np.ndarray]

    def scores(self, z: np.ndarray) -> np.ndarray:
        """Return (m, L) scores of (m, d) rows; higher means more like that level.

        Raises
        ------
        CohortError
            When the rows have another width than those the probe was fitted on.
        """
        z = np.asarray(z)
        if z.ndim != 2 or z.shape[1] != self.width:
            raise CohortError(
                f"the probe was fitted on embeddings of width {self.width} and was given an array "
                f"of shape {z.shape}: pass (n, {self.width}) rows of the same encoder."
            )
        return self.read(z)


class Attacker(Protocol):
    """What an audit asks of an attacker: settings that can be fitted.

    One that can also be fitted to numbers says so by an attribute ``reads_numbers = True``; the
    others look for levels only.
    """

    registered_name: str

    def fit(
        self,
        z: np.ndarray,
        target: np.ndarray,
        *,
        seed: int,
        patients: np.ndarray | None = None,
    ) -> Probe:
        """Fit on (n, d) rows with levels 0..L-1, each present, or numbers in (n,) ``target``.

        ``patients`` (n,) stay together while the attacker tunes itself; default: one row each.
        """
        ...


def probe(z: np.ndarray, target: np.ndarray, read: Callable[[np.ndarray], np.ndarray]) -> Probe:
    """Return the probe that was fitted on these rows."""
    return Probe(levels=votes(target).shape[1], width=z.shape[1], read=read)
