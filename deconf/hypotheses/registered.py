"""Our estimators under dowhy's interface, so that its refuters run on them.

dowhy finds an estimator by its dotted name: ``"backdoor." + AIPW_NAME`` is the registration.
Importing this file imports dowhy, which takes seconds: do it inside functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from dowhy.causal_estimator import CausalEstimate, CausalEstimator
from numpy import ndarray

from deconf.hypotheses.estimation import doubly_robust, front_door, partially_linear, propensity
from deconf.hypotheses.nuisances import Covariates
from deconf.hypotheses.reading import PATIENT_COLUMN as PATIENT
from deconf.maths.intervals import factorised
from deconf.maths.kinds import is_categorical
from deconf.maths.within import within_patient

AIPW_NAME = "deconf.hypotheses.registered.CrossFitted"
WITHIN_NAME = "deconf.hypotheses.registered.WithinPatients"


class _Registered(CausalEstimator):  # type: ignore[misc]  # dowhy has no types
    """What dowhy asks of an estimator; the arithmetic is a difference of two levels."""

    def __init__(
        self, identified_estimand: Any, *, trim: float = 0.01, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(identified_estimand=identified_estimand, **kwargs)
        self.trim, self.seed = trim, seed

    def fit(self, data: pd.DataFrame, effect_modifier_names: Any = None, **_: Any) -> Any:
        """Note the data; nuisances are fitted with the estimate, out of fold."""
        self._set_effect_modifiers(data, effect_modifier_names)
        return self

    def estimate_effect(
        self,
        data: pd.DataFrame,
        treatment_value: Any = 1,
        control_value: Any = 0,
        target_units: Any = None,
        **_: Any,
    ) -> CausalEstimate:
        """Return the estimate as dowhy's object."""
        self._target_units = target_units
        self._treatment_value, self._control_value = treatment_value, control_value
        estimand = self._target_estimand
        cause, effect = estimand.treatment_variable[0], estimand.outcome_variable[0]
        value = self._value(data, cause, effect, int(treatment_value), int(control_value))
        found = CausalEstimate(
            data=data,
            treatment_name=estimand.treatment_variable,
            outcome_name=estimand.outcome_variable,
            estimate=value,
            control_value=control_value,
            treatment_value=treatment_value,
            target_estimand=estimand,
            realized_estimand_expr=self.construct_symbolic_estimator(estimand),
        )
        found.add_estimator(self)
        return found

    def construct_symbolic_estimator(self, estimand: Any) -> str:
        """Return the regression that the estimate stands for, as dowhy prints it."""
        held = list(estimand.get_adjustment_set() or [])
        return f"{estimand.outcome_variable[0]}~{'+'.join([*estimand.treatment_variable, *held])}"

    def _value(
        self, data: pd.DataFrame, cause: str, effect: str, level: int, reference: int
    ) -> float:
        raise NotImplementedError


class CrossFitted(_Registered):
    """Cross-fitted AIPW; the slope of a partially linear model for a number; the front door."""

    def _value(
        self, data: pd.DataFrame, cause: str, effect: str, level: int, reference: int
    ) -> float:
        y = data[effect].to_numpy(dtype=float)
        who = factorised(data[PATIENT].to_numpy())
        estimand = self._target_estimand
        is_front = estimand.identifier_method == "frontdoor"
        held = estimand.frontdoor_variables if is_front else estimand.get_adjustment_set()
        x = Covariates.of(data, list(held or []))
        if not is_categorical(data[cause]):
            a = data[cause].to_numpy(dtype=float)
            return partially_linear(x, y, a, who, cause, seed=self.seed).estimate
        codes: ndarray = np.unique(data[cause].to_numpy(dtype=int), return_inverse=True)[1]
        known = propensity(x, codes, who, trim=0.0 if is_front else self.trim, seed=self.seed)
        means = (front_door if is_front else doubly_robust)(x, y, codes, who, known)
        return float(means.estimates[level] - means.estimates[reference])


class WithinPatients(_Registered):
    """The fixed-effects difference within patients."""

    def _value(
        self, data: pd.DataFrame, cause: str, effect: str, level: int, reference: int
    ) -> float:
        a = data[cause].to_numpy(dtype=int)
        rows = np.isin(a, (level, reference))
        y = data[effect].to_numpy(dtype=float)[rows]
        who = factorised(data[PATIENT].to_numpy()[rows])
        return within_patient(y, a[rows] == level, who).difference.estimate
