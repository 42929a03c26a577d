"""Coordinates in which a probe looks at an embedding.

Every view is learned on training rows and returned as a plain function of new rows, so that
nothing of the held-out half can reach it.  Directions without variance (relative to the
largest, see ``RELATIVE_ZERO``) are left out: after an erasure they hold float32 rounding,
which whitening would blow up to unit variance and then call a leak.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

View = Callable[[np.ndarray], np.ndarray]

# Standard deviation, relative to the largest (or to a coordinate's own mean), below which a
# direction counts as constant.  float32 keeps about 1e-7 of a value; an erasure, a sum over a
# thousand coordinates, loses up to two digits more and leaves that much of the confounder.
RELATIVE_ZERO = 1e-5
# Standardised values are cut here: one wild pixel value, squared, would outvote everyone.
CLIP_SD = 6.0
# Columns are sorted in strips of about so many numbers.
STRIP = 1 << 22
# Up to this side length an exact eigendecomposition is cheaper than a randomised one.
EXACT_SIDE = 700


def standardise(z: np.ndarray) -> View:
    """Return the map to zero mean and unit variance per coordinate, cut at ``CLIP_SD``.

    Coordinates constant on the training rows map to 0 for every row.

    Parameters
    ----------
    z : (n, d) array of training rows

    Examples
    --------
    >>> view = standardise(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> view(np.array([[3.0, 9.0]]))
    array([[1., 0.]])
    """
    z = np.asarray(z, float)
    centre, scale = z.mean(0), z.std(0)
    floor = RELATIVE_ZERO * np.maximum(scale.max(initial=0.0), np.abs(centre))
    inverse = np.where(scale > floor, 1.0 / np.where(scale > floor, scale, 1.0), 0.0)
    return lambda new: np.clip((np.asarray(new, float) - centre) * inverse, -CLIP_SD, CLIP_SD)


def principal(x: np.ndarray, components: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the leading principal directions (d, r) of centred rows and their sd (r,).

    Exact when a side is at most ``EXACT_SIDE``, randomised (Halko, Martinsson & Tropp 2011)
    above.  r is at most ``components`` and the numerical rank.
    """
    n, d = x.shape
    components = max(1, min(components, n - 1, d))
    if min(n, d) <= EXACT_SIDE:
        basis, sd = exact_directions(x)
    else:
        from sklearn.utils.extmath import randomized_svd

        _, s, vt = randomized_svd(x, components, n_iter=3, random_state=seed)
        basis, sd = vt.T, s / np.sqrt(n)
    keep = min(components, int((sd > RELATIVE_ZERO * sd.max(initial=0.0)).sum()))
    return basis[:, :keep], sd[:keep]


def whitened(x: np.ndarray, components: int, *, seed: int) -> View:
    """Return the map to the leading principal components, each at unit variance."""
    basis, sd = principal(x, components, seed=seed)
    return lambda new: np.clip(new @ basis / sd, -CLIP_SD, CLIP_SD)


def compressed(z: np.ndarray, components: int, *, whiten: bool, seed: int) -> View:
    """Return standardised coordinates: all of them if few, else the leading principal ones.

    A narrow embedding keeps its own axes beside the whitened ones: trees and networks read a
    single coordinate better than the same coordinate turned.

    Parameters
    ----------
    z : (n, d) array of training rows
    components : int
        At most this many principal components, and at most n / 4 (later ones are noise).
    whiten : bool
        Bring every component to unit variance.
    """
    view = standardise(z)
    x = view(z)
    basis, sd = principal(x, min(components, max(8, len(z) // 4)), seed=seed)
    scale = sd if whiten else 1.0
    if z.shape[1] > components:
        return lambda new: view(new) @ basis / scale
    if not whiten:
        return view
    return lambda new: np.hstack([view(new), view(new) @ basis / scale])


def with_telling_coordinates(
    z: np.ndarray, codes: np.ndarray, components: int, *, seed: int, count: int = 16
) -> View:
    """Return `compressed` whitened coordinates beside the single ones that differ most by level.

    Most by mean, by square, and by distribution function (tails that leave mean and variance
    alone): a trace in one coordinate of a thousand is spread so thin over the principal components
    that no tree would split on it.
    """
    view = standardise(z)
    compress = compressed(z, components, whiten=True, seed=seed)
    if z.shape[1] <= components:  # compressed keeps the coordinates themselves
        return compress
    x = view(z)
    by_moment = (_most_telling(x**power, codes, count) for power in (1, 2))
    telling = reduce(np.union1d, by_moment, _most_uneven(x, codes, count))
    return lambda new: np.hstack([compress(new), view(new)[:, telling]])


def median_distance(x: np.ndarray, rng: np.random.Generator, pairs: int = 2000) -> float:
    """Return the median distance between random rows, the customary kernel width."""
    first, second = rng.integers(len(x), size=(2, pairs))
    distance = np.linalg.norm(x[first] - x[second], axis=1)
    return float(np.median(distance[distance > 0])) if (distance > 0).any() else 1.0


def row_span(x: np.ndarray) -> View:
    """Return the rotation of the rows into their own span, or the identity when n > d.

    An L2-penalised linear fit depends on inner products only, so fitting it in the span
    (at most n coordinates) is exact, and much cheaper when d > n.
    """
    n, d = x.shape
    if d <= n:
        return lambda new: new
    basis, sd = exact_directions(x)
    basis = basis[:, sd > RELATIVE_ZERO * sd.max(initial=0.0)]
    return lambda new: new @ basis


def second_order(x: np.ndarray, codes: np.ndarray, *, seed: int) -> View:
    """Return features that show how variances and products differ between levels.

    Squares of every coordinate are too many to weigh, and leading principal components miss
    a change of variance in a quiet direction.  So directions are *chosen*: in whitened
    coordinates, the extreme eigenvectors of (covariance of a level - covariance of the rest),
    the common spatial patterns of Koles (1991).  A change of variance, the product of two
    coordinates (XOR) and a rotation all show there as variances.  Single coordinates whose
    square moves most are added, since whitening cannot reach every direction when d > n / 5.

    Parameters
    ----------
    x : (n, d) array, standardised
    codes : (n,) int array of levels
    """
    levels = np.unique(codes)
    per_level = 8 if len(levels) == 2 else 4
    white = _whitening_for_contrast(x, seed=seed)
    w = white(x)
    directions = []
    for level in levels[1:] if len(levels) == 2 else levels:
        here, rest = w[codes == level], w[codes != level]
        contrast = _covariance(here) - _covariance(rest)
        size, vectors = np.linalg.eigh(contrast)
        directions.append(vectors[:, np.argsort(-np.abs(size))[:per_level]])
    patterns = np.hstack(directions)
    squares = x**2
    single = _most_telling(squares, codes, 16)

    def view(new: np.ndarray) -> np.ndarray:
        u = np.clip(white(new) @ patterns, -CLIP_SD, CLIP_SD)
        rows, columns = np.triu_indices(u.shape[1])
        return np.hstack([u, u[:, rows] * u[:, columns], new[:, single], new[:, single] ** 2])

    return view


def _whitening_for_contrast(x: np.ndarray, *, seed: int) -> View:
    """Whiten every direction where n allows it, else the loudest and the quietest."""
    n, d = x.shape
    budget = max(2, min(d, n // 5, 256))
    if d <= budget or 2 * d > n:  # beyond n / 2 the quiet end is sampling noise
        return whitened(x, budget, seed=seed)
    basis, sd = exact_directions(x)
    rank = int((sd > RELATIVE_ZERO * sd.max(initial=0.0)).sum())
    keep = np.r_[: min(budget, rank)]
    if rank > budget:
        keep = np.r_[: budget - budget // 2, rank - budget // 2 : rank]
    basis, sd = basis[:, keep], sd[keep]
    return lambda new: np.clip(new @ basis / sd, -CLIP_SD, CLIP_SD)


def exact_directions(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Principal directions and sd by the smaller Gram matrix, largest first."""
    n, d = x.shape
    if d <= n:
        size, vectors = np.linalg.eigh(x.T @ x)
        order = np.argsort(size)[::-1]
        return vectors[:, order], np.sqrt(np.clip(size[order], 0, None) / n)
    size, vectors = np.linalg.eigh(x @ x.T)
    order = np.argsort(size)[::-1]
    s = np.sqrt(np.clip(size[order], 0, None))
    keep = s > RELATIVE_ZERO * s.max(initial=0.0)
    return x.T @ (vectors[:, order][:, keep] / s[keep]), s[keep] / np.sqrt(n)


def _covariance(w: np.ndarray) -> np.ndarray:
    centred = w - w.mean(0)
    return centred.T @ centred / max(len(w), 1)


def _most_telling(columns: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """Return the columns with the largest share of variance between levels (the order of F)."""
    total = ((columns - columns.mean(0)) ** 2).sum(0)
    between = np.zeros(columns.shape[1])
    for level in np.unique(codes):
        here = columns[codes == level]
        between += len(here) * (here.mean(0) - columns.mean(0)) ** 2
    share = np.where(total > 0, between / np.where(total > 0, total, 1.0), 0.0)
    return np.sort(np.argsort(-share, kind="stable")[:count])


def _most_uneven(columns: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """Return the columns in which a level's distribution lies farthest from that of all rows.

    Kolmogorov & Smirnov: √n_level max |F_level - F|, the largest over levels.
    """
    n, d = columns.shape
    levels, code = np.unique(codes, return_inverse=True)
    far = np.zeros(d)
    share = np.arange(1, n + 1)[:, None] / n
    for start in range(0, d, step := max(1, STRIP // n)):
        part = columns[:, start : start + step]
        order = np.argsort(part, axis=0, kind="stable")
        ordered = np.take_along_axis(part, order, axis=0)
        is_last = np.ones(part.shape, dtype=bool)  # of equal values: in between the gap is no gap
        is_last[:-1] = ordered[1:] != ordered[:-1]
        for level in range(len(levels)):
            size = (code == level).sum()
            gap = (np.cumsum(code[order] == level, axis=0) / size - share) * is_last
            here = np.sqrt(size) * np.abs(gap).max(axis=0)
            far[start : start + step] = np.maximum(far[start : start + step], here)
    return np.sort(np.argsort(-far, kind="stable")[:count])
