"""Phantom chest radiographs from a structural causal model: a demonstration one can look at.

Sicker patients get the portable scanner, hospitals differ in everything, and all of it shows on
the film: the word PORTABLE in a corner, a heart magnified by the projection, fewer photons, more
scatter.  Because every film is computed, each can be taken again: the same patient, the same
noise, under ``do(portable=0)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deconf.cohort.cohort import Cohort
from deconf.errors import SettingsError, did_you_mean, listing
from deconf.worlds import mechanisms
from deconf.worlds.acquisition import REFERENCE, SCANNERS
from deconf.worlds.cards import WorldCard, worlds
from deconf.worlds.darkroom import films
from deconf.worlds.mechanisms import DRAWS, HIDDEN, Severity, site_names


@dataclass(frozen=True)
class RadiographWorld:
    """A structural model of patients, hospitals and films; draw films from it at will.

    Pneumonia alone must be held, ``z ⊥ site, portable | pneumonia``, when severity is silent (with
    one site, severity would do as well); ``{pneumonia, severity}`` when it is visible (with one
    site, severity alone).

    Parameters
    ----------
    n : int
        Films in the training draw.  A patient has one to three.
    size : int
        Pixels on a side, at least 32.
    sites : int from 1 to 25
        With one, site is no column and no node.  With more, sites differ in prevalence, in the use
        of the portable scanner, in scanners and in the style of their letters.
    association : float from -1 to 1
        How portable follows severity in training; at 1 its correlation with pneumonia is about 0.5.
    severity : "silent" or "visible"
        Silent acts on the image through the disease alone; visible also sets how far the
        consolidation spreads and how often there is fluid.
    seed : int
        With the name of the draw and the number of a film it fixes every pixel.

    Raises
    ------
    SettingsError
        A setting is out of range.

    Examples
    --------
    >>> draw = RadiographWorld(n=4, size=32, sites=2).train()
    >>> draw.images.shape, draw.images.dtype
    ((4, 32, 32), dtype('uint8'))
    >>> bool((draw.do() == draw.images).all())
    True
    """

    n: int = 2000
    size: int = 128
    sites: int = 4
    association: float = 1.0
    severity: Severity = "silent"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high, why in (
            ("n", 1, 99_999, "films are numbered with five digits"),
            ("size", 32, 1024, "below 32 pixels there is no chest to see"),
            ("sites", 1, 25, "sites are called A, B, C ..."),
            ("association", -1.0, 1.0, "it is a share of the full association"),
            ("seed", 0, 2**32 - 1, "it seeds numpy's generators"),
        ):
            value = getattr(self, name)
            whole = int if isinstance(low, int) else (int, float)
            if isinstance(value, bool) or not isinstance(value, whole) or not low <= value <= high:
                kind = "a whole number" if isinstance(low, int) else "a number"
                raise SettingsError(
                    f"worlds.radiograph has no {name}={value!r}: "
                    f"give {kind} from {low} to {high} ({why})."
                )
        if self.severity not in ("silent", "visible"):
            raise SettingsError(
                f"worlds.radiograph has no severity={self.severity!r}"
                f".{did_you_mean(self.severity, ('silent', 'visible'))} "
                "Choose from silent, visible."
            )

    @property
    def graph(self) -> str:
        """The true graph, in the text form of `CausalGraph.parse`; ``!`` marks workflow."""
        text = mechanisms.PATIENT + mechanisms.FILM
        text += mechanisms.VISIBLE if self.severity == "visible" else ""
        return text + (mechanisms.SITE if self.sites > 1 else "")

    @property
    def confounders(self) -> list[str]:
        """The workflow columns that leave a trace."""
        return ["site", "portable"] if self.sites > 1 else ["portable"]

    @property
    def scanners(self) -> dict[str, list[str]]:
        """The models each site owns, the most used first."""
        names = site_names(self.sites)
        return {name: mechanisms.site_scanners(k) for k, name in enumerate(names[:-1])}

    def train(self) -> Draw:
        """Draw the training films, portable associated with severity as the world says."""
        return Draw(self, "train", self.n, self.association)

    def test(self, environment: str, n: int = 1000) -> Draw:
        """Draw new patients.

        Parameters
        ----------
        environment : "aligned", "balanced", "reversed" or "unseen"
            Portable follows severity as in training; by a coin; the other way round; or as in
            training but at a site nobody has seen.
        n : int
            Films.

        Raises
        ------
        SettingsError
            There is no such environment.
        """
        strength = {
            "aligned": self.association,
            "balanced": 0.0,
            "reversed": -self.association,
            "unseen": self.association,
        }
        if environment not in strength:
            raise SettingsError(
                f"worlds.radiograph has no environment {environment!r}."
                f"{did_you_mean(environment, strength)} Choose from {listing(strength)}."
            )
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 99_999:
            raise SettingsError(f"a draw of n={n!r} films: give a whole number from 1 to 99,999.")
        return Draw(self, environment, n, strength[environment])


@dataclass(frozen=True, eq=False)
class Draw:
    """Films drawn from a `RadiographWorld`; nothing is computed before it is asked for.

    Attributes
    ----------
    world : RadiographWorld
    name : str
        "train" or the environment.
    n : int
    association : float
        How portable follows severity here.
    """

    world: RadiographWorld
    name: str
    n: int
    association: float

    @cached_property
    def truth(self) -> pd.DataFrame:
        """The table and what no hospital records: is the word on the film, are there leads."""
        return self._facts({})

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per film: patient, site, findings, workflow, and the name of its file."""
        hidden = [*HIDDEN, *(["site"] if self.world.sites == 1 else [])]
        return self.truth.drop(columns=hidden)

    @cached_property
    def cohort(self) -> Cohort:
        """The table with its roles, without pixels: pair it with any embedding of them."""
        return Cohort.read(self.table, **self._roles)

    @cached_property
    def images(self) -> np.ndarray:
        """The films, (n, size, size) uint8."""
        return self._films(self.truth)

    @cached_property
    def oracle(self) -> np.ndarray:
        """The same patients, all on the first site's fixed reference scanner: no trace is left."""
        return self.do(portable=0, site="A", scanner=REFERENCE)

    def do(
        self, *, portable: int | None = None, site: str | None = None, scanner: str | None = None
    ) -> np.ndarray:
        """Take every film again: same patient, same disease, same noise, another workflow.

        What follows from the changed node is worked out anew (projection, exposure, marker, and
        with the site its scanner); what it does not reach stays.  A film moved to another site
        keeps its disease and its kind of device: the arrow from site into the image is followed,
        not the one into prevalence.

        Parameters
        ----------
        portable : 0 or 1, optional
        site : str, optional
            One of the world's sites, or the one of the environment "unseen".
        scanner : str, optional
            Any model, whether the site owns it or not.

        Returns
        -------
        (n, size, size) uint8
            The films of the table where nothing is changed.

        Raises
        ------
        SettingsError
            There is no such device, site or scanner.
        """
        asked: dict[str, Any] = {"portable": portable, "site": site, "scanner": scanner}
        known = {
            "portable": (0, 1),
            "site": site_names(self.world.sites),
            "scanner": tuple(SCANNERS),
        }
        changed = {name: value for name, value in asked.items() if value is not None}
        for name, value in changed.items():
            if value not in known[name]:
                raise SettingsError(
                    f"do({name}={value!r}): the world has no such {name}."
                    f"{did_you_mean(value, map(str, known[name]))} "
                    f"Choose from {listing(known[name], 30)}."
                )
        return self._films(self._facts(changed)) if changed else self.images

    def save(self, folder: str | Path) -> Cohort:
        """Write ``images/*.png`` and ``studies.csv``; return the cohort read back from them.

        Raises
        ------
        SettingsError
            The folder already holds a ``studies.csv``.
        """
        from PIL import Image

        folder = Path(folder)
        listed = folder / "studies.csv"
        if listed.exists():
            raise SettingsError(f"{str(listed)!r} is there already: name another folder.")
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for name, picture in zip(self.table["image"], self.images, strict=True):
            Image.fromarray(picture).save(folder / name)
        self.table.to_csv(listed, index=False)  # last: where it stands, every film is there
        return Cohort.read(listed, image="image", **self._roles)

    @property
    def _roles(self) -> dict[str, str]:
        roles = {"patient": "patient", "outcome": "pneumonia"}
        return roles | ({"site": "site"} if self.world.sites > 1 else {})

    def _facts(self, do: dict[str, Any]) -> pd.DataFrame:
        world = self.world
        return mechanisms.facts(
            mechanisms.background(self.n, world.seed, DRAWS.index(self.name)),
            draw=self.name, sites=world.sites, association=self.association,
            severity=world.severity, do=do,
        )  # fmt: skip

    def _films(self, truth: pd.DataFrame) -> np.ndarray:
        pictures = films(truth, self.world.size, self.world.seed, DRAWS.index(self.name))
        pictures.flags.writeable = False
        return pictures


@worlds.register(
    "radiograph",
    WorldCard(
        summary="phantom chest radiographs: severity, pneumonia, portable, sites, scanners",
        options=("n", "size", "sites", "association", "severity", "seed"),
        expected=(
            "portable readable from a raw encoder within pneumonia, AUROC > 0.9",
            "after auto, leak of site and portable within 0.05 of the floor",
            "worst environment, gap closed by auto >= 0.85",
            "AUROC of pneumonia within portable not down by > 0.02",
            "mean change of the score from do(portable=0) to do(portable=1) cut at least 5 times",
        ),
    ),
)
def radiograph(n: int = 2000, size: int = 128, sites: int = 4, **settings: Any) -> RadiographWorld:
    """Return a `RadiographWorld`; see there for the settings.

    Examples
    --------
    >>> world = radiograph(n=300, sites=1)
    >>> table = world.train().table  # no film is drawn for it
    >>> table.columns.to_list()[:6]
    ['patient', 'scanner', 'age', 'sex', 'severity', 'pneumonia']
    """
    return RadiographWorld(n=n, size=size, sites=sites, **settings)
