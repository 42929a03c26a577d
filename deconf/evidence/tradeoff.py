"""Leakage against task along each method's strength: what more cleaning buys, and what it costs.

A method is carried from nothing to all of it by  T_a(z) = z + a (T(z) - z):  at a = 0 the raw
embedding, at a = 1 the fitted map.  Every method has this strength, whatever its own settings are;
where a setting is the strength (a penalty, a rank), a family of settings is drawn in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from deconf.cohort.cohort import Cohort
from deconf.errors import NotIdentified, SettingsError, did_you_mean, listing
from deconf.evidence.contenders import Learned
from deconf.evidence.folds import Fold, folds_of, half_split, with_bar
from deconf.evidence.invariances import Layer, is_needed, layers, statement
from deconf.evidence.judged import WORST, judged
from deconf.evidence.own_head import selection_of
from deconf.evidence.provenance import provenance
from deconf.evidence.question import question_of
from deconf.evidence.request import DRAWS, tasks_of
from deconf.evidence.scoring import Ledger, heads_told, score_learned
from deconf.evidence.sources import Sources
from deconf.evidence.strengths import (
    RAW,
    STRENGTHS,
    Point,
    checked_strengths,
    learn_points,
    points_of,
    raw_of,
)
from deconf.evidence.tasks import Task, measures
from deconf.maths.intervals import patient_weights
from deconf.maths.threads import one_thread
from deconf.probes.cells import levels_of
from deconf.probes.leakage import Effort, Leakage, leakage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".html", ".png", ".svg", ".pdf", ".csv")
AXES = {"worst": "worst environment", "within": "within levels"}
COLUMNS = (
    "family", "setting", "selection", "strength", "confounder", "task", "leak", "leak_low",
    "leak_high",
    "floor", "p", "attacker", "n_leak",
    *(f"{a}{end}" for a in AXES for end in ("", "_low", "_high", "_difference",
                                            "_difference_low", "_difference_high")),
    "n_task", "on_front", "reason",
)  # fmt: skip


ENDS = {
    "": "estimate", "_low": "low", "_high": "high", "_difference": "difference",
    "_difference_low": "difference_low", "_difference_high": "difference_high",
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Tradeoff:
    """Leakage and task of every method at every strength, on patients it has not seen.

    Attributes
    ----------
    table : DataFrame
        See `to_frame`.
    statements : mapping of confounder to str
        What the leak is held to, ``z ⊥ site | pneumonia``.
    reasons : tuple of str
    config : mapping
        Settings, versions, fingerprint and size of the cohort; no patient.
    """

    table: pd.DataFrame
    statements: Mapping[str, str]
    reasons: tuple[str, ...]
    config: Mapping[str, object]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per point, confounder and task.

        A point is a ``family`` at a ``strength``; ``setting`` names the settings of a family that
        has several, ``selection`` who chose penalty and epoch of an invariant-risk method, which is
        judged by its own head.  ``leak`` is the AUROC of the worst fresh attacker within strata of
        what is
        held (``floor``: by luck), ``worst`` the AUROC of the task in the worst environment and
        ``within`` that within levels of the confounder; each with its 95 % interval by patient, and
        the task with its paired ``difference`` to raw.  ``on_front``: no other point has less leak
        and more task.  A figure that cannot be had is nan, and ``reason`` says why.
        """
        return self.table.copy()

    def front(self, confounder: str | None = None, task: str | None = None) -> pd.DataFrame:
        """Return the points on the front of one confounder and task, least leak first."""
        t = self.table
        confounder = confounder or t["confounder"].iloc[0]
        task = task or t["task"].iloc[0]
        own = t[(t["confounder"] == confounder) & (t["task"] == task) & t["on_front"]]
        return own.sort_values("leak", kind="stable", ignore_index=True)

    def figure(self) -> Figure:
        """Draw leakage against task: one panel for each confounder and task, clean and able up."""
        from deconf.evidence.page.tradeoff import drawn

        return drawn(self)

    def save(self, path: str | Path) -> Path:
        """Write the figure (.png, .svg, .pdf), the frame (.csv) or a page with both (.html).

        Raises
        ------
        SettingsError
            Another suffix, or a folder that is not there.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise SettingsError(
                f"a trade-off is saved as {', '.join(SUFFIXES)}, not "
                f"{path.suffix or 'without suffix'} ({path.name!r})."
                f"{did_you_mean(suffix, SUFFIXES)}"
            )
        if not path.parent.is_dir():
            raise SettingsError(f"there is no folder {str(path.parent)!r}: make it first.")
        if suffix == ".csv":
            self.table.to_csv(path, index=False)
        elif suffix == ".html":
            from deconf.evidence.page.tradeoff import page

            path.write_text(page(self), encoding="utf-8")
        else:
            self.figure().savefig(path, dpi=160)
        return path

    def sentences(self) -> list[str]:
        """Return what the picture says of each confounder and task."""
        from deconf.evidence.page.tradeoff import sentences

        return sentences(self)

    def __str__(self) -> str:
        from deconf.evidence.page.tradeoff import tell

        return tell(self)

    def __repr__(self) -> str:
        return f"Tradeoff({len(self.table)} rows: {listing(dict.fromkeys(self.table['family']))})"


def trace(
    families: Mapping[str, Sequence[Any]],
    cohort: Cohort,
    *,
    tasks: str | Sequence[str] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 5,
    effort: Effort = "quick",
    seed: int = 0,
) -> Tradeoff:
    """Measure families of unfitted cleaners along their strength.

    See `deconf.tradeoff`, which makes the cleaners.

    Parameters
    ----------
    families : mapping of name to cleaners
        One cleaner is carried from nothing to all of it; several are drawn each at full strength.
    """
    strengths = checked_strengths(strengths)
    if effort not in DRAWS:
        raise SettingsError(f"effort is {effort!r}: expected 'quick' or 'full'.")
    confounders = tuple(
        dict.fromkeys(
            c for several in families.values() for one in several for c in one.confounders
        )
    )
    plans = {f"{n} {k}": c.plan(cohort) for n, several in families.items()
             for k, c in enumerate(several)}  # fmt: skip
    layer = _layer(plans, cohort, confounders)
    named = tuple(layer)
    wanted = tasks_of(cohort, cohort.table, tasks, named)
    points = points_of(families, strengths)
    sources = Sources(cohort)
    fitters = {
        (name, k): sources.contender(cleaner)
        for name, several in families.items()
        for k, cleaner in enumerate(several)
    }
    raw = raw_of(fitters)
    parts = folds_of(cohort, None, folds, seed)
    judged_tasks = [_task(name, y, cohort, parts, named) for name, (y, _) in wanted.items()]
    ledger = Ledger(len(cohort))
    refusals: dict[str, str] = {}
    half = half_split(cohort, parts, None, seed)
    size = 0 if cohort.embeddings is None else cohort.embeddings.size
    with one_thread(size):
        for number, part in enumerate(with_bar(parts, "task, fold by fold")):
            learned, refused = learn_points(points, fitters, raw, part, seed)
            refusals |= refused
            score_learned(ledger, learned, refused, judged_tasks, number, part, reference=RAW,
                          seed=seed)  # fmt: skip
        learned, refused = learn_points(points, fitters, raw, half, seed)
        refusals |= refused
        leaks = _leaks(learned, cohort.subset(half.test), layer, effort, seed)
        weights = patient_weights(cohort.patients, DRAWS[effort], seed)
        weights = np.vstack([np.ones((1, len(cohort)), dtype=weights.dtype), weights])
        rows = [row for task in judged_tasks for row in _figures(task, ledger, weights)]
    rules = {key: selection_of(families[key[0]][key[1]]) for key in fitters}
    table = _table(points, rules, leaks, pd.DataFrame(rows), named, judged_tasks, refusals)
    return Tradeoff(
        table,
        {name: statement(name, layer[name]) for name in named},
        (
            f"leak: maps fitted on {len(half.train):,} films, attacked on {len(half.test):,} of "
            "other patients; task: out-of-fold scores of every film",
            *dict.fromkeys(note for _, note in wanted.values() if note),
            *dict.fromkeys(_heads(points, families, ledger)),
        ),
        provenance(
            cohort,
            folds=[part.name for part in parts],
            strengths=list(strengths),
            bootstraps=DRAWS[effort],
            effort=effort,
            seed=seed,
        ),
    )


def fronts(leak: np.ndarray, task: np.ndarray) -> np.ndarray:
    """Return which points no other point beats: as little leak and as much task, one of them more.

    A point with a figure missing is not on the front, and beats nobody.

    Examples
    --------
    >>> fronts(np.array([0.9, 0.6, 0.6]), np.array([0.7, 0.8, 0.75])).tolist()
    [False, True, False]
    """
    known = np.isfinite(leak) & np.isfinite(task)
    less, more = leak[:, None] <= leak, task[:, None] >= task
    truly = (leak[:, None] < leak) | (task[:, None] > task)
    beaten = (less & more & truly & known[:, None]).any(axis=0)
    on_front: np.ndarray = known & ~beaten
    return on_front


def _layer(plans: Mapping[str, Any], cohort: Cohort, confounders: Sequence[str]) -> Layer:
    """Return the one statement all are held to, for each confounder that needs removing."""
    dealt = layers(plans, cohort, confounders, None)
    if len(dealt) > 1:
        said = [statement(c, i) for layer in dealt for c, i in layer.items()]
        raise SettingsError(
            f"these cleaners are held to different statements ({listing(said)}): one picture needs "
            "one. Give them the same graph= and given=, or draw two."
        )
    for name, invariance in dealt[0].items():
        if not invariance.is_identified:
            raise NotIdentified(f"{name}: {invariance.why} Or defend a set of your own, given=.")
    needed = {c: i for c, i in dealt[0].items() if is_needed(i)}
    if not needed:
        raise SettingsError(
            f"there is nothing to remove for {listing(confounders)}: in this graph no path leads "
            "from there to the image."
        )
    return needed


def _task(
    name: str, y: np.ndarray, cohort: Cohort, parts: Sequence[Fold], confounders: Sequence[str]
) -> Task:
    fold = np.full(len(cohort), -1)
    for number, part in enumerate(parts):
        fold[part.test] = number
    table = cohort.table
    return Task(
        name=name,
        y=y,
        fold=fold,
        fold_names=tuple(part.name for part in parts),
        trains=[part.train for part in parts],
        levels={c: levels_of(table[c]) for c in confounders},
        patients=cohort.patients,
    )


def _leaks(
    learned: Mapping[str, Learned], cohort: Cohort, layer: Layer, effort: Effort, seed: int
) -> dict[tuple[str, str], Leakage]:
    """Send fresh attackers at every point; one that is raw, bit for bit, is attacked once."""
    table = cohort.table
    found: dict[tuple[str, str], Leakage] = {}
    for confounder, invariance in layer.items():
        asked = question_of(table, cohort.patients, confounder, invariance.given)
        for name in with_bar(list(learned), f"attacking, {confounder}"):
            if name != RAW and np.array_equal(learned[name].test, learned[RAW].test):
                found[name, confounder] = found[RAW, confounder]
                continue
            found[name, confounder] = leakage(
                learned[name].test[asked.rows],
                asked.codes,
                asked.strata if invariance.given else None,
                cohort.patients[asked.rows],
                names=asked.names,
                numbers=asked.numbers,
                values=asked.values,
                effort=effort,
                bootstraps=DRAWS[effort],
                seed=seed,
            )
    return found


def _figures(task: Task, ledger: Ledger, weights: np.ndarray) -> list[dict[str, object]]:
    """Return the task of every point within levels and in the worst environment."""
    asked = [
        m for m in measures(task) if m.is_environment or m.environment.endswith(AXES["within"])
    ]
    scores = ledger.scores.get(task.name, {})
    return judged(
        task, scores, {}, weights, reference=RAW, refusals=ledger.refusals.get(task.name, {}),
        asked=asked,
    )  # fmt: skip


def _heads(
    points: Sequence[Point], families: Mapping[str, Sequence[Any]], ledger: Ledger
) -> list[str]:
    """Return by which heads the points of invariant-risk methods were judged."""
    drawn = [p for p in points if p.family in families]
    cleaners = {p.name: families[p.family][p.place] for p in drawn}
    called = {p.name: f"{p.family}, {p.setting}" if p.setting else p.family for p in drawn}
    return heads_told(cleaners, ledger, called)


def _table(
    points: Sequence[Point],
    rules: Mapping[tuple[str, int], str],
    leaks: Mapping[tuple[str, str], Leakage],
    figures: pd.DataFrame,
    confounders: Sequence[str],
    tasks: Sequence[Task],
    refusals: Mapping[str, str],
) -> pd.DataFrame:
    by_key = {} if figures.empty else {
        (r["representation"], r["task"], r["environment"]): r for r in figures.to_dict("records")
    }  # fmt: skip
    blocks = []
    for confounder in confounders:
        for task in tasks:
            environments = {"worst": WORST[1], "within": f"{confounder}: {AXES['within']}"}
            rows = []
            for point in points:
                leak = leaks.get((point.name, confounder), Leakage(reason="not fitted"))
                row: dict[str, Any] = {
                    "family": point.family, "setting": point.setting,
                    "selection": rules.get((point.family, point.place), ""),
                    "strength": point.strength,
                    "confounder": confounder, "task": task.name, "leak": leak.estimate.estimate,
                    "leak_low": leak.estimate.low, "leak_high": leak.estimate.high,
                    "floor": leak.floor, "p": leak.p, "attacker": leak.worst,
                    "n_leak": leak.n_test,
                }  # fmt: skip
                said = [refusals.get(point.name, ""), leak.reason]
                for axis, environment in environments.items():
                    one = by_key.get((point.name, task.name, environment))
                    if one is None:
                        continue
                    row |= {f"{axis}{end}": one[key] for end, key in ENDS.items()}
                    row["n_task"] = one["n_patients"]
                    said.append(one["reason"] if one["status"] != "ok" else "")
                rows.append(row | {"reason": "; ".join(dict.fromkeys(s for s in said if s))})
            block = pd.DataFrame(rows)
            block = block.reindex(columns=list(COLUMNS))
            block["on_front"] = fronts(
                block["leak"].to_numpy(float), block["worst"].to_numpy(float)
            )
            blocks.append(block)
    return pd.concat(blocks, ignore_index=True)
