"""Everything deconf raises on purpose.

A user's mistake is a `DeconfError`; anything else that escapes is our bug.  Every message
names what was typed, where, the value, and the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DeconfError(Exception):
    """Base of every error a user can cause and mend."""


class CohortError(DeconfError):
    """A table, a column or a set of embeddings is not what it was said to be."""


class GraphError(DeconfError):
    """A causal graph cannot be read, or names something that is not there."""


class NotIdentified(DeconfError):
    """No set of measured columns separates the confounder from the image."""


class SettingsError(DeconfError):
    """A setting, a method name or a configuration key is unknown or out of range."""


class LeakageError(DeconfError):
    """Something fitted on a patient was about to be judged on that patient."""


class ReadError(DeconfError):
    """A file is missing, truncated, altered or of another kind."""


class OverlapWarning(UserWarning):
    """The result extrapolates: some cells of confounder and adjustment set are empty."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known name, or an empty string.

    Examples
    --------
    >>> did_you_mean("protable", ["portable", "site"])
    " Did you mean 'portable'?"
    """
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def listing(names: Iterable[object], limit: int = 8) -> str:
    """Join names for a message, cutting a long list and saying how long it was.

    Examples
    --------
    >>> listing(["a", "b", "c"], limit=2)
    'a, b, ... (3 in all)'
    """
    known = [str(n) for n in names]
    if len(known) <= limit:
        return ", ".join(known)
    return ", ".join(known[:limit]) + f", ... ({len(known)} in all)"
