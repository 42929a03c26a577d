"""What can still be read: leakage of a confounder from an embedding, with its null.

Fresh attackers train on half of the patients and read the other half.  Under the invariance
z ⊥ c | s the held-out levels could as well have been dealt to other patients of the same
stratum; so they are permuted within strata, whole patients at a time, while the attackers stay
as they are.  The statistic is the *maximum* over attackers, so that the choice of the strongest
is paid for (max-T: Westfall & Young, "Resampling-based multiple testing", 1993).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np

from deconf.errors import CohortError, SettingsError
from deconf.maths.intervals import Interval, interval, multilevel_aurocs, patient_weights
from deconf.maths.threads import one_thread
from deconf.probes.attackers import Attacker
from deconf.probes.attackers import attackers as registry
from deconf.probes.held_out import read_held_out
from deconf.probes.null import detectable_auroc, exchangeable_rows, permuted_maximum

Effort = Literal["quick", "full"]
QUICK = ("logistic", "quadratic", "knn", "boosted", "mlp")


@dataclass(frozen=True)
class Leakage:
    """How well attackers read a confounder within strata, on held-out patients.

    Attributes
    ----------
    intervals : mapping of attacker to Interval
        AUROC within stratum, averaged by rows; one level against the rest, averaged over
        levels.  95 % by bootstrap over patients.
    p_values : mapping of attacker to float
        Against the permuted maximum over attackers: already corrected for their number.
    worst : str
        The attacker with the highest AUROC.
    floor, critical : float
        Median and 95th percentile of the permuted maximum: what attackers reach by luck.
    p : float
        Of the worst attacker: (1 + #{permuted maximum >= observed}) / (B + 1).
    upper : float
        The highest upper limit of any attacker.
    detectable : float
        An AUROC this high would most likely have been seen: 0.5 + 2.5 standard errors under the
        null, counting patients.
    n_test, n_rows : int
        Held-out patients, and their rows.
    per_stratum : mapping of stratum to rows
    skipped : tuple of str
        Strata and levels left out for want of patients.
    notes : tuple of str
        What was done to the rows that a reader should know.
    reason : str
        Why there is no estimate; empty when there is one.
    """

    intervals: Mapping[str, Interval] = field(default_factory=dict)
    p_values: Mapping[str, float] = field(default_factory=dict)
    worst: str = ""
    floor: float = np.nan
    critical: float = np.nan
    p: float = np.nan
    upper: float = np.nan
    detectable: float = np.nan
    n_test: int = 0
    n_rows: int = 0
    per_stratum: Mapping[str, int] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""

    @property
    def attackers(self) -> tuple[str, ...]:
        """The attackers that were run, each once however it was fitted."""
        return tuple(dict.fromkeys(name.removesuffix(", pooled") for name in self.intervals))

    @property
    def estimate(self) -> Interval:
        """The AUROC of the worst attacker."""
        return self.intervals.get(self.worst, Interval(np.nan, np.nan, np.nan))

    def __str__(self) -> str:
        if self.reason:
            return f"no estimate: {self.reason}"
        return (
            f"AUROC {self.estimate} by {self.worst}, floor {self.floor:.2f}, p = {self.p:.3g}, "
            f"n = {self.n_test:,} held-out patients"
        )


def leakage(
    z: np.ndarray,
    codes: np.ndarray,
    strata: np.ndarray | None = None,
    patients: np.ndarray | None = None,
    *,
    attackers: Iterable[str | Attacker] | None = None,
    effort: Effort = "quick",
    permutations: int = 200,
    bootstraps: int = 500,
    names: tuple[str, ...] | None = None,
    numbers: np.ndarray | None = None,
    seed: int = 0,
) -> Leakage:
    """Measure what attackers read of a confounder within strata, on held-out patients.

    Parameters
    ----------
    z : (n, d) array
        Embeddings, fitted on none of these patients.
    codes : (n,) array
        The level of each row; any labels, none missing.
    strata : (n,) array, optional
        Cells of the adjustment set; default: one cell, marginal leakage.
    patients : (n,) array, optional
        Default: every row is its own patient.
    attackers : names or settings, optional
        Default by ``effort``: "quick" runs logistic, quadratic, knn, boosted and mlp on up to
        5,000 training rows; "full" adds rbf and takes up to 50,000.
    permutations, bootstraps : int
        Draws for the null and for the intervals.
    names : tuple of str, optional
        The distinct levels in words, in sorted order, for messages.
    numbers : (n, m) array, optional
        Continuous columns of the adjustment set, see `deconf.probes.held_out.read_held_out`.

    Raises
    ------
    CohortError
        Lengths differ, or a single level or patient.
    SettingsError
        An unknown attacker or effort.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> c = rng.integers(2, size=400)
    >>> z = rng.standard_normal((400, 3)) + 2 * c[:, None]
    >>> found = leakage(z, c, attackers=["logistic"], seed=0)
    >>> found.worst, bool(found.p < 0.05), bool(found.estimate.low > found.floor)
    ('logistic', True, True)
    """
    settings = _settings(attackers, effort)
    z = np.asarray(z)
    strata = np.full(len(z), "all rows") if strata is None else np.asarray(strata)
    patients = np.arange(len(z)) if patients is None else np.asarray(patients)
    levels, codes = _checked(z, np.asarray(codes), strata, patients)
    names = names or tuple(str(level) for level in levels)
    with one_thread(z.size):
        held = read_held_out(
            z, codes, strata, patients, settings, names=names, numbers=numbers, seed=seed,
            most_rows=5_000 if effort == "quick" else 50_000,
        )  # fmt: skip
    if not len(held.rows):
        return Leakage(skipped=held.skipped, reason="no stratum has two levels with 2 patients "
                       "or more on each side of the split")  # fmt: skip
    kept, note = exchangeable_rows(held.codes, held.strata, held.patients, seed=seed)
    c, s, who = held.codes[kept], held.strata[kept], held.patients[kept]
    scores = {name: values[kept] for name, values in held.scores.items()}

    null, observed = permuted_maximum(scores, c, s, who, permutations=permutations, seed=seed)
    if not np.isfinite(observed).all():
        return Leakage(skipped=held.skipped, reason="no stratum has two levels left to compare")
    p = {
        name: float((1 + (null >= value - 1e-12).sum()) / (len(null) + 1))
        for name, value in zip(scores, observed, strict=True)
    }
    weights = patient_weights(who, bootstraps, seed)
    intervals = {
        name: interval(multilevel_aurocs(values, c, s, weights), float(value))
        for (name, values), value in zip(scores.items(), observed, strict=True)
    }
    worst = list(scores)[int(np.argmax(observed))]
    found, rows = np.unique(s, return_counts=True)
    return Leakage(
        intervals=MappingProxyType(intervals),
        p_values=MappingProxyType(p),
        worst=worst,
        floor=float(np.median(null)),
        critical=float(np.quantile(null, 0.95)),
        p=p[worst],
        upper=max(i.high for i in intervals.values()),
        detectable=detectable_auroc(c, s, who),
        n_test=len(np.unique(who)),
        n_rows=len(c),
        per_stratum=MappingProxyType({str(k): int(n) for k, n in zip(found, rows, strict=True)}),
        skipped=held.skipped,
        notes=(note,) if note else (),
    )


def _settings(chosen: Iterable[str | Attacker] | None, effort: str) -> dict[str, Attacker]:
    if effort not in ("quick", "full"):
        raise SettingsError(f"effort is {effort!r}: expected 'quick' or 'full'.")
    if chosen is None:
        chosen = QUICK if effort == "quick" else registry.names()
    elif isinstance(chosen, str):
        chosen = [chosen]
    made = [registry[one]() if isinstance(one, str) else one for one in chosen]
    if not made:
        raise SettingsError("no attacker was named; leave attackers out to run the usual ones.")
    return {one.registered_name: one for one in made}


def _checked(
    z: np.ndarray, codes: np.ndarray, strata: np.ndarray, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct levels and the levels as 0..L-1."""
    if z.ndim != 2:
        raise CohortError(f"embeddings have shape {z.shape}: expected (n, d).")
    for name, values in (("codes", codes), ("strata", strata), ("patients", patients)):
        if values.shape != (len(z),):
            raise CohortError(
                f"{name} has shape {values.shape} for {len(z):,} embeddings: one value a row."
            )
    bad = ~np.isfinite(z).all(axis=1)
    if bad.any():
        raise CohortError(
            f"{bad.sum():,} of {len(z):,} embeddings hold NaN or infinity, first in row "
            f"{int(np.argmax(bad))}: leave these rows out, or find what made them."
        )
    levels, inner = np.unique(codes, return_inverse=True)
    if len(levels) < 2:
        raise CohortError(f"every row has the level {levels[0]}: there is nothing to read.")
    return levels, inner
