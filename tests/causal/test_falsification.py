"""The data refute a wrong graph and name the contradiction; a right one they do not confirm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deconf.causal.graph import CausalGraph
from deconf.errors import CohortError, SettingsError

RIGHT = "severity -> ill; severity -> portable; ill -> image; portable -> image"


def table(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Severity drives disease and device; dose follows the device, in its spread alone."""
    rng = np.random.default_rng(seed)
    severity = rng.integers(0, 4, n)
    ill, portable = ((rng.random(n) < 0.1 + 0.25 * severity).astype(int) for _ in range(2))
    dose = rng.standard_normal(n) * (1 + 2 * portable)
    return pd.DataFrame(
        {"patient": np.arange(n), "severity": severity, "ill": ill, "portable": portable,
         "dose": dose}
    )  # fmt: skip


def test_the_true_graph_stands_and_says_on_how_many_rows_by_which_test():
    found = CausalGraph.parse(RIGHT).falsify(table(), rows=200, permutations=0)
    assert [str(one) for one in found.implied] == ["ill ⊥ portable | severity"]
    assert not found.is_contradicted
    text = str(found)
    assert "kernel test of conditional independence, 200 of 400 patients" in text
    assert "That is no proof" in text


def test_a_planted_wrong_graph_is_contradicted_by_name():
    wrong = CausalGraph.parse("severity -> ill; ill -> image; portable -> image")
    found = wrong.falsify(table(), rows=200, permutations=0)
    assert found.is_contradicted
    assert "It says that portable and severity are unrelated, and they are not" in str(found)
    assert all(one.adjusted >= one.p for one in found.implied)


def test_a_difference_in_spread_is_seen_by_the_kernel_and_not_by_a_correlation():
    frame = table()
    assert abs(frame["dose"].corr(frame["portable"])) < 0.1
    graph = CausalGraph.parse(RIGHT + "; dose -> image")
    found = graph.falsify(frame, rows=300, permutations=0)
    named = {(one.a, one.b) for one in found.contradictions}
    assert ("dose", "portable") in named
    assert ("ill", "portable") not in named


def test_unrecorded_nodes_are_projected_and_keep_the_graph_from_chance():
    graph = CausalGraph.parse(RIGHT)
    frame = table().drop(columns="severity")
    found = graph.falsify(frame, rows=200)
    assert found.implied == ()  # severity links the two, unseen: nothing is implied
    assert "Nothing to test" in str(found)
    assert "severity is not recorded" in str(found)


@pytest.mark.slow
def test_graphs_by_chance_are_compared_where_all_is_recorded():
    rng = np.random.default_rng(1)
    a = rng.standard_normal(300)
    b = a + 0.5 * rng.standard_normal(300)
    c = b + 0.5 * rng.standard_normal(300)
    d = 1.0 * (rng.standard_normal(300) > 0)
    frame = pd.DataFrame({"a": a, "b": b, "c": c, "d": d})
    right = CausalGraph.parse("a -> b -> c; d; c -> image")
    found = right.falsify(frame, rows=80, permutations=10)
    wrong = CausalGraph.parse("a -> d -> c; b; c -> image").falsify(frame, rows=80, permutations=10)
    assert found.better_than_random is not None
    assert wrong.better_than_random is not None
    assert found.better_than_random < wrong.better_than_random
    assert "graphs with the same arrows and the names dealt by chance" in str(found)


def test_one_row_of_each_patient_counts_and_the_global_generator_is_left_alone():
    frame = table(120)
    twice = pd.concat([frame, frame], ignore_index=True)
    graph = CausalGraph.parse(RIGHT)
    np.random.seed(7)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    once = graph.falsify(frame, permutations=0)
    again = graph.falsify(twice, patient="patient", permutations=0)
    assert once == again
    assert again.patients == 120
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_bad_input_is_refused_in_words():
    graph = CausalGraph.parse(RIGHT)
    with pytest.raises(CohortError, match=r"records 1 with more than one value.*Columns"):
        graph.falsify(table()[["ill", "dose"]])
    with pytest.raises(CohortError, match=r"20 patients have .* recorded: 50 at least"):
        graph.falsify(table(20))
    with pytest.raises(SettingsError, match=r"rows=10"):
        graph.falsify(table(), rows=10)
