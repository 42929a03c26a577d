"""Causal de-confounding of image representations.

The causal graph says which independence a clean embedding must satisfy; that statement is the
target of the method that edits the embedding and the null hypothesis of the audit that judges it.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Cohort": "deconf.cohort.cohort",
    "CausalGraph": "deconf.causal.graph",
    "Invariance": "deconf.causal.invariance",
    "Plan": "deconf.causal.plan",
    "label_errors": "deconf.causal.sensitivity",
    "proxy_range": "deconf.causal.sensitivity",
    "load_encoder": "deconf.encoders.base",
    "DeconfoundedEncoder": "deconf.encoders.deconfounded",
    "load": "deconf.encoders.saved",
    "deconfound": "deconf.front",
    "Deconfounder": "deconf.front",
    "Cleaner": "deconf.estimator",
    "audit": "deconf.evidence.leakage",
    "Audit": "deconf.evidence.leakage",
    "Verdict": "deconf.evidence.verdict",
    "compare": "deconf.evidence.compare",
    "Report": "deconf.evidence.report",
    "total_effect": "deconf.hypotheses.effects",
    "direct_effect": "deconf.hypotheses.effects",
    "Effect": "deconf.hypotheses.result",
    "tradeoff": "deconf.frontier",
    "Tradeoff": "deconf.evidence.tradeoff",
    "check_counterfactuals": "deconf.hypotheses.counterfactuals",
    "flip_test": "deconf.hypotheses.counterfactuals",
    "independence": "deconf.hypotheses.independence",
    "Independence": "deconf.hypotheses.independence",
    "intervene": "deconf.hypotheses.reactions.experiment",
    "Reactions": "deconf.hypotheses.reactions.result",
    "Certificate": "deconf.records.certificate",
    "verify": "deconf.verification",
    "DeconfError": "deconf.errors",
    "CohortError": "deconf.errors",
    "GraphError": "deconf.errors",
    "NotIdentified": "deconf.errors",
    "SettingsError": "deconf.errors",
    "LeakageError": "deconf.errors",
    "ReadError": "deconf.errors",
    "OverlapWarning": "deconf.errors",
}
_MODULES = ("methods", "encoders", "worlds", "scm")
_MODULES = {
    "methods": "deconf.methods",
    "encoders": "deconf.encoders",
    "worlds": "deconf.worlds",
    "interventions": "deconf.hypotheses.interventions",
}

__all__ = ["__version__", *_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'deconf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
