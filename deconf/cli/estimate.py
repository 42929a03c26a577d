"""How long work will take: seconds on one core of a laptop, to within a factor of two.

Measured on ``worlds.linear`` at 1,000 to 4,000 rows and 64 to 512 columns, and on 1,163 films
with 1,280 columns; beyond that it is a guess.
"""

from __future__ import annotations

REPRESENTATIONS = 3  # attacked by a comparison: raw, clean, a random projection
HARDER = {"quick": 1.0, "full": 2.0}


def fit_seconds(rows: int, width: int, method: str) -> float:
    """Return what one fit takes; only auto tries several methods."""
    if method != "auto":
        return (0.5 + 0.2 * rows / 1000) * _wider(width)
    return (3.0 + 2.7 * rows / 1000) * _wider(width)


def audit_seconds(rows: int, width: int, confounders: int, effort: str) -> float:
    """Return what an audit takes."""
    return confounders * (1.0 + 0.5 * rows / 1000) * _wider(width) * HARDER[effort]


def compare_seconds(rows: int, width: int, method: str, folds: int) -> float:
    """Return what a comparison of raw and clean takes: a fit per fold, heads, attacks."""
    fits = (folds + 1) * fit_seconds(int(0.8 * rows), width, method)
    attacks = REPRESENTATIONS * 2 * audit_seconds(rows // 2, width, 2, "quick")
    return fits + attacks


def _wider(width: int) -> float:
    return 1.0 + width / 1000
