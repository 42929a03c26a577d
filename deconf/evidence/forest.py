"""Forests of interval bars: the task by environment, the attackers, what else was lost.

Everything here is a dictionary that the template lays out: a block has a title, rows and an axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from deconf.evidence.figures import Scale, axis, bar, ticks_of
from deconf.evidence.judged import FROZEN, WORST
from deconf.evidence.narrative import (
    REFUSED,
    cell,
    has_figure,
    is_certain,
    limits,
    number,
    signed,
)
from deconf.evidence.request import METADATA

if TYPE_CHECKING:
    from deconf.evidence.report import Report

CHANCE = (0.5, "chance")
TITLES = {
    "conditional": "{statement}",
    "marginal": "{confounder}, nothing held fixed",
    "transfer": "{statement}, at sites the attackers did not learn at",
}
SAID = {
    WORST[1]: "the lowest of the environments, each its own",
    "pooled": "films as they come, the shortcut in place",
    FROZEN[1]: "head of the raw embedding on the edited one",
    "within levels": "one level at a time: the shortcut is constant",
    "aligned pairs": "pairs of films for which the shortcut is right",
    "crossed pairs": "pairs of films for which the shortcut is wrong",
    "independent": "weighted: outcome and confounder unrelated",
    "reversed": "weighted: their association turned round",
    "worst group": "rightly called in the worst group of films",
}
METRICS = {
    "accuracy": SAID["worst group"],
    "calibration error": "gap of stated and observed risk; 0 is best",
    "calibration slope": "1 is calibrated, below 1 overconfident",
    "calibration intercept": "0 is calibrated, below 0 the stated risk is too high",
}
ORDER = ("within levels", "aligned pairs", "crossed pairs", "independent", "reversed")


def kind_of(report: Report, name: str) -> str:
    """Return the CSS class of a representation: the reference, a baseline, or the user's own."""
    if name == report.reference:
        return "reference"
    return "baseline" if name in report.baselines else "own"


def task_forest(report: Report, task: str) -> dict[str, object]:
    """Return the AUROC of a task in every environment, then calibration and worst groups."""
    t = report.table[(report.table["task"] == task) & (report.table["metric"] == "AUROC")]
    ends = _ends(t)
    scale = Scale.around(ends, low=0.4, high=1.0, step=0.1)
    heads = [WORST[1], "pooled", FROZEN[1]]
    held = [e for e in t["environment"].unique() if e.startswith("held out: ")]
    groups = [_block(report, task, "AUROC", e, e, scale) for e in heads if _asked(report, task, e)]
    sections = [{"title": "", "blocks": groups}]
    if held:
        blocks = [
            _block(report, task, "AUROC", e, e.removeprefix("held out: "), scale) for e in held
        ]
        sections.append({"title": "Held out in turn", "blocks": blocks})
    for confounder in report.confounders:
        asked = [(e, f"{confounder}: {e}") for e in ORDER]
        blocks = [
            _block(report, task, "AUROC", full, short, scale)
            for short, full in asked
            if has_figure(report, task, full)
        ]
        sections.append({"title": confounder, "blocks": blocks})
    other = _other(report, task)
    return {
        "name": task,
        "sections": [s for s in sections if s["blocks"]],
        "other": [block for block in other if "held out" not in str(block["title"])],
        "by_level": [block for block in other if "held out" in str(block["title"])],
    }


def leakage_forest(report: Report) -> list[dict[str, object]]:
    """Return the attackers of each representation, statement by statement, with the floor."""
    sections = []
    ends = [*report.leakage["auroc"], *report.leakage["low"], *report.leakage["high"]]
    scale = Scale.around(ends, low=0.4, high=1.0, step=0.1)
    frame = report.leakage.assign(
        title=[
            TITLES[kind].format(statement=s, confounder=c)
            for s, kind, c in zip(
                report.leakage["statement"],
                report.leakage["kind"],
                report.leakage["confounder"],
                strict=True,
            )
        ]
    ).drop_duplicates(["title", "representation", "attacker"])
    kinds = frame.sort_values("kind", kind="stable")  # conditional before marginal
    for title, part in kinds.groupby("title", sort=False):
        if part["kind"].iloc[0] == "marginal" and f"z ⊥ {part['confounder'].iloc[0]}" in set(
            frame["title"]
        ):
            continue  # the graph holds nothing fixed either: the same figures
        blocks = [
            {
                "title": name,
                "said": f"floor {some['floor'].iloc[0]:.2f}, {some['n'].iloc[0]:,} patients",
                "rows": [
                    {
                        "name": r["attacker"],
                        "kind": kind_of(report, name),
                        "bar": bar(scale, r["auroc"], r["low"], r["high"],
                                   marks=[(r["floor"], "floor")]),
                        "figure": f"{r['auroc']:.2f}",
                        "limits": limits(r),
                        "change": "",
                        "certain": False,
                        "refused": False,
                        "reason": "",
                    }
                    for _, r in some.iterrows()
                ],
                "axis": axis(scale, ticks_of(scale)),
            }
            for name, some in ((str(n), p) for n, p in part.groupby("representation", sort=False))
        ]  # fmt: skip
        sections.append(
            {"title": title, "blocks": blocks, "marginal": part["kind"].iloc[0] == "marginal"}
        )
    return sections


def lost_forest(report: Report) -> list[dict[str, object]]:
    """Return effective rank, and each column nobody asked to erase."""
    blocks = []
    for (what, metric), part in report.lost.groupby(["what", "metric"], sort=False):
        is_rank = metric == "directions"
        ends = [*part["estimate"], *part["low"].dropna(), *part["high"].dropna()]
        low, high, step = (0.4, 1.0, 0.1) if metric == "AUROC" else (0.0, 1.0, 0.5)
        scale = Scale.around(ends, low=low, high=high, step=10 if is_rank else step)
        marks = [CHANCE] if metric == "AUROC" else []
        rows = []
        for _, r in part.iterrows():
            name = str(r["representation"])
            one = _row(name, _with_status(r), scale, marks, kind_of(report, name))
            rows.append(one | {"figure": f"{r['estimate']:.1f}", "change": ""} if is_rank else one)
        said = (
            "how many directions the embedding spreads over"
            if is_rank
            else f"{metric} of a linear probe, {int(part['n'].iloc[0]):,} films"
        )
        blocks.append(
            {"title": what, "said": said, "rows": rows, "axis": axis(scale, ticks_of(scale))}
        )
    return blocks


def _other(report: Report, task: str) -> list[dict[str, object]]:
    """Return calibration and worst groups, each on a scale of its own."""
    t = report.table[(report.table["task"] == task) & (report.table["metric"] != "AUROC")]
    blocks = []
    for (metric, environment), part in t.groupby(["metric", "environment"], sort=False):
        if not (part["status"] == "ok").any():
            continue
        ends = _ends(part)
        high = 1.0 if metric != "calibration error" else 0.1
        scale = Scale.around(ends, low=0.0, high=high, step=0.1 if high < 1 else 0.5)
        title = environment if metric == "accuracy" else f"{metric}, {environment}"
        title = str(metric if environment == "pooled" else title)
        blocks.append(_block(report, task, str(metric), str(environment), title, scale))
    return blocks


def _ends(rows: pd.DataFrame) -> list[float]:
    """Return what a scale has to hold: metadata alone may fall off it, lest it squeeze the rest."""
    held = rows[rows["representation"] != METADATA]
    return [*held["estimate"], *held["low"], *held["high"]]


def _block(
    report: Report, task: str, metric: str, environment: str, title: str, scale: Scale
) -> dict[str, object]:
    """Return one measure, a row for each representation."""
    raw = cell(report, report.reference, task, metric, environment)
    marks = [(float(raw["estimate"]), "raw")] if raw is not None else []
    marks += [CHANCE] if metric == "AUROC" else []
    rows = []
    for name in report.names:
        row = cell(report, name, task, metric, environment)
        if row is not None:
            rows.append(_row(name, row, scale, marks, kind_of(report, name)))
    return {
        "title": title,
        "said": SAID.get(title, "") if metric == "AUROC" else METRICS.get(metric, ""),
        "rows": rows,
        "axis": axis(scale, ticks_of(scale)),
    }


def _row(
    name: str,
    row: pd.Series,
    scale: Scale,
    marks: Sequence[tuple[float, str]],
    kind: str,
) -> dict[str, object]:
    is_refused = row["status"] == REFUSED
    change = ""
    if not is_refused and not pd.isna(row["difference"]):
        change = f"{signed(row['difference'])} {limits(row, 'difference')}"
    return {
        "name": name,
        "kind": kind,
        "bar": bar(scale, row["estimate"], row["low"], row["high"], marks=marks),
        "figure": REFUSED if is_refused else number(row["estimate"]),
        "limits": "" if is_refused else limits(row),
        "change": change,
        "certain": is_certain(row),
        "refused": is_refused,
        "reason": row["reason"],
    }


def _with_status(row: pd.Series) -> pd.Series:
    return pd.concat([row, pd.Series({"status": "ok", "reason": ""})])


def _asked(report: Report, task: str, environment: str) -> bool:
    t = report.table
    return bool(((t["task"] == task) & (t["environment"] == environment)).any())
