"""Fit a structural model of table and embedding, node by node, by maximum likelihood.

Pawlowski, Castro & Glocker, "Deep structural causal models for tractable counterfactual inference",
NeurIPS 2020, for the recipe: invertible mechanisms, so that noise can be read off; here for
embeddings instead of pixels, and closed forms where they suffice.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from deconf.causal.graph import IMAGE, CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.cohort.splits import patient_split
from deconf.errors import CohortError, SettingsError, listing
from deconf.maths import kinds
from deconf.records.salting import new_salt
from deconf.scm.affine import fit_affine
from deconf.scm.coordinates import Coordinates
from deconf.scm.design import Causes
from deconf.scm.mechanism import Mechanism, Number, Vector, fit_choice
from deconf.scm.model import StructuralModel
from deconf.scm.reading import incomplete
from deconf.scm.structure import structure

logger = logging.getLogger(__name__)

FEWEST_ROWS = 40
HELD_OUT = 0.2  # of the patients, by whose likelihood penalties and flows are chosen
AMPLE = 1000  # patients from which "auto" tries a flow

Kind = Literal["auto", "affine", "flow"]


def fit(
    cohort: Cohort,
    graph: str | CausalGraph,
    *,
    columns: Sequence[str] | None = None,
    embedding: Kind = "auto",
    numbers: Kind = "auto",
    rank: int | None = None,
    seed: int = 0,
) -> StructuralModel:
    """Fit the mechanism of every column of the graph, and of the embedding given its causes.

    Parameters
    ----------
    cohort : Cohort
        Training patients; without embeddings the model is of the table alone.
    graph : text or CausalGraph
        Node names are column names; ``image`` is the pixels, by their embedding.
    columns : sequence of str, optional
        Which of the graph's columns to model; the others count as unmeasured: leaving a mediator
        out makes its effect part of the arrow it mediates.
    embedding, numbers : "affine", "flow" or "auto"
        Mechanism of the embedding and of continuous columns: affine in its noise, or a flow on top
        of that.  "auto" tries the flow from 1,000 patients on, and keeps it where held-out patients
        are likelier under it.
    rank : int, optional
        Principal coordinates of the embedding; by default those that hold 95 % of the variance,
        16 to 64.
    seed : int

    Raises
    ------
    CohortError
        Fewer than 40 complete rows or two patients, or no column of the graph in the table.
    SettingsError
        A column that is not in the graph, or an unknown kind of mechanism.

    Examples
    --------
    >>> import deconf
    >>> draw = deconf.worlds.linear(n=600, d=24, seed=97).train()
    >>> model = fit(draw.cohort, "pneumonia <-> portable; pneumonia -> image <- portable")
    >>> there = model.counterfactual(draw.cohort, {"portable": 0})
    >>> error = ((there.cohort.embeddings - draw.do_portable[0]) ** 2).mean()
    >>> bool(error < 0.3 * ((draw.cohort.embeddings - draw.do_portable[0]) ** 2).mean())
    True
    """
    graph = CausalGraph.parse(graph) if isinstance(graph, str) else graph
    for name, kind in {"embedding": embedding, "numbers": numbers}.items():
        if kind not in ("auto", "affine", "flow"):
            raise SettingsError(f"{name} is 'auto', 'affine' or 'flow', not {kind!r}.")
    if columns is not None:
        graph.require(columns)
    table = cohort.table
    measured = [n for n in graph.nodes if n in table and (columns is None or n in columns)]
    measured = [n for n in measured if n != IMAGE]
    if not measured:
        raise CohortError(
            f"the table holds none of the graph's columns ({listing(graph.nodes)}). "
            f"It has {listing(table.columns)}."
        )
    own = structure(graph, measured)
    nodes = [name for name in own.order if name != IMAGE]
    why = incomplete(table[nodes])
    rows = np.flatnonzero([not told for told in why])
    patients = cohort.patients[rows]
    if len(rows) < FEWEST_ROWS or len(np.unique(patients)) < 2:
        raise CohortError(
            f"{len(rows)} rows of {len(np.unique(patients))} patients are complete in "
            f"{listing(nodes)}: at least {FEWEST_ROWS} rows of two patients are needed."
        )
    notes = [f"{len(table) - len(rows):,} rows left out: a value is missing"]
    notes = notes if len(rows) < len(table) else []
    notes += [f"no counterfactual of {name}: {told}" for name, told in own.blocked.items()]
    if own.beyond:
        notes.append(f"follows from the image, not modelled: {listing(own.beyond)}")
    table = table.iloc[rows].reset_index(drop=True)
    train, held_out = patient_split(patients, HELD_OUT, seed=seed)
    ample = len(np.unique(patients)) >= AMPLE
    mechanisms: dict[str, Mechanism] = {}
    for name in nodes:
        causes = Causes.of(table, own.context[name], patients)
        if kinds.is_categorical(table[name]):
            mechanisms[name] = fit_choice(table[name], causes, table, train, held_out)
            continue
        values = kinds.numbers(table[name])
        centre, scale = float(values.mean()), float(values.std()) or 1.0
        x = ((values - centre) / scale)[:, None]
        vector = _vector(x, causes, table, train, held_out, numbers, ample, seed, name, notes)
        mechanisms[name] = Number(name, centre, scale, vector)
    coordinates, image = None, None
    z = cohort.embeddings
    if z is not None and z.ndim == 2 and IMAGE in own.order:
        coordinates = Coordinates.of(z[rows], rank)
        x = coordinates.of_embedding(z[rows].astype(np.float64))
        causes = Causes.of(table, own.context[IMAGE], patients)
        image = _vector(x, causes, table, train, held_out, embedding, ample, seed, IMAGE, notes)
    salt = new_salt()
    digests = cohort.subset(rows).patient_digests(salt)
    return StructuralModel(own, mechanisms, image, coordinates, digests, salt, tuple(notes))


def _vector(
    x: np.ndarray,
    causes: Causes,
    table: pd.DataFrame,
    train: np.ndarray,
    held_out: np.ndarray,
    kind: Kind,
    ample: bool,
    seed: int,
    name: str,
    notes: list[str],
) -> Vector:
    """Fit the affine mechanism, and a flow on its noise where that is wanted."""
    d = causes.encode(table)
    if kind == "affine" or (kind == "auto" and not ample):
        return Vector(causes, fit_affine(x, d, train, held_out))
    from deconf.scm.flows import fit_flow

    affine = fit_affine(x, d, train, held_out, rows=train)  # the flow is judged on the others
    flow, before, after = fit_flow(affine.abduct(x, d), d, train, held_out, seed=seed)
    told = f"{name}: log-likelihood of held-out patients {before:.3f} affine, {after:.3f} flow"
    logger.info(told)
    if kind == "auto" and after <= before:
        notes.append(f"{told}; affine kept")
        return Vector(causes, fit_affine(x, d, train, held_out))
    notes.append(told)
    return Vector(causes, affine, flow)
