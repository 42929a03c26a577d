"""A plan in plain English, for a reader who knows patients better than graphs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from deconf.causal.overlap import rows
from deconf.errors import listing

if TYPE_CHECKING:
    from deconf.causal.invariance import Invariance
    from deconf.causal.plan import Plan

WIDTH = 96


def in_words(names: Iterable[object], limit: int = 8) -> str:
    """Join names as a sentence does, cutting a long list and saying how long it was.

    Examples
    --------
    >>> in_words(["a", "b", "c"]), in_words(["a", "b", "c"], limit=2)
    ('a, b and c', 'a, b, ... (3 in all)')
    """
    found = [str(name) for name in names]
    if len(found) < 2 or len(found) > limit:
        return listing(found, limit)
    return ", ".join(found[:-1]) + " and " + found[-1]


def tell(plan: Plan) -> str:
    """Return the plan as text: the answer first, then why, overlap, method and reservations."""
    size = f"{plan.rows:,} rows, {plan.patients:,} patients"
    lines = [*_wrapped(plan.headline), size + _unlabelled(plan) + "."]
    for invariance in plan.distinct():
        lines += ["", *_demand(plan, invariance)]
    lines += ["", *_wrapped("What will be done: " + _deed(plan))]
    for title, said in (
        ("Assumed", plan.assumptions),
        ("Beware", plan.warnings),
        ("Under other stories", plan.alternatives),
    ):
        lines += _bullets(title, said)
    lines += _bullets("How much hangs on it", _leaning(plan))
    lines += ["", *_wrapped("Columns read as: " + "; ".join(plan.reading) + ".")]
    if plan.status != "not identified":
        lines += _wrapped(
            "Not claimed: an independence is necessary, not sufficient, for an embedding that "
            "would stay the same had the confounder been different."
        )
    return "\n".join(lines)


def _unlabelled(plan: Plan) -> str:
    if not plan.unlabelled:
        return ""
    return f"; {plan.unlabelled:,} without {in_words(plan.outcome)}"


def _demand(plan: Plan, i: Invariance) -> Iterable[str]:
    names = in_words(i.confounders)
    if not i.is_needed:
        return _wrapped(f"{names}: {i.why}")
    lines = [str(i)]
    if i.is_identified:
        among = f"Among images alike in {in_words(i.given)}, a" if i.given else "A"
        lines += _wrapped(f"{among} clean embedding must not tell {names}.")
    lines += _wrapped(f"Why: {i.why}")
    if i.remedies:
        lines += _bullets("What would close it", i.remedies)
    found = rows(plan.overlap[plan.overlap["invariance"] == str(i)])
    if found:
        states = [
            f"{count} {state}"
            for state in ("ok", "thin", "unsupported")
            if (count := sum(cell.status == state for cell in found))
        ]
        lines += _wrapped(
            f"Overlap: {len(found)} cells ({', '.join(states)}); the smallest, {found[0]}, holds "
            f"{found[0].patients:,} patients{', see below' if plan.warnings else ''}."
        )
    return lines


def _leaning(plan: Plan) -> Iterable[str]:
    """Return which checks of label and proxies this plan asks for."""
    at_work = [i for i in plan.distinct() if i.is_needed and i.is_identified]
    labels = dict.fromkeys(y for i in at_work for y in i.given if y in i.outcome)
    if labels:
        yield (
            f"{in_words(labels)} as recorded may be wrong: deconf.label_errors flips 5, 10 and "
            "20 % of it, at random and by level of the confounder, and says how often a "
            "conclusion turns."
        )
    if any(" stands in for " in said for said in plan.assumptions):
        yield (
            "a proxy is held: deconf.proxy_range holds outcome, proxy and both in turn, the proxy "
            "at a reliability of 1 down to 0.5, and says whether a conclusion turns."
        )


def _deed(plan: Plan) -> str:
    at_work = [i for i in plan.distinct() if i.is_needed]
    if plan.design:
        return f"the method {plan.method!r} is fitted inside pairs: {plan.design}."
    if any(not i.is_identified for i in at_work):
        return "nothing is fitted (NotIdentified), unless you defend a set of your own with given=."
    if at_work and plan.status == "not identified":
        return "nothing worth having: inside a stratum there is no contrast to learn from."
    if not at_work:
        return "embeddings come back unchanged: there is nothing to remove."
    strata = dict.fromkeys(in_words(i.given) for i in at_work)
    where = in_words(f"within strata of {s}" if s else "over all rows" for s in strata)
    if plan.method != "auto":
        return f"the method {plan.method!r} is fitted {where}."
    if not plan.is_identified:
        return f"auto: one erasure pooled {where}, labelled as extrapolation; nothing is selected."
    return (
        f"auto: if the trace is not above chance {where}, embeddings come back unchanged; "
        "otherwise the eraser that leaves least of it at the least cost is chosen on held-out "
        "patients."
    )


def _wrapped(text: str, first: str = "", rest: str = "  ") -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _bullets(title: str, said: Iterable[str]) -> list[str]:
    items = [line for sentence in said for line in _wrapped(sentence, "  - ", "    ")]
    return ["", f"{title}:", *items] if items else []
