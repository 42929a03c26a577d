"""A test of an independence between two columns that a graph implies.

The data can refute a graph, never confirm it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from deconf.maths.kinds import codes, is_categorical, numbers


def independence_p(table: pd.DataFrame, a: str, b: str, patient: str | None = None) -> float:
    """Return the p value of independence of two columns, one row per patient.

    Chi-square for two categories, Kruskal-Wallis for a category and a number, Spearman for two
    numbers; 1 where fewer than two values are left.

    Examples
    --------
    >>> frame = pd.DataFrame({"a": [0, 1] * 50, "b": [0, 1] * 50})
    >>> independence_p(frame, "a", "b") < 1e-6
    True
    """
    from scipy import stats

    both = table.dropna(subset=[a, b])
    if patient is not None:  # the films of one patient are not independent draws
        both = both.drop_duplicates(patient)
    x, y = both[a], both[b]
    if x.nunique() < 2 or y.nunique() < 2:
        return 1.0
    if not is_categorical(x) and not is_categorical(y):
        return float(stats.spearmanr(numbers(x), numbers(y)).pvalue)
    if is_categorical(x) and is_categorical(y):
        (i, rows), (j, columns) = codes(x), codes(y)
        counts = np.zeros((len(rows), len(columns)))
        np.add.at(counts, (i, j), 1.0)
        return float(stats.chi2_contingency(counts).pvalue)
    category, number = (x, y) if is_categorical(x) else (y, x)
    groups, known = codes(category)
    values = numbers(number)
    return float(stats.kruskal(*(values[groups == k] for k in range(len(known)))).pvalue)
