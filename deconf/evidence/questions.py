"""Three questions that are often taken for one, and may be answered in any combination.

*Encoding*: can the confounder be read from the embedding?  *Dependence*: does the prediction use
it, among films alike in the adjustment set?  *Disparity*: does performance differ between its
levels?  What is encoded need not be used (Glocker et al., "Algorithmic encoding of protected
characteristics in chest X-ray disease detection models", eBioMedicine 2023); what is not used may
still perform unequally, since patients and their illness differ between levels.

Answers are ``yes``, ``no`` or ``undecided``.  ``no`` is never the want of a finding: it says that a
difference as large as the margin is ruled out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deconf.causal.invariance import Invariance
from deconf.evidence.answers import MARGIN, Answer, Word, depends, differs
from deconf.evidence.disparity import COLUMNS as GAPS
from deconf.evidence.disparity import disparity
from deconf.evidence.environments import joined
from deconf.evidence.invariances import Layer, is_needed
from deconf.evidence.reliance import Reliance, reliance
from deconf.evidence.tasks import Scores, Task
from deconf.evidence.verdict import NO_ESTIMATE, Verdict, undecided
from deconf.maths.intervals import Interval
from deconf.maths.kinds import is_categorical, numbers
from deconf.maths.multiplicity import holm
from deconf.probes.cells import cells_of

PERMUTATIONS = {"quick": 499, "full": 1999}
ENCODING: Mapping[str, Word] = {"leaks": "yes", "clean": "no", "undecided": "undecided"}
COLUMNS = (
    "representation", "task", "confounder", "given",
    "encoding", "encoding_auroc", "encoding_low", "encoding_high", "encoding_floor",
    "dependence", "dependence_level", "dependence_auroc", "dependence_low", "dependence_high",
    "dependence_p", "dependence_hsic", "dependence_hsic_p",
    "disparity", "disparity_metric", "disparity_level", "disparity_difference", "disparity_low",
    "disparity_high", "disparity_p", "disparity_detectable", "n", "n_patients", "reason",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Questions:
    """The answers for every representation, task and confounder."""

    answers: tuple[Answer, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per representation, task and confounder.

        The three answers, each with the figure it rests on: the worst attacker's AUROC; the AUROC
        of the score for the level furthest from one half, and HSIC; the difference of performance
        that speaks loudest, with ``disparity_detectable``, the smallest that would have been found.
        """
        return pd.DataFrame([_row(answer) for answer in self.answers], columns=list(COLUMNS))

    def differences(self) -> pd.DataFrame:
        """Return one row per metric and level: see `Disparity`."""
        head = ["representation", "task", "confounder"]
        frames = [
            a.gaps.gaps.assign(representation=a.representation, task=a.task,
                               confounder=a.confounder)
            for a in self.answers
            if len(a.gaps.gaps)
        ]  # fmt: skip
        blank = pd.DataFrame(columns=[*head, *GAPS])
        return pd.concat(frames, ignore_index=True)[[*head, *GAPS]] if frames else blank

    def sentences(self) -> list[str]:
        """Return one sentence per representation, task and confounder."""
        return [answer.sentence for answer in self.answers]

    def __str__(self) -> str:
        return "\n".join(self.sentences())


def ask(
    tasks: Sequence[Task],
    scores: Mapping[str, Mapping[str, Scores]],
    table: pd.DataFrame,
    verdicts: Mapping[tuple[str, str], Verdict],
    weights: np.ndarray,
    *,
    plans: Mapping[str, Any],
    layers: Sequence[Layer],
    effort: str,
    seed: int,
) -> Questions:
    """Ask the three questions of every representation, task and confounder.

    Parameters
    ----------
    scores : {task: {representation: Scores}}
    table : DataFrame of n rows
        For the adjustment sets, and for confounders that are numbers.
    verdicts : mapping of (representation, confounder) to Verdict
        Who is not in it was not attacked.
    weights : (1 + B, n)
    plans, layers
        A cleaner is held to its own invariance, everybody else to the first of each confounder.
    """
    answers = []
    for task in tasks:
        for name, own in scores[task.name].items():
            held = getattr(plans.get(name), "invariances", {})
            demands = {c: held.get(c, layers[0][c]) for c in task.levels}
            found = {
                c: _reliance(task, c, own, table, i, weights, PERMUTATIONS[effort], seed)
                for c, i in demands.items()
            }
            adjusted = holm(np.array([p for r in found.values() for p in (r.p, r.hsic_p)]))
            for (confounder, r), (p, hsic_p) in zip(
                found.items(), adjusted.reshape(-1, 2), strict=True
            ):
                gaps = disparity(task, confounder, own, weights, margin=MARGIN)
                verdict = verdicts.get((name, confounder))
                needed = is_needed(demands[confounder])
                answers.append(
                    Answer(
                        representation=name,
                        task=task.name,
                        confounder=confounder,
                        given=demands[confounder].given,
                        encoding="not asked"
                        if verdict is None or not needed
                        else ENCODING[verdict.word],
                        dependence=depends(r, p, hsic_p) if needed else "not asked",
                        disparity=differs(gaps),
                        verdict=verdict or undecided("not attacked"),
                        reliance=r,
                        p=float(p),
                        hsic_p=float(hsic_p),
                        gaps=gaps,
                    )
                )
    return Questions(tuple(answers))


def _reliance(
    task: Task,
    confounder: str,
    scores: Scores,
    table: pd.DataFrame,
    invariance: Invariance,
    weights: np.ndarray,
    permutations: int,
    seed: int,
) -> Reliance:
    if not is_needed(invariance) or not invariance.is_identified:
        return Reliance(reason=invariance.why)
    levels, cells = task.levels[confounder], cells_of(table, invariance.given)
    is_usable = scores.known[task.rows] & (levels.codes[task.rows] >= 0) & cells.known[task.rows]
    rows = task.rows[is_usable]
    if not len(rows):
        return Reliance(reason="no film has a score, the confounder and the adjustment set")
    cell = np.unique(cells.labels[rows], return_inverse=True)[1]
    column = table[confounder]
    return reliance(
        scores.logit[rows],
        levels.codes[rows],
        levels.names,
        joined(task.fold[rows], cell),
        task.patients[rows],
        weights[:, rows],
        numbers=None if cells.numbers is None else cells.numbers[rows],
        values=None if is_categorical(column) else numbers(column)[rows],
        margin=MARGIN,
        permutations=permutations,
        seed=seed,
    )


def _row(a: Answer) -> dict[str, object]:
    gap = a.largest
    gap = pd.Series(dtype=object) if gap is None else gap
    verdict: Interval = a.verdict.estimate if a.encoding != "not asked" else NO_ESTIMATE
    return {
        "representation": a.representation,
        "task": a.task,
        "confounder": a.confounder,
        "given": ", ".join(a.given),
        "encoding": a.encoding,
        **_limits("encoding", "auroc", verdict),
        "encoding_floor": a.verdict.floor,
        "dependence": a.dependence,
        "dependence_level": a.reliance.level,
        **_limits("dependence", "auroc", a.reliance.auroc),
        "dependence_p": a.p,
        "dependence_hsic": a.reliance.correlation,
        "dependence_hsic_p": a.hsic_p,
        "disparity": a.disparity,
        **{
            f"disparity_{name}": gap.get(name, "" if name in ("metric", "level") else np.nan)
            for name in ("metric", "level", "difference", "low", "high", "p", "detectable")
        },
        "n": a.reliance.n,
        "n_patients": a.reliance.n_patients,
        "reason": "; ".join(r for r in (a.reliance.reason, a.reliance.note, a.gaps.reason) if r),
    }


def _limits(question: str, figure: str, found: Interval) -> dict[str, float]:
    return {
        f"{question}_{figure}": found.estimate,
        f"{question}_low": found.low,
        f"{question}_high": found.high,
    }
