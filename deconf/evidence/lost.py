"""What was lost, and what lies out of span: the price of an erasure beyond the task.

An eraser may take with it what nobody asked to erase: age, sex, other findings.  And it takes
nothing of a new site's shift that lies outside the directions it learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from deconf.cohort.splits import patient_split
from deconf.maths.intervals import Interval, interval, patient_weights, weighted_aurocs
from deconf.maths.kinds import levels, numbers
from deconf.maths.multiplicity import benjamini_hochberg
from deconf.probes.head import choose_strength, fit_head

FEWEST = 30  # recorded rows of a column, and of the rarer class of a two-level one
MOST_COLUMNS = 12
COLUMNS = (
    "representation", "what", "metric", "estimate", "low", "high", "n",
    "difference", "difference_low", "difference_high", "difference_q",
)  # fmt: skip


def effective_rank(z: np.ndarray) -> float:
    """Return the participation ratio  (tr Σ)² / tr Σ²  of embeddings (n, d).

    The number of directions an embedding spreads over; 1 for a line, d for a ball.  It is found
    from the smaller of the two Gram matrices.

    Examples
    --------
    >>> bool(effective_rank(np.eye(3)) < 2 + 1e-9)
    True
    """
    a = np.asarray(z, dtype=np.float64)
    a = a - a.mean(axis=0)
    gram = a.T @ a if a.shape[1] <= len(a) else a @ a.T
    squares = float((gram**2).sum())
    return float(np.trace(gram) ** 2 / squares) if squares > 0 else 0.0


def unasked(table: pd.DataFrame, asked: Sequence[str]) -> list[str]:
    """Return the columns nobody asked to erase or to tell: two classes, grades or a number."""
    found = []
    for name in table.columns:
        column = table[name]
        counts = column.value_counts()
        if name in asked or int(counts.sum()) < FEWEST or len(counts) < 2:
            continue
        if len(counts) == 2:
            if int(counts.min()) >= FEWEST:
                found.append(str(name))
        elif pd.api.types.is_numeric_dtype(column.dtype):
            found.append(str(name))
    return found


def lost(
    embeddings: Mapping[str, np.ndarray],
    bases: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    patients: np.ndarray,
    columns: Sequence[str],
    *,
    reference: str,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Return effective rank, and how well each column is still read by a linear probe.

    Parameters
    ----------
    embeddings : mapping of representation to (n, d)
        Of held-out patients; the probe trains on half of them and reads the other.
    bases : mapping of representation to (n, d0)
        The raw embedding each was made of: the ridge is chosen there.
    table : DataFrame of n rows
    columns : names, see `unasked`
        Two classes: AUROC.  A number: R².
    reference : str
        Differences are taken to this one, paired by patient.  ``difference_q`` is the p-value of
        each, of the bootstrap, after Benjamini and Hochberg over the columns of a representation:
        a dozen columns are looked at, and nobody had one of them in mind.
    """
    ranks = {name: effective_rank(z) for name, z in embeddings.items()}
    rows: list[dict[str, object]] = [
        {"representation": name, "what": "effective rank", "metric": "directions",
         "estimate": rank, "n": len(table), "difference": rank - ranks.get(reference, np.nan)}
        for name, rank in ranks.items()
    ]  # fmt: skip
    for column in columns:
        y, is_class = _target(table[column])
        known = np.flatnonzero(~np.isnan(y))
        train, test = patient_split(
            patients[known], 0.5, strata=y[known] if is_class else None, seed=seed
        )
        train, test = known[train], known[test]
        if is_class and (len(np.unique(y[train])) < 2 or len(np.unique(y[test])) < 2):
            continue
        weights = patient_weights(patients[test], draws, seed)
        weights = np.vstack([np.ones((1, len(test)), dtype=weights.dtype), weights])
        found: dict[str, np.ndarray] = {}
        strengths: dict[int, float] = {}
        for name, z in embeddings.items():
            base = bases[name]
            if id(base) not in strengths:
                strengths[id(base)] = _strength(base[train], y[train], patients[train], is_class)
            read = _read(z[train], y[train], z[test], strengths[id(base)], is_class)
            found[name] = _scored(read, y[test], weights, is_class)
        rows += [
            _row(name, column, "AUROC" if is_class else "R²", values, found.get(reference), test)
            for name, values in found.items()
        ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["difference_q"] = frame.groupby("representation")["difference_q"].transform(
        lambda p: benjamini_hochberg(p.to_numpy(dtype=float))
    )
    return frame


def outside_span(held_out: np.ndarray, train: np.ndarray, directions: np.ndarray) -> float:
    """Return the share of a new site's mean shift that lies outside the erased directions.

    ``|(I - Q Qᵀ) δ|² / |δ|²``  with δ the difference of the raw means and Q an orthonormal basis
    (d, r) of the directions; the sampling noise of the means, ``tr Σ (1/n + 1/m)``, is taken off
    both.  nan where the shift does not stand out from its noise.
    """
    shift = held_out.mean(axis=0, dtype=np.float64) - train.mean(axis=0, dtype=np.float64)
    noise = held_out.var(axis=0, dtype=np.float64) / len(held_out)
    noise = noise + train.var(axis=0, dtype=np.float64) / len(train)
    inside = directions.T @ shift
    whole = float(shift @ shift - noise.sum())
    spanned = float(inside @ inside - (directions**2 * noise[:, None]).sum())
    if whole <= noise.sum():  # fewer films than the shift needs to be seen at all
        return float("nan")
    return float(np.clip(1 - spanned / whole, 0.0, 1.0))


def _target(column: pd.Series) -> tuple[np.ndarray, bool]:
    values = levels(column)
    if len(values) != 2:
        return numbers(column), False
    high = values[1]
    return np.where(column.isna(), np.nan, (column == high).to_numpy(dtype=float)), True


def _strength(z: np.ndarray, y: np.ndarray, patients: np.ndarray, is_class: bool) -> float:
    if is_class:
        return choose_strength(z, y, patients=patients)
    from sklearn.linear_model import RidgeCV

    scale = np.sqrt(((z - z.mean(0)) ** 2).mean(dtype=np.float64)) or 1.0
    alphas = np.array([0.01, 0.1, 1.0, 10.0]) * len(z)
    return float(RidgeCV(alphas).fit(z.astype(np.float64) / scale, y).alpha_)


def _read(
    z: np.ndarray, y: np.ndarray, new: np.ndarray, strength: float, is_class: bool
) -> np.ndarray:
    if is_class:
        return fit_head(z, y, strength=strength).score(new)
    from sklearn.linear_model import Ridge

    scale = np.sqrt(((z - z.mean(0)) ** 2).mean(dtype=np.float64)) or 1.0
    model = Ridge(strength).fit(z.astype(np.float64) / scale, y)
    return np.asarray(model.predict(new.astype(np.float64) / scale))


def _scored(read: np.ndarray, y: np.ndarray, weights: np.ndarray, is_class: bool) -> np.ndarray:
    if is_class:
        return weighted_aurocs(read, y, weights)
    total = weights.sum(1, dtype=float)
    mean = (weights @ y) / total
    spread = weights @ y**2 / total - mean**2
    rest = weights @ (y - read) ** 2 / total
    return np.divide(spread - rest, spread, out=np.full(len(weights), np.nan), where=spread > 0)


def _row(
    name: str,
    column: str,
    metric: str,
    values: np.ndarray,
    raw: np.ndarray | None,
    test: np.ndarray,
) -> dict[str, object]:
    own = interval(values[1:], float(values[0]))
    row: dict[str, object] = {
        "representation": name, "what": column, "metric": metric, "estimate": own.estimate,
        "low": own.low, "high": own.high, "n": len(test),
    }  # fmt: skip
    if raw is None or raw is values:
        return row
    draws = (values - raw)[1:]
    gap: Interval = interval(draws, float((values - raw)[0]))
    return row | {
        "difference": gap.estimate, "difference_low": gap.low, "difference_high": gap.high,
        "difference_q": _two_sided(draws),
    }  # fmt: skip


def _two_sided(draws: np.ndarray) -> float:
    """Return twice the share of bootstrap draws on the rarer side of zero: a p-value of no change.

    One draw is counted on either side, so that no p-value is zero (Davison & Hinkley 1997).
    """
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan")
    beyond = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (1 + beyond) / (1 + len(known))))
