"""ComBat: location and scale of every site, by empirical Bayes, covariates kept.

The harmonisation that most multi-site imaging studies use.  Each column of the embedding is
modelled as  covariates + site + site-wise scale of the noise; the site's part is taken out, its
estimates pulled towards what all columns of that site have in common.  Reads the confounder of new
images.

Johnson, Li & Rabinovic, "Adjusting batch effects in microarray expression data using empirical
Bayes methods", Biostatistics 2007, https://doi.org/10.1093/biostatistics/kxj037; Fortin et al.,
"Harmonization of cortical thickness measurements across scanners and sites", NeuroImage 2018,
https://doi.org/10.1016/j.neuroimage.2017.11.024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from deconf.errors import SettingsError
from deconf.maths.design import levels_of
from deconf.maths.empirical_bayes import posterior
from deconf.maths.maps import ComBatMap
from deconf.maths.maps.combat import covariates
from deconf.maths.moments import CellMoments, Given, column_moments
from deconf.methods.base import Method, MethodCard, as_arrays, methods

FLAT = 1e-10  # variance left within levels, relative to all, below which a column counts as flat


@methods.register(
    "combat",
    MethodCard(
        guarantee="mean and variance of every column nearly agree between levels",
        laws=("recoding", "duplicates"),
        needs=("levels",),
        needs_confounders=True,
        cost="n d",
        source="Johnson, Li & Rabinovic 2007; Fortin et al. 2018",
    ),
)
@dataclass(frozen=True)
class ComBat(Method):
    """Harmonise location and scale of every column; `fit` returns a `ComBatMap`.

    Parameters
    ----------
    reference : int, optional
        The level that stays as it is and to which the others are carried, in the order of the
        levels (of several confounders: by the first, then by the second).  Default: their average.
    shrink : bool
        Pull the estimates of a site towards what its columns have in common (empirical Bayes).

    Warnings
    --------
    As published, there is no test of significance: what is subtracted holds the estimation noise of
    the site, which a fresh probe reads back where d is large and sites are small.  `Centre` keeps
    to what chance cannot explain.  Weights count rows; the films of a patient count once where the
    estimates of a site are pulled.
    """

    reference: int | None = None
    shrink: bool = True

    def __post_init__(self) -> None:
        is_index = isinstance(self.reference, int) and not isinstance(self.reference, bool)
        if self.reference is not None and not (is_index and self.reference >= 0):
            raise SettingsError(
                f"reference is the number of a level, from 0, or None, not {self.reference!r}."
            )

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
    ) -> ComBatMap:
        """Fit on training rows; see `Method.fit`.

        Raises
        ------
        SettingsError
            The confounder is continuous, or no image has the reference level.
        """
        del outcome, seed
        z, c, given = as_arrays(z, c, given)
        codes = levels_of(c)
        if codes is None:
            raise SettingsError(
                "combat needs confounders with levels, and this one is continuous: "
                "bin it, or use 'leace'."
            )
        levels = codes.max() - codes  # sorted backwards one-hot rows stand in their own order
        design = c[np.unique(levels, return_index=True)[1]]
        strata = np.unique(given.codes)
        parts, size = [], np.zeros(0)
        for _, m in column_moments(
            z,
            covariates(given, strata),
            given=Given(levels),
            weights=weights,
            patients=patients,
            cells=len(design),
        ):
            size = m.weight**2 / np.where(m.weight2 > 0, m.weight2, 1.0)
            parts.append(self._standardised(m, size))
        found = {name: np.concatenate([p[name] for p in parts], axis=-1) for name in parts[0]}
        gamma, delta2, moves = found["gamma"], found["delta2"], found["moves"]
        if self.shrink and moves.sum() > 1:
            for level in np.flatnonzero((size > 0) & (np.arange(len(size)) != self.reference)):
                gamma[level, moves], delta2[level, moves] = posterior(
                    gamma[level, moves], delta2[level, moves], size[level]
                )
        if np.count_nonzero(size) < 2:  # nothing to harmonise with
            gamma, delta2 = np.zeros_like(gamma), np.ones_like(delta2)
        total = m.weight.sum()
        return ComBatMap(
            gamma=gamma,
            delta=np.sqrt(np.where(delta2 > 0, delta2, 1.0)),
            spread=found["spread"],
            centre=found["centre"],
            slope=found["slope"],
            covariates=m.weight @ m.mean[:, m.width :] / total,
            strata=strata,
            explained=found["explained"],
            design=design,
            moves=moves,
            shrinks=self.shrink,
        )

    def _standardised(self, m: CellMoments, size: Float[ndarray, " L"]) -> dict[str, ndarray]:
        """Return for some columns what the fit knows before the empirical Bayes step.

        Regression on sites and covariates together, by way of the moments within sites.
        """
        d, weight, met = m.width, m.weight, m.weight > 0
        if self.reference is not None and not (self.reference < len(met) and met[self.reference]):
            raise SettingsError(
                f"reference={self.reference}, and the confounder has {len(met)} levels, numbered "
                "from 0, of which the reference must hold images."
            )
        zz, zx, xx = m.scatter[:, :d, :d], m.scatter[:, :d, d:], m.scatter[:, d:, d:]
        inverse = np.linalg.pinv(xx.sum(axis=0), rcond=1e-10, hermitian=True)
        slope = inverse @ zx.sum(axis=0).T
        # Σ (z − x B)² about the mean of each site
        left = np.einsum("ljj->lj", zz) - 2 * np.einsum("ljq,qj->lj", zx, slope)
        left += np.einsum("qj,lqr,rj->lj", slope, xx, slope)
        left = np.maximum(left, 0.0)
        sites = m.mean[:, :d] - m.mean[:, d:] @ slope
        total, average = weight.sum(), weight @ m.mean[:, d:] / weight.sum()
        base = slice(None) if self.reference is None else [self.reference]
        grand = weight[base] @ sites[base] / weight[base].sum()
        variance = left[base].sum(axis=0) / weight[base].sum()
        everything = (
            np.einsum("ljj->j", zz) / total + weight @ (m.mean[:, :d] - m.centre) ** 2 / total
        )
        moves = variance > FLAT * everything / total
        spread = np.where(moves, np.sqrt(variance), 1.0)
        gamma = np.where(met[:, None], sites - grand, 0.0) / spread
        freedom = np.where(size > 1, size / np.where(size > 1, size - 1, 1.0), 0.0)  # n / (n − 1)
        delta2 = left / np.where(met, weight, 1.0)[:, None] * freedom[:, None] / spread**2
        delta2[size <= 1] = 1.0
        delta2[:, ~moves] = 1.0
        if self.reference is not None:
            gamma[self.reference], delta2[self.reference] = 0.0, 1.0
        away = m.mean[:, d:] - average
        spread_x = (xx.sum(axis=0) + (away.T * weight) @ away) / total
        explained = np.einsum("qj,qr,rj->j", slope, spread_x, slope) / spread**2
        return {
            "gamma": gamma,
            "delta2": delta2,
            "spread": spread,
            "centre": grand + average @ slope,
            "slope": slope,
            "explained": explained,
            "moves": moves,
        }
