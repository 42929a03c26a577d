"""The audit cries wolf at its level and no more, finds what was planted, and says what it did."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from deconf.causal.plan import make_plan
from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, LeakageError, SettingsError
from deconf.evidence.leakage import audit, leakage
from deconf.evidence.question import told_by_strata
from deconf.evidence.verdict import judge, patients_needed
from deconf.maths.intervals import Interval
from deconf.probes.leakage import Leakage

CHEAP = ("logistic", "knn")
GRAPH = "ill -> view; ill -> image; view -> image"


def films(n: int, *, trace: float = 0.0, seed: int = 0, d: int = 4) -> Cohort:
    """Disease drives the view; both may show in the embedding: disease in 0, view in 1."""
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    view = (rng.random(n) < 0.2 + 0.6 * ill).astype(int)
    z = rng.standard_normal((n, d))
    z[:, 0] += 2 * ill
    z[:, 1] += trace * view
    return cohort_of(z, ill=ill, view=np.where(view == 1, "AP", "PA"), age=rng.normal(60, 9, n))


def cohort_of(z: np.ndarray, **columns: np.ndarray) -> Cohort:
    table = pd.DataFrame({"patient": [f"p{i}" for i in range(len(z))], **columns})
    return Cohort.from_arrays(z.astype(np.float32), table, patient="patient", outcome="ill")


# ------------------------------------------------------------------ leakage, on arrays


def test_under_the_null_p_is_uniform_though_both_go_with_the_stratum():
    p = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        s = rng.integers(2, size=160)
        c = (rng.random(160) < 0.2 + 0.6 * s).astype(int)
        z = rng.standard_normal((160, 3)) + 2 * s[:, None]
        options = {"attackers": CHEAP, "permutations": 99, "bootstraps": 10, "seed": seed}
        p.append(leakage(z, c, s, **options).p)
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) < 0.05) <= 0.125  # 5 of 40: exceeded once in 70 such tests


def test_the_level_holds_for_patients_with_many_films_and_is_lost_if_films_pass_for_patients():
    blocked, loose = [], []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(50), 6)
        c = rng.integers(2, size=50)[who]
        z = rng.standard_normal((50, 3))[who] + 0.3 * rng.standard_normal((300, 3))
        options = {"attackers": ["knn"], "permutations": 99, "bootstraps": 10, "seed": seed}
        blocked.append(leakage(z, c, None, who, **options).p < 0.05)
        loose.append(leakage(z, c, None, None, **options).p < 0.05)
    assert np.mean(blocked) <= 0.16  # 4 of 25: exceeded once in 50 such tests
    assert np.mean(loose) > 0.9


def test_copies_of_a_film_do_not_narrow_the_interval_but_more_patients_do():
    rng = np.random.default_rng(0)
    c = rng.integers(2, size=800)
    z = rng.standard_normal((800, 2)) + 0.7 * c[:, None]

    def width(patients: int, copies: int) -> float:
        who = np.repeat(np.arange(patients), copies)
        found = leakage(z[who], c[who], None, who, attackers=["logistic"], seed=0).estimate
        return found.high - found.low

    assert width(200, 6) == pytest.approx(width(200, 1), rel=0.2)
    assert width(800, 1) < 0.65 * width(200, 1)


def test_a_certain_leak_has_the_smallest_p_there_is_and_an_interval_away_from_the_floor():
    z, c = np.random.default_rng(0).standard_normal((300, 3)), np.arange(300) % 2
    found = leakage(z + 3 * c[:, None], c, attackers=CHEAP, permutations=99, seed=0)
    assert found.p == pytest.approx(1 / 100)
    assert found.estimate.low > found.floor + 0.3
    assert found.upper == max(i.high for i in found.intervals.values())
    assert found.floor < found.critical < 0.65
    assert found.n_test == found.n_rows == sum(found.per_stratum.values()) == 150


def test_more_attackers_raise_the_floor():
    z, c = np.random.default_rng(0).standard_normal((300, 3)), np.arange(300) % 2
    one = leakage(z, c, attackers=["knn"], seed=0)
    all_of_them = leakage(z, c, seed=0)
    assert all_of_them.attackers == ("logistic", "quadratic", "knn", "boosted", "mlp")
    assert all_of_them.floor > one.floor + 0.01


def test_the_p_value_of_an_attacker_alone_is_that_of_an_audit_without_the_others():
    rng = np.random.default_rng(3)
    s, age = rng.integers(2, size=200), rng.standard_normal(200)
    z = rng.standard_normal((200, 30)) + 0.1 * age[:, None]  # thin: fitted across strata as well
    ask = {"codes": (age > 0).astype(int), "strata": s, "values": age, "seed": 0}
    both = leakage(z, **ask, attackers=CHEAP)
    for name in CHEAP:
        one = leakage(z, **ask, attackers=[name])
        assert len(one.intervals) == 4
        assert both.alone[name] == one.p
        assert both.p_values[one.worst] >= one.p


def test_a_leak_in_one_stratum_of_two_is_diluted_not_lost():
    rng = np.random.default_rng(0)
    c, s = rng.integers(2, size=(2, 1000))
    z = rng.standard_normal((1000, 3))
    z[:, 0] += 3 * c * s
    found = leakage(z, c, s, attackers=["logistic"], seed=0)
    assert 0.68 < found.estimate.estimate < 0.8
    assert found.p < 0.05


def test_three_sites_are_read_one_against_the_rest():
    rng = np.random.default_rng(0)
    site = rng.choice(["A", "B", "C"], size=600)
    z = rng.standard_normal((600, 2))
    z[:, 0] += 4 * (site == "B")
    found = leakage(z, site, attackers=["logistic"], seed=0)
    # B is told perfectly; A against the rest: half of the rest is B, the other half a coin.
    assert found.estimate.estimate == pytest.approx((1 + 0.75 + 0.75) / 3, abs=0.05)


def test_the_same_seed_gives_the_same_leakage():
    z, c = np.random.default_rng(0).standard_normal((120, 5)), np.arange(120) % 2
    assert str(leakage(z, c, seed=1)) == str(leakage(z, c, seed=1))
    assert str(leakage(z, c, seed=1)) != str(leakage(z, c, seed=2))


def test_where_no_stratum_has_two_levels_there_is_a_reason_instead_of_a_number():
    s = np.arange(40) % 2
    found = leakage(np.random.default_rng(0).standard_normal((40, 2)), s, s, attackers=CHEAP)
    assert np.isnan(found.estimate.estimate)
    assert "no stratum has two levels" in found.reason
    assert len(found.skipped) == 2
    assert str(judge(found, np.nan)) == "undecided"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strata": np.zeros(5)}, r"strata has shape \(5,\) for 30 embeddings"),
        ({"codes": np.ones(30)}, "every row has the level 1.0"),
        ({"z": np.full((30, 2), np.nan)}, "30 of 30 embeddings hold NaN .* first in row 0"),
        ({"z": np.zeros(30)}, r"shape \(30,\): expected \(n, d\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, words):
    right = {"z": np.zeros((30, 2)), "codes": np.arange(30) % 2, "strata": np.zeros(30)}
    with pytest.raises(CohortError, match=words):
        leakage(**{**right, **change})


def test_an_unknown_attacker_or_effort_is_named():
    z, c = np.zeros((30, 2)), np.arange(30) % 2
    with pytest.raises(SettingsError, match="Did you mean 'logistic'"):
        leakage(z, c, attackers=["logistics"])
    with pytest.raises(SettingsError, match="'quick' or 'full'"):
        leakage(z, c, effort="thorough")


# ------------------------------------------------------------------ the verdict, on figures


def found(auroc: float, half: float, *, floor: float = 0.53, n: int = 400, **more) -> Leakage:
    read = Interval(auroc, auroc - half, auroc + half)
    figures = {
        "intervals": {"logistic": read, "boosted": read},
        "p_values": {"logistic": 0.4, "boosted": 0.01},
        "worst": "boosted",
        "floor": floor,
        "critical": floor + 0.03,
        "p": 0.01,
        "upper": read.high,
        "n_test": n,
    }
    return Leakage(**{**figures, **more})


@pytest.mark.parametrize(
    ("auroc", "half", "p", "word"),
    [
        (0.70, 0.05, 0.01, "leaks"),
        (0.70, 0.05, 0.20, "undecided"),  # high, but luck cannot be ruled out
        (0.551, 0.05, 0.01, "leaks"),
        (0.549, 0.05, 0.01, "undecided"),  # certain, but not 0.02 above the floor
        (0.53, 0.049, 0.60, "clean"),
        (0.53, 0.051, 0.60, "undecided"),
        (0.45, 0.05, 0.99, "clean"),
        (0.56, 0.01, 0.01, "leaks"),  # below the margin, but seen
    ],
)
def test_the_rule_of_the_verdict(auroc, half, p, word):
    assert str(judge(found(auroc, half), p)) == word


def test_an_estimate_far_below_one_half_is_luck_not_cleanness():
    lucky = found(0.40, 0.15, critical=0.65)
    assert lucky.upper < lucky.floor + 0.05
    assert str(judge(lucky, 0.99)) == "undecided"
    assert judge(lucky, 0.99).needed == 3600  # half-width three margins wide: nine times 400


def test_the_margin_decides_what_is_clean():
    leak = found(0.54, 0.03)
    assert str(judge(leak, 0.6)) == "clean"
    assert str(judge(leak, 0.6, margin=0.035)) == "undecided"
    with pytest.raises(SettingsError, match="margin is 0"):
        judge(leak, 0.6, margin=0)


def test_a_clean_sentence_names_attackers_n_and_assumptions():
    verdict = judge(found(0.53, 0.02), 0.5, assumptions=["the label is the disease."])
    assert verdict.sentence == (
        "no leak above 0.05 found by logistic, boosted at n = 400 held-out patients, "
        "assuming the label is the disease"
    )


def test_a_leak_is_told_in_figures_with_what_to_try_next():
    verdict = judge(found(0.71, 0.06), 0.01, confounder="view", given=["disease"])
    assert verdict.sentence == (
        "leaks: boosted trees still read view within disease at AUROC 0.71 [0.65, 0.77], chance "
        "floor 0.53 (n = 400 held-out patients, p = 0.01); "
        "means are matched, higher moments leak: try aligned, then transport"
    )
    linear = found(0.71, 0.06, worst="logistic", p_values={"logistic": 0.01})
    assert "difference of means is left" in judge(linear, 0.01).sentence


def test_unsupported_cells_are_never_clean_and_do_not_hide_a_leak():
    cells = ["no AP patients with ill=0"]
    verdict = judge(found(0.53, 0.01), 0.9, unsupported=cells)
    assert str(verdict) == "undecided"
    assert "no AP patients with ill=0" in verdict.sentence
    assert verdict.needed is None
    assert str(judge(found(0.8, 0.05), 0.01, unsupported=cells)) == "leaks"


def test_the_patients_needed_shrink_the_interval_below_the_margin():
    # Half-width 0.1 at n = 400, nothing above the floor: 0.05 takes four times as many.
    assert patients_needed(found(0.53, 0.1), 0.05) == 1600
    assert patients_needed(found(0.53, 0.1), 0.1 + 1e-9) == 440  # never fewer than there were
    assert patients_needed(found(0.58, 0.1, n=0), 0.05) is None
    verdict = judge(found(0.53, 0.1), 0.5)
    assert verdict.needed == 1600
    assert "about n = 1,600 held-out patients would decide" in verdict.sentence


def test_a_leak_that_stands_out_needs_fewer_patients_than_its_absence():
    excess, to_critical = 0.04, 0.03
    leak = found(0.53 + excess, 0.1, critical=0.53 + to_critical)
    assert patients_needed(leak, 0.05) == 440  # (0.03/0.04)^2 < 1: the next few patients
    far = found(0.53 + excess, 0.1, critical=0.53 + 0.08)
    assert patients_needed(far, 0.05) == 1600  # (0.08/0.04)^2


# ------------------------------------------------------------------ the audit, on cohorts


def test_the_conditional_audit_is_not_fooled_by_disease_and_the_marginal_one_says_what_is_due():
    clean = audit("stored", films(3000), "view", graph=GRAPH, attackers=CHEAP)
    assert str(clean.verdict["view"]) == "clean"
    assert clean.invariances["view"].given == ("ill",)
    frame = clean.to_frame().set_index(["kind", "attacker"])
    marginal = frame.loc[("marginal", "logistic")]
    assert marginal["low"] > 0.6
    assert marginal["floor"] == pytest.approx(0.8, abs=0.03)  # P(view | ill) alone
    assert frame.loc[("conditional", "logistic"), "floor"] < 0.53
    assert "is to be expected of a clean embedding" in str(clean)


def test_the_wrong_adjustment_set_turns_the_same_embedding_into_a_leak():
    marginal = audit("stored", films(1000), "view", given=(), attackers=CHEAP)
    assert str(marginal.verdict["view"]) == "leaks"
    assert any("your assumption" in reason for reason in marginal.reasons)


def test_a_trace_within_disease_leaks_and_few_rows_are_undecided():
    leaking = films(1000, trace=1.5)
    assert str(audit("stored", leaking, "view", graph=GRAPH, attackers=CHEAP).verdict["view"]) == (
        "leaks"
    )


@pytest.mark.parametrize("seed", range(6))
def test_forty_held_out_patients_never_make_a_clean_verdict_however_lucky(seed):
    cohort = films(80, seed=seed)
    verdict = audit("stored", cohort, "age", given=(), attackers=CHEAP, seed=seed).verdict["age"]
    assert str(verdict) == "undecided"
    assert verdict.needed > verdict.n


def test_without_a_graph_the_recorded_outcome_is_held_and_said_to_be_assumed():
    result = audit("stored", films(3000), "view", attackers=CHEAP)
    assert result.invariances["view"].given == ("ill",)
    assert ", assuming " in result.verdict["view"].sentence


def test_a_cell_with_one_level_only_is_never_clean():
    cohort = films(4000)
    table = cohort.table
    table.loc[table["ill"] == 0, "view"] = "PA"
    z = np.random.default_rng(0).standard_normal((4000, 2))
    verdict = audit(z, cohort_of(z, **table.drop(columns="patient")), "view", given="ill",
                    attackers=CHEAP).verdict["view"]  # fmt: skip
    assert str(verdict) == "undecided"
    assert "no view=AP patients with ill=0" in verdict.sentence


def test_an_independence_that_is_not_identified_is_undecided_and_says_why():
    cohort = films(400)
    graph = "severity -> view; severity -> image; view -> image; ill -> image"
    result = audit("stored", cohort, "view", graph=graph, attackers=CHEAP)
    assert str(result.verdict["view"]) == "undecided"
    assert "severity" in result.verdict["view"].sentence
    assert set(result.to_frame()["kind"]) == {"marginal"}


def test_a_number_is_audited_by_thirds_and_a_number_given_is_cut_into_cells():
    rng = np.random.default_rng(0)
    age = rng.normal(60, 9, 1500)
    view = np.where(rng.random(1500) < 1 / (1 + np.exp(-(age - 60) / 5)), "AP", "PA")
    z = rng.standard_normal((1500, 3))
    z[:, 0] += age / 9
    cohort = cohort_of(z, ill=rng.integers(2, size=1500), view=view, age=age)
    confounder = audit("stored", cohort, "age", given=(), attackers=["logistic"])
    assert any("thirds are read (AUROC), and its order" in said for said in confounder.reasons)
    assert str(confounder.verdict["age"]) == "leaks"
    held = audit("stored", cohort, "view", given="age", attackers=["logistic"])
    assert len(held.leakages["view", "conditional"].per_stratum) == 5
    assert str(held.verdict["view"]) != "leaks"
    assert str(
        audit("stored", cohort, "view", given=(), attackers=["logistic"]).verdict["view"]
    ) == ("leaks")


def test_rows_with_a_missing_value_are_left_out_and_counted():
    table = films(300).table
    table.loc[:39, "view"] = None
    table["ill"] = table["ill"].astype(float)
    table.loc[30:99, "ill"] = np.nan
    z = np.random.default_rng(0).standard_normal((300, 2))
    cohort = cohort_of(z, **table.drop(columns="patient"))
    result = audit("stored", cohort, "view", attackers=["logistic"])
    assert "40 rows left out: view is missing" in result.reasons
    assert "60 rows left out for view: ill missing" in result.reasons
    assert result.leakages["view", "conditional"].n_rows == 100


def test_p_values_are_corrected_for_the_number_of_confounders():
    cohort = films(600, trace=2)
    table = cohort.table
    table["coin"] = np.random.default_rng(5).integers(2, size=600)
    cohort = cohort_of(cohort.embeddings, **table.drop(columns="patient"))
    result = audit("stored", cohort, ["view", "coin"], given="ill", attackers=["logistic"])
    raw = result.leakages["view", "conditional"].p
    assert result.verdict["view"].p == pytest.approx(2 * raw)
    assert str(result.verdict["view"]) == "leaks"
    assert str(result.verdict["coin"]) != "leaks"
    assert list(result.to_frame()["confounder"].unique()) == ["view", "coin"]


def test_telling_by_strata_is_a_coin_when_the_stratum_tells_nothing():
    rng = np.random.default_rng(0)
    c, s = rng.integers(2, size=(2, 2000))
    who = np.arange(2000)
    assert told_by_strata(c, s, who, seed=0) == pytest.approx(0.5, abs=0.04)
    assert told_by_strata(c, c, who, seed=0) == 1.0


# ------------------------------------------------------------------ what may be audited


@dataclass
class Encoder:
    """Anything with ``embed``."""

    seen: bool = False
    plan: object = None

    def require_unseen(self, cohort: Cohort) -> None:
        if self.seen:
            raise LeakageError("fitted on 3 of these patients")

    def embed(self, cohort: Cohort) -> np.ndarray:
        return cohort.embeddings


class Tensor:
    """What audit needs to know of a torch tensor."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return self.values


def test_an_array_a_tensor_an_encoder_and_stored_give_the_same_audit():
    cohort = films(200)
    forms = ["stored", cohort.embeddings, Encoder(), Tensor(cohort.embeddings)]
    frames = [audit(f, cohort, "view", attackers=["logistic"]).to_frame() for f in forms]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0])


def test_a_cleaner_is_not_judged_on_patients_it_was_fitted_on():
    with pytest.raises(LeakageError, match="3 of these patients"):
        audit(Encoder(seen=True), films(100), "view")


def test_a_fitted_cleaner_is_held_to_its_own_plan_unless_told_otherwise():
    cohort = films(300)
    plan = make_plan(cohort.table, "view", outcome="ill", given="age")
    cleaner = Encoder(plan=plan)
    own = audit(cleaner, cohort, "view", attackers=["logistic"])
    assert own.invariances["view"].given == ("age",)
    assert "view: held to the representation's own plan" in own.reasons
    mine = audit(cleaner, cohort, "view", given="ill", attackers=["logistic"])
    assert mine.invariances["view"].given == ("ill",)
    other = audit(cleaner, cohort, ["age", "view"], attackers=["logistic"])
    assert list(other.verdict) == ["age", "view"]
    assert other.invariances["age"].given == ("ill",)


@pytest.mark.parametrize(
    ("representation", "error", "words"),
    [
        ("stord", SettingsError, "'stord' is unknown. Did you mean 'stored'"),
        (np.zeros((5, 2)), CohortError, "5 embeddings but 100 rows"),
        (np.zeros(100), CohortError, r"\(n, d\) array of numbers; this is float64 of shape"),
        (SimpleNamespace(fit=None), SettingsError, "not fitted .* call .fit"),
    ],
)
def test_what_is_no_representation_is_refused(representation, error, words):
    with pytest.raises(error, match=words):
        audit(representation, films(100), "view")


def test_stored_needs_a_cohort_with_embeddings():
    cohort = films(100)
    bare = Cohort.read(cohort.table, patient="patient", outcome="ill")
    with pytest.raises(CohortError, match="this cohort has none: give"):
        audit("stored", bare, "view")


def test_fewer_than_twenty_usable_rows_are_refused_with_their_number():
    with pytest.raises(CohortError, match=r"19 of 19 rows have view, ill recorded.*at least 20"):
        audit("stored", films(19), "view")


def test_unknown_columns_are_named():
    cohort = films(100)
    with pytest.raises(CohortError, match=r"no column 'veiw'.*Did you mean 'view'"):
        audit("stored", cohort, "veiw", given="ill")
    with pytest.raises(CohortError, match=r"no column 'il'.*Did you mean"):
        audit("stored", cohort, "view", given="il")


def test_a_level_lost_with_the_missing_rows_leaves_nothing_to_audit():
    table = films(100).table
    table["ill"] = table["ill"].astype(float).where(table["view"] == "PA")
    table.loc[table.index[table["view"] == "PA"][:5], "ill"] = [0, 1, 0, 1, 0]
    z = np.random.default_rng(0).standard_normal((100, 2))
    with pytest.raises(CohortError, match="view=PA: there is nothing to audit"):
        audit("stored", cohort_of(z, **table.drop(columns="patient")), "view", given="ill")


def test_a_frozen_result_says_no():
    verdict = judge(found(0.53, 0.02), 0.5)
    with pytest.raises(AttributeError):
        verdict.word = "leaks"
    assert str(replace(verdict, word="leaks")) == "leaks"
