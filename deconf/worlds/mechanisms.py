"""The structural model behind the simulated radiographs: who is ill, and how each film is taken.

    severity -> pneumonia -> effusion            what the patient has
    severity -> portable -> projection, exposure, marker, leads
    site -> pneumonia, portable, scanner, style of the marker

Every column is a function of its causes and of noise of its own.  The noise is drawn once, each
column from a generator of its own: an intervention replaces one function and keeps all noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from deconf.worlds.acquisition import SCANNERS

DISEASE_GIVEN_SEVERITY = np.array([0.05, 0.25, 0.75, 0.95])
PORTABLE_GIVEN_SEVERITY = np.array([0.05, 0.20, 0.80, 0.95])
EXTENT_GIVEN_SEVERITY = np.array([0.6, 0.85, 1.15, 1.6])
MARKED = 0.85
"""Share of portable films that carry the word."""
MONITORED = 0.45
"""Share of portable films with the leads of a monitor."""
FILMS = np.array([0.75, 0.17, 0.08])
"""Shares of patients with one, two and three films."""
SHARES = np.array([0.55, 0.30, 0.15])
"""How much a site uses its three scanners."""
OF_PATIENT = (
    "site", "severity", "pneumonia", "effusion", "nodule", "cardiomegaly", "age", "sex", "extent",
)  # fmt: skip
OF_FILM = ("portable", "scanner", "exposure", "marker", "leads")
DRAWS = ("train", "aligned", "balanced", "reversed", "unseen")
HIDDEN = ("marker", "leads", "style", "extent", "person")
"""Columns of the truth that no table would hold."""

Severity = Literal["silent", "visible"]

PATIENT = (
    "severity -> pneumonia; severity -> portable; pneumonia -> effusion; age -> cardiomegaly; "
    "pneumonia -> image; effusion -> image; nodule -> image; cardiomegaly -> image; "
    "age -> image; sex -> image; "
)
FILM = (
    "portable -> image; portable -> projection! -> image; portable -> exposure! -> image; "
    "scanner! -> exposure; scanner -> image"
)
VISIBLE = "; severity -> effusion; severity -> image"
SITE = "; site -> pneumonia; site -> portable; site -> scanner; site -> image"


def site_names(sites: int) -> list[str]:
    """Return the sites' names, the last one that of a site outside training."""
    return [chr(65 + k) for k in range(sites + 1)]


def site_scanners(site: int) -> list[str]:
    """Return the models a site owns, the most used first; neighbours share two of three."""
    models = list(SCANNERS)
    return [models[(site + k) % len(models)] for k in range(len(SHARES))]


def background(n: int, seed: int, draw: int) -> pd.DataFrame:
    """Return the noise of every column, (n, columns): uniform on 0 to 1, and the patient's number.

    The first rows of a longer draw are those of a shorter one.
    """

    def uniform(column: int, size: int) -> np.ndarray:
        return np.random.default_rng([seed, draw, 2, column]).random(size)

    films = 1 + np.searchsorted(np.cumsum(FILMS)[:-1], uniform(0, n))
    person = np.repeat(np.arange(n), films)[:n]
    noise = {name: uniform(1 + k, n)[person] for k, name in enumerate(OF_PATIENT)}
    noise |= {name: uniform(20 + k, n) for k, name in enumerate(OF_FILM)}
    return pd.DataFrame(noise | {"person": person})


def facts(
    noise: pd.DataFrame,
    *,
    draw: str,
    sites: int,
    association: float,
    severity: Severity,
    do: Mapping[str, object],
) -> pd.DataFrame:
    """Return the columns of every film, observed and hidden, under an intervention.

    Parameters
    ----------
    noise : DataFrame
        From `background`.
    draw : str
        One of `DRAWS`; "unseen" sends every patient to the site outside training.
    sites, association, severity
        As in `RadiographWorld`.
    do : mapping
        Any of ``portable`` (0 or 1), ``site`` and ``scanner`` (names).  Patients stay who they
        are: the site a film is taken at does not reach back to the disease or to the choice of
        device, only to scanner and style, which is what the arrows into the image carry.
    """
    u = {name: noise[name].to_numpy() for name in noise.columns}
    names = site_names(sites)
    home = np.full(len(noise), sites) if draw == "unseen" else (u["site"] * sites).astype(int)
    tilt = np.zeros(len(noise)) if sites == 1 else np.linspace(-0.15, 0.15, sites + 1)[home]

    sick = (u["severity"] * 4).astype(int)
    pneumonia = u["pneumonia"] < np.clip(DISEASE_GIVEN_SEVERITY[sick] + tilt, 0.02, 0.98)
    age = 20 + 70 * u["age"] ** 0.85
    cardiomegaly = u["cardiomegaly"] < 0.05 + 0.25 * (age - 20) / 70
    wet = 0.06 + 0.30 * pneumonia
    extent = np.exp(0.5 * (u["extent"] - 0.5))
    if severity == "visible":
        wet = wet + 0.12 * (sick - 1.5) * pneumonia
        extent = EXTENT_GIVEN_SEVERITY[sick]

    chance = 0.5 + association * (PORTABLE_GIVEN_SEVERITY[sick] - 0.5 + tilt)
    portable = u["portable"] < np.clip(chance, 0.02, 0.98)
    if "portable" in do:
        portable = np.full(len(noise), bool(do["portable"]))

    here = np.full(len(noise), names.index(str(do["site"]))) if "site" in do else home
    owned = np.array([site_scanners(k) for k in range(sites + 1)])
    scanner = owned[here, np.searchsorted(np.cumsum(SHARES)[:-1], u["scanner"])]
    if "scanner" in do:
        scanner = np.full(len(noise), str(do["scanner"]))
    dose = np.array([SCANNERS[name].dose for name in scanner])
    exposure = dose * np.exp2(1.6 - 1.0 * portable + 1.4 * (u["exposure"] - 0.5))

    return pd.DataFrame(
        {
            "patient": [f"{draw}-{p:05d}" for p in u["person"]],
            "site": np.array(names)[here],
            "scanner": scanner,
            "age": np.floor(age).astype(int),
            "sex": np.where(u["sex"] < 0.47, "F", "M"),
            "severity": sick,
            "pneumonia": pneumonia.astype(int),
            "effusion": (u["effusion"] < wet).astype(int),
            "nodule": (u["nodule"] < 0.15).astype(int),
            "cardiomegaly": cardiomegaly.astype(int),
            "portable": portable.astype(int),
            "projection": np.where(portable, "AP", "PA"),
            "exposure": np.round(exposure, 3),
            "image": [f"images/{draw}-{i:05d}.png" for i in range(len(noise))],
            "marker": portable & (u["marker"] < MARKED),
            "leads": portable & (u["leads"] < MONITORED),
            "style": here,
            "extent": extent,
            "person": u["person"],
        }
    )
