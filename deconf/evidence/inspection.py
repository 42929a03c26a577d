"""Attack every representation on one split, and see what else it lost there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, listing
from deconf.evidence.contenders import Contender
from deconf.evidence.folds import Fold
from deconf.evidence.invariances import Demand, HeldTo, Layer, is_needed, statement
from deconf.evidence.leakage import COLUMNS, Audit, audit
from deconf.evidence.lost import MOST_COLUMNS, lost, unasked
from deconf.evidence.neighbourhoods import neighbourhoods
from deconf.evidence.scoring import learn_all
from deconf.evidence.verdict import Verdict, undecided
from deconf.probes.leakage import Effort


@dataclass(frozen=True)
class Inspection:
    """Verdicts, the figures under them, what was lost."""

    verdict: Mapping[tuple[str, str], Verdict]
    leakage: pd.DataFrame
    lost: pd.DataFrame
    neighbours: pd.DataFrame
    reasons: tuple[str, ...]


def inspect(
    contenders: Mapping[str, Contender],
    half: Fold,
    cohort: Cohort,
    *,
    layers: Sequence[Layer],
    plans: Mapping[str, Any],
    reference: str,
    asked_columns: Sequence[str],
    confounders: Sequence[str],
    tasks: Sequence[str],
    fallback_rank: int,
    effort: Effort,
    draws: int,
    seed: int,
) -> Inspection:
    """Return the verdict on every representation and confounder.

    Parameters
    ----------
    layers : sequence of {confounder: Invariance}
        Every representation is held to all of them; Holm runs over the confounders of a layer.
    plans : mapping of cleaner to Plan
        A cleaner's own invariance gives the verdict under the confounder's plain name; whatever
        else it is held to stands under the statement, ``"z ⊥ portable | severity"``.
    """
    learned, refused = learn_all(contenders, half, fallback_rank=fallback_rank, seed=seed)
    judged_on = cohort.subset(half.test)
    verdicts: dict[tuple[str, str], Verdict] = {}
    frames: list[pd.DataFrame] = []
    reasons: list[str] = []
    for name in contenders:
        own = getattr(plans.get(name), "invariances", layers[0] if layers else {})
        for layer in layers:
            found: Audit | str = refused.get(name, "")
            if name in learned:
                found = _attacked(learned[name].test, judged_on, layer, effort, seed)
            for confounder, invariance in layer.items():
                words = statement(confounder, invariance)
                is_own = confounder not in own or words == statement(confounder, own[confounder])
                key = confounder if is_own else words
                if not is_needed(invariance):
                    verdicts[name, key] = undecided(f"nothing to look for: {invariance.why}")
                elif isinstance(found, str):
                    verdicts[name, key] = undecided(found)
                else:
                    verdicts[name, key] = found.verdict[confounder]
            if isinstance(found, str):
                continue
            frames.append(_framed(name, found))
            reasons += [r for r in found.reasons if "held to the representation's own" not in r]
    columns = unasked(cohort.table, asked_columns)
    if len(columns) > MOST_COLUMNS:
        reasons.append(f"what was lost was not looked up in {listing(columns[MOST_COLUMNS:])}")
    gone = lost(
        {name: one.test for name, one in learned.items()},
        _bases(learned, reference),
        judged_on.table,
        judged_on.patients,
        columns[:MOST_COLUMNS],
        reference=reference,
        draws=draws,
        seed=seed,
    )
    near, left_out = neighbourhoods(
        {name: one.test for name, one in learned.items()},
        judged_on.table,
        judged_on.patients,
        confounders,
        tasks,
        reference=reference,
        draws=draws,
        seed=seed,
    )
    reasons += left_out
    shown = [frame for frame in frames if len(frame)]
    leakage = pd.concat(shown, ignore_index=True) if shown else _framed("", None)
    return Inspection(verdicts, leakage, gone, near, tuple(reasons))


def _attacked(
    z: np.ndarray, cohort: Cohort, layer: Layer, effort: Effort, seed: int
) -> Audit | str:
    """Return the audit, or why there is none."""
    needed = {c: i for c, i in layer.items() if is_needed(i)}
    if not needed:
        return "nothing to look for"
    try:
        return audit(HeldTo(z, Demand(layer)), cohort, list(needed), effort=effort, seed=seed)
    except CohortError as error:
        return str(error)


def _bases(learned: Mapping[str, Any], reference: str) -> dict[str, np.ndarray]:
    """Return the raw embedding of the same rows, where it is at hand."""
    raw = learned.get(reference)
    return {
        name: raw.test if raw is not None and one.origin == raw.origin else one.test
        for name, one in learned.items()
    }


def _framed(name: str, found: Audit | None) -> pd.DataFrame:
    if found is None:
        return pd.DataFrame(columns=["representation", "statement", *COLUMNS])
    frame = found.to_frame()
    words = {c: statement(c, i) for c, i in found.invariances.items()}
    frame.insert(0, "statement", frame["confounder"].map(words))
    frame.insert(0, "representation", name)
    return frame
