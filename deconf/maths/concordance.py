"""How often a score puts two films in the right order of a number: the AUROC beyond two classes.

Of two films whose numbers differ, the chance that the one with the higher number scores higher, a
tie in the score counting one half: Harrell's C (Harrell, Califf, Pryor, Lee & Rosati, "Evaluating
the yield of medical tests", JAMA 1982), which is Somers' D moved to the scale of the AUROC.  For
two classes it *is* the AUROC; one half is luck; only the order of the numbers counts, not their
unit.

All pairs are counted in n log n steps.  Ranks of scores are written in binary: two films with
unlike ranks agree in the leading bits up to one at which they part, and there the one is in the
lower and the other in the upper half of a block.  So one running sum per bit, in order of the
number inside every block, counts every pair once.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Real, Shaped

from deconf.maths.intervals import BLOCK, factorised


def concordance(
    score: Real[np.ndarray, " n"],
    value: Real[np.ndarray, " n"],
    weights: Real[np.ndarray, " n"] | None = None,
) -> float:
    """Return the share of pairs with different values that the score orders rightly.

    ``nan`` where all values are the same, or a score is ``nan``.

    Parameters
    ----------
    score : (n,) array
        Higher means a higher value is expected.
    value : (n,) array
    weights : (n,) array of non-negative numbers, optional
        A weight of two is a row written twice.

    Examples
    --------
    Of the three pairs two are in order and one is tied.

    >>> round(concordance(np.array([0.1, 0.4, 0.4]), np.array([31, 50, 74])), 4)
    0.8333
    """
    one = np.ones(len(score)) if weights is None else weights
    return float(weighted_concordances(score, value, one[np.newaxis])[0])


def weighted_concordances(
    score: Real[np.ndarray, " n"],
    value: Real[np.ndarray, " n"],
    weights: Real[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """Return `concordance` under each row of weights."""
    found = np.full(len(weights), np.nan)
    if len(score) == 0 or np.isnan(score).any():
        return found
    s, v = _ranked(score), _ranked(value)
    bits = [_bit(s, v, bit) for bit in range(int(s.max()).bit_length())]
    groups = np.argsort(v, kind="stable")
    starts = np.flatnonzero(np.diff(v[groups], prepend=-1))
    step = max(1, BLOCK // len(score))
    for first in range(0, len(weights), step):
        w = np.asarray(weights[first : first + step], dtype=float)
        net = np.zeros(len(w))
        for order, upper, edges in bits:
            drawn = w[:, order]
            lower = np.zeros((len(w), len(order) + 1))
            np.cumsum(np.where(upper, 0.0, drawn), axis=1, out=lower[:, 1:])
            at = np.flatnonzero(upper)
            block, tie, tie_end, block_end = edges[:, at]
            # Lower-half films with a smaller number, less those with a larger one.
            surplus = lower[:, tie] - lower[:, block] - lower[:, block_end] + lower[:, tie_end]
            net += np.einsum("bi,bi->b", drawn[:, at], surplus)
        size = np.add.reduceat(w[:, groups], starts, axis=1)
        pairs = (w.sum(1) ** 2 - (size**2).sum(1)) / 2
        part = found[first : first + step]
        np.divide(net, 2 * pairs, out=part, where=pairs > 0)
        part += 0.5
    return found


def stratified_concordances(
    score: Real[np.ndarray, " n"],
    value: Real[np.ndarray, " n"],
    strata: Shaped[np.ndarray, " n"],
    weights: Real[np.ndarray, "draws n"],
) -> Float[np.ndarray, " draws"]:
    """Return the concordance within strata, averaged by their rows, under each row of weights.

    A stratum in which all values are alike has none and is left out, average included.
    """
    codes = factorised(strata)
    total, size = np.zeros(len(weights)), np.zeros(len(weights))
    for stratum in range(int(codes.max(initial=-1)) + 1):
        rows = np.flatnonzero(codes == stratum)
        drawn = weights[:, rows]
        found = weighted_concordances(score[rows], value[rows], drawn)
        w = np.where(np.isnan(found), 0.0, drawn.sum(axis=1, dtype=float))
        total += w * np.nan_to_num(found)
        size += w
    result = np.full(len(weights), np.nan)
    np.divide(total, size, out=result, where=size > 0)
    return result


def permuted_concordances(
    score: Real[np.ndarray, " n"],
    value: Real[np.ndarray, " n"],
    strata: Shaped[np.ndarray, " n"],
    index: Int[np.ndarray, "times n"],
) -> Float[np.ndarray, " times"]:
    """Return the concordance within strata with ``value[index[b]]`` for ``value``, for every b.

    The rows of ``index`` permute within strata.  The same number as `stratified_concordances` of
    permuted values and unit weights, for many permutations at a time.
    """
    codes = factorised(strata)
    total, size = np.zeros(len(index)), 0
    for stratum in range(int(codes.max(initial=-1)) + 1):
        rows = np.flatnonzero(codes == stratum)
        v, s = _ranked(value[rows]), _ranked(score[rows])
        counts = np.bincount(v)
        pairs = (len(rows) ** 2 - int((counts**2).sum())) / 2
        if not pairs:
            continue
        place = np.empty(len(codes), dtype=int)
        place[rows] = v
        step = max(1, BLOCK // len(rows))
        for first in range(0, len(index), step):
            part = index[first : first + step]
            net = _net(s, place[part[:, rows]])
            total[first : first + step] += len(rows) * (0.5 + net / (2 * pairs))
        size += len(rows)
    return total / size if size else np.full(len(index), np.nan)


def _net(s: Int[np.ndarray, " n"], v: Int[np.ndarray, "times n"]) -> Float[np.ndarray, " times"]:
    """Return concordant less discordant pairs of one score with many values.

    Only the sum over the upper films of their running counts is wanted.  Where a block begins
    depends on the score alone, so what lay before it comes off as a constant.
    """
    net = np.zeros(len(v))
    levels, top = int(v.max()) + 1, int(s.max()) + 1
    kind = np.int32 if levels * top < np.iinfo(np.int32).max else np.int64  # sorts 3 times faster
    s, v = s.astype(kind), v.astype(kind)
    for bit in range((top - 1).bit_length()):
        block, upper = s >> (bit + 1), s >> bit & 1
        lowers = np.bincount(block, weights=1 - upper)
        before = (np.cumsum(lowers) - lowers)[block]
        at = (block * levels + v) * 2
        # Upper films first among equals count the smaller ones, lower films first also the equal.
        smaller = _running(at + 1 - upper, lower=1)
        up_to = _running(at + upper, lower=0)
        constant = float((upper * (2 * before + lowers[block])).sum())
        net += smaller + up_to - constant
    return net


def _running(key: Int[np.ndarray, "times n"], *, lower: int) -> Float[np.ndarray, " times"]:
    """Return the sum over upper films of the lower films before them; the last bit tells which."""
    key.sort(axis=1)
    is_lower = (key & 1) == lower
    before = np.cumsum(is_lower, axis=1, dtype=np.int32)
    total: Float[np.ndarray, " times"]
    total = np.einsum("bi,bi->b", ~is_lower, before, dtype=float, casting="unsafe")
    return total


def _bit(
    s: Int[np.ndarray, " n"], v: Int[np.ndarray, " n"], bit: int
) -> tuple[Int[np.ndarray, " n"], Shaped[np.ndarray, " n"], Int[np.ndarray, "4 n"]]:
    """Return rows in order of number inside blocks, which are upper, and where groups end.

    The edges of each row: start of its block, start and end of its tie, end of its block.
    """
    block = s >> (bit + 1)
    order = np.lexsort((v, block))
    b, t = block[order], block[order] * (int(v.max()) + 1) + v[order]
    edges = [np.searchsorted(b, b, "left"), np.searchsorted(t, t, "left")]
    edges += [np.searchsorted(t, t, "right"), np.searchsorted(b, b, "right")]
    return order, (s[order] >> bit & 1) == 1, np.stack(edges)


def _ranked(values: Real[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    ranks: Int[np.ndarray, " n"] = np.unique(values, return_inverse=True)[1]
    return ranks
