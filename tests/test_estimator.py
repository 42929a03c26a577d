"""The scikit-learn face: its own checks, and that a pipeline does what the front door does."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import deconf
from deconf.errors import OverlapWarning, SettingsError
from deconf.methods import IRM, LEACE
from deconf.worlds import linear

TOO_FEW = "fits on 10 or 15 rows, and a trace is not learnt from fewer than 20"


def expected_to_fail(cleaner):
    named = ("check_n_features_in_after_fitting", "check_estimators_nan_inf")
    return dict.fromkeys(named, TOO_FEW) if cleaner.confounders else {}


@pytest.mark.filterwarnings("ignore::deconf.errors.OverlapWarning")  # thirty rows of noise
@pytest.mark.filterwarnings("ignore:Cleaner.. names no confounder:UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [
        deconf.Cleaner(),
        deconf.Cleaner([1], method="leace"),
    ],
    expected_failed_checks=expected_to_fail,
)
def test_scikit_learn_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def world():
    return linear(n=900, d=24, trace="shift", seed=97)


def framed(cohort):
    """The embedding with its site of workflow and its patients beside it, and the outcome."""
    named = cohort.table[["portable"]].assign(patient=cohort.patients)
    return named.join(pd.DataFrame(cohort.embeddings).add_prefix("z")), cohort.table["pneumonia"]


@pytest.fixture(scope="module")
def films(world):
    return framed(world.train().cohort)


def cleaner(**changes):
    kept = {"confounders": "portable", "method": LEACE(rank="full"), "patient": "patient"}
    return deconf.Cleaner(**(kept | changes))


def test_it_fits_what_the_front_door_fits(world, films):
    cohort = world.train().cohort
    clean = deconf.deconfound("stored", "portable", method=LEACE(rank="full")).fit(cohort)
    ours = cleaner().fit(*films)
    np.testing.assert_allclose(ours.transform(films[0]), clean.embed(cohort), atol=1e-5)
    assert ours.get_feature_names_out().tolist() == [f"z{k}" for k in range(24)]
    assert str(ours.plan_.invariances["portable"]) == "z ⊥ portable | pneumonia"
    names = clone(cleaner(graph=world.graph, method=None)).fit(*films).get_feature_names_out()
    assert names.tolist() == [f"z{k}" for k in range(24)]


def test_given_nothing_holds_not_even_the_outcome(films):
    marginal = cleaner(given=()).fit(*films)
    assert str(marginal.plan_.invariances["portable"]) == "z ⊥ portable"
    assert not np.allclose(marginal.transform(films[0]), cleaner().fit(*films).transform(films[0]))


def test_every_fold_is_fitted_on_its_training_patients_alone(films):
    x, y = films
    folds = GroupKFold(3)
    pipe = make_pipeline(cleaner(), LogisticRegression())
    found = cross_validate(
        pipe, x, y, groups=x["patient"], cv=folds, return_estimator=True, return_indices=True
    )
    for fitted, train, test in zip(
        found["estimator"], found["indices"]["train"], found["indices"]["test"], strict=True
    ):
        assert not set(x["patient"].iloc[train]) & set(x["patient"].iloc[test])
        alone = cleaner().fit(x.iloc[train], y.iloc[train])
        np.testing.assert_array_equal(alone.transform(x), fitted[0].transform(x))


def test_many_films_of_few_patients_are_no_trace_where_the_patient_is_named():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 10)
    portable, z = rng.integers(2, size=60)[patient], rng.standard_normal((60, 8))[patient]
    x = pd.DataFrame(z + 0.1 * rng.standard_normal(z.shape)).add_prefix("z")
    x = x.assign(portable=portable, patient=[f"p{k}" for k in patient])
    named = cleaner(method="leace").fit(x)
    assert named.map_.is_identity
    assert not cleaner(method="leace", patient=None).fit(x.drop(columns="patient")).map_.is_identity


def test_the_head_behind_it_survives_the_shortcut_turned_round(world, films):
    new, ill = framed(world.test("reversed", 900).cohort)
    score = {
        method: make_pipeline(cleaner(method=method), LogisticRegression(max_iter=500))
        .fit(*films)
        .score(new, ill)
        for method in (None, "leace")
    }
    assert score["leace"] > score[None] + 0.1


def test_grid_search_goes_over_methods_and_their_settings(films):
    x, y = films
    pipe = make_pipeline(cleaner(method=None), LogisticRegression())
    grid = [
        {"cleaner__method": [None, "centre"], "cleaner__at_inference": [True]},
        {"cleaner__method": ["leace"], "cleaner__method__rank": ["significant", "full"]},
    ]
    search = GridSearchCV(pipe, grid, cv=GroupKFold(3), error_score="raise")
    search.fit(x, y, groups=x["patient"])
    tried = search.cv_results_["params"]
    assert len(tried) == 4
    assert len(np.unique(search.cv_results_["mean_test_score"])) > 1
    fitted = clone(pipe).set_params(**tried[-1])
    assert fitted[0].method == LEACE(rank="full")
    assert fitted[0].get_params()["method__rank"] == "full"


def test_a_setting_that_the_method_lacks_is_named():
    with pytest.raises(ValueError, match=r"method__rnk.*Did you mean 'rank'"):
        cleaner().set_params(method__rnk="full")
    with pytest.raises(ValueError, match="Invalid parameter"):
        cleaner().set_params(methods="leace")


def test_a_new_film_needs_no_record_unless_the_map_reads_it(films):
    x, y = films
    unrecorded = x.assign(portable=np.nan, patient=None)
    ours = cleaner().fit(x, y)
    np.testing.assert_array_equal(ours.transform(unrecorded), ours.transform(x))
    reads = cleaner(method="centre", at_inference=True).fit(x, y)
    with pytest.warns(OverlapWarning, match="900 of 900 rows have a level of portable"):
        assert not np.allclose(reads.transform(unrecorded), reads.transform(x))


def test_a_fitted_cleaner_survives_pickling_and_cloning(films):
    ours = cleaner(method="auto").fit(*films)
    assert ours.method_.startswith("auto: ")
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(again.transform(films[0]), ours.transform(films[0]))
    assert str(again.plan_) == str(ours.plan_)
    assert not hasattr(clone(ours), "map_")


def test_precision_comes_back_as_it_went_in(films):
    x, y = films
    double = x.astype({c: "float64" for c in x if c.startswith("z")})
    ours = cleaner().fit(x, y)
    assert ours.transform(x).dtype == np.float32
    assert ours.transform(double).dtype == np.float64


def test_no_confounder_is_said_and_removes_nothing(films):
    x, y = films
    x = x.filter(like="z")
    with pytest.warns(UserWarning, match=r"names no confounder.*Cleaner\(\['site'\]\)"):
        fitted = deconf.Cleaner().fit(x, y)
    np.testing.assert_array_equal(fitted.transform(x), x.to_numpy())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"confounders": "protable"}, r"no column 'protable'. Did you mean 'portable'"),
        ({"confounders": [40]}, r"no column 40.*26 feature"),
        ({"method": "reweight"}, "weights of the head.*sample_weight"),
        ({"method": "leach"}, "Did you mean 'leace'"),
        ({"method": "centre"}, "at_inference=True"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_remedy(films, change, words):
    with pytest.raises(SettingsError, match=words):
        cleaner(**change).fit(*films)


def test_columns_that_do_not_fit_are_refused(films):
    x, y = films
    with pytest.raises(ValueError, match="outcome 'pneumonia' is a column of X too"):
        cleaner().fit(x.assign(pneumonia=y), y)
    with pytest.raises(ValueError, match="no embedding is left"):
        cleaner().fit(x[["portable", "patient"]], y)
    with pytest.raises(ValueError, match="contains NaN"):
        cleaner().fit(x.assign(z3=np.nan), y)
    with pytest.raises(ValueError, match="minimum of 20"):
        cleaner().fit(x[:19], y[:19])
    fitted = cleaner().fit(x, y)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.transform(x.drop(columns="portable"))
    with (
        pytest.warns(UserWarning, match="does not have valid feature names"),
        pytest.raises(ValueError, match="X has 25 features, but Cleaner is expecting 26"),
    ):
        fitted.transform(np.zeros((5, 25)))


def test_a_head_that_a_pipeline_drops_is_said_and_one_that_is_the_answer_is_refused(films):
    brief = IRM(selection="training", hidden=4, epochs=3, batch=64)
    with pytest.warns(UserWarning, match="the head that 'irm' learns is not used in a pipeline"):
        cleaner(method=brief).fit(*films)
    with pytest.raises(SettingsError, match=r"the answer of 'dfr' is a head of its own.*map.score"):
        cleaner(method="dfr").fit(*films)


def test_a_column_of_words_is_named_with_where_it_belongs(films):
    x, y = films
    named = x.assign(ward=[f"W{k}" for k in range(len(x))])
    with pytest.raises(ValueError, match=r"ward of X holds no numbers.*patient="):
        cleaner().fit(named, y)
    as_words = x.assign(z0=x["z0"].astype(str), z1=x["z1"].astype(object))  # numbers all the same
    np.testing.assert_allclose(
        cleaner().fit_transform(as_words, y), cleaner().fit_transform(x, y), atol=1e-5
    )
