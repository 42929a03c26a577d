"""Phantom radiographs: what cleaning does where the truth is known.

Four things no real archive can tell: how a model with no workflow in its films would have done, in
which environment the shortcut hurts most, what another device would have made of the same film,
and by how much the score moves with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

import deconf
from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder
from deconf.encoders.deconfounded import DeconfoundedEncoder
from deconf.experiment.answer import Found, Job
from deconf.experiment.config import Config
from deconf.maths.intervals import Interval, interval, patient_weights, weighted_aurocs
from deconf.probes.head import Head, choose_strength, fit_head

ENVIRONMENTS = ("aligned", "balanced", "reversed")
DRAWS = 500
PAIRS = 2000  # training films that are taken twice to teach the ceiling


@dataclass(frozen=True)
class Trained:
    """A cleaner fitted on the training films, and a head of each embedding."""

    clean: DeconfoundedEncoder
    heads: dict[str, Head]
    cohort: Cohort


def train(world: Any, encoder: Encoder, *, method: str = "auto", seed: int = 0) -> Trained:
    """Embed the training films, fit the cleaner, and a head on raw, clean and oracle."""
    films = world.train()
    cohort = films.cohort.with_embeddings(encoder.embed(films.images))
    cleaner = deconf.deconfound(
        "stored", world.confounders, graph=world.graph, method=method, seed=seed
    )
    return with_heads(cleaner.fit(cohort), cohort, encoder.embed(films.oracle), seed=seed)


def with_heads(
    clean: DeconfoundedEncoder, cohort: Cohort, oracle: ndarray | None = None, *, seed: int = 0
) -> Trained:
    """Fit a head of the outcome on each embedding of the training films, in the same way."""
    raw: ndarray = cohort.embeddings  # type: ignore[assignment]  # fitted on them
    embeddings: dict[str, tuple[ndarray, ndarray | None]] = {
        "raw": (raw, None),
        "clean": (clean.embed(cohort), clean.weights),
    }
    if oracle is not None:
        embeddings["oracle"] = (oracle, None)
    y = cohort.table[cohort.outcomes[0]].to_numpy()
    heads = {}
    for name, (z, weights) in embeddings.items():
        strength = choose_strength(raw, y, weights=weights, patients=cohort.patients, seed=seed)
        heads[name] = fit_head(z, y, weights=weights, strength=strength)
    return Trained(clean, heads, cohort)


def skill(
    world: Any, encoder: Encoder, trained: Trained, films: int, *, seed: int = 0
) -> Iterator[dict[str, object]]:
    """Yield the AUROC of each embedding on new patients, environment by environment."""
    worst: dict[str, ndarray] = {}
    for environment in ENVIRONMENTS:
        draw = world.test(environment, films)
        z = encoder.embed(draw.images)
        embedded = {
            "raw": z,
            "clean": trained.clean.embed(draw.cohort.with_embeddings(z)),
            "oracle": encoder.embed(draw.oracle),
        }
        ill = draw.table[draw.cohort.outcomes[0]].to_numpy() == 1
        portable = draw.table["portable"].to_numpy() == 1
        weights = np.vstack([np.ones(len(ill)), patient_weights(draw.cohort.patients, DRAWS, seed)])
        for name, head in trained.heads.items():
            score = head.score(embedded[name])
            areas = weighted_aurocs(score, ill, weights)
            worst[name] = np.minimum(worst.get(name, np.inf), areas)
            within = np.mean(
                [weighted_aurocs(score[s], ill[s], weights[:, s]) for s in (portable, ~portable)],
                axis=0,
            )
            yield _row("AUROC", name, environment, interval(areas[1:], float(areas[0])))
            yield _row("AUROC within levels of portable", name, environment,
                       interval(within[1:], float(within[0])))  # fmt: skip
    for name, areas in worst.items():
        yield _row("AUROC", name, "worst", interval(areas[1:], float(areas[0])))
    closed = (worst["clean"] - worst["raw"]) / (worst["oracle"] - worst["raw"])
    yield _row("share of the gap closed", "clean", "worst", interval(closed[1:], float(closed[0])))


def leakage(
    world: Any, encoder: Encoder, trained: Trained, films: int, *, seed: int = 0
) -> Iterator[dict[str, object]]:
    """Yield what fresh attackers read of each confounder from new patients, and their luck."""
    draw = world.test("aligned", films)
    cohort = draw.cohort.with_embeddings(encoder.embed(draw.images))
    for name, representation in (("raw", "stored"), ("clean", trained.clean)):
        found = deconf.audit(
            representation, cohort, world.confounders, graph=world.graph, seed=seed
        )
        for confounder, verdict in found.verdict.items():
            row = _row(f"leak of {confounder}", name, "aligned", verdict.estimate)
            yield row | {"floor": verdict.floor, "verdict": str(verdict)}


def counterfactual(
    world: Any, encoder: Encoder, trained: Trained, films: int, *, seed: int = 0
) -> Iterator[dict[str, object]]:
    """Yield how far the score moves when the same patient is filmed on the other device.

    In standard deviations of the score over the films as they are.
    """
    draw = world.test("aligned", films)
    sides = {"as it is": draw.images, **{f"{p}": draw.do(portable=p) for p in (0, 1)}}
    scores: dict[str, dict[str, ndarray]] = {"raw": {}, "clean": {}}
    for side, images in sides.items():
        z = encoder.embed(images)
        scores["raw"][side] = trained.heads["raw"].score(z)
        z = trained.clean.embed(draw.cohort.with_embeddings(z))
        scores["clean"][side] = trained.heads["clean"].score(z)
    weights = np.vstack([np.ones(films), patient_weights(draw.cohort.patients, DRAWS, seed)])
    moved = {}
    for name, of in scores.items():
        change = np.abs(of["1"] - of["0"]) / of["as it is"].std()
        moved[name] = weights @ change / weights.sum(axis=1)
        yield _row("change of the score under do(portable)", name, "aligned",
                   interval(moved[name][1:], float(moved[name][0])))  # fmt: skip
    cut = moved["raw"] / moved["clean"]
    yield _row("times smaller change of the score", "clean", "aligned",
               interval(cut[1:], float(cut[0])))  # fmt: skip


def ceiling(
    world: Any, encoder: Encoder, films: int, *, seed: int = 0
) -> Iterator[dict[str, object]]:
    """Yield how far the score moves after a map that was taught by true pairs of training films.

    No archive holds such pairs.  A ridge regression carries the embedding of the portable film
    onto that of the fixed film of the same patient and moment, and the head is trained on fixed
    films alone.  What the score still moves is what the portable film no longer holds: no cleaning
    by level can put it back.
    """
    from sklearn.linear_model import Ridge

    taught = dataclasses.replace(world, n=min(world.n, PAIRS)).train()
    portable, fixed = (encoder.embed(taught.do(portable=p)) for p in (1, 0))
    scale = np.sqrt(((fixed - fixed.mean(0)) ** 2).mean())
    ridge = Ridge(alpha=1.0).fit(portable / scale, fixed / scale)
    y = taught.table[taught.cohort.outcomes[0]].to_numpy()
    strength = choose_strength(fixed, y, patients=taught.cohort.patients, seed=seed)
    head = fit_head(fixed, y, strength=strength)
    draw = world.test("aligned", films)
    by_fixed = head.score(encoder.embed(draw.do(portable=0)))
    by_portable = head.score(ridge.predict(encoder.embed(draw.do(portable=1)) / scale) * scale)
    weights = np.vstack([np.ones(films), patient_weights(draw.cohort.patients, DRAWS, seed)])
    recorded = draw.table["portable"].to_numpy() == 1
    change = np.abs(by_portable - by_fixed) / np.where(recorded, by_portable, by_fixed).std()
    moved = weights @ change / weights.sum(axis=1)
    yield _row("change of the score under do(portable)", "ceiling: taught by true pairs",
               "aligned", interval(moved[1:], float(moved[0])))  # fmt: skip


def run_phantom(
    config: Config, *, quick: bool, progress: Callable[[str], object]
) -> tuple[pd.DataFrame, str]:
    """Return the tidy table of every seed, and the text."""
    phantom = config.phantom
    if phantom is None:
        raise ValueError("run_phantom needs a config of kind 'phantom'")
    encoder = deconf.load_encoder(phantom.encoder)
    films, new = (phantom.films, phantom.new_films) if not quick else (800, 300)
    rows: list[dict[str, object]] = []
    for seed in phantom.seeds[: 1 if quick else None]:
        progress(f"world {seed}: training films")
        world = deconf.worlds.radiograph(n=films, size=phantom.size, sites=phantom.sites, seed=seed)
        trained = train(world, encoder, method=phantom.method, seed=seed)
        for part in (skill, leakage, counterfactual):
            progress(f"world {seed}: {part.__name__}")
            found = part(world, encoder, trained, new, seed=seed)
            rows += [{"seed": seed, "method": trained.clean.method, **row} for row in found]
        progress(f"world {seed}: ceiling")
        rows += [
            {"seed": seed, "method": "pairs", **row}
            for row in ceiling(world, encoder, new, seed=seed)
        ]
    table = pd.DataFrame(rows)
    return table, _text(config, table)


def _row(what: str, name: str, environment: str, found: Interval) -> dict[str, object]:
    return {
        "metric": what,
        "representation": name,
        "environment": environment,
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
    }


def _text(config: Config, table: pd.DataFrame) -> str:
    lines = [config.title, f"Encoder: {config.encoder}.", ""]
    seeds: Sequence[int] = list(dict.fromkeys(table["seed"]))
    lines.append(f"{'':62}" + "".join(f"{f'world {s}':>20}" for s in seeds))
    keys = table.drop_duplicates(["metric", "environment", "representation"])
    for key in keys.itertuples():
        part = table[
            (table["metric"] == key.metric)
            & (table["environment"] == key.environment)
            & (table["representation"] == key.representation)
        ]
        cells = [f"{r.estimate:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in part.itertuples()]
        head = f"{key.metric}, {key.environment}: {key.representation}"
        lines.append(f"{head:<62}" + "".join(f"{c:>20}" for c in cells))
        if pd.notna(getattr(key, "floor", np.nan)):
            told = [f"floor {r.floor:.2f}, {r.verdict}" for r in part.itertuples()]
            lines.append(f"{'':<62}" + "".join(f"{c:>20}" for c in told))
    return "\n".join(lines)


def answered(job: Job) -> Found:
    """Answer a config of this kind."""
    return Found(*run_phantom(job.config, quick=job.quick, progress=job.progress))
