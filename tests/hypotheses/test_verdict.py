"""The rules, one by one: the first that applies decides."""

from __future__ import annotations

import pandas as pd
import pytest

from deconf.hypotheses import verdict as v
from deconf.maths.intervals import Interval

PASSED = [("placebo cause", "refuter", "passed")]
NULL = [*PASSED, ("portable -> hernia", "negative control", "passed")]
NOT_NULL = [*PASSED, ("portable -> hernia", "negative control", "failed")]
UNINFORMATIVE = [*PASSED, ("portable -> hernia", "negative control", "uninformative")]
BROKEN = [("placebo cause", "refuter", "failed"), *NOT_NULL]
LARGE, SMALL, WIDE = Interval(0.5, 0.3, 0.7), Interval(0.01, -0.05, 0.06), Interval(0.2, -0.3, 0.7)


def judged(estimate, table, **more):
    frame = pd.DataFrame(table, columns=["refuter", "kind", "result"])
    return v.judge(v.Evidence(estimate, 0.1, frame, **more))[0]


@pytest.mark.parametrize(
    ("estimate", "table", "more", "expected"),
    [
        (LARGE, NULL, {}, v.FOUND),
        (LARGE, PASSED, {}, v.FOUND_UNTESTED),
        (LARGE, NOT_NULL, {}, v.ASSOCIATION),
        (LARGE, BROKEN, {}, v.REFUTED),
        (SMALL, NULL, {}, v.ABSENT),
        (SMALL, PASSED, {}, v.ABSENT_UNTESTED),
        (SMALL, NOT_NULL, {}, v.ASSOCIATION),
        (WIDE, NULL, {}, v.UNDECIDED),
        (LARGE, NULL, {"designs_agree": False}, v.ASSOCIATION),
        (LARGE, NULL, {"designs_agree": True}, v.FOUND),
        (LARGE, NULL, {"labels_from_image": ("effusion",)}, v.GIVEN_LABELS),
        (LARGE, NULL, {"labels_from_image": ("effusion",), "designs_agree": True}, v.FOUND),
        (LARGE, NULL, {"leaves_open": "the graph leaves a <- u -> y open"}, v.NOT_IDENTIFIED),
        (LARGE, NULL, {"leaves_open": "a path", "designs_agree": True}, v.NOT_IDENTIFIED),
        (LARGE, UNINFORMATIVE, {}, v.FOUND_UNTESTED),
        (SMALL, UNINFORMATIVE, {}, v.ABSENT_UNTESTED),
        (LARGE, NULL, {"has_graph": False}, v.FOUND_UNTESTED),
        (LARGE, NULL, {"is_null": True}, v.ASSOCIATION),
        (SMALL, NULL, {"is_null": True}, v.ABSENT),
        (WIDE, NULL, {"is_null": True}, v.UNDECIDED),
        (Interval(0.5, float("nan"), float("nan")), NULL, {}, v.UNDECIDED),
    ],
)
def test_each_rule(estimate, table, more, expected):
    assert judged(estimate, table, **more) == expected


def test_what_was_only_shown_decides_nothing():
    shown = [*NULL, ("unobserved common cause", "refuter", "shown")]
    assert judged(LARGE, shown) == v.FOUND
