"""Centring per level of the confounder: the correction everybody tries first.

Subtracts what the mean of a site (scanner, view) differs by, inside strata with the shares of the
strata held equal; with an empty adjustment set this is plain per-site centring, which removes a
difference in prevalence together with the disease.  Reads the confounder of new images.

Fortin et al., "Harmonization of cortical thickness measurements across scanners and sites", 2018,
with the location step only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deconf.errors import SettingsError
from deconf.maths.maps import LevelMap
from deconf.maths.moments import Given
from deconf.methods.base import Method, MethodCard, as_arrays, methods
from deconf.methods.leace import LEACE
from deconf.methods.levels import LevelMoments


@methods.register(
    "centre",
    MethodCard(
        guarantee="the mean of every level agrees within strata, on the fitting data",
        laws=("recoding", "null"),
        needs=("levels",),
        needs_confounders=True,
        cost="n d",
        source="Fortin et al. 2018",
    ),
)
@dataclass(frozen=True)
class Centre(Method):
    """Subtract the effect of the recorded level.

    Parameters
    ----------
    rank : "significant" or "full"
        "significant" subtracts only the part of each effect that chance cannot explain: the rest
        would be *added* to every film of that level, and a fresh probe reads it back.  "full" is
        the plain correction.
    """

    rank: Literal["significant", "full"] = "significant"

    def __post_init__(self) -> None:
        if self.rank not in ("significant", "full"):
            raise SettingsError(f"rank is 'significant' or 'full', not {self.rank!r}.")

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
    ) -> LevelMap:
        """Fit on training rows; see `Method.fit`."""
        del outcome
        z, c, given = as_arrays(z, c, given)
        m = LevelMoments.of(z, c, given, weights, patients, "centre")
        here, reference = m.effects()
        shift = reference - here
        if self.rank == "significant":  # b -> Q b, with Q = L R of the erasure
            eraser = LEACE(strata="pooled").fit(
                z, c, given=given, weights=weights, patients=patients, seed=seed
            )
            shift = shift @ eraser.right.numpy().T @ eraser.left.numpy().T
        levels, d = shift.shape
        none = np.zeros((levels, d, 0))
        return LevelMap(
            none,
            none.transpose(0, 2, 1),
            here,
            shift,
            np.zeros((levels, d)),
            np.zeros(levels),
            np.zeros((0, d)),
            np.zeros(d),
            m.design,
            reads=True,
        )
