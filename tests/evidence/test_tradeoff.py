"""Leakage against task: the ends are raw and the map, the front is a front, the words follow."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deconf
from deconf.errors import NotIdentified, SettingsError
from deconf.evidence.contenders import Learned
from deconf.evidence.strengths import partly
from deconf.evidence.tradeoff import COLUMNS, Tradeoff, fronts, trace
from deconf.methods import LEACE
from deconf.probes.leakage import leakage
from deconf.worlds import linear
from tests.evidence.small_world import SmallCleaner


@pytest.fixture(scope="module")
def world():
    return linear(n=700, d=24, trace="shift", seed=97)


@pytest.fixture(scope="module")
def cohort(world):
    return world.train().cohort


@pytest.fixture(scope="module")
def found(cohort):
    families = {"leace": "leace", "ranks": [LEACE(rank="full"), LEACE(rank="significant")]}
    return deconf.tradeoff(families, cohort, "portable", strengths=[0.5, 1], folds=3)


def test_the_ends_of_the_path_are_what_compare_says_of_raw_and_of_the_method(found, cohort):
    cleaner = deconf.deconfound("stored", "portable", method="leace")
    report = deconf.compare({"leace": cleaner}, cohort, folds=3, pictures=False)
    table = report.table.set_index(["representation", "environment"])
    leak = report.leakage[report.leakage["kind"] == "conditional"]
    ours = found.to_frame().set_index(["family", "strength"])
    for point, name in ((("raw", 0.0), "raw"), (("leace", 1.0), "leace")):
        for axis, world in (("worst", "worst environment"), ("within", "portable: within levels")):
            theirs = table.loc[(name, world)]
            for end, key in (("", "estimate"), ("_low", "low"), ("_difference", "difference")):
                np.testing.assert_equal(ours.loc[point, f"{axis}{end}"], theirs[key])
        worst = leak.loc[leak["representation"] == name, "auroc"].max()
        np.testing.assert_equal(ours.loc[point, "leak"], worst)
    assert found.statements == {"portable": "z ⊥ portable | pneumonia"}


def test_half_the_strength_leaks_less_than_raw_and_more_than_all_of_it(found):
    leak = found.to_frame().set_index(["family", "strength"])["leak"]
    assert leak["raw", 0.0] > leak["leace", 0.5] > leak["leace", 1.0] + 0.2


def test_a_family_of_settings_is_named_by_what_differs(found):
    own = found.to_frame().query("family == 'ranks'")
    assert own["setting"].tolist() == ["rank='full'", "rank='significant'"]
    assert (own["strength"] == 1).all()


def test_part_of_a_map_is_part_of_the_way_and_its_weights_part_of_their_power():
    rng = np.random.default_rng(0)
    raw, whole = rng.normal(size=(2, 5, 3)).astype(np.float32)
    base = Learned(raw, raw, raw, "stored")
    one = Learned(whole, whole, raw, "stored", weights=np.array([0.25, 1, 1, 4, 9.0]))
    half = partly(one, base, 0.5)
    np.testing.assert_allclose(half.test, (raw + whole) / 2, atol=1e-6)
    np.testing.assert_allclose(half.weights, [0.5, 1, 1, 2, 3])
    np.testing.assert_array_equal(partly(one, base, 1.0).test, whole)


def test_maps_and_heads_see_no_patient_they_are_judged_on(cohort):
    cleaner = SmallCleaner()
    trace({"small": [cleaner]}, cohort, strengths=[1.0], folds=2)
    assert len(cleaner.seen) == len(cleaner.judged) == 3  # two folds, and the half
    for seen, judged in zip(cleaner.seen, cleaner.judged, strict=True):
        assert judged
        assert not seen & judged


@given(st.lists(st.tuples(*[st.sampled_from([0.5, 0.6, 0.7, np.nan])] * 2), max_size=8))
def test_the_front_is_what_nobody_beats(points):
    leak, task = (np.array([p[k] for p in points], dtype=float) for k in (0, 1))

    def beats(a, b):
        return (
            leak[a] <= leak[b] and task[a] >= task[b] and (leak[a], task[a]) != (leak[b], task[b])
        )

    n = range(len(points))
    naive = [bool(np.isfinite(leak[i] + task[i])) and not any(beats(j, i) for j in n) for i in n]
    assert fronts(leak, task).tolist() == naive


def test_where_there_is_nothing_to_remove_nothing_is_gained():
    null = linear(n=500, d=24, trace="none", seed=97)
    found = deconf.tradeoff("leace", null.train().cohort, "portable", strengths=[1.0], folds=2)
    table = found.to_frame()
    assert table["leak"].nunique() == 1
    assert "no point leaks less than raw" in str(found)


def stub(**clean) -> Tradeoff:
    kept = dict.fromkeys(COLUMNS, np.nan) | {
        "setting": "", "confounder": "site", "task": "ill", "leak_low": 0.5, "leak_high": 0.9,
        "floor": 0.52, "worst_low": 0.5, "worst_high": 0.9, "within": 0.7, "within_low": 0.6,
        "within_high": 0.8, "reason": "",
    }  # fmt: skip
    raw = kept | {"family": "raw", "strength": 0.0, "leak": 0.9, "worst": 0.7, "on_front": False}
    own = kept | {"family": "leace", "strength": 1.0, "leak": 0.55, "worst": 0.8, "on_front": True}
    table = pd.DataFrame([raw, own | clean])
    return Tradeoff(table, {"site": "z ⊥ site | ill"}, (), {"films": 10, "patients": 10})


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.05, 0.15, "gains"), (-0.2, -0.1, "pays"), (-0.1, 0.1, "cannot be told")],
)
def test_the_price_is_told_by_the_paired_interval(low, high, words):
    gap = (low + high) / 2
    found = stub(worst_difference=gap, worst_difference_low=low, worst_difference_high=high)
    assert re.search(rf"leace at 1 alone is the front.*{words}", found.sentences()[0])
    assert found.front()["family"].tolist() == ["leace"]


def test_a_task_without_a_figure_is_refused_with_its_reason():
    found = stub(worst=np.nan, on_front=False, reason="no level of site holds both classes")
    assert "no front, no level of site holds both classes" in found.sentences()[0]
    assert "REFUSED" in str(found)
    found.figure()


def test_it_is_saved_as_picture_page_and_frame(found, tmp_path):
    for suffix in (".png", ".svg", ".csv", ".html"):
        assert found.save(tmp_path / f"t{suffix}").stat().st_size > 500
    assert len(pd.read_csv(tmp_path / "t.csv")) == len(found.to_frame())
    page = (tmp_path / "t.html").read_text()
    assert not re.search(r'(src|href)="(?!#)', page)  # opens offline
    assert "train-0" not in page  # no patient is named
    with pytest.raises(SettingsError, match=r"saved as .html.*not .jpg"):
        found.save("t.jpg")
    with pytest.raises(SettingsError, match="no folder"):
        found.save(tmp_path / "nowhere" / "t.png")


def test_what_cannot_be_drawn_is_refused_before_work(cohort, world):
    door = deconf.tradeoff
    cleaner = deconf.deconfound("stored", "portable", method="leace")
    other = deconf.deconfound("stored", "portable", method="leace", given=())
    with pytest.raises(SettingsError, match="shares between 0"):
        door("leace", cohort, "portable", strengths=[1.5])
    with pytest.raises(SettingsError, match="'quick' or 'full'"):
        door("leace", cohort, "portable", effort="slow")
    with pytest.raises(SettingsError, match="two methods are called 'leace'"):
        door(["leace", LEACE(rank="full")], cohort, "portable")
    with pytest.raises(SettingsError, match="different statements"):
        door({"a": cleaner, "b": other}, cohort)
    with pytest.raises(SettingsError, match="says its own confounders"):
        door(cleaner, cohort, "portable")
    with pytest.raises(SettingsError, match="no method was named"):
        door([], cohort, "portable")
    with pytest.raises(SettingsError, match="Did you mean 'leace'"):
        door("leach", cohort, "portable")
    with pytest.raises(SettingsError, match="call your family otherwise"):
        door({"raw": "leace"}, cohort, "portable")
    with pytest.raises(SettingsError, match="nothing to remove"):
        door("leace", cohort, "portable", graph="pneumonia -> image; pneumonia -> portable")
    hidden = "severity -> portable; hidden -> portable; hidden -> image; portable -> image"
    with pytest.raises(NotIdentified, match="hidden"):
        door("leace", cohort, "portable", graph=hidden + "; pneumonia -> image")


@pytest.mark.filterwarnings("ignore::deconf.errors.OverlapWarning")
def test_a_method_that_reads_the_record_is_drawn_where_that_is_allowed(cohort, monkeypatch):
    cheap = partial(leakage, attackers=["logistic"])
    monkeypatch.setattr("deconf.evidence.tradeoff.leakage", cheap)
    asked = {"strengths": [1.0], "folds": 2}
    with pytest.raises(SettingsError, match="pass at_inference=True"):
        deconf.tradeoff("combat", cohort, "portable", **asked)
    frame = deconf.tradeoff("combat", cohort, "portable", at_inference=True, **asked).to_frame()
    leak = frame.set_index("family")["leak"]
    assert leak["combat"] < leak["raw"] - 0.1
    with pytest.raises(SettingsError, match=r"a cleaner says its own.*at_inference"):
        deconf.tradeoff(
            deconf.deconfound("stored", "portable", method="combat"), cohort, at_inference=True
        )
