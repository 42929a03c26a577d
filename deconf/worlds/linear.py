"""A linear world whose truth is known: severity, disease, sites, a portable scanner, an embedding.

    severity -> pneumonia -> embedding <- portable <- severity,      site -> everything

Sicker patients get the portable scanner, and the portable scanner leaves a trace in the
embedding.  Every film is kept twice, as it is and as it would have been on the other device
(same patient, same noise), and beside the embedding lies the part of it that no workflow
touched: the oracle.  A method can therefore be judged against what it should have returned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from deconf.cohort.cohort import Cohort
from deconf.errors import SettingsError
from deconf.worlds.cards import WorldCard, worlds

DISEASE_GIVEN_SEVERITY = np.array([0.05, 0.25, 0.75, 0.95])
PORTABLE_GIVEN_SEVERITY = np.array([0.05, 0.20, 0.80, 0.95])

GRAPHS = {
    "silent": "severity -> pneumonia; severity -> portable; pneumonia -> image; portable -> image",
    "visible": "severity -> pneumonia; severity -> portable; severity -> image; "
    "pneumonia -> image; portable -> image",
    "causal": "image -> pneumonia; habit -> pneumonia; habit -> portable; portable -> image",
    "site": "; site -> pneumonia; site -> portable; site -> image",
}


@dataclass(frozen=True)
class Draw:
    """Films drawn from a world.

    Attributes
    ----------
    cohort : Cohort
        What a researcher would hold: the embedding and the table.
    oracle : (n, d) float32
        The embedding without any workflow trace.
    do_portable : tuple of two (n, d) float32
        The same films under do(portable=0) and do(portable=1).
    """

    cohort: Cohort
    oracle: np.ndarray
    do_portable: tuple[np.ndarray, np.ndarray]

    def oracle_cohort(self) -> Cohort:
        """Return the same table with the clean embedding."""
        return self.cohort.with_embeddings(self.oracle)


@dataclass(frozen=True)
class LinearWorld:
    """A structural model of metadata and embedding; draw films from it at will.

    Parameters
    ----------
    trace : "shift" or "rotation+gain" or "none"
        What the portable scanner does to an embedding: adds a constant; or also turns it, by
        50 degrees in the plane of the disease direction and another, and stretches eight
        directions; or nothing (the null world, in which portable still follows severity).
    severity : "silent", "visible" or "unrecorded"
        Silent acts on the image through the disease alone; visible also directly; unrecorded is
        visible but missing from the table.
    direction : "anticausal" or "causal"
        Whether the disease shapes the image, or the label is read from the image by a reader
        whose habits differ between wards.
    overlap : bool
        False: every portable film shows disease.
    sites : int
        With more than one, sites differ in prevalence, in use of the portable scanner and in
        a shift of their own; `site` then joins the graph.
    n, d : int
        Films in the training draw, and width of the embedding.
    seed : int
        Fixes the directions of the world and, with the name of the draw, its films.
    """

    trace: Literal["shift", "rotation+gain", "none"] = "shift"
    severity: Literal["silent", "visible", "unrecorded"] = "silent"
    direction: Literal["anticausal", "causal"] = "anticausal"
    overlap: bool = True
    sites: int = 1
    n: int = 4000
    d: int = 64
    seed: int = 0
    association: float = 1.0
    _frame: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, known in {
            "trace": ("shift", "rotation+gain", "none"),
            "severity": ("silent", "visible", "unrecorded"),
            "direction": ("anticausal", "causal"),
        }.items():
            if getattr(self, name) not in known:
                raise SettingsError(
                    f"worlds.linear has no {name}={getattr(self, name)!r}; choose from {known}."
                )
        if self.direction == "causal" and not self.overlap:
            raise SettingsError(
                "worlds.linear has no overlap=False with direction='causal': a label read from the "
                "image cannot have chosen the scanner. Use direction='anticausal'."
            )
        if self.d < 24 or self.n < 1 or self.sites < 1:
            raise SettingsError(
                f"worlds.linear needs d >= 24, n >= 1 and sites >= 1, "
                f"not d={self.d}, n={self.n}, sites={self.sites}."
            )
        rng = np.random.default_rng(self.seed)
        frame = np.linalg.qr(rng.normal(size=(self.d, self.d)))[0].T  # rows: orthonormal directions
        object.__setattr__(self, "_frame", frame)

    @property
    def graph(self) -> str:
        """The true graph, in the text form of `CausalGraph.parse`."""
        if self.direction == "causal":
            return GRAPHS["causal"]
        story = GRAPHS["silent" if self.severity == "silent" else "visible"]
        if not self.overlap:  # it is then the disease itself that brings the portable scanner
            story = story.replace("severity -> portable", "pneumonia -> portable")
        return story + (GRAPHS["site"] if self.sites > 1 else "")

    @property
    def confounders(self) -> list[str]:
        """The workflow columns that leave a trace."""
        return ["site", "portable"] if self.sites > 1 else ["portable"]

    def train(self) -> Draw:
        """Draw the training films, portable associated with severity as the world says."""
        return self._draw("train", self.n, self.association, unseen=False)

    def test(self, environment: str, n: int = 4000) -> Draw:
        """Draw new patients.

        Parameters
        ----------
        environment : "aligned", "balanced", "reversed" or "unseen"
            Portable follows severity as in training; by a coin; the other way round; or as in
            training but at a site nobody has seen.
        """
        strength = {
            "aligned": self.association,
            "balanced": 0.0,
            "reversed": -self.association,
            "unseen": self.association,
        }
        if environment not in strength:
            raise SettingsError(
                f"worlds.linear has no environment {environment!r}; choose from {list(strength)}."
            )
        return self._draw(environment, n, strength[environment], unseen=environment == "unseen")

    def _draw(self, name: str, n: int, association: float, *, unseen: bool) -> Draw:
        names = ("train", "aligned", "balanced", "reversed", "unseen")
        rng = np.random.default_rng([self.seed, names.index(name)])
        patient = np.sort(rng.integers(0, max(1, int(n / 1.15)), size=n))  # some have two films
        _, patient = np.unique(patient, return_inverse=True)
        people = patient.max() + 1

        site = np.full(people, self.sites) if unseen else rng.integers(0, self.sites, size=people)
        tilt = 0.0 if self.sites == 1 else np.linspace(-0.15, 0.15, self.sites + 1)[site]
        severity = rng.integers(0, 4, size=people)
        content = rng.normal(size=people)
        if self.direction == "causal":
            habit = rng.integers(0, 2, size=people)
            logit = 2.5 * content + 4.0 * (habit - 0.5)
            disease = rng.random(people) < 1 / (1 + np.exp(-logit))
            chance = 0.5 + 0.8 * association * (habit - 0.5)
            biology = np.outer(content, 1.5 * self._frame[0])
        else:
            disease = rng.random(people) < np.clip(DISEASE_GIVEN_SEVERITY[severity] + tilt, 0, 1)
            chance = 0.5 + association * (PORTABLE_GIVEN_SEVERITY[severity] - 0.5)
            chance = np.clip(chance + np.abs(association) * tilt, 0.02, 0.98)
            biology = np.outer(disease - 0.5, 2.0 * self._frame[0])
            if self.severity != "silent":
                biology = biology + np.outer(severity - 1.5, 0.9 * self._frame[1])

        portable = rng.random(n) < chance[patient]
        if not self.overlap:
            portable = disease[patient] & (rng.random(n) < 0.7)
        scale = np.linspace(1.2, 0.5, self.d)
        noise = (rng.normal(size=(n, self.d)) * scale) @ self._frame
        oracle = biology[patient] + noise
        here = self._site_shift(site)[patient]
        stationary, mobile = oracle + here, self._portable(oracle) + here
        table = pd.DataFrame(
            {
                "patient_id": [f"{name}-{p:05d}" for p in patient],
                "site": [f"hospital {chr(65 + s)}" for s in site[patient]],
                "portable": portable.astype(int),
                "severity": severity[patient],
                "pneumonia": disease[patient].astype(int),
            }
        )
        if self.severity == "unrecorded" or self.direction == "causal":
            table = table.drop(columns="severity")
        if self.sites == 1:
            table = table.drop(columns="site")
        embedding = np.where(portable[:, None], mobile, stationary).astype(np.float32)
        cohort = Cohort.from_arrays(
            embedding,
            table,
            patient="patient_id",
            site="site" if self.sites > 1 else None,
            outcome="pneumonia",
        )
        pair = (stationary.astype(np.float32), mobile.astype(np.float32))
        return Draw(cohort, oracle.astype(np.float32), pair)

    def _portable(self, z: np.ndarray) -> np.ndarray:
        """Return what the portable scanner makes of a clean embedding."""
        if self.trace == "none":
            return z
        f = self._frame
        shift = 3.5 * f[2] + 1.6 * f[0]  # not orthogonal to the disease: erasure costs something
        if self.trace == "shift":
            return z + shift
        coordinates = z @ f.T
        turn = np.deg2rad(50.0)
        a, b = coordinates[:, 0].copy(), coordinates[:, 3].copy()
        coordinates[:, 0] = np.cos(turn) * a - np.sin(turn) * b
        coordinates[:, 3] = np.sin(turn) * a + np.cos(turn) * b
        coordinates[:, 4:8] *= 2.0
        coordinates[:, 8:12] *= 0.5
        return coordinates @ f + shift

    def _site_shift(self, site: np.ndarray) -> np.ndarray:
        """Shift of each site: seen ones span a space, an unseen one lies half outside it."""
        if self.sites == 1 or self.trace == "none":
            return np.zeros((len(site), self.d))
        rng = np.random.default_rng([self.seed, 99])
        seen = 1.5 * self._frame[12 : 12 + min(self.sites, 8)][np.arange(self.sites) % 8]
        inside = rng.normal(size=len(seen)) @ seen / np.sqrt(len(seen))
        unseen = 0.7 * inside + 1.0 * self._frame[20]
        return np.vstack([seen, unseen])[site]


@worlds.register(
    "linear",
    WorldCard(
        summary="severity, disease, portable scanner, sites; a linear embedding with known truth",
        options=("trace", "severity", "direction", "overlap", "sites", "association", "n", "d"),
        expected=(
            "worst environment, gap closed by auto >= 0.9 for trace='shift' and 'rotation+gain'",
            "leak after auto within 0.05 of the floor; AUROC within portable not down by > 0.02",
            "trace='none' comes back unchanged; overlap=False is flagged and never called clean",
            "severity='unrecorded' is not identified",
            "severity='visible': given severity keeps the skill that given the outcome loses",
            "direction='causal': the empty set keeps the skill that given the outcome loses",
        ),
    ),
)
def linear(**settings: object) -> LinearWorld:
    """Return a `LinearWorld`; see there for the settings.

    Examples
    --------
    >>> world = linear(trace="shift", n=200)
    >>> world.train().cohort.table.columns.to_list()
    ['patient_id', 'portable', 'severity', 'pneumonia']
    """
    return LinearWorld(**settings)  # type: ignore[arg-type]
