"""The few directions in which levels of a confounder differ, for penalties to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor, nn

from deconf.maths.design import MOST_LEVELS, pooled
from deconf.maths.moments import Given
from deconf.maths.shrinkage import root, shrunk
from deconf.methods.films import Films
from deconf.methods.levels import LevelMoments

SIZE = 32  # coordinates
MOST_ROWS = 20_000  # films that directions are chosen by
CROWDED = 10  # films per column below which the covariance is shrunk
TINY = 1e-8  # variance of a coordinate, in whitened units, that counts as none


class View(nn.Module):
    """Coordinates ``t @ directions`` at mean 0 and variance 1 in every batch.

    A kernel of all columns sees little of a variance that differs in eight of a thousand, and what
    it sees drowns in the noise of a batch: so penalties look at a linear head of 32 coordinates.
    And an adapter could hide a trace by making it small, which deceives a penalty and no attacker
    that standardises: hence the fresh unit of every batch.

    Attributes
    ----------
    directions : (d, r)
    """

    directions: Tensor

    def __init__(self, directions: Any) -> None:
        super().__init__()
        self.register_buffer("directions", torch.as_tensor(directions, dtype=torch.float32))

    def forward(self, t: Float[Tensor, "n d"]) -> Float[Tensor, "n r"]:
        """Return the coordinates."""
        return standard(t @ self.directions)


def standard(h: Float[Tensor, "n r"]) -> Float[Tensor, "n r"]:
    """Return columns at mean 0 and variance 1."""
    out: Tensor = (h - h.mean(dim=0)) / (h.var(dim=0, correction=0) + TINY).sqrt()
    return out


def telling(films: Films, t: Float[Tensor, "n d"], size: int = SIZE) -> View:
    """Return the view of at most ``size`` coordinates in which levels differ most within strata.

    Means of cells first, a quarter at most; then, half of them, the extreme eigenvectors of the
    covariance of a level against that of all, where variances differ (common spatial patterns:
    Koles, 1991); then the leading axes.  They are chosen in whitened coordinates.
    """
    pick = torch.arange(0, len(t), -(-len(t) // MOST_ROWS), device=t.device)
    some = films.take(pick.cpu().numpy())
    x = t[pick].double().cpu().numpy()
    basis = some.basis.double().cpu().numpy() if some.basis.shape[1] else None
    level = pooled(some.level.cpu().numpy(), MOST_LEVELS)
    levels = np.eye(int(level.max()) + 1)[level]
    weight = some.weight.double().cpu().numpy()
    given = Given(some.stratum.cpu().numpy(), basis)
    m = LevelMoments.of(x, levels, given, weight, None, "a penalty")
    sigmas, n = m.covariances(), float(m.sizes().sum())
    common = np.average(sigmas, axis=0, weights=m.weight.sum(axis=1))
    _, inverse = root(shrunk(common, 0.0 if n > CROWDED * len(common) else "oas", n))

    apart = (m.mean - m.mean.mean(axis=0)).reshape(-1, len(common)) @ inverse.T
    u, s, _ = np.linalg.svd(apart.T, full_matrices=False)
    means = u[:, : max(size // 4, 1)][:, s[: max(size // 4, 1)] > 1e-6 * s.max(initial=0.0)]
    contrasts = sigmas[1:] if len(sigmas) == 2 else sigmas
    patterns = [_extreme(inverse @ (a - common) @ inverse.T) for a in contrasts]
    each = max(size // 2 // len(patterns), 1)
    axes = inverse @ np.linalg.eigh(common)[1][:, ::-1]
    chosen = [means, *(p[:, :each] for p in patterns), axes]
    return View(inverse.T @ _orthonormal(np.hstack(chosen), min(size, len(inverse))))


def _extreme(contrast: Float[ndarray, "r r"]) -> Float[ndarray, "r r"]:
    """Return the eigenvectors, those of the largest absolute eigenvalues first."""
    values, vectors = np.linalg.eigh(contrast)
    out: ndarray = vectors[:, np.argsort(-np.abs(values), kind="stable")]
    return out


def _orthonormal(x: Float[ndarray, "r m"], size: int) -> Float[ndarray, "r size"]:
    """Return an orthonormal basis of the columns, in their order, without the dependent ones."""
    q = np.zeros((len(x), 0))
    for column in x.T:
        left = column - q @ (q.T @ column)
        left -= q @ (q.T @ left)  # twice is enough (Parlett)
        if np.linalg.norm(left) > 1e-3 * np.linalg.norm(column):
            q = np.hstack([q, (left / np.linalg.norm(left))[:, None]])
        if q.shape[1] == size:
            break
    return q
