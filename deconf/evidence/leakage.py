"""The leakage audit: does a representation keep the independence the graph asked for.

The invariance that told the method what to erase is the null hypothesis here.  Beside it stands
the *marginal* leakage, with its own floor: where disease goes with the scanner, an embedding that
knows the disease tells the scanner to some extent, and should.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from deconf.causal.columns import check_columns
from deconf.causal.graph import CausalGraph
from deconf.causal.invariance import Invariance
from deconf.causal.plan import make_plan
from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, SettingsError, did_you_mean, listing
from deconf.evidence.audited import COLUMNS, Audit
from deconf.evidence.question import question_of, told_by_strata
from deconf.evidence.remarks import remarks
from deconf.evidence.transfer import sites_asked, transferred
from deconf.evidence.verdict import judge, undecided
from deconf.maths.intervals import holm
from deconf.probes.attackers import Attacker
from deconf.probes.leakage import Effort, Leakage, leakage

__all__ = ["COLUMNS", "Audit", "Leakage", "audit", "leakage"]

DRAWS = {"quick": (200, 500), "full": (1000, 2000)}  # permutations, bootstraps


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
    sites: str | None = None,
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
        See `leakage`.  "full" also draws 1,000 permutations and 2,000 bootstraps, looks for
        quadratic features in the description length, and sends attackers to other sites.
    attackers : names or settings, optional
        Instead of those of the effort.
    margin : float
        See `deconf.evidence.verdict.judge`.
    sites : column, optional
        Attackers also learn at some of its levels and read the others: reported beside, with its
        own floor; the verdict does not rest on it.  Default: with "full", the cohort's sites.

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
    sites = sites_asked(cohort, sites, effort)
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
        question = question_of(table, patients, name, invariance.given)
        rows, levels, strata = z[question.rows], question.codes, question.strata
        who = patients[question.rows]
        ask = partial(measure, names=question.names, values=question.values)
        is_whole = invariance.is_identified and not invariance.given
        marginal = ask(rows, levels, None, who, bits=is_whole)
        expected = told_by_strata(levels, strata, who, values=question.values, seed=seed)
        if invariance.is_identified:
            found = marginal
            if not is_whole:
                found = ask(rows, levels, strata, who, numbers=question.numbers, bits=True)
            leakages[name, "conditional"], floors[name, "conditional"] = found, found.floor
            unseen[name] = [*question.thin, *(f"too few to judge: {c}" for c in found.skipped)]
            notes += [f"{name}: {note}" for note in found.notes]
        leakages[name, "marginal"] = marginal
        floors[name, "marginal"] = float(np.fmax(marginal.floor, expected))
        if invariance.is_identified and sites is not None:
            far, told = transferred(z, cohort, name, invariance.given, sites, measure)
            notes += told
            if far is not None:
                leakages[name, "transfer"], floors[name, "transfer"] = far, far.floor
        notes += question.notes
        notes += remarks(name, invariance.given, leakages)
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
