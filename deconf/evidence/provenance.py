"""Enough to know whether to believe a report and to make it again; no patient in it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from types import MappingProxyType

import numpy as np

from deconf.cohort.cohort import Cohort

PACKAGES = ("deconf", "torch", "scikit-learn", "numpy", "scipy", "pandas")


def provenance(cohort: Cohort, *, folds: Sequence[str], **settings: object) -> Mapping[str, object]:
    """Return settings, versions, the fingerprint and size of the cohort."""
    patients, films = np.unique(cohort.patients.astype(str), return_counts=True)
    return MappingProxyType(
        {
            **settings,
            "folds": list(folds),
            "cohort": cohort.digest,
            "films": len(cohort),
            "patients": len(patients),
            "films per patient, most": int(films.max()),
            "dropped": cohort.dropped,
            "roles": {k: list(v) if isinstance(v, tuple) else v for k, v in cohort.roles.items()},
            "versions": versions(),
        }
    )


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "source"
    return found
