"""From an audit to the certificate that goes with a cleaner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deconf.causal.plan import Plan
from deconf.cohort.cohort import Cohort
from deconf.cohort.fingerprint import files_digest
from deconf.encoders.base import Encoder
from deconf.encoders.deconfounded import DeconfoundedEncoder
from deconf.encoders.inputs import encodes_files
from deconf.evidence.leakage import Audit, audit
from deconf.evidence.provenance import versions
from deconf.records.certificate import Certificate, Figure, Finding, Sample
from deconf.records.salting import new_salt
from deconf.records.sealed import frozen


def certify(
    found: Audit,
    clean: DeconfoundedEncoder,
    plan: Plan,
    *,
    fitted_on: Cohort,
    audited_on: Cohort | None,
    settings: Mapping[str, Any],
    effort: str,
) -> Certificate:
    """Return the certificate of a fitted cleaner.

    Parameters
    ----------
    found : Audit
        Of the procedure, or of this map on ``audited_on``.
    clean, plan
        As fitted.
    fitted_on, audited_on : Cohort
        ``audited_on`` is None where the procedure was audited.
    settings : mapping
        Of the cleaner, as JSON types.
    effort : str
    """
    judged = fitted_on if audited_on is None else audited_on
    return Certificate(
        certifies="procedure" if audited_on is None else "this map",
        encoder=clean.encoder.digest,
        map=clean.map.digest,
        method=clean.method,
        trained_on=fitted_on.digest,
        sample=sample_of(judged, clean.encoder, new_salt()),
        settings=frozen(settings),
        graph=str(plan.graph),
        effort=effort,
        findings=findings_of(found),
        figures=figures_of(found),
        assumptions=tuple(plan.assumptions),
        warnings=tuple(plan.warnings),
        notes=found.reasons,
        versions=frozen(versions()),
    )


def audited(
    representation: Any, cohort: Cohort, confounders: Sequence[str], *, effort: str, seed: int
) -> Audit:
    """Return the audit that a certificate rests on; empty where there is nothing to remove."""
    if not confounders:
        none = "nothing was audited: by the graph no confounder reaches the image"
        return Audit({}, {}, {}, {}, reasons=(none,))
    return audit(representation, cohort, confounders, effort=effort, seed=seed)  # type: ignore[arg-type]


def sample_of(cohort: Cohort, encoder: Encoder, salt: str) -> Sample:
    """Return size, roles and digests of a cohort, its patients under a salt."""
    return Sample(
        films=len(cohort),
        patients=len(np.unique(cohort.patients.astype(str))),
        roles=frozen(dict(cohort.roles)),
        table=cohort.digest,
        pixels=files_digest(cohort.image_paths) if encodes_files(encoder, cohort) else "",
        salt=salt,
        people=tuple(sorted(cohort.patient_digests(salt))),
    )


def findings_of(found: Audit) -> tuple[Finding, ...]:
    """Return the verdict on each confounder."""
    return tuple(
        Finding(
            confounder=name,
            invariance=str(found.invariances[name]),
            word=verdict.word,
            sentence=verdict.sentence,
            worst=verdict.worst,
            auroc=float(verdict.estimate.estimate),
            low=float(verdict.estimate.low),
            high=float(verdict.estimate.high),
            floor=float(verdict.floor),
            p=float(verdict.p),
            n=int(verdict.n),
            needed=None if verdict.needed is None else int(verdict.needed),
        )
        for name, verdict in found.verdict.items()
    )


def figures_of(found: Audit) -> tuple[Figure, ...]:
    """Return what each attacker read, conditionally and marginally."""
    rows = found.to_frame().drop(columns="verdict").to_dict("records")
    return tuple(Figure(**{str(k): _python(v) for k, v in row.items()}) for row in rows)


def _python(value: Any) -> Any:
    """Return Python's own types; a figure that is not there is None."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and np.isnan(value) else value
