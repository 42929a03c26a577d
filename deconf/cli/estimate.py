"""How long work will take: seconds of one core, to within a factor of two or so.

Fits were measured on ``worlds.linear`` at 1,000 to 4,000 rows and 64 to 512 columns; audits by
``benchmarks/audit.py`` at 1,000 to 20,000 rows and 64 to 1,280 columns (its results lie beside
it).  Beyond that it is a guess.
"""

from __future__ import annotations

REPRESENTATIONS = 3  # attacked by a comparison: raw, clean, a random projection
# Rows of an audit beyond which attackers have all the training rows they take: half are held out.
MOST_ROWS = {"quick": 10_000, "full": 100_000}
NUMBER = 2.5  # times as long for a number, which is read by thirds and in order


def fit_seconds(rows: int, width: int, method: str) -> float:
    """Return what one fit takes; only auto tries several methods."""
    if method != "auto":
        return (0.5 + 0.2 * rows / 1000) * _wider(width)
    return (3.0 + 2.7 * rows / 1000) * _wider(width)


def audit_seconds(
    rows: int, width: int, confounders: int, effort: str, *, numbers: int = 0
) -> float:
    """Return what an audit takes; ``numbers`` of the confounders are numbers."""
    n, d, fitted = rows / 1000, width / 1000, min(rows, MOST_ROWS[effort]) / 1000
    if effort == "quick":
        one = 1.2 + 0.3 * n + 2.0 * fitted * d
    else:  # trees and networks of several sizes, three folds each
        one = 5.0 + 20.0 * fitted + 5.0 * n * d
    return (confounders - numbers + NUMBER * numbers) * one


def compare_seconds(rows: int, width: int, method: str, folds: int, effort: str = "quick") -> float:
    """Return what a comparison of raw and clean takes: a fit per fold, heads, attacks."""
    fits = (folds + 1) * fit_seconds(int(0.8 * rows), width, method)
    attacks = REPRESENTATIONS * 2 * audit_seconds(rows // 2, width, 2, effort)
    return fits + attacks


def _wider(width: int) -> float:
    return 1.0 + width / 1000
