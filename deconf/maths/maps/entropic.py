"""A map that carries every cell by an affine map, and then point by point to its reference."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from deconf.maths.maps.mixture import CellMap

ROWS = 4096  # images at a time, each against every landmark


class EntropicMap(CellMap):
    """T_ls(x) = target_s + settle_ls (v + pulled(v) - own(v) - middle_ls),  v = A_ls (x - source).

    v are the units of the reference, in which it has mean 0 and covariance I; ``pulled`` is the
    mean of its landmarks by what they pull, ``own`` that of the landmarks of the cell itself:

        pulled(v) = sum over j of  y_j softmax_j(pull_lsj + v . y_j / blur)

    which is one head of attention, with landmarks for keys and values.

    Attributes
    ----------
    carry : (L, S, r, r)
        A, into the units of the reference.
    reference, pull : (S, m, r), (L, S, m)
        Landmarks of the reference, and what each pulls; -inf where there are fewer.
    own, own_pull : (L, S, k, r), (L, S, k)
        The same of the cell itself.
    middle, settle : (L, S, r), (L, S, r, r)
        Mean after that, and what gives the cell covariance and units of the reference.
    blur : ()
        The entropic penalty.
    """

    reference: Tensor
    pull: Tensor
    own: Tensor
    own_pull: Tensor
    middle: Tensor
    settle: Tensor
    blur: Tensor

    def __init__(
        self,
        reference: Any,
        pull: Any,
        own: Any,
        own_pull: Any,
        middle: Any,
        settle: Any,
        blur: Any,
        **cells: Any,
    ) -> None:
        super().__init__(**cells)
        for name, value in locals().copy().items():
            if name not in ("self", "__class__", "cells"):
                self.register_buffer(name, torch.as_tensor(value))

    def carried(self, x: Float[Tensor, "n r"], level: int, stratum: int) -> Float[Tensor, "n r"]:
        """Return T_ls(x)."""
        cell = level, stratum
        source, carry, middle, settle = (
            t[cell].to(x.dtype) for t in (self.source, self.carry, self.middle, self.settle)
        )
        v = debiased(
            (x - source) @ carry.T,
            self.reference[stratum],
            self.pull[cell],
            self.own[cell],
            self.own_pull[cell],
            self.blur,
        )
        return self.target[stratum].to(x.dtype) + (v - middle) @ settle.T


def debiased(
    v: Float[Tensor, "n r"],
    reference: Float[Tensor, "m r"],
    pull: Float[Tensor, " m"],
    own: Float[Tensor, "k r"],
    own_pull: Float[Tensor, " k"],
    blur: Float[Tensor, ""],
) -> Float[Tensor, "n r"]:
    """Return v + pulled(v) - own(v).

    The mean of the reference alone would draw every point inwards, by what the penalty blurs; the
    cell carried onto itself is drawn as far, and that is taken off again.
    """

    def mean(part: Tensor, points: Tensor, pulls: Tensor) -> Tensor:
        points, pulls = points.to(v.dtype), pulls.to(v.dtype)
        out: Tensor = torch.softmax(part @ points.T / blur.to(v.dtype) + pulls, dim=1) @ points
        return out

    parts = v.split(ROWS)
    return torch.cat(
        [part + mean(part, reference, pull) - mean(part, own, own_pull) for part in parts]
    )
