"""What can still be read: leakage of a confounder from an embedding, with its null.

Fresh attackers train on half of the patients and read the other half.  Under the invariance
z ⊥ c | s the held-out levels could as well have been dealt to other patients of the same
stratum; so they are permuted within strata, whole patients at a time, while the attackers stay
as they are.  The statistic is the *maximum* over attackers, so that the choice of the strongest
is paid for (max-T: Westfall & Young, "Resampling-based multiple testing", 1993).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from scipy.stats import rankdata

from deconf.errors import CohortError
from deconf.maths.concordance import stratified_concordances
from deconf.maths.intervals import Interval, interval, multilevel_aurocs, patient_weights
from deconf.maths.threads import one_thread
from deconf.probes.attackers import Attacker, settings_of
from deconf.probes.attackers import Effort as Effort
from deconf.probes.gcm import gcm
from deconf.probes.held_out import IN_ORDER, HeldOut, at_most, read_held_out
from deconf.probes.null import detectable_auroc, exchangeable_rows, permuted
from deconf.probes.online import CodeLength, Coder, code_length

# What an effort costs: training rows of an attacker, and coders of the description length.
MOST_ROWS = {"quick": 5_000, "full": 50_000}
CODERS: dict[str, tuple[Coder, ...]] = {"quick": ("linear",), "full": ("linear", "quadratic")}
# A reading this rarely as far below luck is called an artefact.  Rarer than the 5 % of a leak,
# since the flag takes a clean verdict away.
ARTEFACT = 0.01
# Permuted statistics are summed in another order than the observed one.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Leakage:
    """How well attackers read a confounder within strata, on held-out patients.

    Attributes
    ----------
    intervals : mapping of attacker to Interval
        AUROC within stratum, averaged by rows; one level against the rest, averaged over
        levels.  Where the name ends on "in order": concordance within stratum, the AUROC of a
        number (`deconf.maths.concordance`).  95 % by bootstrap over patients.
    p_values : mapping of attacker to float
        Against the permuted maximum over attackers: already corrected for their number.
    alone : mapping of attacker to float
        Its p-value had no other attacker been tried; how it was fitted (within strata, across
        them, in order) makes no other attacker of it.
    below : mapping of attacker to float
        That luck reads *as badly* as this, against the permuted minimum over attackers.
    worst : str
        The attacker that reads best.
    floor, critical : float
        Median and 95th percentile of the permuted maximum: what attackers reach by luck.
    p : float
        Of the worst attacker: (1 + #{permuted maximum >= observed}) / (B + 1).
    upper : float
        The highest upper limit of any attacker.
    detectable : float
        An AUROC this high would most likely have been seen: 0.5 + 2.5 standard errors under the
        null, counting patients.
    gcm : float
        p-value of what goes together inside cells when numbers are out of both sides
        (`deconf.probes.gcm`); nan where no number is held.
    code : CodeLength or None
        Bits per film that the embedding saves (`deconf.probes.online`), where asked for.
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
    alone: Mapping[str, float] = field(default_factory=dict)
    below: Mapping[str, float] = field(default_factory=dict)
    worst: str = ""
    floor: float = np.nan
    critical: float = np.nan
    p: float = np.nan
    upper: float = np.nan
    detectable: float = np.nan
    gcm: float = np.nan
    code: CodeLength | None = None
    n_test: int = 0
    n_rows: int = 0
    per_stratum: Mapping[str, int] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""

    @property
    def attackers(self) -> tuple[str, ...]:
        """The attackers that were run, each once however it was fitted."""
        return tuple(dict.fromkeys(name.split(",")[0] for name in self.intervals))

    @property
    def estimate(self) -> Interval:
        """The AUROC (or concordance) of the worst attacker."""
        return self.intervals.get(self.worst, Interval(np.nan, np.nan, np.nan))

    @property
    def artefacts(self) -> tuple[str, ...]:
        """Attackers that read further below luck than luck does: no sign of a clean embedding."""
        return tuple(name for name, p in self.below.items() if p < ARTEFACT)

    def __str__(self) -> str:
        if self.reason:
            return f"no estimate: {self.reason}"
        return (
            f"{measure(self.worst)} {self.estimate} by {self.worst}, floor {self.floor:.2f}, "
            f"p = {self.p:.3g}, n = {self.n_test:,} held-out patients"
        )


def measure(attacker: str) -> str:
    """Return what the figure of an attacker is.

    >>> measure("boosted, pooled"), measure("boosted, in order, pooled")
    ('AUROC', 'concordance')
    """
    return "concordance" if IN_ORDER in attacker else "AUROC"


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
    values: np.ndarray | None = None,
    sites: np.ndarray | None = None,
    bits: bool = False,
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
        5,000 training rows; "full" adds rbf, lets patient-grouped folds choose the size of
        networks and trees and the width of kernels, and takes up to 50,000 rows.
    permutations, bootstraps : int
        Draws for the null and for the intervals.
    names : tuple of str, optional
        The distinct levels in words, in sorted order, for messages.
    numbers : (n, m) array, optional
        Continuous columns of the adjustment set, see `deconf.probes.held_out.read_held_out`.
    values : (n,) array, optional
        Where the confounder is a number, or its levels have an order: attackers are also asked to
        put films in order.  Only the order of these counts.  ``codes`` are then its thirds, or
        the levels; attackers in both roles share one null.
    sites : (n,) array, optional
        Attackers learn at some sites and read others, within site, instead of half the patients.
    bits : bool
        Also the description length.

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
    settings = settings_of(attackers, effort)
    z = np.asarray(z)
    strata = np.full(len(z), "all rows") if strata is None else np.asarray(strata)
    patients = np.arange(len(z)) if patients is None else np.asarray(patients)
    levels, codes = _checked(z, np.asarray(codes), strata, patients)
    names = names or tuple(str(level) for level in levels)
    most = MOST_ROWS[effort]
    with one_thread(z.size):
        held = read_held_out(
            z, codes, strata, patients, settings, names=names, numbers=numbers,
            values=None if values is None else _in_order(values), sites=sites, most_rows=most,
            seed=seed,
        )  # fmt: skip
        if not len(held.rows):
            return Leakage(skipped=held.skipped, reason="no stratum has two levels with 2 patients "
                           "or more on each side of the split")  # fmt: skip
        code = None
        if bits:
            some = at_most(np.arange(len(z)), patients, 2 * most, seed)
            code = code_length(
                z[some], codes[some], strata[some], patients[some], coders=CODERS[effort],
                numbers=None if numbers is None else numbers[some], draws=bootstraps, seed=seed,
            )  # fmt: skip
    found = _judged(held, permutations, bootstraps, seed)
    if code is not None:
        found = replace(found, code=code)
    if numbers is not None and not found.reason:
        own = numbers[held.rows]
        p = gcm(
            held.scores, held.codes, held.strata, held.patients, own,
            values=held.values, draws=bootstraps, seed=seed,
        )  # fmt: skip
        found = replace(found, gcm=p)
    return found


def _judged(held: HeldOut, permutations: int, bootstraps: int, seed: int) -> Leakage:
    """Set what attackers said about held-out patients against the null."""
    kept, note = exchangeable_rows(held.codes, held.strata, held.patients, seed=seed)
    c, s, who, v = (part[kept] for part in (held.codes, held.strata, held.patients, held.values))
    scores = {name: values[kept] for name, values in held.scores.items()}

    null, observed = permuted(scores, c, s, who, values=v, permutations=permutations, seed=seed)
    if not np.isfinite(observed).all():
        return Leakage(skipped=held.skipped, reason="no stratum has two levels left to compare")
    highest, lowest = null.max(axis=1), null.min(axis=1)
    reached = observed - ROUNDING
    weights = patient_weights(who, bootstraps, seed)
    draws = {
        name: multilevel_aurocs(values, c, s, weights)
        if values.shape[1] > 1
        else stratified_concordances(values[:, 0], v, s, weights)
        for name, values in scores.items()
    }
    intervals = {
        name: interval(draws[name], float(value))
        for name, value in zip(scores, observed, strict=True)
    }
    p = _p_values(scores, highest[:, None] >= reached)
    worst = list(scores)[int(np.argmax(observed))]
    found, rows = np.unique(s, return_counts=True)
    return Leakage(
        intervals=MappingProxyType(intervals),
        p_values=p,
        alone=MappingProxyType(_alone(list(scores), null, observed)),
        below=_p_values(scores, lowest[:, None] <= observed + ROUNDING),
        worst=worst,
        floor=float(np.median(highest)),
        critical=float(np.quantile(highest, 0.95)),
        p=p[worst],
        upper=max(i.high for i in intervals.values()),
        detectable=detectable_auroc(c, s, who),
        n_test=len(np.unique(who)),
        n_rows=len(c),
        per_stratum=MappingProxyType({str(k): int(n) for k, n in zip(found, rows, strict=True)}),
        skipped=held.skipped,
        notes=(note,) if note else (),
    )


def _p_values(names: Iterable[str], reached: np.ndarray) -> Mapping[str, float]:
    """Return (1 + #{permutations that reach the observed}) / (B + 1) of each attacker."""
    p = (1 + reached.sum(axis=0)) / (len(reached) + 1)
    return MappingProxyType({name: float(value) for name, value in zip(names, p, strict=True)})


def _alone(names: list[str], null: np.ndarray, observed: np.ndarray) -> dict[str, float]:
    """Return the p-value of each attacker against the maximum over its own fits."""
    families = [name.split(",")[0] for name in names]
    p = {}
    for family in dict.fromkeys(families):
        own = np.array([name == family for name in families])
        reached = null[:, own].max(axis=1) >= observed[own].max() - ROUNDING
        p[family] = float((1 + reached.sum()) / (len(null) + 1))
    return p


def _in_order(values: np.ndarray) -> np.ndarray:
    """Return the ranks of numbers at mean 0 and variance 1: nothing but their order counts."""
    ranks = rankdata(values)
    return (ranks - ranks.mean()) / max(ranks.std(), 1e-12)


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
