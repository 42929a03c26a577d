"""The front door: `deconfound(encoder, confounders)` -> plan -> fit."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deconf.causal.graph import CausalGraph, as_names
from deconf.causal.invariance import Invariance
from deconf.causal.pairs import by_design
from deconf.causal.plan import Plan, make_plan
from deconf.causal.weights import balancing_weights
from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder, load_encoder
from deconf.encoders.deconfounded import DeconfoundedEncoder
from deconf.encoders.tune import Tune
from deconf.errors import CohortError, NotIdentified, OverlapWarning, SettingsError
from deconf.evidence.certificate import audited, certify
from deconf.maths.design import Design, Encoding, design
from deconf.maths.maps import AffineMap, Chain, EmbeddingMap
from deconf.methods.auto import Auto, select
from deconf.methods.base import Method, methods, resolve
from deconf.methods.described import described
from deconf.methods.leace import LEACE
from deconf.methods.levels import require_levels
from deconf.methods.paired import FEWEST_PAIRS
from deconf.records.certificate import Certificate
from deconf.records.salting import new_salt
from deconf.tuning.asked import tune_of
from deconf.tuning.encoder import Tuned, tune_encoder
from deconf.tuning.judge import left_out_of, outcomes_of, targets_of

logger = logging.getLogger(__name__)
FEWEST_ROWS = 20
EFFORT = "quick"  # of the attackers of a certificate


@dataclass(frozen=True)
class Deconfounder:
    """What to remove and how, before it has seen data; see `deconfound`."""

    encoder: Encoder
    confounders: tuple[str, ...]
    outcome: tuple[str, ...] = ()
    graph: CausalGraph | None = None
    given: tuple[str, ...] | None = None
    method: Method = field(default_factory=Auto)
    at_inference: bool = False
    unlabelled: bool = True
    seed: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        """All arguments of `deconfound` but the encoder, as JSON types."""
        return {
            "confounders": list(self.confounders),
            "outcome": list(self.outcome),
            "graph": None if self.graph is None else str(self.graph),
            "given": None if self.given is None else list(self.given),
            "method": described(self.method),
            "at_inference": self.at_inference,
            "unlabelled": self.unlabelled,
            "seed": self.seed,
        }

    def plan(self, cohort: Cohort) -> Plan:
        """Say what the graph demands, whether the data allow it, and what would be done.

        Fits nothing and never raises on causal grounds; a wrong column or graph does raise.
        """
        embeddings = cohort.embeddings
        width = embeddings.shape[1] if embeddings is not None and embeddings.ndim == 2 else None
        plan = make_plan(
            cohort.table,
            self.confounders,
            outcome=self._outcome(cohort),
            graph=self.graph,
            given=self.given,
            method=self.method.registered_name,
            patient=cohort.roles["patient"],
            width=width or self.encoder.width,
        )
        if not self._needs_pairs:
            return plan
        return by_design(plan, cohort.table, cohort.roles["patient"], FEWEST_PAIRS)

    @property
    def _needs_pairs(self) -> bool:
        name = self.method.registered_name
        return name in methods and "pairs" in methods.card(name).needs

    def fit(
        self,
        cohort: Cohort,
        *,
        audit_on: Cohort | None = None,
        checkpoint: str | Path | None = None,
    ) -> DeconfoundedEncoder:
        """Fit on a cohort of training patients.

        Parameters
        ----------
        audit_on : Cohort, optional
            Other patients: the certificate then audits this map on them.
        checkpoint : folder, optional
            Where a method with ``tune=`` keeps what it has learnt: called again after a kill, it
            goes on from there.

        Raises
        ------
        NotIdentified
            The graph yields no adjustment set among the measured columns, and no ``given=``.
        CohortError
            Fewer than 20 rows; no embeddings.
        SettingsError
            ``tune=`` with stored embeddings, or ``checkpoint=`` without it.

        Warns
        -----
        OverlapWarning
            Cells are empty: the map extrapolates, and ``plan.is_identified`` is False.
        """
        how = tune_of(self.method, self.encoder, checkpoint)
        plan = self.plan(cohort)
        for invariance in plan.distinct():
            if not (invariance.is_identified or self._needs_pairs):  # pairs speak for themselves
                raise NotIdentified(
                    f"{', '.join(invariance.confounders)}: {invariance.why} "
                    f"Would help: {'; '.join(invariance.remedies[:3])}. "
                    "Or defend a set of your own with given=[...]."
                )
        if len(cohort) < FEWEST_ROWS:
            raise CohortError(
                f"{len(cohort)} rows: at least {FEWEST_ROWS} are needed to fit anything, and some "
                "hundreds to learn a trace. Bring more rows."
            )
        if not (plan.is_identified or self._needs_pairs):
            warnings.warn(
                "overlap is not given, the map extrapolates: " + " ".join(plan.warnings[:2]),
                OverlapWarning,
                stacklevel=2,
            )
        tuned = self._tuned(cohort, plan, how, checkpoint)
        whole = self._fit_all(tuned.encoder.embed(cohort), cohort, plan)
        salt = new_salt()
        logger.info("%s fitted on %d rows for %s", whole.name, len(cohort), plan.distinct())
        return DeconfoundedEncoder(
            tuned.encoder,
            whole.map,
            plan=plan,
            method=whole.name,
            encoding=whole.encoding,
            weights=whole.weights,
            reasons=(*tuned.reasons, *whole.reasons),
            salt=salt,
            patients=cohort.patient_digests(salt),
            certify=lambda clean: self._certify(clean, cohort, plan, audit_on),
        )

    def _tuned(
        self, cohort: Cohort, plan: Plan, how: Tune | None, checkpoint: str | Path | None
    ) -> Tuned:
        """Return the encoder, trained further where the method asks for it."""
        if how is None or not any(i.is_needed for i in plan.distinct()):
            return Tuned(self.encoder, ())
        # What is trained is judged by what a closed form leaves of it, not by itself once more.
        form: Any = replace(self.method, tune="none") if self._needs_pairs else LEACE()  # type: ignore[type-var]
        closed = replace(self, method=form)
        tells = {
            "method": described(form),
            "unlabelled": self.unlabelled,
            "removes": [str(i) for i in plan.distinct()],
        }
        return tune_encoder(
            self.encoder,
            cohort,
            targets_of(cohort.table, plan.distinct(), plan.outcome),
            how,
            clean=lambda z, rows: closed._fit_all(z, cohort.subset(rows), plan).map,
            objective="pairs" if self._needs_pairs else "adversary",
            outcome=outcomes_of(cohort.table, plan.outcome),
            seed=self.seed,
            checkpoint=checkpoint,
            closed_form=tells,
        )

    def _fit_all(self, z: np.ndarray, cohort: Cohort, plan: Plan) -> _Whole:
        """Fit the method to each independence in turn, on what the one before left."""
        maps: list[EmbeddingMap] = []
        reasons: list[str] = []
        weights, names, encoding = None, [], None
        for invariance in plan.distinct():
            if not invariance.is_needed:
                reasons.append(f"{', '.join(invariance.confounders)}: {invariance.why}")
                continue
            fitted = self._fit_one(z, cohort, invariance, plan)
            maps.append(fitted.map)
            names.append(fitted.name)
            reasons += fitted.reasons
            encoding = fitted.encoding
            if fitted.head_weights:
                weights = balancing_weights(
                    cohort.table,
                    invariance.confounders,
                    invariance.given,
                    patient=cohort.roles["patient"],
                ).values
            z = _applied(fitted.map, z, encoding, cohort)
        whole = (
            maps[0] if len(maps) == 1 else Chain(*maps) if maps else AffineMap.identity(z.shape[1])
        )
        if whole.needs_confounders and len(maps) > 1:
            raise SettingsError(
                "maps that read the confounder cannot be chained over different adjustment sets: "
                "fit the confounders one at a time, or use at_inference=False."
            )
        name = " then ".join(names) or "identity"
        return _Whole(whole, name, tuple(reasons), encoding, weights)

    def _fit_one(
        self, z: np.ndarray, cohort: Cohort, invariance: Invariance, plan: Plan
    ) -> _Fitted:
        arrays = design(
            cohort.table,
            invariance.confounders,
            invariance.given,
            outcomes=plan.outcome,
            unlabelled=self.unlabelled and _is_thin(plan, invariance),
        )
        rows, patients = arrays.rows, cohort.patients[arrays.rows]
        said = _said_of(arrays, invariance)
        y, left_out = self._outcomes_of(cohort, plan)
        said = (*said, *left_out)
        common = {"given": arrays.given, "patients": patients, "seed": self.seed}
        if isinstance(self.method, Auto):
            reads = self.method.reads_record or self.at_inference
            chosen = select(
                z[rows], arrays.c, outcome=None if y is None else y[rows], reads_record=reads,
                trained=self.method.trained, **common,
            )  # fmt: skip
            return _Fitted(
                chosen.map,
                f"auto: {chosen.name}",
                chosen.head_weights,
                (*said, *chosen.reasons),
                arrays.encoding,
            )
        card = methods.card(self.method.registered_name)
        if "levels" in card.needs:
            require_levels(self.method.registered_name, cohort.table, invariance.confounders)
        fitted = self.method.fit(
            z[rows], arrays.c, outcome=None if y is None else y[rows], **common
        )
        if fitted.needs_confounders and not self.at_inference:
            raise SettingsError(
                f"the method {self.method.registered_name!r} reads the confounder of every new "
                "image: pass at_inference=True if it will be known, or use 'leace' or 'aligned'."
            )
        return _Fitted(
            fitted,
            self.method.registered_name,
            card.head_weights,
            (*said, *fitted.remarks),
            arrays.encoding,
        )

    def _outcomes_of(self, cohort: Cohort, plan: Plan) -> tuple[np.ndarray | None, list[str]]:
        """Return the outcomes that the method can use, and in words which it cannot."""
        name, every_kind = self.method.registered_name, hasattr(self.method, "keeps_every_kind")
        y = outcomes_of(cohort.table, plan.outcome, every_kind=every_kind)
        is_needed = name in methods and "outcome" in methods.card(name).needs
        reads = is_needed or isinstance(self.method, Auto) or hasattr(self.method, "budget")
        if every_kind or not reads:
            return y, []
        return y, left_out_of(cohort.table, plan.outcome, name, is_needed=is_needed and y is None)

    def _certify(
        self, clean: DeconfoundedEncoder, cohort: Cohort, plan: Plan, audit_on: Cohort | None
    ) -> Certificate:
        names = [n for n, i in plan.invariances.items() if i.is_needed]
        if audit_on is not None:
            found = audited(clean, audit_on, names, effort=EFFORT, seed=self.seed)
        else:
            first, second = cohort.split(test_size=0.5, seed=self.seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OverlapWarning)  # said once, at the fit
                fitted = self.fit(first)
                found = audited(fitted, second, names, effort=EFFORT, seed=self.seed)
        return certify(
            found,
            clean,
            plan,
            fitted_on=cohort,
            audited_on=audit_on,
            settings=self.settings,
            effort=EFFORT,
        )

    def _outcome(self, cohort: Cohort) -> tuple[str, ...]:
        own = cohort.outcomes
        if self.outcome and own and set(self.outcome) != set(own):
            raise SettingsError(
                f"outcome={list(self.outcome)} here and {list(own)} in the cohort: name it once."
            )
        return self.outcome or own


@dataclass(frozen=True)
class _Whole:
    map: EmbeddingMap
    name: str
    reasons: tuple[str, ...]
    encoding: Encoding | None
    weights: np.ndarray | None


@dataclass(frozen=True)
class _Fitted:
    map: EmbeddingMap
    name: str
    head_weights: bool
    reasons: tuple[str, ...]
    encoding: Encoding


def deconfound(
    encoder: Any,
    confounders: str | Sequence[str],
    *,
    outcome: str | Sequence[str] | None = None,
    graph: str | CausalGraph | None = None,
    given: str | Sequence[str] | None = None,
    method: str | Method = "auto",
    at_inference: bool = False,
    unlabelled: bool = True,
    seed: int = 0,
) -> Deconfounder:
    """Describe an encoder from which confounders are to be removed as a causal graph demands.

    Parameters
    ----------
    encoder : "stored", an `Encoder` or a torch module
    confounders : one column or several
        Workflow signals: site, scanner, portable.  Kinds may be mixed, values may be missing.
    outcome : one column or several, optional
        Default: the outcome role of the cohort.
    graph : text or CausalGraph, optional
        Node names are column names; ``image`` is the pixels.  Default: with an outcome,
        ``y -> image; c -> image; c <-> y``; without, ``c -> image``.
    given : columns, optional
        Your own adjustment set instead of the graph's, printed as your assumption.
    method : str or settings object
        See ``deconf.methods.names()``.
    at_inference : bool
        Whether maps may read the confounder of a new image.
    unlabelled : bool
        Where labelled cells are thin, let rows without a recorded adjustment set form a stratum
        of their own that helps to estimate the trace (an assumption, and printed as one).
    seed : int

    Examples
    --------
    >>> import deconf
    >>> world = deconf.worlds.linear(n=600)
    >>> cleaner = deconf.deconfound("stored", ["portable"], graph=world.graph)
    >>> print(*cleaner.plan(world.train().cohort).distinct())
    z ⊥ portable | pneumonia
    """
    names = as_names(confounders)
    if not names:
        raise SettingsError("name at least one confounder, say deconfound(encoder, ['site']).")
    return Deconfounder(
        encoder=load_encoder(encoder),
        confounders=names,
        outcome=as_names(outcome),
        graph=CausalGraph.parse(graph) if isinstance(graph, str) else graph,
        given=None if given is None else as_names(given),
        method=resolve(method),
        at_inference=at_inference,
        unlabelled=unlabelled,
        seed=seed,
    )


def _applied(fitted: EmbeddingMap, z: np.ndarray, encoding: Encoding, cohort: Cohort) -> np.ndarray:
    c = torch.tensor(encoding.encode(cohort.table)[0]) if fitted.needs_confounders else None
    with torch.inference_mode():
        tensor = torch.tensor(z)
        return (fitted(tensor, c) if c is not None else fitted(tensor)).numpy()


def _is_thin(plan: Plan, invariance: Invariance) -> bool:
    own = plan.overlap[plan.overlap["invariance"] == str(invariance)]
    return bool((own["status"] != "ok").any())


def _said_of(arrays: Design, invariance: Invariance) -> tuple[str, ...]:
    said = []
    if arrays.dropped:
        said.append(f"{arrays.dropped:,} rows left out: a confounder is missing")
    loose = int((~arrays.labelled).sum())
    if loose:
        said.append(
            f"{loose:,} rows without {', '.join(invariance.given)} form a stratum of their own; "
            "assumed: inside it the confounder is unrelated to what differs"
        )
    return tuple(said)
