"""The three questions, and what to expect at another site, in a few lines of text each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from deconf.evidence.narrative import REFUSED, aligned, limits, number, signed, wrapped

if TYPE_CHECKING:
    from deconf.evidence.report import Report


def questions_table(report: Report) -> list[str]:
    """Return the answers on what was passed and on raw; those on baselines are in the frame."""
    frame = report.questions.to_frame()
    lines = []
    for task in report.tasks:
        rows = [["", "confounder", "can be read", "prediction uses it", "performance differs"]]
        for _, r in frame[frame["task"] == task].iterrows():
            if not is_told(report, r["representation"]):
                continue
            gap = ""
            if r["disparity_metric"]:
                change = signed(r["disparity_difference"])
                gap = f" {r['disparity_metric']} {change} {limits(r, 'disparity')}"
            rows.append(
                [
                    r["representation"],
                    r["confounder"],
                    r["encoding"] + _auroc(r, "encoding"),
                    r["dependence"] + _auroc(r, "dependence"),
                    r["disparity"] + gap,
                ]
            )
        if len(rows) > 1:
            lines += [
                "",
                *wrapped(
                    f"THREE QUESTIONS, {task}: AUROC of the worst attacker; of the score for a "
                    "level; the difference between levels that speaks loudest"
                ),
                *aligned(rows),
            ]
    return lines


def external_lines(report: Report, task: str) -> list[str]:
    """Return `external_sentences` as lines of text, a blank one first; none without any."""
    told = [line for one in external_sentences(report, task) for line in wrapped(one, "  ", "    ")]
    return ["", *told] if told else []


def external_sentences(report: Report, task: str) -> list[str]:
    """Return what to expect at another level of the held-out column, of what was passed and raw.

    Where several are told the same, say that nothing can be estimated, it is told once.
    """
    t = report.external[report.external["task"] == task]
    told: dict[str, list[str]] = {}
    for name, part in t.groupby("representation", sort=False):
        if not is_told(report, str(name)):
            continue
        first, tested = part.iloc[0], part.iloc[1:]["is_inside"].dropna()
        if first["status"] == REFUSED:
            said = first["reason"]
        else:
            checked = f"made without each in turn, it held {sum(tested)} of {len(tested)}"
            said = (
                f"an AUROC of {number(first['estimate'])} {limits(first)} is to be expected, by "
                f"the {first['sites']} at hand; {checked if len(tested) else first['reason']}"
            )
        told.setdefault(f"at {first['held out']}: {said}", []).append(str(name))
    return [f"{', '.join(names)} {said}." for said, names in told.items()]


def is_told(report: Report, name: str) -> bool:
    """Whether a representation was passed, or is the raw one."""
    return name not in report.baselines or name == report.reference


def _auroc(row: pd.Series, question: str) -> str:
    value = row[f"{question}_auroc"]
    return "" if pd.isna(value) else f" {number(value)} {limits(row, question)}"
