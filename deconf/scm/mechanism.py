"""The mechanisms of a structural model: what each node makes of its causes and of its own noise.

A mechanism reads noise off what was observed (abduction) and makes a value of noise and causes
(prediction).  Discrete nodes choose by the Gumbel-max rule, numbers and embeddings are affine in
normal noise, with a flow in between where one was fitted (`deconf.scm.flows`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from deconf.maths import kinds
from deconf.scm.affine import LOG2PI, Affine
from deconf.scm.design import Causes

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # inverse ridge of the log-odds, in standard units


class Flow(Protocol):
    """An invertible map of noise given causes; `deconf.scm.flows.FlowNoise` is the one there is."""

    def inward(self, e: ndarray, d: ndarray) -> tuple[ndarray, ndarray]:
        """Return normal noise u of affine noise e, and log |du/de|."""

    def outward(self, u: ndarray, d: ndarray) -> ndarray:
        """Return affine noise e of normal noise u."""

    def spec(self) -> dict[str, Any]:
        """Return what rebuilds it beside the arrays, as JSON types."""

    def arrays(self) -> dict[str, ndarray]:
        """Return its arrays, by name."""


@dataclass(frozen=True)
class Vector:
    """A mechanism of an (n, r) vector: x = affine(flow(u; pa); pa)."""

    causes: Causes
    affine: Affine
    flow: Flow | None = None

    def abduct(self, x: Float[ndarray, "n r"], parents: pd.DataFrame) -> Float[ndarray, "n j"]:
        """Return the noise of each row."""
        d = self.causes.encode(parents)
        e = self.affine.abduct(x, d)
        return e if self.flow is None else self.flow.inward(e, d)[0]

    def predict(self, u: Float[ndarray, "n j"], parents: pd.DataFrame) -> Float[ndarray, "n r"]:
        """Return x for the noise of each row under these causes."""
        d = self.causes.encode(parents)
        return self.affine.predict(u if self.flow is None else self.flow.outward(u, d), d)

    def log_prob(self, x: Float[ndarray, "n r"], parents: pd.DataFrame) -> Float[ndarray, " n"]:
        """Return the log density of each row."""
        d = self.causes.encode(parents)
        if self.flow is None:
            return self.affine.log_prob(x, d)
        u, volume = self.flow.inward(self.affine.abduct(x, d), d)
        own = -0.5 * ((u**2).sum(axis=1) + u.shape[1] * LOG2PI)
        return own + volume - self.affine.log_scale(d)

    def noise(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n j"]:
        """Draw noise."""
        return rng.standard_normal((n, self.affine.width))


@dataclass(frozen=True)
class Number:
    """A continuous column: one coordinate, in units of its own."""

    name: str
    centre: float
    scale: float
    vector: Vector

    def abduct(self, table: pd.DataFrame, rng: np.random.Generator) -> Float[ndarray, "n j"]:
        """Return the noise of each row."""
        del rng
        return self.vector.abduct(self._standard(table), table)

    def predict(self, u: Float[ndarray, "n j"], parents: pd.DataFrame) -> pd.Series[Any]:
        """Return the column under these causes."""
        x = self.vector.predict(u, parents)[:, 0] * self.scale + self.centre
        return pd.Series(x, name=self.name, index=parents.index)

    def log_prob(self, table: pd.DataFrame) -> Float[ndarray, " n"]:
        """Return the log density of each row, in the column's own unit."""
        return self.vector.log_prob(self._standard(table), table) - np.log(self.scale)

    def noise(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n j"]:
        """Draw noise."""
        return self.vector.noise(n, rng)

    @property
    def causes(self) -> Causes:
        """The causes."""
        return self.vector.causes

    def _standard(self, table: pd.DataFrame) -> Float[ndarray, "n 1"]:
        standard: ndarray = (kinds.numbers(table[self.name])[:, None] - self.centre) / self.scale
        return standard


@dataclass(frozen=True)
class Choice:
    """A discrete column: log-odds linear in the design of its causes, chosen by Gumbel noise.

    The value is the level with the largest log-odds plus noise.  What noise a film had is known
    only as far as its level tells; it is drawn from its posterior (Oberst & Sontag, "Counterfactual
    off-policy evaluation with Gumbel-max structural causal models", ICML 2019), so that under no
    change the level comes back, and a level made likelier is never lost.

    Attributes
    ----------
    slope, intercept : (q, L), (L,)
    """

    name: str
    levels: tuple[Any, ...]
    causes: Causes
    slope: Float[ndarray, "q L"]
    intercept: Float[ndarray, " L"]
    dtype: str = field(default="object")

    def logits(self, parents: pd.DataFrame) -> Float[ndarray, "n L"]:
        """Return normalised log-odds, the logarithm of the chance of each level."""
        raw = self.causes.encode(parents) @ self.slope + self.intercept
        top = raw.max(axis=1, keepdims=True)
        return raw - top - np.log(np.exp(raw - top).sum(axis=1, keepdims=True))

    def abduct(self, table: pd.DataFrame, rng: np.random.Generator) -> Float[ndarray, "n L"]:
        """Draw the noise of each row from its posterior given the level."""
        logits, chosen = self.logits(table), self.codes(table)
        rows = np.arange(len(table))
        # The largest of logits + noise is Gumbel itself (log-odds sum to one) and sits at the
        # chosen level; the others are Gumbel cut off at it.
        top = rng.gumbel(size=len(table))
        free = logits + rng.gumbel(size=logits.shape)
        below = -np.logaddexp(-top[:, None], -free)
        below[rows, chosen] = top
        return below - logits

    def predict(self, noise: Float[ndarray, "n L"], parents: pd.DataFrame) -> pd.Series[Any]:
        """Return the column under these causes."""
        chosen = (self.logits(parents) + noise).argmax(axis=1)
        values = [self.levels[code] for code in chosen]
        return pd.Series(values, name=self.name, index=parents.index, dtype=self.dtype)

    def log_prob(self, table: pd.DataFrame) -> Float[ndarray, " n"]:
        """Return the log chance of each row's level."""
        return self.logits(table)[np.arange(len(table)), self.codes(table)]

    def noise(self, n: int, rng: np.random.Generator) -> Float[ndarray, "n L"]:
        """Draw noise."""
        return rng.gumbel(size=(n, len(self.levels)))

    def codes(self, table: pd.DataFrame) -> Int[ndarray, " n"]:
        """Return the place of each row's level."""
        place = {level: i for i, level in enumerate(self.levels)}
        return np.array([place[v] for v in table[self.name].tolist()], dtype=np.int64)


Mechanism = Number | Choice


def fit_choice(
    series: pd.Series[Any], causes: Causes, table: pd.DataFrame, train: ndarray, held_out: ndarray
) -> Choice:
    """Fit a discrete node; the ridge that tells held-out patients best is kept."""
    from sklearn.linear_model import LogisticRegression

    codes, levels = kinds.codes(series)
    count = len(levels)
    shares = np.log(np.bincount(codes, minlength=count) / len(codes))
    d = causes.encode(table)
    dtype = str(series.dtype) if not isinstance(series.dtype, pd.CategoricalDtype) else "object"
    plain = Choice(
        str(series.name), tuple(levels), causes, np.zeros((d.shape[1], count)), shares, dtype
    )
    if count < 2 or not d.shape[1] or len(np.unique(codes[train])) < count:
        return plain
    scale = d.std(axis=0)
    scale[scale == 0] = 1.0

    def fitted(rows: ndarray, strength: float) -> Choice:
        model = LogisticRegression(C=strength, max_iter=2000).fit(d[rows] / scale, codes[rows])
        slope, intercept = (model.coef_ / scale).T, model.intercept_
        if count == 2:  # one log-odds
            slope, intercept = np.hstack([0 * slope, slope]), np.r_[0.0, intercept]
        return Choice(plain.name, plain.levels, causes, slope, intercept, dtype)

    held = table.iloc[held_out].assign(**{plain.name: series.iloc[held_out]})
    told = {c: fitted(train, c).log_prob(held).sum() for c in STRENGTHS}
    return fitted(np.arange(len(table)), max(told, key=lambda c: told[c]))
