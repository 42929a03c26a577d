"""Dependence of any form between two variables: the Hilbert-Schmidt criterion (HSIC).

A kernel says how alike two films are in an embedding, another how alike in a confounder; HSIC is
the covariance of the two likenesses, zero only when the variables are independent.  Its null is
had by permutation, within strata and patient by patient where asked.

Gretton, Bousquet, Smola & Schölkopf, "Measuring statistical dependence with Hilbert-Schmidt
norms", ALT 2005; Gretton et al., "A kernel statistical test of independence", NeurIPS 2007.
Unbiased: Song, Smola, Gretton, Bedo & Borgwardt, "Feature selection via dependence
maximization", JMLR 2012.

A permutation of n films costs n² look-ups.  Where a kernel has a narrow factor (see `kernels`),
permuting its rows and multiplying serves hundreds of permutations in one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.linalg import cholesky
from scipy.linalg.blas import dtrmm

from deconf.errors import CohortError, SettingsError
from deconf.maths.intervals import factorised
from deconf.maths.kernels import LEFT_OUT, Kernel
from deconf.maths.permutation import permutations_within

# For the test both kernels are cut here instead, the observed one like the permuted: an exact test
# of a kernel that differs from the one asked for by this much, with half the columns.
LEFT_OUT_OF_TEST = 1e-6

# Permutations are multiplied in batches of about this many numbers, looked up in strips of rows.
BLOCK = 1 << 21
STRIP = 32

# Added to a kernel's diagonal before its root is taken: films that coincide make it singular.
JITTER = 1e-10

# A permuted value reaches the observed one within this share of √(HSIC(x, x) HSIC(y, y)): groups
# that only change names give the same number in another order of summation.
ROUNDING = 1e-10


@dataclass(frozen=True)
class Dependence:
    """HSIC with its permutation test.

    Attributes
    ----------
    statistic : float
        HSIC; within strata, the mean over strata by their films.
    correlation : float
        ``HSIC(x, y) / √(HSIC(x, x) HSIC(y, y))``, 0 to 1 (biased) and free of the kernels' scale.
    p : float
        ``(1 + #{permuted ≥ observed}) / (permutations + 1)``.
    null : (permutations,) array
        The permuted statistics, to 1e-6.
    n : int
        Films compared: those of strata too small to say anything are not.
    """

    statistic: float
    correlation: float
    p: float
    null: Float[np.ndarray, " permutations"]
    n: int

    def __str__(self) -> str:
        """Return the statistic, its normalised form and p."""
        size = f"n = {self.n:,}, {len(self.null):,} permutations"
        of = f"HSIC = {self.statistic:.3g} (correlation {self.correlation:.3f})"
        return f"{of}, p = {self.p:.2g} ({size})"


def hsic(x: Kernel, y: Kernel, *, unbiased: bool = False) -> float:
    """Return HSIC of two kernels over the same films.

    Biased (the default; a V-statistic, never negative): ``tr(K H L H) / n²``.  Unbiased (may be
    negative): equation 4 of Song et al. 2012, with K̃ and L̃ the kernels with zero diagonals::

        (tr K̃L̃ + 1ᵀK̃1 1ᵀL̃1 / ((n-1)(n-2)) - 2/(n-2) 1ᵀK̃L̃1) / (n (n-3))

    Raises
    ------
    CohortError
        Where the numbers of films differ, or are too few (2; 4 when unbiased).

    Examples
    --------
    >>> from deconf.maths.kernels import categories
    >>> site = categories(np.array([0, 0, 1, 1]))
    >>> round(hsic(site, site), 12)
    0.25
    """
    _check(x, y, unbiased)
    return float(_permuted(x, y, np.arange(len(x))[np.newaxis], unbiased, LEFT_OUT)[0])


def dependence(
    x: Kernel,
    y: Kernel,
    *,
    strata: Shaped[np.ndarray, " n"] | None = None,
    patients: Shaped[np.ndarray, " n"] | None = None,
    permutations: int = 1000,
    unbiased: bool = False,
    seed: int = 0,
) -> Dependence:
    """Test whether two variables are independent, given the strata.

    Within strata the statistic is the mean of the strata's HSIC by their films, so that a
    dependence of opposite sign in two strata does not cancel, and a difference *between* strata
    does not count.  Strata with fewer than 2 films (4 when unbiased) are left out.

    Parameters
    ----------
    x, y : Kernel
        Of `gaussian` or `categories`; give the one with more detail (the embedding) first or
        second, as you like.
    strata, patients : (n,) arrays, optional
        Permute within strata, and whole patients only: see `permutations_within`.
    permutations : int
        The smallest p is one over this number plus one.
    unbiased : bool
        The p-value hardly changes; the statistic becomes comparable over numbers of films.

    Raises
    ------
    CohortError
        As `hsic`; where strata or patients are of another length.
    SettingsError
        With less than one permutation.

    Notes
    -----
    An embedding's kernel holds n² numbers: 200 MB at n = 5,000.  Take a sample of patients
    beyond.  Two kernels that both lack a narrow factor cost n² look-ups for each permutation.

    Examples
    --------
    >>> from deconf.maths.kernels import categories, gaussian
    >>> rng = np.random.default_rng(0)
    >>> site = rng.integers(2, size=80)
    >>> z = rng.normal(size=(80, 3)) * (1 + site[:, None])  # the same mean, another spread
    >>> dependence(gaussian(z), categories(site), permutations=199).p
    0.005
    """
    _check(x, y, unbiased)
    if permutations < 1:
        raise SettingsError(f"permutations={permutations}: a test needs one at least; try 1000.")
    n = len(x)
    for name, given in (("strata", strata), ("patients", patients)):
        if given is not None and len(given) != n:
            raise CohortError(f"{len(given):,} {name} for {n:,} films: one each is needed.")
    stratum = np.zeros(n, dtype=int) if strata is None else factorised(strata)
    groups = [np.flatnonzero(stratum == s) for s in range(int(stratum.max()) + 1)]
    groups = [rows for rows in groups if len(rows) >= _least(unbiased)]
    if not groups:
        raise CohortError(
            f"no stratum has {_least(unbiased)} films: pool strata, or test without them."
        )
    compared = sum(len(rows) for rows in groups)
    place = np.zeros(n, dtype=int)
    parts = []
    for rows in groups:
        place[rows] = np.arange(len(rows))
        parts.append((rows, len(rows) / compared, x.among(rows), y.among(rows)))

    values = np.zeros(permutations + 1)
    moved = permutations_within(stratum, patients, times=permutations, seed=seed)
    order = chain([np.arange(n)], moved)  # the films as they are come first
    at = 0
    while batch := list(islice(order, max(1, BLOCK // n))):
        index = np.stack(batch)
        for rows, share, k, l in parts:
            local = place[index[:, rows]]
            values[at : at + len(index)] += share * _permuted(
                k, l, local, unbiased, LEFT_OUT_OF_TEST
            )
        at += len(index)
    both, own_x, own_y = (
        sum(share * hsic(pair[a], pair[b], unbiased=unbiased) for _, share, *pair in parts)
        for a, b in ((0, 1), (0, 0), (1, 1))
    )
    largest = float(np.sqrt(max(own_x, 0.0) * max(own_y, 0.0)))
    reached = int((values[1:] >= values[0] - ROUNDING * largest).sum())
    return Dependence(
        statistic=both,
        correlation=both / largest if largest > 0 else 0.0,
        p=(1 + reached) / (permutations + 1),
        null=values[1:],
        n=compared,
    )


def permuted_hsic(x: Kernel, y: Kernel, index: Int[np.ndarray, "b n"]) -> Float[np.ndarray, " b"]:
    """Return HSIC of x and of y in the order of each row of ``index``, biased, to 1e-6.

    For permutations of one's own, such as conditional ones.

    Raises
    ------
    CohortError
        As `hsic`.
    """
    _check(x, y, unbiased=False)
    step = max(1, BLOCK // len(x))
    parts = [
        _permuted(x, y, index[at : at + step], False, LEFT_OUT_OF_TEST)
        for at in range(0, len(index), step)
    ]
    return np.concatenate(parts)


def _permuted(
    x: Kernel, y: Kernel, index: Int[np.ndarray, "b n"], unbiased: bool, left_out: float
) -> Float[np.ndarray, " b"]:
    """Return HSIC of x and of y in the order of each row of ``index``."""
    n = len(x)
    traces = _traces(x, y, index, left_out)
    if not unbiased:
        return np.asarray(traces / n**2)
    # tr KL = tr KHLH + 2/n kᵀl - Σk Σl / n², with k = K1 and l = L1; the diagonals are ones, so
    # that tr K̃L̃ = tr KL - n and K̃1 = k - 1.
    k, l = _row_sums(x), _row_sums(y)
    cross = l[index] @ k
    both = traces + 2 / n * cross - k.sum() * l.sum() / n**2 - n
    shared = cross - k.sum() - l.sum() + n
    apart = (k.sum() - n) * (l.sum() - n) / ((n - 1) * (n - 2))
    return np.asarray((both + apart - 2 / (n - 2) * shared) / (n * (n - 3)))


def _traces(
    x: Kernel, y: Kernel, index: Int[np.ndarray, "b n"], left_out: float
) -> Float[np.ndarray, " b"]:
    """Return ``tr(H K H L_π)`` for each permutation π of the films of y.

    ``Σ_r g_rᵀ HKH g_r = Σ_r |Rᵀ g_r|²`` over the columns g of y's centred factor with permuted
    rows, and K = RRᵀ.  An embedding's R is triangular: half the work of a full product.
    """
    if y.factor is None and x.factor is not None:  # permute the narrow one, the other way
        return _traces(y, x, np.argsort(index, axis=1), left_out)
    if y.factor is None:
        return _looked_up(_centred(x.matrix), y.matrix, index)
    g = _narrowed(y.factor, left_out)
    narrow = None if x.factor is None else _narrowed(x.factor, left_out)
    root = None if narrow is not None else cholesky(x.matrix + JITTER * np.eye(len(x)), lower=True)
    traces = np.empty(len(index))
    step = max(1, BLOCK // g.size)
    for start in range(0, len(index), step):
        moved = g[index[start : start + step].T]  # (n, b, r): b permutations side by side
        wide = moved.reshape(len(g), -1).T
        product = wide @ narrow if root is None else dtrmm(1.0, root, wide, side=1, lower=1)
        squares = np.einsum("ij,ij->i", product, product)
        traces[start : start + step] = squares.reshape(moved.shape[1:]).sum(axis=1)
    return traces


def _looked_up(
    centred: Float[np.ndarray, "n n"], full: Float[np.ndarray, "n n"], index: Int[np.ndarray, "b n"]
) -> Float[np.ndarray, " b"]:
    """Return ``Σ_ij K_ij L_π(i)π(j)``, each pair once, a strip of rows at a time."""
    once = np.triu(2 * centred)
    np.fill_diagonal(once, centred.diagonal())
    traces = np.zeros(len(index))
    for b, moved in enumerate(index):
        for i in range(0, len(full), STRIP):
            strip = np.take(full[moved[i : i + STRIP]], moved[i:], axis=1, mode="clip")
            traces[b] += np.einsum("ij,ij->", once[i : i + STRIP, i:], strip)
    return traces


def _narrowed(factor: Float[np.ndarray, "n r"], left_out: float) -> Float[np.ndarray, "n s"]:
    """Centre the columns, and keep as few as leave out no more than ``left_out`` per film.

    A categorical variable loses a column: its levels add up to a constant.
    """
    u, size, _ = np.linalg.svd(factor - factor.mean(axis=0), full_matrices=False)
    rest = np.cumsum(size[::-1] ** 2)[::-1]
    keep = max(1, int((rest > left_out * len(factor)).sum()))
    narrow: np.ndarray = u[:, :keep] * size[:keep]
    return narrow


def _centred(kernel: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Return ``H K H`` with ``H = I - 11ᵀ/n``."""
    mean = kernel.mean(axis=0)
    centred: np.ndarray = kernel - mean - mean[:, np.newaxis] + mean.mean()
    return centred


def _row_sums(kernel: Kernel) -> Float[np.ndarray, " n"]:
    if kernel.factor is None:
        return np.asarray(kernel.matrix.sum(axis=1))
    sums: np.ndarray = kernel.factor @ kernel.factor.sum(axis=0)
    return sums


def _least(unbiased: bool) -> int:
    return 4 if unbiased else 2


def _check(x: Kernel, y: Kernel, unbiased: bool) -> None:
    if len(x) != len(y):
        raise CohortError(
            f"one kernel is over {len(x):,} films, the other over {len(y):,}: both variables "
            "are needed for every film."
        )
    if len(x) < _least(unbiased):
        raise CohortError(f"{len(x)} films are too few for HSIC: {_least(unbiased)} at least.")
