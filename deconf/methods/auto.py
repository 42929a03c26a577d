"""Choose a method on training patients: nothing to remove, refuse to choose, or the best of a few.

The rule, fixed before any test film is scored:

1. Fresh attackers on held-out training patients read no confounder above chance: the identity.
   Every confounder is read: categories by their joint levels (each by its own where there are more
   than 24 of these; the rarest beyond twelve as one), each number by its thirds.  Of several, the
   p-values are by Bonferroni, and the one that is read best makes the cells and weights below; a
   candidate leaks what its best-read confounder leaks.  Their order makes no difference.
2. A cell of confounder and adjustment set holds fewer than ten patients: no selection, since
   weighted scores would rest on a handful of films; pooled conditional erasure, as an
   extrapolation.
   Maps mixed by the level read from the image are candidates only where the strongest attacker
   reads it at AUROC 0.95 or better: half-known levels blur.
3. Else every candidate is cross-fitted by patient.  Outcome in the adjustment set: the mean of
   the AUROC under weights w (confounder independent of disease) and w^2 (association reversed),
   less 0.15 for each unit of leakage above the best.  Otherwise the least leakage, then AUROC.
4. A simpler candidate wins where the better one is better by less than a standard error of their
   paired difference.
5. Outcome in the adjustment set and every cell supported: the head is trained with balancing
   weights too, in the selection as afterwards.  What the eraser misses, such a head has no reason
   to use.  (With ten discordant films, choosing weights by their own score is a coin flip.)
6. Where a trained stage is named (`Auto(trained="cdann")`) and fresh attackers still read the
   chosen candidate above 0.55 on held-out training patients, the stage is trained from it, and
   kept only if attackers on patients set aside read less and the outcome loses no more than the
   stage's budget (0.02 of AUROC within levels).  Never by default: seconds become minutes.

The raw embedding is no candidate once step 1 has found a leak: what was asked for is what will be
audited.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from deconf.cohort.splits import patient_folds
from deconf.errors import SettingsError, listing
from deconf.maths.design import Confounder, confounders_in, levels_of
from deconf.maths.intervals import patient_weights, weighted_aurocs
from deconf.maths.maps import Adapter, AffineMap, EmbeddingMap
from deconf.maths.moments import Given
from deconf.maths.threads import one_thread
from deconf.methods.aligned import Aligned
from deconf.methods.base import (
    Method,
    MethodCard,
    as_arrays,
    methods,
    require_untuned,
    resolve,
)
from deconf.methods.cells import (
    balanced,
    cells,
    decided_by,
    fewest_patients,
    read_each,
)
from deconf.methods.counterfactual import Counterfactual
from deconf.methods.leace import LEACE
from deconf.methods.levels import MOST_MAPPED, LevelMoments
from deconf.methods.quadratic import Quadratic
from deconf.methods.transport import FEWEST as COORDINATES
from deconf.methods.transport import WISHED, Transport, coordinates, merged
from deconf.probes.head import choose_strength, fit_head
from deconf.probes.leakage import Leakage
from deconf.probes.reading import best_read, is_read

FEWEST = 10  # patients of a cell below which overlap is unsupported
PENALTY = 0.15  # of one unit of leakage, in units of AUROC
READABLE = 0.95  # AUROC of the level in the image from which posterior-mixed maps are considered
TOLERATED = 0.55  # leakage that no candidate is blamed for
ATTACKERS = ("logistic", "boosted")
LARGE = 20_000  # rows from which one 70/30 split replaces cross-fitting


@dataclass(frozen=True)
class Selection:
    """What was chosen and why.

    Attributes
    ----------
    name : str
        The chosen recipe in words.
    map : EmbeddingMap
        Fitted on all rows.
    head_weights : bool
        Whether a head should be trained with balancing weights as well.
    reasons : tuple of str
    scores : dict of str to float
        Selection score of each candidate, where a selection took place.
    leak : float
        What fresh attackers read of the chosen one on held-out training patients, if it was
        selected; else nan.
    method : Method or None
        The chosen candidate.
    """

    name: str
    map: EmbeddingMap
    head_weights: bool
    reasons: tuple[str, ...]
    scores: dict[str, float] = field(default_factory=dict)
    leak: float = np.nan
    method: Method | None = None


@methods.register(
    "auto",
    MethodCard(
        guarantee="that of the method chosen; the identity where nothing leaks",
        laws=("null",),
        dear=True,
        cost="3 fits of each candidate",
        source="the rule stated in deconf/methods/auto.py",
    ),
)
@dataclass(frozen=True)
class Auto(Method):
    """Choose among pooled and stacked LEACE, quadratic erasure, aligned maps and transport.

    Parameters
    ----------
    reads_record : bool
        Also consider maps that read the confounder of a new image.
    trained : name or settings of a trained method, optional
        Tried from the chosen map on where fresh attackers still read the confounder.
    """

    reads_record: bool = False
    trained: str | Method | None = None

    def __post_init__(self) -> None:
        if self.trained is None:
            return
        if not hasattr(resolve(self.trained), "start"):
            named = ", ".join(n for n in methods if hasattr(methods[n], "start"))
            raise SettingsError(
                f"trained is {self.trained!r}: name one of {named}, or their settings."
            )
        require_untuned(resolve(self.trained), "trained")

    def fit(
        self,
        z: Any,
        c: Any,
        *,
        given: Given | None = None,
        outcome: Any = None,
        weights: Any = None,
        patients: Any = None,
        seed: int = 0,
    ) -> EmbeddingMap:
        """Fit on training rows; see `Method.fit`."""
        z, c, given = as_arrays(z, c, given)
        return select(
            z,
            c,
            given=given,
            outcome=outcome,
            weights=weights,
            patients=patients,
            reads_record=self.reads_record,
            trained=self.trained,
            seed=seed,
        ).map


def select(
    z: Float[ndarray, "n d"],
    c: Float[ndarray, "n k"],
    *,
    given: Given,
    outcome: Any = None,
    weights: Float[ndarray, " n"] | None = None,
    patients: ndarray | None = None,
    reads_record: bool = False,
    trained: str | Method | None = None,
    seed: int = 0,
) -> Selection:
    """Choose and fit by the rule at the head of this file.

    Parameters
    ----------
    outcome : (n,) or (n, q), optional
        0, 1 or NaN where not recorded; of several the first is the one selected by.

    Raises
    ------
    SettingsError
        The outcome holds something else.
    """
    first = None if outcome is None else _first(outcome)
    patients = np.arange(len(z)) if patients is None else np.asarray(patients)
    with one_thread(z.size):
        found = _selected(z, c, given, first, weights, patients, reads_record, seed)
        if not found.leak > TOLERATED:
            return found
        if trained is None or found.map.needs_confounders:
            told = f"fresh attackers on held-out training patients still read {found.leak:.2f}"
            return replace(
                found, reasons=(*found.reasons, f"{told}; no trained stage was asked for")
            )
        stage: Any = replace(resolve(trained), start=found.method)  # type: ignore[type-var]
        keep: dict[str, Any] = {"weights": weights, "patients": patients, "seed": seed}
        fitted = stage.fit(z, c, given=given, outcome=outcome, **keep)
    reasons = (*found.reasons, *fitted.remarks)
    if not any(isinstance(link, Adapter) for link in fitted.links()):
        return replace(found, reasons=reasons)
    name = f"{found.name}, then {stage.registered_name}"
    return replace(found, name=name, map=fitted, reasons=reasons)


def _selected(
    z: ndarray,
    c: ndarray,
    given: Given,
    outcome: ndarray | None,
    weights: ndarray | None,
    patients: ndarray,
    reads_record: bool,
    seed: int,
) -> Selection:
    levels = levels_of(c)
    many = 0 if levels is None else int(levels.max()) + 1
    if many > MOST_MAPPED:
        levels = None  # maps level by level would rest on a few films each
    confounders = confounders_in(c)
    keep: dict[str, Any] = {"weights": weights, "patients": patients, "seed": seed}

    readings = read_each(
        z, confounders, ordered=False, strata=given.codes, patients=patients,
        attackers=ATTACKERS, permutations=100, seed=seed,
    )  # fmt: skip
    best = best_read(readings)
    codes, found = confounders[best].codes, readings[best]
    if all(
        not one.reason
        and (not is_read(one, readings) or (one.estimate.estimate < 0.53 and one.upper < 0.56))
        for one in readings
    ):
        return Selection(
            "identity",
            AffineMap.identity(z.shape[1]),
            False,
            (f"nothing to remove: fresh attackers read {_whom(readings)} at {found}",),
        )
    reasons = [f"raw: {found}" if len(readings) == 1 else f"raw, {_whom(readings)}: {found}"]
    if found.reason == "" and (unread := [one.reason for one in readings if one.reason]):
        reasons.append(f"{len(unread)} of them could not be judged: {unread[0]}")
    if many > MOST_MAPPED:
        reasons.append(f"{many:,} levels, joint ones included: no map level by level is tried")
    labelled = np.zeros(len(z), bool) if outcome is None else ~np.isnan(outcome)
    cell = cells(codes, given.codes, labelled)
    fewest = fewest_patients(cell, codes, given.codes, labelled, patients)
    if fewest < FEWEST or labelled.sum() < 4 * FEWEST:
        why = (
            f"the smallest cell holds {fewest} patients: no selection, pooled conditional erasure "
            "as an extrapolation"
            if outcome is not None and labelled.any()
            else "no outcome to select by: rank-ruled aligned map, then erasure"
        )
        recipe: Method = (
            LEACE(strata="pooled")
            if levels is None or (outcome is not None and labelled.any())
            else Aligned()
        )
        return Selection(
            _named(recipe), recipe.fit(z, c, given=given, **keep), False, (*reasons, why)
        )
    is_readable = found.estimate.estimate > READABLE
    if levels is not None and not is_readable:
        reasons.append("levels are only half readable: mixing maps would blur, so none is tried")
    m = None  # moments by level, for maps that are mixed by level
    if levels is not None and is_readable and given.basis is None:
        m = LevelMoments.of(z, c, given, weights, patients, "auto")
    candidates = _candidates(z, given, levels is not None, is_readable, reads_record, m)
    return _best(z, c, confounders, codes, given, outcome, labelled, keep, candidates, reasons)


def _candidates(
    z: ndarray,
    given: Given,
    has_levels: bool,
    is_readable: bool,
    reads_record: bool,
    m: LevelMoments | None,
) -> dict[str, Method]:
    """Return the candidates, the simplest first."""
    rows = np.bincount(given.codes)
    found: dict[str, Method] = {"leace (pooled)": LEACE(strata="pooled")}
    if len(rows) > 1 and rows.min() > 10 * z.shape[1]:
        found["leace (stacked)"] = LEACE(strata="stacked")
    if has_levels:
        found["quadratic"] = Quadratic()
    if has_levels and is_readable:
        found["aligned"] = Aligned()
    if has_levels and reads_record:
        found["aligned (reads the record)"] = Aligned(read="record")
        found["counterfactual (reads the record)"] = Counterfactual()
    mixture = Transport()
    # Twice the fewest: a fold of the selection trains on two thirds of the patients.
    if m and coordinates(merged(m, WISHED / mixture.crowding), mixture.crowding) >= 2 * COORDINATES:
        found["transport"] = mixture
    return found


def _best(
    z: ndarray,
    c: ndarray,
    confounders: tuple[Confounder, ...],
    codes: ndarray,
    given: Given,
    outcome: Any,
    labelled: ndarray,
    keep: dict[str, Any],
    candidates: dict[str, Method],
    reasons: list[str],
) -> Selection:
    patients, seed = keep["patients"], keep["seed"]
    in_given = decided_by(given.codes, outcome, labelled)
    w = balanced(codes, given.codes, labelled) if in_given else labelled.astype(float)
    folds = patient_folds(patients, 3, strata=cells(codes, given.codes, labelled), seed=seed)
    held = {name: np.full(len(z), np.nan) for name in candidates}
    leaks: dict[str, float] = {}
    for turn, (train, test) in enumerate(folds[:1] if len(z) > LARGE else folds):
        rows = train[labelled[train]]
        y, loss = outcome[rows], w[rows]
        strength = choose_strength(z[rows], y, weights=loss, patients=patients[rows], seed=seed)
        for name, method in candidates.items():
            fitted = method.fit(
                z[train],
                c[train],
                given=given.rows(train),
                weights=None if keep["weights"] is None else keep["weights"][train],
                patients=patients[train],
                seed=seed,
            )
            clean = _applied(fitted, z, c)
            score = fit_head(clean[rows], y, weights=loss, strength=strength).score(clean[test])
            held[name][test] = (score - score.mean()) / (score.std() or 1.0)
            if turn == 0:
                read = read_each(
                    clean[test], tuple(one.rows(test) for one in confounders), ordered=False,
                    strata=given.codes[test], patients=patients[test],
                    attackers=ATTACKERS, permutations=20, bootstraps=20, seed=seed,
                )  # fmt: skip
                leaks[name] = max(0.5 if r.reason else r.estimate.estimate for r in read)

    use = labelled & ~np.isnan(next(iter(held.values())))
    draws = np.vstack([np.ones(use.sum()), patient_weights(patients[use], 200, seed)])
    powers = (1, 2) if in_given else (0,)
    areas = {
        name: np.mean(
            [weighted_aurocs(s[use], outcome[use] == 1, draws * w[use] ** p) for p in powers],
            axis=0,
        )
        for name, s in held.items()
    }
    least = min(leaks.values())
    scores = {
        name: area - PENALTY * max(0.0, leaks[name] - max(least, TOLERATED))
        for name, area in areas.items()
    }
    if not in_given:
        scores = {n: s for n, s in scores.items() if leaks[n] <= least + 0.03}
    best = max(scores, key=lambda n: scores[n][0])
    chosen = next(
        n for n, s in scores.items()
        if n == best or scores[best][0] - s[0] < np.nanstd((scores[best] - s)[1:])
    )  # fmt: skip
    told = ", ".join(f"{n} {s[0]:.3f} (leak {leaks[n]:.2f})" for n, s in scores.items())
    criterion = (
        "mean AUROC with the association removed and reversed, less leakage"
        if in_given
        else "AUROC among the candidates with the least leakage"
    )
    reasons.append(f"selected on training patients by {criterion}: {told}")
    if chosen != best:
        reasons.append(f"{chosen} is simpler than {best} and within one standard error of it")
    return Selection(
        chosen,
        candidates[chosen].fit(z, c, given=given, **keep),
        in_given,
        tuple(reasons),
        {n: float(s[0]) for n, s in scores.items()},
        leaks[chosen],
        candidates[chosen],
    )


def _applied(fitted: EmbeddingMap, z: ndarray, c: ndarray) -> ndarray:
    with torch.no_grad():
        tensor = torch.tensor(z)
        out = fitted(tensor, torch.tensor(c)) if fitted.needs_confounders else fitted(tensor)
    array: ndarray = out.numpy()
    return array


def _first(outcome: Any) -> Float[ndarray, " n"]:
    """Return the first outcome as floats, or say what it holds that is not 0, 1 or missing."""
    column = np.asarray(outcome).reshape(len(outcome), -1)[:, 0]
    try:
        y = column.astype(np.float64)
    except ValueError:
        y = np.full(len(column), np.inf)
    other = ~(np.isin(y, (0, 1)) | np.isnan(y))
    if other.any():
        raise SettingsError(
            "auto selects by an outcome of 0, 1 or missing (NaN), and this one holds "
            f"{listing(np.unique(column[other]), 3)}: recode it, or choose a method by name."
        )
    return y


def _whom(readings: tuple[Leakage, ...]) -> str:
    if len(readings) == 1:
        return "the confounder"
    return f"the best read of {len(readings)} confounders"


def _named(method: Method) -> str:
    return f"leace ({method.strata})" if isinstance(method, LEACE) else method.registered_name
