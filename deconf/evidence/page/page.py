"""A report as one page: opens offline, prints on A4, reads on a phone, needs no script.

Verdicts first, then what they rest on: leakage, the task by environment, the task as the shift
turns round, a map and a few films to look at, what the graph demands, what else was lost, and at
the end every assumption and every figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from deconf.evidence.invariances import statement
from deconf.evidence.narrative import (
    REFUSED,
    limits,
    number,
    price_sentences,
    refusals,
    remarks,
    selections,
    signed,
)
from deconf.evidence.page.curves import colours, sweep_curves
from deconf.evidence.page.figures import graph_svg
from deconf.evidence.page.forest import leakage_forest, lost_forest, task_forest
from deconf.evidence.page.scatter import maps
from deconf.evidence.page.tables import elsewhere, neighbours, pairs, questions

if TYPE_CHECKING:
    from deconf.evidence.report import Report

TEMPLATES = Path(__file__).parent / "templates"
WORDS = {"clean": "no leak found", "leaks": "leaks", "undecided": "undecided"}


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
        compared=_compared(report),
        verdicts=_verdicts(report),
        prices=price_sentences(report),
        questions=questions(report),
        elsewhere=elsewhere(report),
        neighbours=neighbours(report),
        pairs=pairs(report),
        leakage=leakage_forest(report),
        tasks=[task_forest(report, task) for task in report.tasks],
        curves=sweep_curves(report),
        maps=maps(report),
        films=_films(report),
        plans=_plans(report),
        lost=lost_forest(report),
        spans=_spans(report),
        remarks=[*remarks(report), *refusals(report)],
        records=_records(report),
    )


def _compared(report: Report) -> list[dict[str, str]]:
    """Return the representations with their colours, as all drawings use them."""
    colour, chosen = colours(report), selections(report)
    return [
        {
            "name": name,
            "colour": colour[name],
            "role": "baseline" if name in report.baselines and name != report.reference else "",
            "rule": chosen.get(name, ""),
        }
        for name in report.names
    ]


def _films(report: Report) -> dict[str, Any]:
    """Return the plates and how their films were chosen; empty where there are no images."""
    if not report.films:
        return {}
    from deconf.evidence.page.overlay import plates
    from deconf.evidence.pictures.films import CHOSEN

    kinds = plates(report)
    has_heat = any(film["heats"] for kind in kinds for film in kind["films"])
    return {"kinds": kinds, "chosen": CHOSEN, "has_heat": has_heat}


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
