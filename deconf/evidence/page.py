"""A report as one page: opens offline, prints on A4, reads on a phone, needs no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from deconf.evidence.figures import Scale, axis, bar, graph_svg, ticks_of
from deconf.evidence.invariances import statement
from deconf.evidence.judged import FROZEN, WORST
from deconf.evidence.narrative import (
    REFUSED,
    cell,
    has_figure,
    is_certain,
    limits,
    number,
    price_sentences,
    refusals,
    remarks,
    signed,
)
from deconf.evidence.request import METADATA

if TYPE_CHECKING:
    from deconf.evidence.report import Report

TEMPLATES = Path(__file__).parent / "templates"
CHANCE = (0.5, "chance")
WORDS = {"clean": "no leak found", "leaks": "leaks", "undecided": "undecided"}
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
ORDER = ("within levels", "aligned pairs", "crossed pairs", "independent", "reversed")


def page(report: Report) -> str:
    """Return the whole report as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        report=report,
        config=report.config,
        verdicts=_verdicts(report),
        prices=price_sentences(report),
        tasks=[_task(report, task) for task in report.tasks],
        leakage=_leakage(report),
        lost=_lost(report),
        spans=_spans(report),
        plans=_plans(report),
        remarks=[*remarks(report), *refusals(report)],
        records=_records(report),
    )


def _verdicts(report: Report) -> list[dict[str, str]]:
    """Return the verdicts on what was passed, the raw embedding last."""
    found = [
        {
            "name": name,
            "confounder": confounder,
            "word": verdict.word,
            "said": WORDS[verdict.word],
            "statement": _statement(report, name, confounder),
            "sentence": verdict.sentence.split(": ", 1)[-1]
            if verdict.sentence.startswith(f"{verdict.word}: ")
            else verdict.sentence,
        }
        for (name, confounder), verdict in report.verdict.items()
        if confounder in report.confounders
        and (name not in report.baselines or name == report.reference)
    ]
    return sorted(found, key=lambda v: v["name"] == report.reference)


def _statement(report: Report, name: str, confounder: str) -> str:
    """Return what a verdict under a plain name tests: the cleaner's own demand, or the first."""
    plan = report.plans.get(name)
    if plan is not None and confounder in plan.invariances:
        return statement(confounder, plan.invariances[confounder])
    rows = report.leakage[
        (report.leakage["representation"] == name) & (report.leakage["confounder"] == confounder)
    ]
    return str(rows["statement"].iloc[0]) if len(rows) else ""


def _task(report: Report, task: str) -> dict[str, object]:
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
    return {
        "name": task,
        "sections": [s for s in sections if s["blocks"]],
        "other": _other(report, task),
    }


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
        title = metric if environment == "pooled" else environment
        blocks.append(_block(report, task, str(metric), str(environment), str(title), scale))
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
            rows.append(_row(name, row, scale, marks, report.baselines))
    return {
        "title": title,
        "said": SAID.get(title, "") if metric == "AUROC" else _metric_said(metric, title),
        "rows": rows,
        "axis": axis(scale, ticks_of(scale)),
    }


def _metric_said(metric: str, title: str) -> str:
    if metric == "accuracy":
        return SAID["worst group"]
    return {
        "calibration error": "gap of stated and observed risk; 0 is best",
        "calibration slope": "1 is calibrated, below 1 overconfident",
    }.get(title, "")


def _row(
    name: str,
    row: pd.Series,
    scale: Scale,
    marks: Sequence[tuple[float, str]],
    baselines: Sequence[str],
) -> dict[str, object]:
    is_refused = row["status"] == REFUSED
    change = ""
    if not is_refused and not pd.isna(row["difference"]):
        change = f"{signed(row['difference'])} {limits(row, 'difference')}"
    return {
        "name": name,
        "kind": "baseline" if name in baselines else "own",
        "bar": bar(scale, row["estimate"], row["low"], row["high"], marks=marks),
        "figure": REFUSED if is_refused else number(row["estimate"]),
        "limits": "" if is_refused else limits(row),
        "change": change,
        "certain": is_certain(row),
        "refused": is_refused,
        "reason": row["reason"],
    }


def _leakage(report: Report) -> list[dict[str, object]]:
    """Return the attackers of each representation, statement by statement, with the floor."""
    sections = []
    ends = [*report.leakage["auroc"], *report.leakage["low"], *report.leakage["high"]]
    scale = Scale.around(ends, low=0.4, high=1.0, step=0.1)
    frame = report.leakage.assign(
        title=[
            s if kind == "conditional" else f"{c}, nothing held fixed"
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
                        "kind": "own",
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
            for name, some in part.groupby("representation", sort=False)
        ]  # fmt: skip
        sections.append(
            {"title": title, "blocks": blocks, "marginal": part["kind"].iloc[0] == "marginal"}
        )
    return sections


def _lost(report: Report) -> list[dict[str, object]]:
    blocks = []
    for (what, metric), part in report.lost.groupby(["what", "metric"], sort=False):
        is_rank = metric == "directions"
        ends = [*part["estimate"], *part["low"].dropna(), *part["high"].dropna()]
        low, high, step = (0.4, 1.0, 0.1) if metric == "AUROC" else (0.0, 1.0, 0.5)
        scale = Scale.around(ends, low=low, high=high, step=10 if is_rank else step)
        marks = [CHANCE] if metric == "AUROC" else []
        rows = []
        for _, r in part.iterrows():
            one = _row(str(r["representation"]), _with_status(r), scale, marks, report.baselines)
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


def _with_status(row: pd.Series) -> pd.Series:
    return pd.concat([row, pd.Series({"status": "ok", "reason": ""})])


def _spans(report: Report) -> list[tuple[str, str, str]]:
    return [
        (r["representation"], r["held out"],
         "too few films to see a shift" if pd.isna(r["share"]) else f"{100 * r['share']:.0f} %")
        for _, r in report.out_of_span.iterrows()
    ]  # fmt: skip


def _plans(report: Report) -> list[dict[str, Any]]:
    """Return one entry per distinct plan, with the cleaners that share it."""
    found: dict[str, dict[str, Any]] = {}
    for name, plan in report.plans.items():
        text = str(plan)
        if text in found:
            found[text]["names"].append(name)
            continue
        graph = getattr(plan, "graph", None)
        found[text] = {
            "names": [name],
            "text": text,
            "headline": getattr(plan, "headline", ""),
            "statements": list(dict.fromkeys(str(i) for i in plan.invariances.values())),
            "why": list(dict.fromkeys(getattr(i, "why", "") for i in plan.invariances.values())),
            "graph": ""
            if graph is None
            else graph_svg(graph, list(plan.invariances), f"g{len(found)}"),
            "overlap": _overlap(plan),
            "method": getattr(plan, "method", ""),
            "assumptions": list(getattr(plan, "assumptions", ())),
            "warnings": list(getattr(plan, "warnings", ())),
            "alternatives": list(getattr(plan, "alternatives", ())),
        }
    return list(found.values())


def _overlap(plan: Any) -> list[dict[str, object]]:
    overlap = getattr(plan, "overlap", None)
    return [] if overlap is None else overlap.to_dict("records")


def _records(report: Report) -> list[dict[Any, Any]]:
    """Return every figure of the task table, for the table at the end."""
    return [
        {
            **row,
            "figure": REFUSED if row["status"] == REFUSED else number(row["estimate"], 3),
            "limits": limits(pd.Series(row)),
            "change": ""
            if pd.isna(row["difference"])
            else f"{signed(row['difference'])} {limits(pd.Series(row), 'difference')}",
        }
        for row in report.table.to_dict("records")
    ]


def _asked(report: Report, task: str, environment: str) -> bool:
    t = report.table
    return bool(((t["task"] == task) & (t["environment"] == environment)).any())
