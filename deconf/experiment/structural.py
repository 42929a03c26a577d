"""Phantom radiographs: counterfactual embeddings against true pairs, beside erasure.

Every new patient is filmed on both devices, anatomy and noise the same.  A clean embedding should
hardly tell the two films apart; a counterfactual one should also be the film that was not taken.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

import deconf
from deconf import scm
from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder
from deconf.errors import OverlapWarning
from deconf.experiment.answer import Found, Job
from deconf.experiment.config import Config, Structural
from deconf.hypotheses.counterfactuals import check_counterfactuals
from deconf.maths.intervals import (
    Interval,
    interval,
    patient_weights,
    stratified_aurocs,
)
from deconf.probes.head import choose_strength, fit_head

COLUMN, OUTCOME = "portable", "pneumonia"
DRAWS = 500
QUICK = 600, 200


@dataclass(frozen=True)
class Pairs:
    """New films as they are and on both devices; their tables hold the device they are on."""

    as_is: Cohort
    sides: tuple[Cohort, Cohort]

    def rows(self, rows: ndarray) -> Pairs:
        """Return some of the films."""
        fixed, portable = (side.subset(rows) for side in self.sides)
        return Pairs(self.as_is.subset(rows), (fixed, portable))


def run_structural(
    config: Config, *, quick: bool, progress: Callable[[str], object]
) -> tuple[pd.DataFrame, str]:
    """Return the tidy table of every seed, and the text."""
    asked = config.structural
    if asked is None:
        raise ValueError("run_structural needs a config of kind 'structural'")
    encoder = deconf.load_encoder(asked.encoder)
    films, new = QUICK if quick else (asked.films, asked.new_films)
    parts, told = [], []
    for seed in asked.seeds[: 1 if quick else None]:
        progress(f"world {seed}: films")
        world = deconf.worlds.radiograph(n=films, size=asked.size, sites=1, seed=seed)
        train, pairs = drawn(world, encoder, new)
        progress(f"world {seed}: models")
        rows, checks = compared(world.graph, train, pairs, asked, seed=seed)
        parts.append(pd.DataFrame(rows).assign(seed=seed))
        told += [f"world {seed}: {line}" for line in checks]
    table = pd.concat(parts, ignore_index=True)
    return table, _text(config, table, told)


def drawn(world: Any, encoder: Encoder, new: int) -> tuple[Cohort, Pairs]:
    """Return embedded training films, and new patients on both devices."""
    films = world.train()
    train = films.cohort.with_embeddings(encoder.embed(films.images))
    draw = world.test("aligned", new)
    as_is = draw.cohort.with_embeddings(encoder.embed(draw.images))
    sides = []
    for device in (0, 1):
        table = draw.table.assign(**{COLUMN: device})
        z = encoder.embed(draw.do(portable=device))
        sides.append(Cohort.from_arrays(z, table, patient="patient", outcome=OUTCOME))
    return train, Pairs(as_is, (sides[0], sides[1]))


def compared(
    graph: str, train: Cohort, pairs: Pairs, asked: Structural, *, seed: int
) -> tuple[list[dict[str, object]], list[str]]:
    """Return a row for each figure of each representation, and the checks of the models."""
    embed: dict[str, Callable[[Cohort], ndarray]] = {"raw": lambda cohort: _z(cohort)}
    for method in (*asked.methods, "counterfactual"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OverlapWarning)
            clean = deconf.deconfound(
                "stored", [COLUMN], graph=graph, method=method, seed=seed,
                at_inference=method == "counterfactual",
            ).fit(train)  # fmt: skip
        embed[f"{method} ({clean.method})" if method == "auto" else method] = clean.embed
    told, models = [], {}
    for kind in ("affine", "flow"):
        model = scm.fit(
            train, graph, columns=asked.columns, embedding=kind, numbers="affine", seed=seed
        )  # type: ignore[arg-type]
        models[f"structural model, {kind}"] = model
        told.append(f"{kind}: {check_counterfactuals(model, pairs.as_is, COLUMN, seed=seed)}")
    answered = np.arange(len(pairs.as_is))
    for model in models.values():
        for cohort in (pairs.as_is, *pairs.sides):
            answered = np.intersect1d(answered, model.counterfactual(cohort, {COLUMN: 0}).rows)
    refused = len(pairs.as_is) - len(answered)
    kept = pairs.rows(answered)
    for name, model in models.items():
        embed[name] = _fixed(model, seed)
    rows = list(_figures(embed, train, kept, models, seed))
    return [row | {"n": len(answered), "refused": refused} for row in rows], told


def _fixed(model: scm.StructuralModel, seed: int) -> Callable[[Cohort], ndarray]:
    """Return the representation of every film on the fixed device; refused films as they are."""

    def embed(cohort: Cohort) -> ndarray:
        made = model.counterfactual(cohort, {COLUMN: 0}, seed=seed)
        out = _z(cohort).copy()
        out[made.rows] = _z(made.cohort)
        return out

    return embed


def _figures(
    embed: dict[str, Callable[[Cohort], ndarray]],
    train: Cohort,
    pairs: Pairs,
    models: dict[str, scm.StructuralModel],
    seed: int,
) -> Iterator[dict[str, object]]:
    """Yield inconsistency of embedding and score, error against the film not taken, and skill."""
    n = len(pairs.as_is)
    weights = np.vstack([np.ones(n), patient_weights(pairs.as_is.patients, DRAWS, seed)])
    y, new = (c.table[OUTCOME].to_numpy() for c in (train, pairs.as_is))
    device = pairs.as_is.table[COLUMN].to_numpy()
    strength = choose_strength(_z(train), y, patients=train.patients, seed=seed)
    raw: dict[str, ndarray] = {}
    for name, of in embed.items():
        clean = of(train)
        head = fit_head(clean, y, strength=strength)
        fixed, portable, as_is = (of(c) for c in (*pairs.sides, pairs.as_is))
        apart = np.linalg.norm(portable - fixed, axis=1)
        size = np.sqrt(((as_is - as_is.mean(axis=0)) ** 2).sum(axis=1).mean())
        moved = np.abs(head.score(portable) - head.score(fixed)) / head.score(as_is).std()
        found = {
            "inconsistency of the embedding": apart / size,
            "inconsistency of the score (sd)": moved,
        }
        for what, value in found.items():
            draws = weights @ value / weights.sum(axis=1)
            raw.setdefault(what, draws)
            yield _row(what, name, interval(draws[1:], float(draws[0])))
            share = draws / raw[what]
            yield _row(f"{what}, share of raw", name, interval(share[1:], float(share[0])))
        if name in models:  # reads the diagnosis among the causes, and so would its head
            continue
        areas = stratified_aurocs(head.score(as_is), new, device, weights)
        yield _row("AUROC within levels", name, interval(areas[1:], float(areas[0])))
    yield from _errors(embed, pairs, models, weights)


def _errors(
    embed: dict[str, Callable[[Cohort], ndarray]],
    pairs: Pairs,
    models: dict[str, scm.StructuralModel],
    weights: ndarray,
) -> Iterator[dict[str, object]]:
    """Yield how far the portable film, made fixed, lies from the fixed film of the same patient.

    As a share of how far the two films lie apart.  Erasure answers another question and has no
    such figure.  Two yardsticks know the answers: the best single shift of all portable films, and
    a ridge regression taught by the true pairs of the other half of the patients.
    """
    from sklearn.linear_model import Ridge

    fixed, portable = (_z(side) for side in pairs.sides)
    apart = ((portable - fixed) ** 2).sum(axis=1)
    best = portable - (portable - fixed).mean(axis=0)  # what no single shift can beat
    taught = np.empty_like(fixed)
    scale = float(fixed.std())
    for fit, rest in pairs.as_is.folds(2):
        ridge = Ridge(alpha=1.0).fit(portable[fit] / scale, fixed[fit] / scale)
        taught[rest] = ridge.predict(portable[rest] / scale) * scale
    made = {"best single shift, from the true pairs": best, "regression on true pairs": taught}
    made |= {name: embed[name](pairs.sides[1]) for name in ("counterfactual", *models)}
    for name, value in made.items():
        off = ((value - fixed) ** 2).sum(axis=1)
        share = np.sqrt((weights @ off) / (weights @ apart))
        yield _row("error of the film made fixed, share of the distance", name,
                   interval(share[1:], float(share[0])))  # fmt: skip


def _z(cohort: Cohort) -> ndarray:
    if cohort.embeddings is None:
        raise ValueError("these films were embedded")
    return cohort.embeddings


def _row(what: str, name: str, found: Interval) -> dict[str, object]:
    own = dataclasses.asdict(found)
    return {"metric": what, "representation": name} | {k: own[k] for k in list(own)[:3]}


def _text(config: Config, table: pd.DataFrame, told: list[str]) -> str:
    seeds = list(dict.fromkeys(table["seed"]))
    lines = [config.title, f"Encoder: {config.encoder}.", ""]
    for seed in seeds:
        part = table[table["seed"] == seed].iloc[0]
        lines.append(f"world {seed}: {part['n']:,} new films scored, {part['refused']:,} refused")
    for metric, part in table.groupby("metric", sort=False):
        lines += ["", f"{metric:<46}" + "".join(f"{f'world {s}':>22}" for s in seeds)]
        for name, rows in part.groupby("representation", sort=False):
            cells = [f"{r.estimate:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in rows.itertuples()]
            lines.append(f"  {name:<44}" + "".join(f"{c:>22}" for c in cells))
    return "\n".join([*lines, "", *told])


def answered(job: Job) -> Found:
    """Answer a config of this kind."""
    return Found(*run_structural(job.config, quick=job.quick, progress=job.progress))
