"""A report in words: a sentence for each verdict, the price, tables that fit a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from deconf.evidence.judged import FROZEN, WORST

if TYPE_CHECKING:
    from deconf.evidence.report import Report

WIDTH = 100
REFUSED = "REFUSED"
ENVIRONMENTS = ("within levels", "aligned pairs", "crossed pairs", "independent", "reversed")
HEADS = {
    "within levels": "within",
    "aligned pairs": "aligned pairs",
    "crossed pairs": "crossed pairs",
    "independent": "untied",
    "reversed": "reversed",
}


def verdict_sentences(report: Report) -> list[str]:
    """Return a sentence for each verdict on what was passed, and on raw.

    What a representation is held to by the graph of another, and the other baselines, stand in
    the tables.
    """
    return [
        f"{name} / {confounder}: {verdict.sentence}."
        for (name, confounder), verdict in report.verdict.items()
        if confounder in report.confounders
        and (name not in report.baselines or name == report.reference)
    ]


def price_sentences(report: Report) -> list[str]:
    """Return what each representation loses where the shortcut holds, and gains at the worst."""
    told = []
    for name in report.names:
        if name in report.baselines or name == report.reference:
            continue
        for task in report.tasks:
            pooled = cell(report, name, task, "AUROC", "pooled")
            worst = cell(report, name, task, *WORST)
            if pooled is None or pd.isna(pooled["difference"]):
                why = "" if pooled is None else pooled["reason"]
                told.append(f"{name} / {task}: {REFUSED}, no figure to compare. {why}".rstrip())
                continue
            fall = f"{signed(pooled['difference'])} {limits(pooled, 'difference')}"
            certain = pooled["difference_high"] < 0
            label = "the price of the shortcut" if certain else "no certain price"
            line = f"{name} / {task}: {label}: AUROC in distribution {fall} against raw"
            line += _unseen(pooled)
            if worst is not None and not pd.isna(worst["difference"]):
                line += (
                    f"; in the worst environment {signed(worst['difference'])} "
                    f"{limits(worst, 'difference')}{_unseen(worst)}"
                )
            told.append(line.replace("against raw", f"against {report.reference}") + ".")
    return told


def tell(report: Report) -> str:
    """Return the report as text at most 110 columns wide: verdicts first."""
    from deconf.evidence.summaries import questions_table

    size = report.config
    lines = [
        *wrapped(
            f"Compared on {size['films']:,} films of {size['patients']:,} patients; "
            f"{_split(report)}. Attacked: {size['attacked']}."
        ),
        "",
        "VERDICTS",
    ]
    for sentence in report.sentences():
        lines += wrapped(sentence, "  ", "    ")
    for task in report.tasks:
        lines += ["", *_task(report, task)]
    lines += ["", *_leakage(report)]
    lines += questions_table(report)
    lines += _lost(report)
    lines += _bullets("Beware", report.warnings)
    lines += _bullets("Notes", [*report.reasons, *remarks(report), *refusals(report)])
    versions = size["versions"]
    told = ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else ""
    lines += ["", *wrapped(f"seed {size['seed']}; cohort {str(size['cohort'])[:12]}; {told}.")]
    return "\n".join(lines)


def cell(report: Report, name: str, task: str, metric: str, environment: str) -> pd.Series | None:
    """Return one row of the frame, None where there is none."""
    t = report.table
    found = t[
        (t["representation"] == name)
        & (t["task"] == task)
        & (t["metric"] == metric)
        & (t["environment"] == environment)
    ]
    return found.iloc[0] if len(found) else None


def figure(row: pd.Series | None) -> str:
    """Return ``0.84 [0.81, 0.87]``, REFUSED, or a dash where nothing was asked."""
    if row is None:
        return "-"
    if row["status"] == REFUSED:
        return REFUSED
    return f"{number(row['estimate'])} {limits(row)}"


def number(value: float, digits: int = 2) -> str:
    """Return a number with a minus sign that is one, and none before a zero.

    >>> number(-0.041), number(-0.001)
    ('−0.04', '0.00')
    """
    text = f"{abs(value):.{digits}f}"
    return ("−" if value < 0 and float(text) else "") + text


def limits(row: pd.Series, of: str = "") -> str:
    """Return ``[.81, .87]``; empty where the draws gave no interval.

    Without the leading zeros, so that six columns fit a terminal.
    """
    low, high = (row[f"{of}_{end}" if of else end] for end in ("low", "high"))
    return "" if pd.isna(low) else f"[{_short(low)}, {_short(high)}]"


def _short(number: float) -> str:
    text = f"{abs(number):.2f}"
    bare = "1.0" if text == "1.00" else text.removeprefix("0")  # as wide as .99
    return ("−" if number < 0 and float(text) else "") + bare


def signed(number: float) -> str:
    """Return ``+0.03`` or ``−0.03``.

    >>> signed(-0.034), signed(0.001)
    ('−0.03', '+0.00')
    """
    return f"{'−' if number < 0 else '+'}{abs(number):.2f}"


def refusals(report: Report) -> list[str]:
    """Return each reason for which a figure was refused, with the figures it cost."""
    lost = report.table[report.table["status"] == REFUSED]
    told = []
    for (task, reason), rows in lost.groupby(["task", "reason"], sort=False):
        names = dict.fromkeys(rows["representation"])
        who = "all" if len(names) == len(report.names) else ", ".join(names)
        where = list(dict.fromkeys(rows["environment"]))
        what = ", ".join(where) if len(where) <= 4 else f"{len(where)} figures"
        told.append(f"{REFUSED} for {who}, {task} ({what}): {reason}")
    return told


def remarks(report: Report) -> list[str]:
    """Return what the reader of a figure should know, with the figures it is about."""
    said = report.table[
        (report.table["status"] != REFUSED)
        & (report.table["reason"] != "")
        & ~report.table["environment"].isin([WORST[1], FROZEN[1]])
    ]
    told = []
    for (task, reason), rows in said.groupby(["task", "reason"], sort=False):
        where = list(dict.fromkeys(rows["environment"]))
        what = ", ".join(where) if len(where) <= 4 else f"{len(where)} figures"
        names = list(dict.fromkeys(rows["representation"]))
        who = "" if len(names) == len(report.names) else f" of {', '.join(names)}"
        told.append(f"{task} ({what}{who}): {reason}")
    return told


def _split(report: Report) -> str:
    folds = report.config["folds"]
    count = len(folds) if isinstance(folds, list) else 0
    if report.config["hold_out"]:
        return f"each of {count} levels of {report.config['hold_out']} left out in turn"
    return f"{count} patient-grouped folds"


def _task(report: Report, task: str) -> list[str]:
    from deconf.evidence.summaries import external_lines

    lines = [
        f"TASK {task}: AUROC with 95 % intervals by patient; * differs from {report.reference}",
        "",
    ]
    columns = [WORST[1], "pooled", FROZEN[1]]
    held = [e for e in report.table["environment"].unique() if e.startswith("held out: ")]
    lines += _table(
        report, task, [*columns], "", ["worst environment", "pooled", "head of raw"], rules=True
    )
    for start in range(0, len(held), 4):
        part = held[start : start + 4]
        lines += ["", *_table(report, task, part, "held out", [h[10:] for h in part])]
    lines += external_lines(report, task)
    for confounder in report.confounders:
        some = [e for e in ENVIRONMENTS if has_figure(report, task, f"{confounder}: {e}")]
        asked = [f"{confounder}: {e}" for e in some]
        lines += ["", *_table(report, task, asked, confounder, [HEADS[e] for e in some])]
    return lines


def has_figure(report: Report, task: str, environment: str) -> bool:
    """Whether anybody has a figure there; what is refused to all is said in the notes."""
    t = report.table
    asked = (t["task"] == task) & (t["environment"] == environment)
    return bool((t.loc[asked, "status"] == "ok").any())


def _table(
    report: Report,
    task: str,
    environments: Sequence[str],
    title: str,
    heads: Sequence[str],
    *,
    rules: bool = False,
) -> list[str]:
    chosen = selections(report) if rules else {}
    rows = [[title, *heads, *(["selection"] if chosen else [])]]
    for name in report.names:
        row = [name]
        for environment in environments:
            found = cell(report, name, task, "AUROC", environment)
            row.append(figure(found) + ("*" if is_certain(found) else ""))
        rows.append([*row, *([chosen.get(name, "")] if chosen else [])])
    return aligned(rows)


def selections(report: Report) -> dict[str, str]:
    """Return who chose penalty and epoch of each invariant-risk method; empty without any."""
    known = report.table[report.table["selection"] != ""]
    return dict(zip(known["representation"], known["selection"], strict=True))


def _unseen(row: pd.Series) -> str:
    """Return what would have been found, where no difference was."""
    if is_certain(row):
        return ""
    return f" (a change of {number(row['detectable'])} would have been found with 80 % power)"


def is_certain(row: pd.Series | None) -> bool:
    """Whether the interval of the difference to raw leaves out zero.

    Where many were looked at and the row has a q-value, whether that is below 0.05.
    """
    if row is None or pd.isna(row["difference_low"]):
        return False
    if "difference_q" in row and not pd.isna(row["difference_q"]):
        return bool(row["difference_q"] < 0.05)
    return bool(row["difference_low"] > 0 or row["difference_high"] < 0)


def _leakage(report: Report) -> list[str]:
    lines = ["LEAKAGE: worst attacker on held-out patients, as the graph demands"]
    rows = [["", "confounder", "verdict", "AUROC", "floor", "attacker", "n"]]
    for (name, confounder), verdict in report.verdict.items():
        has = not pd.isna(verdict.estimate.estimate)
        rows.append(
            [
                name,
                confounder,
                str(verdict),
                str(verdict.estimate) if has else REFUSED,
                f"{verdict.floor:.2f}" if has else "",
                verdict.worst,
                f"{verdict.n:,}" if has else "",
            ]
        )
    return [*lines, *aligned(rows)]


def _lost(report: Report) -> list[str]:
    if report.lost.empty:
        return []
    lines = [
        "",
        *wrapped(
            "WHAT ELSE WAS LOST: read from held-out films by a linear probe; * differs from "
            f"{report.reference}, q < 0.05 over the columns (Benjamini-Hochberg)"
        ),
    ]
    names = list(dict.fromkeys(report.lost["representation"]))
    rows = [["", *names]]
    for (what, metric), part in report.lost.groupby(["what", "metric"], sort=False):
        by_name = part.set_index("representation")
        row = [f"{what} ({metric})" if metric != "directions" else str(what)]
        for name in names:
            one = by_name.loc[name] if name in by_name.index else None
            digits = 1 if metric == "directions" else 2
            told = "-"
            if one is not None:
                told = f"{number(one['estimate'], digits)} {limits(one)}".rstrip()
            row.append(told + ("*" if is_certain(one) else ""))
        rows.append(row)
    lines += aligned(rows)
    for name, held, share in report.out_of_span.itertuples(index=False, name=None):
        told = "cannot be seen" if pd.isna(share) else f"{100 * share:.0f} %"
        lines += wrapped(
            f"{name}, {held}: share of its mean shift outside the erased directions: {told}.", "  "
        )
    return lines


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows with columns aligned, two blanks between; columns that do not fit go below.

    >>> aligned([["", "n"], ["raw", "10"]])
    ['       n', '  raw  10']
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    blocks: list[list[int]] = [[]]
    room = WIDTH - 2 - widths[0]
    for column, width in enumerate(widths[1:], start=1):
        if blocks[-1] and width + 2 > room:
            blocks.append([])
            room = WIDTH - 2 - widths[0]
        blocks[-1].append(column)
        room -= width + 2
    lines: list[str] = []
    for block in blocks:
        for row in rows:
            cells = [row[i].ljust(widths[i]) for i in (0, *block)]
            lines.append(("  " + "  ".join(cells)).rstrip())
        lines.append("")
    return lines[:-1]


def wrapped(text: str, first: str = "", rest: str = "  ") -> list[str]:
    """Return the text in lines that fit a terminal."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _bullets(title: str, said: Iterable[str]) -> list[str]:
    items = [line for sentence in said for line in wrapped(sentence, "  - ", "    ")]
    return ["", f"{title}:", *items] if items else []
