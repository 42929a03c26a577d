"""What AUROC to expect at a site nobody has seen, from the sites at hand, and whether that holds.

Each site is left out in turn, and its AUROC taken with the error its patients leave.  The sites
are then a sample of sites: their mean, their spread beyond chance, and from both an interval for
*another* site, on log-odds (Snell, Ensor, Debray, Moons & Riley, "Meta-analysis of prediction model
performance across multiple validation studies", Statistics in Medicine 2018; leaving sites out in
turn is the internal-external validation of Steyerberg & Harrell, J Clin Epidemiol 2016).  Films
drawn again from the same sites cannot say this: an interval over patients leaves out the sites.

The estimate is put to the test by itself: one site is locked away, the whole estimate made from
the others alone (models that never met the locked site, judged at each of the others in turn), and
then the site is opened: did its AUROC fall inside?

Assumed, and not to be checked from the data: the new site is one more of the same kind (same
question, same way of labelling, patients and devices that differ as those at hand do), and the
log-odds of the AUROC are about normal over sites.  The models of different turns share training
films, which is left out of account; a locked-away site is foretold by models of one site fewer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from deconf.errors import listing
from deconf.evidence.calibration import expit
from deconf.evidence.contenders import Contender
from deconf.evidence.folds import Fold, with_bar
from deconf.evidence.scoring import Ledger, score_fold
from deconf.evidence.tasks import ENOUGH_PER_CLASS, Scores, Task
from deconf.maths.delong import delong
from deconf.maths.intervals import Interval
from deconf.maths.random_effects import FEWEST_SITES, RandomEffects, random_effects
from deconf.probes.leakage import Effort

COLUMNS = (
    "representation", "task", "held out", "sites", "estimate", "low", "high",
    "observed", "observed_low", "observed_high", "is_inside", "status", "reason",
)  # fmt: skip
# Every pair of sites is left out once for the test.  Up to six sites it takes as long again as
# two to three times the comparison; more only where patience was promised.
MOST_PAIRS = {"quick": 15, "full": 190}


@dataclass(frozen=True)
class Site:
    """An AUROC at one site, as log-odds with their standard error."""

    name: str
    interval: Interval
    logit: float
    error: float


def external(
    contenders: Mapping[str, Contender],
    tasks: Sequence[Task],
    parts: Sequence[Fold],
    ledger: Ledger,
    *,
    reference: str,
    fallback_rank: int,
    effort: Effort,
    seed: int,
) -> pd.DataFrame:
    """Return the AUROC to expect at another site, and how the same estimate did at each site.

    Parameters
    ----------
    parts : sequence of Fold
        One per level of the column that was held out; without any there are no rows.
    ledger : Ledger
        The scores of those folds.

    Returns
    -------
    DataFrame
        For each representation and task a row ``"another site"`` (or whatever the column is
        called), from all sites; and one for each held-out level, from the others alone: ``low``
        and ``high`` hold the true AUROC there with 95 %, ``is_inside`` says whether the observed
        one agrees, its own sampling error allowed for.  REFUSED, and why, with fewer than three
        sites of at least 20 patients of each class.
    """
    usable = {task.name: [k for k in range(len(parts)) if _is_enough(task, k)] for task in tasks}
    wanted = {
        pair
        for known in usable.values()
        if len(known) > FEWEST_SITES
        for pair in combinations(known, 2)
    }
    without: dict[tuple[int, int], Ledger] = {}
    if len(wanted) <= MOST_PAIRS[effort]:
        for i, j in with_bar(sorted(wanted), "testing the external estimate, pair by pair"):
            without[i, j] = Ledger(ledger.rows)
            score_fold(
                without[i, j],
                contenders,
                tasks,
                0,
                both_left_out(parts[i], parts[j]),
                reference=reference,
                fallback_rank=fallback_rank,
                seed=seed,
            )
    rows = []
    for task in tasks if parts else ():
        for name in contenders:
            rows += _rows(task, name, usable[task.name], parts, ledger, without)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def both_left_out(first: Fold, second: Fold) -> Fold:
    """Return the split that tests two levels, trained on nobody who has a film at either."""
    train = np.intersect1d(first.train, second.train)
    names = f"{first.name} and {second.name}"
    refused = "" if len(train) else f"nobody is left to train on without {names}"
    return Fold(names, train, np.union1d(first.test, second.test), refused)


def foretold(sites: Sequence[Site], column: str) -> RandomEffects | str:
    """Return what some sites say of one more, or why they cannot."""
    names = [site.name for site in sites]
    if len(sites) < FEWEST_SITES:
        s, have = ("", "has") if len(sites) == 1 else ("s", "have")
        return (
            f"cannot be estimated: {len(sites) or 'no'} level{s} of {column}"
            f"{f' ({listing(names)})' if names else ''} {have} {ENOUGH_PER_CLASS} patients of each "
            f"class, and from fewer than {FEWEST_SITES} nobody can tell how much they differ"
        )
    flat = [site.name for site in sites if not site.error > 0]
    if flat:
        return (
            f"cannot be estimated: at {listing(flat)} the score is constant or separates the "
            "classes, and an AUROC without a variance cannot be averaged with others"
        )
    return random_effects(np.array([s.logit for s in sites]), np.array([s.error for s in sites]))


def site_figure(name: str, task: Task, scores: Scores, rows: np.ndarray) -> Site | None:
    """Return the AUROC of some films of one test part; None with too few patients of a class.

    The error is that of clustered DeLong, ``se(A) / (A (1 - A))`` on log-odds; 0 where the score
    is constant or separates the classes.
    """
    rows = rows[scores.known[rows] & ~np.isnan(task.y[rows])]
    if _fewest(task, rows) < ENOUGH_PER_CLASS:
        return None
    found = delong(scores.logit[rows], task.y[rows], task.patients[rows])
    area, error = float(found.areas[0]), math.sqrt(max(0.0, float(found.covariance[0, 0])))
    if not 0 < area < 1 or error == 0:
        return Site(name, found.interval(), math.nan, 0.0)
    odds = area * (1 - area)
    return Site(name, found.interval(), math.log(area / (1 - area)), error / odds)


def _rows(
    task: Task,
    name: str,
    usable: Sequence[int],
    parts: Sequence[Fold],
    ledger: Ledger,
    without: Mapping[tuple[int, int], Ledger],
) -> list[dict[str, object]]:
    scores = ledger.note(ledger.scores, task, name)
    levels = [part.name.partition("=")[2] for part in parts]
    seen = {k: site_figure(levels[k], task, scores, parts[k].test) for k in usable}
    sites = {k: site for k, site in seen.items() if site is not None}
    column = parts[0].name.partition("=")[0]
    rows = [_told(f"another {column}", column, list(sites.values()))]
    if len(sites) <= FEWEST_SITES:
        rows[0]["reason"] = rows[0]["reason"] or f"not put to the test: {len(sites)} {column}s only"
        sites = {}
    elif not without:
        rows[0]["reason"] = "not put to the test: too many pairs to leave out; see effort='full'"
        sites = {}
    for k, site in sites.items():
        others = []
        for j in (j for j in sites if j != k):
            pair = without[min(j, k), max(j, k)]
            # A patient of both is in nobody's training part, and not in this estimate either.
            strangers = ~np.isin(task.patients[parts[j].test], task.patients[parts[k].test])
            page = pair.note(pair.scores, task, name)
            found = site_figure(levels[j], task, page, parts[j].test[strangers])
            others += [] if found is None else [found]
        rows.append(_told(parts[k].name, column, others, site))
    return [{"representation": name, "task": task.name, **row} for row in rows]


def _told(
    where: str, column: str, sites: Sequence[Site], seen: Site | None = None
) -> dict[str, object]:
    """Return one row: what some sites foretell, beside what was seen."""
    found = foretold(sites, column)
    row: dict[str, object] = {
        "held out": where,
        "sites": len(sites),
        **dict.fromkeys(COLUMNS[4:10], math.nan),
        "is_inside": None,
        "status": "REFUSED",
        "reason": found if isinstance(found, str) else "",
    }
    if seen is not None:
        row |= dict(zip(COLUMNS[7:10], _ends(seen.interval), strict=True))
    if isinstance(found, str):
        return row
    row |= dict(zip(COLUMNS[4:7], expit(np.array(_ends(found.another()))).tolist(), strict=True))
    if seen is not None and seen.error > 0:
        allowed = found.another(seen.error)
        row["is_inside"] = allowed.low <= seen.logit <= allowed.high
    return row | {"status": "ok"}


def _is_enough(task: Task, fold: int) -> bool:
    return _fewest(task, task.rows[task.fold[task.rows] == fold]) >= ENOUGH_PER_CLASS


def _fewest(task: Task, rows: np.ndarray) -> int:
    """Return the number of patients of the rarer class."""
    return min(len(np.unique(task.patients[rows[task.y[rows] == v]])) for v in (0, 1))


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high
