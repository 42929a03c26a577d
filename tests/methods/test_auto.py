from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import deconf
from deconf.errors import SettingsError
from deconf.maths.intervals import Interval
from deconf.maths.maps import AffineMap, Chain
from deconf.maths.moments import Given
from deconf.methods import auto
from deconf.methods.auto import Auto, select
from deconf.methods.leace import LEACE
from deconf.methods.reweight import Reweight
from deconf.probes.leakage import Leakage
from deconf.probes.reading import best_read, is_read
from tests.strategies import apply, gap, world


def story(seed=0, n=800, trace=2.0, **more):
    w = world(seed, n=n, d=8, k=2, trace=trace, condition=1.5, follows=0.5, rarest=0.3, **more)
    return w, w.strata.astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_data_without_confounding_come_back_unchanged(seed):
    w, y = story(seed, n=600, trace=0.0)
    chosen = select(w.z, w.c, given=w.given, outcome=y, seed=seed)
    assert chosen.name == "identity"
    assert "nothing to remove" in chosen.reasons[0]
    assert np.array_equal(apply(chosen.map, w.z), w.z)


def test_a_shift_is_removed_and_the_choice_is_explained():
    w, y = story(1)
    chosen = select(w.z, w.c, given=w.given, outcome=y)
    out = apply(chosen.map, w.z)
    assert gap(w.z, w.levels, w.strata) > 0.3
    assert gap(out, w.levels, w.strata) < 0.25 * gap(w.z, w.levels, w.strata)
    assert gap(out, w.strata, w.levels) > 0.5 * gap(w.z, w.strata, w.levels)
    assert any("selected on training patients" in r for r in chosen.reasons)
    assert chosen.name in chosen.scores
    again = select(w.z, w.c, given=w.given, outcome=y)
    assert again.scores == chosen.scores
    assert np.array_equal(apply(Auto().fit(w.z, w.c, given=w.given, outcome=y), w.z), out)


def test_a_cell_of_few_patients_forbids_a_selection_and_is_counted():
    w, y = story(2)
    keep = ~((w.levels == 1) & (w.strata == 0))
    keep[np.flatnonzero(~keep)[:3]] = True
    chosen = select(w.z[keep], w.c[keep], given=w.given.rows(keep), outcome=y[keep])
    assert chosen.name == "leace (pooled)"
    assert "smallest cell holds 3 patients" in chosen.reasons[-1]
    assert not chosen.scores


def test_without_an_outcome_the_best_single_recipe_is_taken():
    w, _ = story(3)
    chosen = select(w.z, w.c, given=Given.nothing(len(w.z)))
    assert chosen.name == "aligned"
    assert "no outcome to select by" in chosen.reasons[-1]


def test_missing_outcomes_and_a_stratum_absent_from_a_fold_are_no_obstacle():
    w, y = story(4, n=700)
    y[:100] = np.nan
    codes = np.where(np.isnan(y), 2, w.strata)
    chosen = select(w.z, w.c, given=Given(codes), outcome=y)
    after = gap(apply(chosen.map, w.z), w.levels, w.strata)
    assert after < 0.25 * gap(w.z, w.levels, w.strata)


def test_a_continuous_confounder_is_served():
    rng = np.random.default_rng(5)
    y = rng.integers(2, size=900).astype(float)
    kvp = rng.normal(size=900) + y
    z = rng.normal(size=(900, 6))
    z[:, 0] += 2 * y
    z[:, 1] += kvp
    chosen = select(z, kvp[:, None], given=Given(y.astype(int)), outcome=y)
    out = apply(chosen.map, z)
    left = [abs(np.corrcoef(x[y == 1, 1], kvp[y == 1])[0, 1]) for x in (z, out)]
    assert left[0] > 0.5
    assert left[1] < 0.1


def test_of_several_outcomes_the_first_is_selected_by_and_others_than_0_and_1_are_refused():
    w, y = story(6, n=400)
    other = np.random.default_rng(0).integers(2, size=len(y))
    both = select(w.z, w.c, given=w.given, outcome=np.stack([y, other], axis=1))
    assert both.scores == select(w.z, w.c, given=w.given, outcome=y.astype(int)).scores
    with pytest.raises(
        SettingsError, match=r"0, 1 or missing.*holds 2\.0.*choose a method by name"
    ):
        Auto().fit(w.z, w.c, given=w.given, outcome=y + 1)
    with pytest.raises(SettingsError, match="holds no, yes"):
        Auto().fit(w.z, w.c, given=w.given, outcome=np.where(y == 1, "yes", "no"))


def test_maps_that_read_the_record_are_considered_only_where_they_are_allowed():
    w, y = story(7, n=500)
    chosen = {
        reads: select(w.z, w.c, given=w.given, outcome=y, reads_record=reads)
        for reads in (False, True)
    }
    plain = {"leace (pooled)", "leace (stacked)", "quadratic", "aligned"}  # and raw is not one
    plain |= {"transport"}  # 80 patients in the smallest cell and more
    assert set(chosen[False].scores) == plain
    recorded = {f"{name} (reads the record)" for name in ("aligned", "counterfactual")}
    assert set(chosen[True].scores) == plain | recorded
    for reads, one in chosen.items():
        assert all(name in one.reasons[1] for name in one.scores)
        assert one.map.needs_confounders == (reads and one.name in recorded)


@dataclass(frozen=True)
class Jittered(LEACE):
    """LEACE and a little of one random coordinate added to another: neither better nor worse."""

    draw: int = 0

    def fit(self, z, c, **more):
        rng = np.random.default_rng(self.draw)
        left, right = 0.2 * rng.normal(size=(2, z.shape[1]))
        jitter = AffineMap(left[:, None], right[None], np.zeros(z.shape[1]))
        return Chain(super().fit(z, c, **more), jitter)


def test_the_simpler_candidate_wins_within_chance_and_loses_to_what_is_truly_better(monkeypatch):
    w, y = story(8, n=900, disease=0.3)
    yielded = 0
    for draw in (0, 2):  # one that is truly worse, one that is not
        pair = {"simple": LEACE(strata="pooled"), "dear": Jittered(strata="pooled", draw=draw)}
        monkeypatch.setattr(auto, "_candidates", lambda *_, pair=pair: pair)
        chosen = select(w.z, w.c, given=w.given, outcome=y)
        best = max(chosen.scores, key=chosen.scores.get)
        told = "simple is simpler than dear and within one standard error" in " ".join(
            chosen.reasons
        )
        assert told == (best != chosen.name)
        yielded += told
    assert yielded
    pair = {"simple": Reweight(), "dear": LEACE(strata="pooled")}
    monkeypatch.setattr(auto, "_candidates", lambda *_: pair)
    assert select(w.z, w.c, given=w.given, outcome=y).name == "dear"


def test_the_shortcut_earns_nothing_in_the_selection(monkeypatch):
    # Disease barely visible, the level of the confounder plainly, and strongly tied to disease: as
    # the films come, keeping the trace scores best; with the association removed it does not.
    rng = np.random.default_rng(13)
    y = rng.integers(2, size=1200)
    level = np.where(rng.random(1200) < 0.85, y, 1 - y)
    z = rng.normal(size=(1200, 6))
    z[:, 0] += 0.5 * y
    z[:, 1] += 3 * level
    pair = {"keeps": Reweight(), "erases": LEACE(strata="pooled")}
    monkeypatch.setattr(auto, "_candidates", lambda *_: pair)
    chosen = select(z, np.eye(2)[level], given=Given(y), outcome=y.astype(float))
    assert chosen.name == "erases"
    assert abs(chosen.scores["keeps"] - chosen.scores["erases"]) < 0.15  # but for the leak, alike
    assert chosen.scores["erases"] == pytest.approx(0.64, abs=0.06)  # Φ(0.5 / √2): disease alone


def test_levels_that_are_half_readable_are_not_mixed():
    w, y = story(12, n=700, trace=0.5)
    chosen = select(w.z, w.c, given=w.given, outcome=y)
    assert "aligned" not in chosen.scores
    assert "leace (pooled)" in chosen.scores
    assert any("only half readable" in r for r in chosen.reasons)


def test_head_weights_go_with_an_outcome_that_is_held_and_with_no_other():
    w, y = story(11, n=500)
    held = select(w.z, w.c, given=w.given, outcome=y)
    assert held.head_weights
    assert "association removed and reversed" in held.reasons[1]
    other = np.random.default_rng(0).integers(2, size=len(y)).astype(float)
    free = select(w.z, w.c, given=w.given, outcome=other)
    assert not free.head_weights
    assert "the least leakage" in free.reasons[1]


def test_a_cell_counts_its_patients_and_not_their_films():
    w, y = story(2)
    cell = np.flatnonzero((w.levels == 1) & (w.strata == 0))
    patients = np.arange(len(y))
    patients[cell] = patients[cell[0]]  # one patient, many films
    chosen = select(w.z, w.c, given=w.given, outcome=y, patients=patients)
    assert "smallest cell holds 1 patients" in chosen.reasons[-1]
    assert chosen.name == "leace (pooled)"


def test_an_empty_cell_is_the_smallest():
    w, y = story(2)
    keep = ~((w.levels == 1) & (w.strata == 0))
    chosen = select(w.z[keep], w.c[keep], given=w.given.rows(keep), outcome=y[keep])
    assert "smallest cell holds 0 patients" in chosen.reasons[-1]


@pytest.mark.parametrize("other", ["coin", "number"])
def test_a_leak_is_found_whichever_confounder_is_named_first(other):
    rng = np.random.default_rng(0)
    n = 800
    y = rng.integers(2, size=n)
    dose = rng.normal(size=n) + 0.8 * y
    table = {"dose": dose, "coin": rng.choice(list("ht"), n), "number": rng.normal(size=n), "y": y}
    z = rng.normal(size=(n, 8))
    z[:, 0] += y
    z[:, 3] += 2 * dose
    cohort = deconf.Cohort.from_arrays(z, pd.DataFrame(table), outcome="y")
    found = [
        deconf.deconfound("stored", names).fit(cohort)
        for names in ([other, "dose"], ["dose", other])
    ]
    assert found[0].method == found[1].method != "auto: identity"
    for clean in found:
        out = clean.embed(cohort)
        assert abs(np.corrcoef(out[y == 1, 3], dose[y == 1])[0, 1]) < 0.1


@pytest.mark.filterwarnings("ignore::deconf.errors.OverlapWarning")  # 25 films a cell
def test_many_sites_are_levels_and_their_trace_is_found():
    rng = np.random.default_rng(0)
    site, y = rng.integers(30, size=1500), rng.integers(2, size=1500)
    z = rng.normal(size=(1500, 8)) + np.where(site % 2, 1.5, -1.5)[:, None] * (np.arange(8) == 1)
    z[:, 0] += y
    table = pd.DataFrame({"site": [f"S{k:02d}" for k in site], "y": y})
    cohort = deconf.Cohort.from_arrays(z, table, outcome="y")
    for method in ("auto", "combat", "centre", "aligned"):
        reads = deconf.methods.card(method).needs_confounders
        clean = deconf.deconfound("stored", "site", method=method, at_inference=reads).fit(cohort)
        assert abs(np.corrcoef(clean.embed(cohort)[:, 1], site % 2)[0, 1]) < 0.3
    more = cohort.table.assign(ward=rng.integers(9, size=1500).astype(str))
    crowded = deconf.Cohort.from_arrays(z, more, outcome="y")
    with pytest.raises(SettingsError, match="aligned makes a map for each level, and these are 2"):
        deconf.deconfound("stored", ["site", "ward"], method="aligned").fit(crowded)


def test_a_leak_is_not_diluted_by_a_better_read_confounder_that_luck_explains():
    quiet = Leakage({"a": Interval(0.6, 0.4, 0.8)}, worst="a", p=0.3)
    loud = Leakage({"a": Interval(0.55, 0.52, 0.58)}, worst="a", p=0.01)
    assert best_read((quiet, loud)) == best_read((Leakage(reason="few"), loud)) == 1
    assert not is_read(loud, (loud,) * 5)
