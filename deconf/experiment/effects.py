"""Questions about effects put to a real table: every design, every test of it, a verdict each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import deconf
from deconf.cohort.cohort import Cohort
from deconf.errors import NotIdentified, ReadError
from deconf.experiment.answer import Found, Job
from deconf.experiment.config import Asked, Config, Effects
from deconf.hypotheses.result import Effect
from deconf.maths.multiplicity import holm

LEAST = 5e-5
"""Half the last digit of a probability printed with four: the nearest to 0 or 1 that is taken."""
LEVEL = 0.05


def run_effects(
    cohort: Cohort, config: Config, *, quick: bool, progress: Callable[[str], object]
) -> tuple[pd.DataFrame, str]:
    """Ask every question of every part of the table; return a tidy table and the text.

    The table has one row per design, refuter and measure of sensitivity: ``question``, ``part``,
    ``kind`` ("design", "refuter", "negative control", "sensitivity"), ``name``, figures.
    """
    effects = config.effects
    if effects is None:
        raise ValueError("run_effects needs a config of kind 'effects'")
    cohort = prepared(cohort, effects)
    blocks, told = [], [config.title, _size(cohort)]
    for asked in effects.questions:
        answers: dict[str, Effect] = {}
        for part, rows in _parts(cohort, effects, asked):
            progress(f"{asked.name} {part}".strip())
            told += ["", f"{asked.name.upper()}{f', {part}' if part else ''}"]
            try:
                found = deconf.total_effect(
                    asked.cause,
                    asked.effect,
                    rows,
                    graph=effects.graph,
                    given=asked.given,
                    reference=asked.reference,
                    within="patient" if asked.within else None,
                    negative_outcomes=asked.negative_outcomes,
                    simulations=1 if quick else effects.simulations,
                    seed=config.seed,
                    progress=progress,
                )
            except NotIdentified as error:
                told.append(f"NOT IDENTIFIED: {error}")
                blocks.append(_refused(asked, part))
                continue
            answers[part] = found
            told += _paragraphs(found)
            blocks.append(_tidy(asked, part, found))
        if effects.by is not None and len(answers) > 1:
            told += ["", _apart(answers)]
    return pd.concat(blocks, ignore_index=True), "\n".join(told)


def prepared(cohort: Cohort, effects: Effects) -> Cohort:
    """Make the columns a config asks for and keep the rows between its limits.

    Raises
    ------
    ReadError
        A column is not there.
    """
    table = cohort.table
    named = [pair[0] for pair in effects.contains.values()]
    for column in (*named, *effects.log_odds, *effects.between):
        if column not in table:
            raise ReadError(f"the table has no column {column!r}, which [effects] asks for.")
    for name, (column, word) in effects.contains.items():
        table[name] = table[column].astype(str).str.contains(word, regex=False).astype(int)
    for column in effects.log_odds:
        p = table[column].to_numpy(dtype=float).clip(LEAST, 1 - LEAST)
        table[f"{column} (log-odds)"] = np.log(p / (1 - p))
    keep = np.ones(len(table), dtype=bool)
    for column, (low, high) in effects.between.items():
        keep &= table[column].between(low, high).to_numpy()
    roles: dict[str, Any] = {role: cohort.roles[role] for role in ("patient", "site", "outcome")}
    return Cohort.read(table[keep].reset_index(drop=True), **roles)


def _parts(cohort: Cohort, effects: Effects, asked: Asked) -> list[tuple[str, Cohort]]:
    table = cohort.table
    keep = np.ones(len(table), dtype=bool)
    for column, values in asked.only.items():
        keep &= table[column].astype(str).isin(values).to_numpy()
    if effects.by is None:
        return [("", cohort.subset(keep))]
    return [
        (str(level), cohort.subset(keep & (table[effects.by] == level).to_numpy()))
        for level in sorted(table[effects.by].dropna().unique())
    ]


def _size(cohort: Cohort) -> str:
    return f"{len(cohort):,} rows of {len(np.unique(cohort.patients)):,} patients."


def _paragraphs(found: Effect) -> list[str]:
    shown = found.to_frame()
    columns = ["design", "level", "ratio", "ratio_low", "ratio_high", "difference", "low", "high"]
    if found.ratio is None:
        columns = ["design", "level", "per_sd", "difference", "low", "high"]
    tests = found.refutations.reindex(columns=["refuter", "catches", "refuted", "ratio", "result"])
    tests = tests if found.ratio is not None else tests.drop(columns="ratio")
    return [
        str(found),
        "",
        f"Estimand: {found.formula}",
        "",
        shown[[*columns, "rows", "patients"]].to_string(index=False, float_format="%.4g"),
        "",
        tests.to_string(index=False, float_format="%.4g"),
        "",
        *(f"{row.measure}: {row.says}." for row in found.sensitivity.itertuples()),
    ]


def _tidy(asked: Asked, part: str, found: Effect) -> pd.DataFrame:
    frame = found.to_frame().rename(columns={"design": "name"}).assign(kind="design")
    tests = found.refutations.rename(columns={"refuter": "name", "refuted": "difference"})
    strength = found.sensitivity.rename(
        columns={"measure": "name", "value": "difference", "says": "note"}
    ).assign(kind="sensitivity")
    columns = ["kind", "name", "level", "difference", "low", "high", "per_sd", "ratio", "ratio_low",
               "ratio_high", "rows", "patients", "result", "verdict", "note"]  # fmt: skip
    tidy = pd.concat(
        [block.reindex(columns=columns).astype(object) for block in (frame, tests, strength)],
        ignore_index=True,
    )
    tidy.insert(0, "question", asked.name)
    tidy.insert(1, "part", part)
    return tidy


def _refused(asked: Asked, part: str) -> pd.DataFrame:
    row = {"question": asked.name, "part": part, "kind": "design", "verdict": "not identified"}
    return pd.DataFrame([row], dtype=object)


def _apart(answers: dict[str, Effect]) -> str:
    """Say whether the parts agree; nothing is pooled either way."""
    names = list(answers)
    scaled = [_log_ratio(found) for found in answers.values()]
    ps, pairs = [], []
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            gap = scaled[i][0] - scaled[j][0]
            ps.append(math.erfc(abs(gap) / math.hypot(scaled[i][1], scaled[j][1]) / math.sqrt(2)))
            pairs.append((i, j))
    (i, j), p = min(zip(pairs, holm(np.array(ps)), strict=True), key=lambda pair: pair[1])
    told = f"{names[i]} {math.exp(scaled[i][0]):.2f}, {names[j]} {math.exp(scaled[j][0]):.2f}"
    if p >= LEVEL:
        return f"The parts do not differ beyond chance ({told}; p = {p:.2g}). Nothing is pooled."
    sign = "in sign" if scaled[i][0] * scaled[j][0] < 0 else "in size"
    return (
        f"NO POOLED ESTIMATE: the parts differ {sign} ({told}; p = {p:.2g}), so that one number "
        "for both would describe neither."
    )


def _log_ratio(found: Effect) -> tuple[float, float]:
    ratio = found.ratio
    if ratio is None:
        return found.per_sd.estimate, (found.per_sd.high - found.per_sd.low) / 3.92
    return math.log(ratio.estimate), (math.log(ratio.high) - math.log(ratio.low)) / 3.92


def answered(job: Job) -> Found:
    """Answer a config of this kind."""
    return Found(*run_effects(job.films, job.config, quick=job.quick, progress=job.progress))
