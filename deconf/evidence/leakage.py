"""The leakage audit: does a representation keep the independence the graph asked for.

The invariance that told the method what to erase is the null hypothesis here.  Beside it stands
the *marginal* leakage, with its own floor: where disease goes with the scanner, an embedding that
knows the disease tells the scanner to some extent, and should.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from deconf.causal.columns import check_columns
from deconf.causal.graph import CausalGraph
from deconf.causal.invariance import Invariance
from deconf.causal.overlap import FEW
from deconf.causal.plan import make_plan
from deconf.cohort.cohort import Cohort
from deconf.cohort.splits import patient_split
from deconf.errors import CohortError, SettingsError, did_you_mean, listing
from deconf.evidence.verdict import Verdict, judge, undecided
from deconf.maths.intervals import holm, multilevel_auroc
from deconf.probes.attackers import Attacker
from deconf.probes.cells import cells_of, levels_of
from deconf.probes.leakage import Effort, Leakage, leakage

__all__ = ["Audit", "Leakage", "audit", "leakage"]

FEWEST_ROWS = 20
DRAWS = {"quick": (200, 500), "full": (1000, 2000)}  # permutations, bootstraps
COLUMNS = (
    "confounder", "kind", "given", "attacker", "auroc", "low", "high", "floor", "p", "n", "verdict"
)  # fmt: skip


@dataclass(frozen=True)
class Audit:
    """The verdict on each confounder, with the leakage it rests on.

    Attributes
    ----------
    verdict : mapping of confounder to Verdict
    invariances : mapping of confounder to Invariance
        What was tested: the null hypothesis.
    leakages : mapping of (confounder, kind) to Leakage
        Kind is "conditional" (as the invariance says) or "marginal".
    floors : mapping of (confounder, kind) to float
        For "conditional" what attackers reach by luck; for "marginal" that, or the AUROC of the
        confounder told from the adjustment set alone where it is higher: a clean embedding of a
        disease that goes with the scanner still tells the scanner that well.
    reasons : tuple of str
        What was left out, merged or assumed, with counts.
    """

    verdict: Mapping[str, Verdict]
    invariances: Mapping[str, Invariance]
    leakages: Mapping[tuple[str, str], Leakage]
    floors: Mapping[tuple[str, str], float]
    reasons: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per confounder, kind and attacker.

        Columns ``confounder``, ``kind``, ``given``, ``attacker``, ``auroc``, ``low`` and ``high``
        (95 %, by patient), ``floor``, ``p`` (max-T over attackers, not yet Holm over confounders),
        ``n`` (held-out patients) and ``verdict`` (of the confounder).
        """
        rows = [
            {
                "confounder": name,
                "kind": kind,
                "given": ", ".join(self.invariances[name].given) if kind == "conditional" else "",
                "attacker": attacker,
                "auroc": found.estimate,
                "low": found.low,
                "high": found.high,
                "floor": self.floors[name, kind],
                "p": leak.p_values[attacker],
                "n": leak.n_test,
                "verdict": str(self.verdict[name]),
            }
            for (name, kind), leak in self.leakages.items()
            for attacker, found in leak.intervals.items()
        ]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def __str__(self) -> str:
        lines = []
        for name, verdict in self.verdict.items():
            lines.append(f"{name}  ({self.invariances[name]})")
            lines.append(f"  {verdict.sentence}.")
            marginal = self.leakages.get((name, "marginal"))
            if marginal is not None and not marginal.reason and self.invariances[name].given:
                floor = self.floors[name, "marginal"]
                lines.append(
                    f"  Without holding anything fixed: AUROC {marginal.estimate} by "
                    f"{marginal.worst}; {floor:.2f} is to be expected of a clean embedding."
                )
        if self.reasons:
            lines += ["Notes", *(f"  {reason}" for reason in self.reasons)]
        return "\n".join(lines)


def audit(
    representation: Any,
    cohort: Cohort,
    confounders: str | Sequence[str],
    *,
    given: str | Sequence[str] | None = None,
    graph: CausalGraph | str | None = None,
    effort: Effort = "quick",
    seed: int = 0,
    attackers: Iterable[str | Attacker] | None = None,
    margin: float = 0.05,
) -> Audit:
    """Ask fresh attackers whether confounders can still be read, as the graph says they must not.

    Parameters
    ----------
    representation : (n, d) array, "stored", or anything with ``.embed(cohort)``
        Whatever made it must not have seen these patients; a fitted cleaner says so itself.
    cohort : Cohort
        Held-out patients; they are split once more, to train the attackers and to judge them.
    confounders : one column or several
    given : columns, optional
        Your own adjustment set instead of the graph's; ``()`` for none.
    graph : CausalGraph or text, optional
        Default: that of the representation, if it has a plan, else given the cohort's outcome.
    effort : "quick" or "full"
        See `leakage`.  "full" also draws 1,000 permutations and 2,000 bootstraps.
    attackers : names or settings, optional
        Instead of those of the effort.
    margin : float
        See `deconf.evidence.verdict.judge`.

    Raises
    ------
    CohortError
        Unknown columns, embeddings that do not fit the cohort, or fewer than 20 usable rows.
    LeakageError
        The representation was fitted on some of these patients.
    SettingsError
        The representation is none of the above.
    """
    z = embedded(representation, cohort)
    named = [confounders] if isinstance(confounders, str) else list(dict.fromkeys(confounders))
    invariances, notes = _invariances(representation, cohort, named, given, graph, z.shape[1])
    permutations, bootstraps = DRAWS.get(effort, DRAWS["quick"])
    # Holm multiplies the smallest p by the number of confounders: enough draws to go below 0.05.
    measure = partial(
        leakage,
        attackers=attackers,
        effort=effort,
        permutations=max(permutations, 40 * len(named)),
        bootstraps=bootstraps,
        seed=seed,
    )
    table, patients = cohort.table, cohort.patients
    leakages: dict[tuple[str, str], Leakage] = {}
    floors: dict[tuple[str, str], float] = {}
    unseen: dict[str, list[str]] = {}
    for name in named:
        invariance = invariances[name]
        question = _question(table, patients, name, invariance.given)
        rows, levels, strata = z[question.rows], question.codes, question.strata
        who, words = patients[question.rows], question.names
        marginal = measure(rows, levels, None, who, names=words)
        expected = told_by_strata(levels, strata, who, seed=seed)
        if invariance.is_identified:
            found = marginal
            if invariance.given:
                numbers = question.numbers
                found = measure(rows, levels, strata, who, names=words, numbers=numbers)
            leakages[name, "conditional"], floors[name, "conditional"] = found, found.floor
            unseen[name] = [*question.thin, *(f"too few to judge: {c}" for c in found.skipped)]
            notes += [f"{name}: {note}" for note in found.notes]
        leakages[name, "marginal"] = marginal
        floors[name, "marginal"] = float(np.fmax(marginal.floor, expected))
        notes += question.notes
    tested = [name for name in named if (name, "conditional") in leakages]
    adjusted = holm(np.array([leakages[name, "conditional"].p for name in tested]))
    verdicts = {
        name: undecided(f"not identified, so nobody can say what should be left: {i.why}")
        for name, i in invariances.items()
    }
    for name, p in zip(tested, adjusted, strict=True):
        verdicts[name] = judge(
            leakages[name, "conditional"],
            float(p),
            margin=margin,
            assumptions=invariances[name].assumptions,
            unsupported=unseen[name],
            confounder=name,
            given=invariances[name].given,
        )
    return Audit(
        verdict=MappingProxyType(verdicts),
        invariances=MappingProxyType(invariances),
        leakages=MappingProxyType(leakages),
        floors=MappingProxyType(floors),
        reasons=tuple(dict.fromkeys(notes)),
    )


def embedded(representation: Any, cohort: Cohort) -> np.ndarray:
    """Return (n, d) embeddings of a cohort from whatever stands for a representation.

    Raises
    ------
    CohortError, LeakageError, SettingsError
        As `audit`.
    """
    if isinstance(representation, str):
        if representation != "stored":
            hint = did_you_mean(representation, ["stored"])
            raise SettingsError(
                f"the representation {representation!r} is unknown.{hint} "
                "Pass an (n, d) array, 'stored', or an encoder from deconf.load_encoder."
            )
        if cohort.embeddings is None:
            raise CohortError(
                "'stored' means the embeddings of the cohort, and this cohort has none: give "
                "Cohort.read(..., embedding=...) a file, or pass an encoder."
            )
        z = cohort.embeddings
    elif hasattr(representation, "embed"):
        if hasattr(representation, "require_unseen"):
            representation.require_unseen(cohort)
        z = representation.embed(cohort)
    elif hasattr(representation, "fit"):
        raise SettingsError(
            f"{type(representation).__name__} is not fitted and cannot embed: call .fit(training) "
            "first, and audit what it returns on other patients."
        )
    else:
        z = representation
    z = z.detach().cpu().numpy() if hasattr(z, "detach") else np.asarray(z)
    if z.ndim != 2 or not np.issubdtype(z.dtype, np.number):
        raise CohortError(
            f"a representation is an (n, d) array of numbers; this is {z.dtype} of shape {z.shape}."
        )
    if len(z) != len(cohort):
        raise CohortError(
            f"{len(z):,} embeddings but {len(cohort):,} rows in the cohort: pass them in the order "
            "of the cohort, one each."
        )
    return z


def told_by_strata(
    codes: np.ndarray, strata: np.ndarray, patients: np.ndarray, *, seed: int
) -> float:
    """Return the AUROC of the levels told from the stratum alone, on held-out patients.

    The score of a row is the share of its level among training rows of its stratum.
    """
    train, test = patient_split(patients, 0.5, strata=codes, seed=seed)
    stratum = np.unique(strata, return_inverse=True)[1]
    counts = np.zeros((stratum.max() + 1, codes.max() + 1))
    np.add.at(counts, (stratum[train], codes[train]), 1)
    # Half a row each way: a stratum unseen in training is told nothing.
    share = (counts + 0.5) / (counts + 0.5).sum(1, keepdims=True)
    return multilevel_auroc(share[stratum[test]], codes[test])


@dataclass(frozen=True)
class _Question:
    """One confounder and its strata as arrays, rows with missing values left out."""

    rows: np.ndarray
    codes: np.ndarray
    names: tuple[str, ...]
    strata: np.ndarray
    numbers: np.ndarray | None
    thin: list[str]
    notes: list[str]


def _question(
    table: pd.DataFrame, patients: np.ndarray, confounder: str, given: Sequence[str]
) -> _Question:
    levels, cells = levels_of(table[confounder]), cells_of(table, given)
    rows = np.flatnonzero((levels.codes >= 0) & cells.known)
    if len(rows) < FEWEST_ROWS:
        needed = listing([confounder, *given])
        raise CohortError(
            f"{len(rows)} of {len(table):,} rows have {needed} recorded: an audit needs at least "
            f"{FEWEST_ROWS}, and some hundreds to decide anything. Bring more rows"
            + (", or condition on fewer columns (given=)." if given else ".")
        )
    present, codes = np.unique(levels.codes[rows], return_inverse=True)
    names = tuple(levels.names[k] for k in present)
    if len(present) < 2:
        raise CohortError(
            f"in all {len(rows):,} usable rows {names[0]}: there is nothing to audit. "
            "Bring rows of another level."
        )
    strata, who = cells.labels[rows], patients[rows]
    thin = []
    for stratum in np.unique(strata) if given else ():
        for level, name in enumerate(names):
            count = len(np.unique(who[(strata == stratum) & (codes == level)]))
            if count < FEW:
                thin.append(f"{count or 'no'} {name} patients with {stratum}")
    notes = [levels.note] if levels.note else []
    if no_level := int((levels.codes < 0).sum()):
        notes.append(f"{no_level:,} rows left out: {confounder} is missing")
    if no_cell := int(((levels.codes >= 0) & ~cells.known).sum()):
        notes.append(f"{no_cell:,} rows left out for {confounder}: {listing(given)} missing")
    numbers = None if cells.numbers is None else cells.numbers[rows]
    return _Question(rows, codes, names, strata, numbers, thin, notes)


def _invariances(
    representation: Any,
    cohort: Cohort,
    confounders: Sequence[str],
    given: str | Sequence[str] | None,
    graph: CausalGraph | str | None,
    width: int,
) -> tuple[dict[str, Invariance], list[str]]:
    """Return the invariance of each confounder, and where it comes from."""
    own: Mapping[str, Invariance] = {}
    if given is None and graph is None:  # a fitted cleaner is held to what it was asked for
        own = getattr(getattr(representation, "plan", None), "invariances", {})
    patient = cohort.roles["patient"]
    asked = {c: own[c] for c in confounders if c in own}
    rest = [c for c in confounders if c not in asked]
    notes = []
    if asked:
        held = tuple(dict.fromkeys(g for i in asked.values() for g in i.given))
        check_columns(cohort.table, list(asked), (), held, patient)
        notes.append(f"{listing(asked)}: held to the representation's own plan")
    if rest or not asked:
        plan = make_plan(
            cohort.table,
            rest,
            outcome=cohort.outcomes,
            graph=graph,
            given=given,
            patient=patient,
            width=width,
        )
        asked |= plan.invariances
        notes += [f"{c}: {a}" for c in rest for a in plan.invariances[c].assumptions]
    return {c: asked[c] for c in confounders}, notes
