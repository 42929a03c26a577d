"""Tables of the page: the three questions, what neighbours share, pairs of films, another site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from deconf.evidence.narrative import is_certain, limits, number, signed
from deconf.evidence.summaries import external_sentences, is_told
from deconf.probes.neighbours.neighbourhood import MEASURES

if TYPE_CHECKING:
    from deconf.evidence.report import Report

# How an answer looks: what is found is not yet bad, but it is what one came to be rid of.
LOOKS = {"yes": "leaks", "no": "clean", "undecided": "undecided", "not asked": ""}


def questions(report: Report) -> list[dict[str, Any]]:
    """Return one row for each confounder, task and representation that was passed, raw first."""
    frame = report.questions.to_frame()
    rows = []
    for _, r in frame.iterrows():
        if not is_told(report, r["representation"]):
            continue
        gap = "" if not r["disparity_metric"] else _gap(r)
        rows.append(
            {
                "name": r["representation"],
                "confounder": r["confounder"],
                "task": r["task"],
                "cells": [
                    {"word": r["encoding"], "figure": _auroc(r, "encoding")},
                    {"word": r["dependence"], "figure": _auroc(r, "dependence")},
                    {"word": r["disparity"], "figure": gap},
                ],
            }
        )
    for row in rows:
        for one in row["cells"]:
            one["look"] = LOOKS[one["word"]]
    return rows


def neighbours(report: Report) -> list[dict[str, Any]]:
    """Return a table for each confounder and task: measures by representations."""
    tables = []
    for (confounder, task), part in report.neighbours.groupby(["confounder", "task"], sort=False):
        names = list(dict.fromkeys(part["representation"]))
        rows = []
        for measure, said in MEASURES.items():
            here = part[part["measure"] == measure].set_index("representation")
            if not len(here):
                continue
            first = report.reference if report.reference in here.index else here.index[0]
            shuffled = float(here["shuffled"].to_dict()[first])
            rows.append(
                {
                    "measure": measure.replace("site mixing", f"{confounder} mixing").replace(
                        "of sites", f"of {confounder}"
                    ),
                    "said": said.replace("the site", "the level").replace("sites", "levels"),
                    "cells": [_near(here, name) for name in names],
                    "shuffled": "" if pd.isna(shuffled) else number(shuffled),
                }
            )
        tables.append(
            {
                "title": f"{confounder} and {task}",
                "names": names,
                "rows": rows,
                "n": int(part["n"].max()),
            }
        )
    return tables


def elsewhere(report: Report) -> list[str]:
    """Return what to expect at a site nobody has seen, a sentence each."""
    return [line for task in report.tasks for line in external_sentences(report, task)]


def pairs(report: Report) -> list[dict[Any, Any]]:
    """Return the AUROC by kind of pair, for the table at the end."""
    return [
        {
            **row,
            "figure": "" if pd.isna(row["estimate"]) else number(row["estimate"], 3),
            "limits": "" if pd.isna(row["estimate"]) else limits(pd.Series(row)),
            "percent": f"{100 * row['share']:.0f} %",
        }
        for row in report.pairs.to_dict("records")
    ]


def _near(here: pd.DataFrame, name: str) -> dict[str, Any]:
    if name not in here.index:
        return {"figure": "", "limits": "", "change": "", "certain": False}
    row: Any = here.loc[name]
    return {
        "figure": number(row["estimate"]),
        "limits": limits(row),
        "change": "" if pd.isna(row["difference"]) else signed(row["difference"]),
        "certain": is_certain(row),
    }


def _auroc(row: pd.Series, what: str) -> str:
    value = row[f"{what}_auroc"]
    return "" if pd.isna(value) else f"AUROC {number(value)} {limits(row, what)}"


def _gap(row: pd.Series) -> str:
    figure = f"{row['disparity_metric']} {signed(row['disparity_difference'])}"
    least = row["disparity_detectable"]
    told = "" if pd.isna(least) else f"; {number(least)} would have been found"
    return f"{figure} {limits(row, 'disparity')}{told}"
