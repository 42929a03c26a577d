"""Another location and scale for every column of the embedding, at every site."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deconf.errors import SettingsError
from deconf.maths.empirical_bayes import posterior
from deconf.maths.maps.base import EmbeddingMap
from deconf.maths.maps.level import recorded
from deconf.maths.moments import Given, column_moments

CHUNK = 256  # rows at a time: what is between stays in the cache
LEAST = 0.1  # share of the variance seen at a new site that is never put down to case mix


class ComBatMap(EmbeddingMap):
    """T(z) = m + s_l (z - m - sd gamma_l), with l the recorded level.

    Where the covariates of an image are known (`knowing`), m is the model of all sites at these
    covariates, and s = 1 / delta rescales the noise.  A new image comes without: m is the model at
    the average covariates, and  s^2 = (e + 1) / (e + delta^2)  makes the whole variance agree, that
    of the noise and e, what the covariates explain.  With 1 / delta the disease would be rescaled
    by site as the noise is.  A level never met leaves z as it is, until the map is `calibrated`.

    Attributes
    ----------
    gamma, delta : (L, d)
        Location and scale of each level, in units of ``spread``; no change is (0, 1).
    spread, centre : (d,)
        Pooled standard deviation within levels; the model at the average covariates.
    slope, covariates : (q, d), (q,)
        Of the covariates: strata one-hot, then the basis; and their average.
    strata : (S,)
        Codes of the strata met.
    explained : (d,)
        Variance of what the covariates explain, in units of ``spread``.
    design : (L, k)
        Design row of each level.
    moves : (d,)
        Columns that take part in the empirical Bayes step.
    shrinks : bool
    unseen : (2, d)
        gamma and delta of any other level; no rows where there are none.
    """

    gamma: Tensor
    delta: Tensor
    spread: Tensor
    centre: Tensor
    slope: Tensor
    covariates: Tensor
    strata: Tensor
    explained: Tensor
    design: Tensor
    moves: Tensor
    shrinks: Tensor
    unseen: Tensor
    needs_confounders = True

    def __init__(
        self,
        gamma: Any,
        delta: Any,
        spread: Any,
        centre: Any,
        slope: Any,
        covariates: Any,
        strata: Any,
        explained: Any,
        design: Any,
        moves: Any,
        shrinks: Any,
        unseen: Any = None,
    ) -> None:
        super().__init__()
        if unseen is None:
            unseen = torch.zeros(0, len(centre), dtype=torch.float64)
        for name, value in locals().copy().items():
            if name not in ("self", "__class__"):
                self.register_buffer(name, torch.as_tensor(value))

    @property
    def width(self) -> int:
        """Columns of the embedding."""
        return len(self.centre)

    @property
    def is_identity(self) -> bool:
        """Whether no level is moved or rescaled, and none is calibrated."""
        return not (self.gamma.any() or (self.delta != 1).any() or len(self.unseen))

    def forward(
        self, z: Float[Tensor, "n d"], c: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Map embeddings (n, d); ``c`` is the design of the confounders."""
        return self._carried(z, c, None, self.explained)

    def knowing(
        self, z: Float[Tensor, "n d"], c: Float[Tensor, "n k"], given: Given
    ) -> Float[Tensor, "n d"]:
        """Map images whose covariates are known too, disease among them: ComBat as published.

        Raises
        ------
        SettingsError
            A stratum that the fit has not met.
        """
        strata = self.strata.numpy()
        new = np.setdiff1d(given.codes, strata)
        if len(new):
            raise SettingsError(f"the fit has met strata {strata.tolist()}, and not {new[0]}.")
        x = torch.from_numpy(covariates(given, strata)) - self.covariates
        return self._carried(z, c, x, torch.zeros(1))

    def calibrated(self, z: Any) -> ComBatMap:
        """Return the map that takes every level unseen so far for the site of these images.

        Location and scale of the new site are estimated as in the fit, with the same empirical
        Bayes step, from images without labels.  That assumes that the site has the case mix of the
        training cohort: a site with more disease is otherwise corrected for having it.

        Parameters
        ----------
        z : (n, d) array or tensor
            Embeddings of one new site; from one image only the location is learnt.

        Examples
        --------
        >>> from deconf.methods import ComBat
        >>> rng = np.random.default_rng(0)
        >>> z, site = rng.normal(size=(900, 4)), rng.integers(2, size=900)
        >>> new = rng.normal(size=(80, 4)) * 2 + 5
        >>> fitted = ComBat().fit(z, np.eye(2)[site]).calibrated(new)
        >>> nowhere = torch.zeros(80, 2)  # neither site of the fit
        >>> fitted(torch.tensor(new), nowhere).mean(dim=0).abs().max() < 0.2
        tensor(True)
        """
        z = z.detach().cpu().numpy() if hasattr(z, "detach") else np.asarray(z)
        if z.ndim != 2 or z.shape[1] != self.width or not len(z):
            raise SettingsError(f"calibration takes (n, {self.width}) embeddings, not {z.shape}.")
        n = len(z)
        mean, squares = np.zeros(self.width), np.zeros(self.width)
        for columns, m in column_moments(z):
            mean[columns] = m.mean[0]
            squares[columns] = np.diag(m.scatter[0])
        spread, explained = self.spread.numpy(), self.explained.numpy()
        gamma, delta2 = (mean - self.centre.numpy()) / spread, np.ones(self.width)
        moves = self.moves.numpy()
        if n > 1:
            seen = squares / (n - 1) / spread**2
            delta2 = np.maximum(seen - explained, LEAST * seen)
            delta2 = np.where(moves & (delta2 > 0), delta2, 1.0)
        if bool(self.shrinks) and moves.sum() > 1:
            gamma[moves], delta2[moves] = posterior(gamma[moves], delta2[moves], n)
        tensors = {k: v for k, v in self.state_dict().items() if k != "unseen"}
        return ComBatMap(**tensors, unseen=np.stack([gamma, np.sqrt(delta2)]))

    def _carried(
        self, z: Tensor, c: Tensor | None, x: Float[Tensor, "n q"] | None, kept: Float[Tensor, " d"]
    ) -> Float[Tensor, "n d"]:
        at = recorded(c, self.design)
        if self.is_identity:
            return z
        gamma = torch.cat([self.gamma, self.unseen[:1]])
        delta = torch.cat([self.delta, self.unseen[1:]])
        scale = torch.sqrt((kept + 1) / (kept + delta**2)).to(z.dtype)
        shift, centre = (gamma * self.spread).to(z.dtype), self.centre.to(z.dtype)
        slope = self.slope.to(z.dtype)
        level = torch.where(at.any(dim=1), at.int().argmax(dim=1), len(self.gamma))
        out = torch.empty_like(z)
        left = torch.nonzero(level == len(gamma)).ravel()
        out[left] = z[left]
        for number in range(len(gamma)):
            for rows in torch.nonzero(level == number).ravel().split(CHUNK):
                m = centre if x is None else torch.addmm(centre, x[rows].to(z.dtype), slope)
                out[rows] = (z[rows] - (m + shift[number])) * scale[number] + m
        return out


def covariates(given: Given, strata: Any) -> Float[np.ndarray, "n q"]:
    """Return strata one-hot, then the basis."""
    hot = (given.codes[:, None] == strata).astype(np.float64)
    return hot if given.basis is None else np.hstack([hot, given.basis])
