"""Several outcomes: what erasing a confounder for one disease does to the others.

Where a confounder goes with several findings, holding one of them leaves the rest to be taken for
its trace.  Holding all of them jointly, by regression, keeps them.  Each is read by a head of its
own, within levels of the confounder, where the confounder itself tells nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from deconf.cohort.cohort import Cohort
from deconf.cohort.splits import patient_folds, strata
from deconf.errors import OverlapWarning
from deconf.evidence.environments import joined
from deconf.experiment.answer import Found, Job
from deconf.experiment.config import Config, Outcomes
from deconf.front import deconfound
from deconf.maths.intervals import interval, patient_weights, stratified_aurocs
from deconf.maths.kinds import codes
from deconf.maths.multiplicity import benjamini_hochberg
from deconf.probes.head import choose_strength, fit_head

DRAWS = 1000
RAW, JOINTLY, ALONE, NOTHING = "raw", "given all jointly", "given {} alone", "given nothing"
FINDINGS = "the findings alone"  # no image: how well what is held tells the confounder
MEAN = "mean of the others"
POWER = 0.8
# Two-sided 5 %, power 80 %: the smallest true difference that would mostly be told.
DETECTABLE = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(POWER)


@dataclass(frozen=True)
class Areas:
    """AUROC of one finding by one embedding: as it is first, then on each draw of patients."""

    finding: str
    name: str
    values: ndarray


def run_outcomes(
    cohort: Cohort, config: Config, *, quick: bool, progress: Callable[[str], object]
) -> tuple[pd.DataFrame, str]:
    """Return the tidy table (finding, embedding, AUROC within levels, differences) and the text."""
    asked, labels = config.outcomes, config.data.labels if config.data is not None else None
    if asked is None or labels is None:
        raise ValueError("run_outcomes needs a config of kind 'outcomes' with [data.labels]")
    return judge_outcomes(
        cohort,
        asked,
        labels.findings,
        repeats=1 if quick else asked.repeats,
        title=f"{config.title}\nEncoder: {config.encoder}.",
        seed=config.seed,
        progress=progress,
    )


def judge_outcomes(
    cohort: Cohort,
    asked: Outcomes,
    findings: Sequence[str],
    *,
    repeats: int,
    title: str = "",
    seed: int = 0,
    progress: Callable[[str], object] = str,
) -> tuple[pd.DataFrame, str]:
    """Cross-fit maps and heads by patient, and read every finding within levels.

    Parameters
    ----------
    findings : sequence of 0/1 columns, ``asked.alone`` among them
    repeats : int
        How often the patients are dealt into folds anew; an AUROC is the mean.
    """
    # Without an outcome of its own: each cleaner says what it holds.
    cohort = Cohort.from_arrays(cohort.embeddings, cohort.table, patient=cohort.roles["patient"])
    table, patients = cohort.table, cohort.patients
    count = {f: len(np.unique(patients[(table[f] == 1).to_numpy()])) for f in findings}
    judged = [f for f in findings if count[f] >= asked.fewest_patients]
    # The confounder is told from the cleaned embedding too: an erasure that erased nothing would
    # keep every finding.
    level, names = codes(table[asked.confounder])
    if len(names) != 2:
        raise ValueError(f"{asked.confounder} has {len(names)} levels, expected 2")
    read = {f: table[f].to_numpy(dtype=float) for f in judged} | {
        asked.confounder: level.astype(float)
    }
    held = dict.fromkeys(judged, level) | {asked.confounder: table[asked.alone].to_numpy(dtype=int)}
    draws = np.vstack([np.ones(len(cohort)), patient_weights(patients, DRAWS, seed)])
    areas: dict[tuple[str, str], list[ndarray]] = {}
    for repeat in range(repeats):
        progress(f"deal {repeat + 1} of {repeats}")
        scores, fold = _scores(cohort, asked, findings, read, seed + repeat, progress)
        for (what, name), score in scores.items():
            strata_of = joined(fold, held[what])
            found = stratified_aurocs(score, read[what] == 1, strata_of, draws)
            areas.setdefault((what, name), []).append(found)
    means = [Areas(what, name, np.mean(found, axis=0)) for (what, name), found in areas.items()]
    tidy = _tabled(means, asked, judged, count)
    return tidy, _text(tidy, asked, title, cohort, findings, repeats)


def embeddings_of(
    cohort: Cohort, train: ndarray, asked: Outcomes, findings: Sequence[str], seed: int
) -> dict[str, ndarray]:
    """Return (n, d) of every film: raw, and cleaned by maps fitted on the training rows."""
    part = cohort.subset(train)
    held: Mapping[str, Sequence[str]] = {
        JOINTLY: findings,
        ALONE.format(asked.alone): [asked.alone],
        NOTHING: [],
    }
    found = {RAW: np.asarray(cohort.embeddings)}
    for name, outcome in held.items():
        cleaner = deconfound(
            "stored", asked.confounder, outcome=list(outcome) or None, method=asked.method,
            seed=seed,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OverlapWarning)  # said once, in the text
            found[name] = cleaner.fit(part).embed(cohort)
    return found


def _scores(
    cohort: Cohort,
    asked: Outcomes,
    findings: Sequence[str],
    read: Mapping[str, ndarray],
    seed: int,
    progress: Callable[[str], object],
) -> tuple[dict[tuple[str, str], ndarray], ndarray]:
    """Return the out-of-fold scores of everything that is read, and the fold of every film."""
    patients = cohort.patients
    kinds = strata(cohort.table, [asked.confounder, asked.alone])
    fold = np.zeros(len(cohort), dtype=int)
    scores: dict[tuple[str, str], ndarray] = {}
    dealt = patient_folds(patients, asked.folds, strata=kinds, seed=seed)
    for number, (train, test) in enumerate(dealt):
        progress(f"  fold {number + 1} of {asked.folds}")
        fold[test] = number
        embedded = embeddings_of(cohort, train, asked, findings, seed)
        raw = embedded[RAW]
        said = cohort.table[list(findings)].to_numpy(dtype=float)
        for what, y in read.items():
            strength = choose_strength(raw[train], y[train], patients=patients[train], seed=seed)
            beside = {FINDINGS: said} if what == asked.confounder else {}
            for name, z in (embedded | beside).items():
                head = fit_head(z[train], y[train], strength=strength)
                page = scores.setdefault((what, name), np.zeros(len(cohort)))
                page[test] = head.score(z[test])
    return scores, fold


def _tabled(
    areas: Sequence[Areas], asked: Outcomes, judged: Sequence[str], count: Mapping[str, int]
) -> pd.DataFrame:
    """Return one row per finding and embedding; those with too few patients without a figure."""
    by_key = {(a.finding, a.name): a.values for a in areas}
    embeddings = [name for name in dict.fromkeys(a.name for a in areas) if name != FINDINGS]
    others = [f for f in judged if f != asked.alone]
    for name in embeddings:
        by_key[MEAN, name] = np.mean([by_key[f, name] for f in others], axis=0)
    alone = ALONE.format(asked.alone)
    rows = []
    for what in [*judged, MEAN, asked.confounder]:
        for name in [*embeddings, *([FINDINGS] if what == asked.confounder else [])]:
            own = by_key[what, name]
            row: dict[str, object] = {
                "finding": what, "embedding": name, "patients": count.get(what, np.nan),
                "reason": "",
            }  # fmt: skip
            row |= _limits("auroc", own)
            if name != RAW:
                row |= _limits("minus_raw", own - by_key[what, RAW])
            if name == JOINTLY:
                row |= _limits("minus_alone", own - by_key[what, alone])
            rows.append(row)
    table = pd.DataFrame(rows)
    table["minus_alone_q"] = np.nan
    each = table["finding"].isin(judged) & (table["embedding"] == JOINTLY)
    table.loc[each, "minus_alone_q"] = benjamini_hochberg(
        table.loc[each, "minus_alone_p"].to_numpy(float)
    )
    few = [f for f in count if f not in judged]
    told = [
        {"finding": f, "patients": count[f], "reason": f"too few: {count[f]} patients"} for f in few
    ]
    return pd.concat([table, pd.DataFrame(told)], ignore_index=True) if told else table


def _limits(name: str, draws: ndarray) -> dict[str, object]:
    """Return estimate, interval, and for a difference its p-value and what could be detected."""
    found = interval(draws[1:], float(draws[0]))
    row: dict[str, object] = {name: found.estimate, f"{name}_low": found.low,
                              f"{name}_high": found.high}  # fmt: skip
    if name.startswith("minus"):
        error = float(np.nanstd(draws[1:]))
        z = abs(found.estimate) / error if error else 0.0
        row |= {f"{name}_p": 2 * NormalDist().cdf(-z), f"{name}_detectable": DETECTABLE * error}
    return row


def _text(
    table: pd.DataFrame,
    asked: Outcomes,
    title: str,
    cohort: Cohort,
    findings: Sequence[str],
    repeats: int,
) -> str:
    alone = ALONE.format(asked.alone)
    names = [RAW, JOINTLY, alone, NOTHING]
    lines = [
        title,
        f"{len(cohort):,} films of {len(np.unique(cohort.patients)):,} patients; {asked.method}, "
        f"maps and heads cross-fitted over {asked.folds} patient-grouped folds, dealt {repeats} "
        "times.",
        f"Held jointly means additively, by regression: few of the {2 ** len(findings):,} joint "
        "cells hold a film, and the trace is taken to be alike in all of them.",
        f"AUROC of each finding within levels of {asked.confounder} [95 % over patients]; the last "
        f"line is how well a linear head tells {asked.confounder} among films alike in "
        f"{asked.alone}.  The findings alone, without any image, tell it "
        f"{_cell(_findings_alone(table), 'auroc')}: a clean embedding that knows them does too.",
        "",
        f"{'':<22}{'patients':>9}" + "".join(f"{n:>25}" for n in names)
        + f"{'jointly minus alone':>25}{'q':>7}{'detectable':>12}",
    ]  # fmt: skip
    rows = table[table["embedding"].notna()]
    for what, part in rows.groupby("finding", sort=False):
        by_name = part.set_index("embedding")
        cells = [_cell(by_name.loc[n], "auroc") for n in names]
        joint = by_name.loc[JOINTLY]
        many: str = "" if pd.isna(joint["patients"]) else f"{joint['patients']:.0f}"
        q: str = "" if pd.isna(joint["minus_alone_q"]) else f"{joint['minus_alone_q']:.2f}"
        lines.append(
            f"{what:<22}{many:>9}" + "".join(f"{c:>25}" for c in cells)
            + f"{_cell(joint, 'minus_alone', sign=True):>25}{q:>7}"
            + f"{joint['minus_alone_detectable']:>12.3f}"
        )  # fmt: skip
    for row in table[table["embedding"].isna()].itertuples():
        lines.append(f"{row.finding:<22}{row.patients:>9.0f}  REFUSED: {row.reason}, "
                     f"fewer than {asked.fewest_patients}")  # fmt: skip
    return "\n".join([*lines, "", *verdict(table, asked)])


def _findings_alone(table: pd.DataFrame) -> Any:
    """Return how well the confounder is told from the findings, without an image."""
    return table[table["embedding"] == FINDINGS].iloc[0]


def verdict(table: pd.DataFrame, asked: Outcomes) -> list[str]:
    """Return the answer by the rule of the config's header."""
    joint = table[table["embedding"] == JOINTLY].set_index("finding")
    mean = joint.loc[MEAN]
    gap = _cell(mean, "minus_alone", sign=True)
    if mean["minus_alone_low"] > 0:
        said = f"Holding all findings jointly keeps more of the others than {asked.alone} alone"
    elif mean["minus_alone_high"] < 0:
        said = f"Holding all findings jointly keeps less of the others than {asked.alone} alone"
    else:
        said = (
            f"Whether holding all findings jointly keeps more of the others than {asked.alone} "
            "alone cannot be told"
        )
    lines = [
        f"{said}: {gap} AUROC within {asked.confounder}, mean of the others; a true "
        f"{mean['minus_alone_detectable']:.3f} would be told in {100 * POWER:g} % of such samples."
    ]
    own = joint.drop([MEAN, asked.confounder])
    found = own[own["minus_alone_q"] < 0.05]
    lines.append(
        "Single findings that differ (Benjamini-Hochberg, q < 0.05): "
        + (", ".join(f"{f} {_cell(r, 'minus_alone', sign=True)}" for f, r in found.iterrows())
           or "none") + "."
    )  # fmt: skip
    worst = str(own["minus_raw"].idxmin())
    lines.append(
        f"Price of erasing {asked.confounder} given all, mean of the others: "
        f"{_cell(mean, 'minus_raw', sign=True)} against raw; the worst single finding is {worst}, "
        f"{_cell(own.loc[worst], 'minus_raw', sign=True)}."
    )
    return lines


def _cell(row: Any, name: str, *, sign: bool = False) -> str:
    style = "+.3f" if sign else ".3f"
    return f"{row[name]:{style}} [{row[f'{name}_low']:{style}}, {row[f'{name}_high']:{style}}]"


def figure(table: pd.DataFrame, path: Path) -> None:
    """Draw the AUROC of each finding within levels, raw and cleaned, and the difference beside."""
    from matplotlib.figure import Figure

    rows = table[table["embedding"].notna() & (table["embedding"] != FINDINGS)]
    names = list(dict.fromkeys(rows["embedding"]))
    findings = list(dict.fromkeys(rows["finding"]))
    tint = dict(zip(names, ("#6c757d", "#0072B2", "#D55E00", "#CC79A7"), strict=True))
    fig = Figure(figsize=(11, 0.46 * len(findings) + 1.5), layout="constrained")
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
    place = np.arange(len(findings))
    for name, shift in zip(names, (-0.27, -0.09, 0.09, 0.27), strict=True):
        own = rows[rows["embedding"] == name].set_index("finding").loc[findings]
        left.hlines(place + shift, own["auroc_low"], own["auroc_high"], color=tint[name], lw=1.4,
                    alpha=0.55)  # fmt: skip
        left.plot(own["auroc"], place + shift, "o", ms=4, color=tint[name], label=name)
    what = findings[-1]  # the confounder: how well it is told, not how well it is kept
    joint = rows[rows["embedding"] == JOINTLY].set_index("finding").loc[findings[:-1]]
    right.hlines(place[:-1], joint["minus_alone_low"], joint["minus_alone_high"],
                 color=tint[JOINTLY], lw=1.6, alpha=0.6)  # fmt: skip
    right.plot(joint["minus_alone"], place[:-1], "o", ms=4.5, color=tint[JOINTLY])
    left.plot(_findings_alone(table)["auroc"], place[-1], "|", ms=18, mew=1.6, color="0.25",
              label=f"{what} by {FINDINGS}")  # fmt: skip
    left.axhline(place[-1] - 0.5, color="0.85", lw=0.8)
    left.axvline(0.5, color="0.6", lw=0.8, ls=":")
    right.axvline(0, color="0.6", lw=0.8, ls=":")
    left.set_xlabel(f"AUROC of each finding within {what}; last line: {what} itself")
    right.set_xlabel("AUROC given all jointly, minus given one alone")
    left.set_yticks(place, findings)
    left.invert_yaxis()
    right.locator_params(axis="x", nbins=5)
    for ax in (left, right):
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(left=False)
        ax.grid(axis="x", color="#e8ecef", lw=0.7)
        ax.set_axisbelow(True)
    fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5,
               frameon=False)  # fmt: skip
    fig.savefig(path, dpi=130)


def answered(job: Job) -> Found:
    """Answer a config of this kind."""
    table, text = run_outcomes(job.films, job.config, quick=job.quick, progress=job.progress)
    return Found(table, text, {"figure.png": lambda path: figure(table, path)})
