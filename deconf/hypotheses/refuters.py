"""dowhy's refuters on our estimators, as rows of one table.

A refuter asks for something that must hold if estimator and graph are right.  Passing one proves
nothing: none of these four sees a confounder that is missing from the graph.  That is what
negative controls are for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from deconf.hypotheses.identification import ByDowhy, quietly
from deconf.hypotheses.registered import AIPW_NAME, PATIENT, WITHIN_NAME

COLUMNS = ["refuter", "asks", "catches", "original", "refuted", "allowed", "result"]
SUBSET = 0.8
PLACEBO_REACH, NOISE_REACH, SUBSET_REACH = 3.0, 1.0, 1.5
"""In standard errors of the estimate.  A placebo scatters by one, over √simulations when averaged;
a subset of four fifths by √(1/0.8 − 1), a half: three times that is allowed.  A column of noise
ought to move nothing.  A cross-fitted estimate also moves with its folds and trees, so a sound one
fails now and then: one of twelve simulated studies of 400 patients did."""
PAIRS_REACH = 2.25
"""Of a subset within patients, where 0.8² of the pairs are left: three times √(1/0.64 − 1)."""


def refute(
    found: ByDowhy,
    data: pd.DataFrame,
    patients: np.ndarray,
    *,
    level: int,
    reference: int,
    se: float,
    trim: float,
    simulations: int,
    seed: int,
    within: bool = False,
    progress: Callable[[str], object] = str,
) -> pd.DataFrame:
    """Run placebo treatment, random common cause, data subset and unobserved common cause.

    Parameters
    ----------
    data : DataFrame
        Cause as whole numbers (or a number), effect as a number, and what is held.
    se : float
        Standard error of the estimate: the yardstick.
    within : bool
        Refute the within-patient contrast; a random column is then not asked about, since it
        holds nothing but the patient.
    """
    frame = data.assign(**{PATIENT: patients})
    model, estimand = found.model, found.estimand
    rows = []
    with quietly(seed):
        model._data = frame
        settings = {"trim": trim, "seed": seed}
        estimate = model.estimate_effect(
            estimand,
            method_name=f"{estimand.identifier_method}.{WITHIN_NAME if within else AIPW_NAME}",
            control_value=reference,
            treatment_value=level,
            effect_modifiers=[],
            method_params=settings,
        )
        original = float(estimate.value)

        def run(name: str, **arguments: Any) -> float:
            progress(f"refuter: {name}")
            asked = model.refute_estimate(
                estimand, estimate, method_name=name, show_progress_bar=False, **arguments
            )
            return float(np.mean(asked.new_effect))

        drawn = np.random.RandomState(seed)  # dowhy takes no Generator
        repeated = {"num_simulations": simulations, "random_state": drawn}
        placebo = run("placebo_treatment_refuter", placebo_type="permute", **repeated)
        rows.append(
            _row("placebo cause", "levels dealt out at random have no effect", "a faulty estimator",
                 original, placebo, PLACEBO_REACH * se / np.sqrt(simulations), abs(placebo))
        )  # fmt: skip
        if not within and estimand.identifier_method == "backdoor":
            moved = run("random_common_cause", **repeated)
            rows.append(
                _row("random common cause", "a column of noise moves nothing", "overfitting",
                     original, moved, NOISE_REACH * se, abs(moved - original))
            )  # fmt: skip
        part = run("data_subset_refuter", subset_fraction=SUBSET, **repeated)
        rows.append(
            _row("data subset", f"{100 * SUBSET:.0f} % of the rows say the same",
                 "an estimate that hangs on a few rows", original, part,
                 (PAIRS_REACH if within else SUBSET_REACH) * se,
                 abs(part - original))
        )  # fmt: skip
        if pd.api.types.is_integer_dtype(frame[model._treatment[0]].dtype) and (
            frame[model._treatment[0]].nunique() == 2
        ):
            y = frame[model._outcome[0]]
            moved = run(
                "add_unobserved_common_cause",
                confounders_effect_on_treatment="binary_flip",
                confounders_effect_on_outcome="linear",
                effect_strength_on_treatment=0.05,
                effect_strength_on_outcome=0.1 * float(y.std()),
            )
            rows.append(
                _row("unobserved common cause",
                     "one that turns the cause in 5 % of rows and moves the outcome by 0.1 sd",
                     "shown, not judged", original, moved, float("nan"), float("nan"))
            )  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(
    name: str, asks: str, catches: str, original: float, refuted: float, allowed: float, gap: float
) -> dict[str, Any]:
    return {
        "refuter": name,
        "asks": asks,
        "catches": catches,
        "original": original,
        "refuted": refuted,
        "allowed": allowed,
        "result": "shown" if np.isnan(gap) else "passed" if gap <= allowed else "failed",
    }
