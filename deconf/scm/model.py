"""A fitted structural model: counterfactual tables and embeddings, and samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from deconf.causal.graph import IMAGE, CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.errors import (
    CohortError,
    LeakageError,
    NotIdentified,
    listing,
)
from deconf.scm.coordinates import Coordinates
from deconf.scm.mechanism import Mechanism, Vector
from deconf.scm.reading import action, readable, require, unread, whole
from deconf.scm.structure import Structure


@dataclass(frozen=True, eq=False)
class Counterfactual:
    """What the films would have been.

    Attributes
    ----------
    cohort : Cohort
        The films that could be answered for, their table and embeddings under the intervention.
    rows : (m,) int
        Which rows of the cohort asked about these are.
    refused : DataFrame
        ``row`` and ``why``: films whose causes were never seen together in training.
    """

    cohort: Cohort
    rows: ndarray
    refused: pd.DataFrame

    def __str__(self) -> str:
        text = f"{len(self.rows):,} films answered"
        if len(self.refused):
            why = self.refused["why"].value_counts()
            told = listing([f"{reason} ({count:,})" for reason, count in why.items()], 4)
            text += f", {len(self.refused):,} refused: {told}"
        return text


@dataclass(frozen=True, eq=False)
class StructuralModel:
    """Mechanisms of a table and an embedding, fitted by `deconf.scm.fit`.

    Counterfactuals are assumption-bound: they are right if the graph is, and if each number and
    embedding is a monotone function (affine, or the flow's) of noise of its own.  No data can
    check the second.

    Attributes
    ----------
    structure : Structure
        The graph over the columns modelled.
    nodes : mapping of column to mechanism
    embedding, coordinates : Vector, Coordinates or None
        None where the model is of a table alone.
    notes : tuple of str
        What was left out at the fit, what is not identified, held-out log-likelihoods.
    """

    structure: Structure
    nodes: Mapping[str, Mechanism]
    embedding: Vector | None
    coordinates: Coordinates | None
    patients: frozenset[str]
    salt: str
    notes: tuple[str, ...] = ()

    @property
    def _image(self) -> tuple[Vector, Coordinates]:
        if self.embedding is None or self.coordinates is None:
            raise CohortError("this model is of a table alone: fit it to a cohort with embeddings.")
        return self.embedding, self.coordinates

    @property
    def graph(self) -> CausalGraph:
        """The graph over the columns modelled: unmeasured nodes are projected out."""
        return self.structure.graph

    def __str__(self) -> str:
        lines = [f"structural model of {self.graph}"]
        for name, mechanism in self.nodes.items():
            kind = type(mechanism).__name__.lower()
            lines.append(f"  {name}: {kind} of {listing(mechanism.causes.names) or 'noise alone'}")
        if self.embedding is not None and self.coordinates is not None:
            rank, share = self.coordinates.axes.shape[1], 100 * self.coordinates.share
            kind = "affine" if self.embedding.flow is None else "flow"
            lines.append(
                f"  image: {rank} coordinates ({share:.0f} % of the variance), {kind}, of "
                f"{listing(self.embedding.causes.names)}"
            )
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def counterfactual(
        self, cohort: Cohort, do: Mapping[str, Any], *, seed: int = 0
    ) -> Counterfactual:
        """Say what the same films would have been under an intervention.

        Abduction: the noise of each film is read off it.  Action: the columns in ``do`` are set.
        Prediction: what descends from them is made anew, with the noise of the film.

        Parameters
        ----------
        cohort : Cohort
            With the columns of the model, and embeddings of the same encoder.
        do : mapping of column to value
            One value for all films or one for each.
        seed : int
            Of the noise of discrete columns, of which a film tells only a part.

        Raises
        ------
        SettingsError
            A column that is not in the model, a level it never met, or text where it has a number.
        NotIdentified
            A descendant whose noise goes with its causes.
        CohortError
            A column or the embeddings are missing.
        """
        do = action(do, self.nodes, len(cohort))
        after = self._identified(do)
        table = cohort.table
        require(table, self.nodes)
        z = self._embeddings(cohort) if IMAGE in after else None
        factual = table[list(self.nodes)]
        acted = factual.copy()
        for name, values in do.items():
            acted[name] = values
        changed = set(do)
        why = unread(factual, self.nodes)
        known = np.array([not w for w in why])
        rng = np.random.default_rng(seed)
        noise: dict[str, ndarray] = {}
        for name in after:
            own = np.flatnonzero(known)
            mechanism = self._image[0] if name == IMAGE else self.nodes[name]
            causes = set(mechanism.causes.names) & changed
            for row, told in zip(
                own, mechanism.causes.unsupported(acted.iloc[own], causes), strict=True
            ):
                why[row] = why[row] or told
            own = np.array([row for row in own if not why[row]], dtype=np.int64)
            known = np.isin(np.arange(len(table)), own)
            if not len(own):
                break
            before, now = factual.iloc[own], acted.iloc[own]
            if z is not None and name == IMAGE:
                z = self._moved(z, own, before, now)
                continue
            noise[name] = self.nodes[name].abduct(before, rng)
            made = self.nodes[name].predict(noise[name], now)
            acted[name] = acted[name].astype(made.dtype)
            acted.loc[acted.index[own], name] = made
            changed.add(name)
        rows = np.flatnonzero(known)
        refused = pd.DataFrame(
            [(row, told) for row, told in enumerate(why) if told], columns=["row", "why"]
        )
        if not len(rows):
            raise CohortError(
                f"no film can be answered for under do({_said(do)}): {refused['why'].iloc[0]}."
            )
        answered = table.copy()
        for name in {*do, *after} - {IMAGE}:
            answered[name] = acted[name]
        for name in self.structure.beyond:  # follows from the image: nobody knows what it would be
            answered[name] = None
        z = cohort.embeddings if z is None else z
        return Counterfactual(_with(cohort, answered, z).subset(rows), rows, refused)

    def sample(self, n: int, *, do: Mapping[str, Any] | None = None, seed: int = 0) -> Cohort:
        """Draw new films from the model, under an intervention or as things are.

        The embedding holds the coordinates that are modelled and the mean of the rest.

        Raises
        ------
        SettingsError, NotIdentified
            As `counterfactual`; or n is no whole number from 1 up.
        """
        n = whole("n", n, least=1)
        do = action(do or {}, self.nodes, n)
        after = self._identified(do)
        rng = np.random.default_rng(seed)
        table = pd.DataFrame(index=pd.RangeIndex(n))
        noise = {}
        for name, mechanism in self.nodes.items():
            noise[name] = mechanism.noise(n, rng)
            table[name] = mechanism.predict(noise[name], table)
        # What does not descend from the action stays as it is in nature; the rest is made anew.
        for name, values in do.items():
            table[name] = values
        for name in after:
            if name != IMAGE:
                table[name] = self.nodes[name].predict(noise[name], table)
        if self.embedding is None or self.coordinates is None:
            return Cohort.read(table)
        x = self.embedding.predict(self.embedding.noise(n, rng), table)
        z = self.coordinates.moved(np.tile(self.coordinates.centre, (n, 1)), x)
        return Cohort.from_arrays(z.astype(np.float32), table)

    def noise(self, cohort: Cohort) -> Float[ndarray, "n j"]:
        """Return the abducted noise of the embedding: what the causes leave unsaid.

        Raises
        ------
        CohortError
            A column, a value or the embeddings are missing.
        """
        if self.embedding is None or self.coordinates is None:
            raise CohortError("this is a model of a table alone: it has no embedding.")
        table = cohort.table
        readable(table, self.nodes)
        z = self._embeddings(cohort)
        return self.embedding.abduct(self.coordinates.of_embedding(z), table)

    def log_prob(self, cohort: Cohort) -> Float[ndarray, " n"]:
        """Return the log-likelihood of each row, embedding coordinates included.

        Raises
        ------
        CohortError
            A column or the embeddings are missing, or a value is missing or a level never seen.
        """
        table = cohort.table
        readable(table, self.nodes)
        total = np.sum([mechanism.log_prob(table) for mechanism in self.nodes.values()], axis=0)
        if self.embedding is not None and self.coordinates is not None:
            x = self.coordinates.of_embedding(self._embeddings(cohort))
            total = total + self.embedding.log_prob(x, table)
        return np.asarray(total)

    def require_unseen(self, cohort: Cohort) -> None:
        """Raise `LeakageError` where the model was fitted on a patient of this cohort."""
        seen = self.patients & cohort.patient_digests(self.salt)
        if seen:
            raise LeakageError(
                f"{len(seen):,} of these patients were among the {len(self.patients):,} this model "
                "was fitted on: it would be judged on its own training data. Hold patients out, "
                "train, test = cohort.split()."
            )

    def save(self, folder: str | Path) -> Path:
        """Write the model as safetensors and JSON; no identifiers, no pickle."""
        from deconf.scm.saved import write

        return write(self, Path(folder))

    def _identified(self, do: Mapping[str, Any]) -> tuple[str, ...]:
        after = self.structure.after(do)
        if self.embedding is None:
            after = tuple(name for name in after if name != IMAGE)
        for name in after:
            why = self.structure.blocked.get(name, "")
            parents = {a for a, b in self.graph.edges if b == name}
            borrowed = set(self.structure.context[name]) - parents
            if not why and borrowed & {*do, *after}:
                why = f"something unmeasured joins it and {sorted(borrowed & {*do, *after})[0]!r}"
            if why:
                raise NotIdentified(
                    f"do({listing(do)}) reaches {name!r}, and {why}. "
                    "Would help: a column for what is unmeasured, or pairs of films."
                )
        return after

    def _embeddings(self, cohort: Cohort) -> Float[ndarray, "n d"]:
        width = len(self.coordinates.centre) if self.coordinates is not None else 0
        z = cohort.embeddings
        if z is None or z.ndim != 2 or z.shape[1] != width:
            found = "none" if z is None else " x ".join(map(str, z.shape))
            raise CohortError(f"the model needs embeddings of width {width}; the cohort: {found}.")
        return z.astype(np.float64)

    def _moved(
        self, z: ndarray, rows: ndarray, before: pd.DataFrame, now: pd.DataFrame
    ) -> Float[ndarray, "n d"]:
        embedding, coordinates = self._image
        x = coordinates.of_embedding(z[rows])
        there = embedding.predict(embedding.abduct(x, before), now)
        out = z.copy()
        out[rows] = coordinates.moved(z[rows], there - x)
        return out


def _with(cohort: Cohort, table: pd.DataFrame, z: ndarray | None) -> Cohort:
    """Return the cohort with another table and other embeddings, its roles and patients kept."""
    roles = {k: v for k, v in cohort.roles.items() if v is not None and k != "image"}
    if "patient" not in roles:
        table = table.assign(patient=cohort.patients)
        roles["patient"] = "patient"
    if z is None:
        return Cohort.read(table, **roles)
    return Cohort.from_arrays(z.astype(np.float32), table, **roles)


def _said(do: Mapping[str, list[Any]]) -> str:
    return ", ".join(
        f"{name}={values[0]!r}" if len(set(values)) == 1 else f"{name}=..."
        for name, values in do.items()
    )
