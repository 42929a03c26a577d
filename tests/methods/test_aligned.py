from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from deconf.errors import SettingsError
from deconf.maths.moments import Given
from deconf.methods import LEACE, Aligned
from deconf.methods.aligned import membership, rotation
from deconf.methods.levels import LevelMoments
from tests.strategies import apply


def turned(seed=0, n=6000, d=16, shift=3.0, follows=0.35):
    """A portable scanner that shifts, turns the disease direction by 50 degrees and stretches."""
    rng = np.random.default_rng(seed)
    disease = rng.integers(2, size=n)
    portable = (rng.random(n) < 0.5 + follows * (2 * disease - 1)).astype(int)
    clean = rng.normal(size=(n, d))
    clean[:, 0] += 3 * (disease - 0.5)
    angle = np.deg2rad(50)
    turn = np.eye(d)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    mobile = clean @ turn.T * np.r_[np.ones(4), np.full(3, 2.0), np.full(3, 0.5), np.ones(d - 10)]
    mobile[:, 2] += shift
    return np.where(portable[:, None] == 1, mobile, clean), portable, disease


def cells(z, portable, disease):
    return {(p, y): z[(portable == p) & (disease == y)] for p in (0, 1) for y in (0, 1)}


def mismatch(z, portable, disease):
    """Distance of means within disease, and of covariances, between the scanners."""
    cell = cells(z, portable, disease)
    means = max(np.linalg.norm(cell[0, y].mean(0) - cell[1, y].mean(0)) for y in (0, 1))
    widths = max(np.linalg.norm(np.cov(cell[0, y].T) - np.cov(cell[1, y].T), ord=2) for y in (0, 1))
    return means, widths


def contrast(z, portable, disease):
    """Distance between the sick and the well on the stationary scanner."""
    cell = cells(z, portable, disease)
    return np.linalg.norm(cell[0, 1].mean(0) - cell[0, 0].mean(0))


def test_a_recorded_scanner_is_undone_in_mean_covariance_and_disease_direction():
    z, portable, disease = turned()
    c, given = np.eye(2)[portable], Given(disease)
    aligned = apply(Aligned(read="record").fit(z, c, given=given), z, c)
    erased = apply(LEACE().fit(z, c, given=given), z)
    before, after, linear = (mismatch(x, portable, disease) for x in (z, aligned, erased))
    assert before[0] > 2
    assert before[1] > 2
    assert after[0] < 0.05 * before[0]
    assert after[1] < 0.25 * before[1]
    assert linear[1] > 1.5  # erasure cannot: that is what this method is for

    def direction(x, p):
        cell = cells(x, portable, disease)
        step = cell[p, 1].mean(0) - cell[p, 0].mean(0)
        return step / np.linalg.norm(step)

    assert direction(z, 0) @ direction(z, 1) < 0.75
    assert direction(aligned, 0) @ direction(aligned, 1) > 0.98
    assert contrast(aligned, portable, disease) > 0.97 * contrast(z, portable, disease)
    assert contrast(erased, portable, disease) < 0.95 * contrast(z, portable, disease)


def test_a_scanner_that_can_be_read_from_the_image_need_not_be_recorded():
    z, portable, disease = turned(shift=6.0)
    fitted = Aligned().fit(z, np.eye(2)[portable], given=Given(disease))
    assert not fitted.needs_confounders
    new, p, y = turned(seed=1, shift=6.0)
    means, widths = mismatch(apply(fitted, new), p, y)
    before = mismatch(new, p, y)
    assert before[0] > 4
    assert means < 0.1 * before[0]
    assert widths < 0.4 * before[1]


def test_memberships_do_not_use_the_disease_to_guess_the_scanner():
    z, portable, disease = turned(follows=0.4)
    c, given = np.eye(2)[portable], Given(disease)
    m = LevelMoments.of(z, c, given, None, None, "aligned")
    stretched = np.eye(16)[4:10]

    def log_odds(m, given):
        slope, bias = membership(z, m, given, None, stretched, z.mean(axis=0))
        squares = ((z - z.mean(axis=0)) @ stretched.T) ** 2
        return (np.hstack([z, squares]) @ slope.T + bias) @ [-1, 1]

    def unbalanced():
        own = LevelMoments.of(z, c, Given.nothing(len(z)), None, None, "aligned")
        return log_odds(own, Given.nothing(len(z)))

    read = log_odds(m, given)

    def by_disease(score):  # within a scanner, how far disease moves its log odds
        return np.mean([
            abs(score[(portable == p) & (disease == 1)].mean()
                - score[(portable == p) & (disease == 0)].mean())
            for p in (0, 1)
        ])  # fmt: skip

    scanner = abs(read[portable == 1].mean() - read[portable == 0].mean())
    assert scanner > 4
    assert by_disease(read) < 0.5 * by_disease(unbalanced())


def test_levels_that_agree_are_not_turned_even_where_the_disease_is_weak_and_rare():
    moved = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        portable = (rng.random(4000) < 0.3).astype(int)
        disease = (rng.random(4000) < 0.08).astype(int)
        z = rng.normal(size=(4000, 32))
        z[:, 0] += 0.9 * disease
        fitted = Aligned(read="record").fit(z, np.eye(2)[portable], given=Given(disease), seed=seed)
        moved += not fitted.is_identity
    assert moved <= 2


@pytest.mark.parametrize("noise", [0.2, 0.3, 0.5])
@pytest.mark.parametrize("d", [8, 32])
def test_the_same_direction_seen_through_noise_is_seldom_turned(noise, d):
    rng = np.random.default_rng(0)
    turns = 0
    for _ in range(300):
        own, wish = np.eye(d)[0], np.eye(d)[0]
        own = own + rng.normal(size=d) * np.sqrt(noise / d)
        rest = wish + rng.normal(size=d) * np.sqrt(0.2 * noise / d)
        wish = 0.4 * own + 0.6 * rest
        turns += not np.array_equal(rotation(own, wish, rest, noise, 0.2 * noise), np.eye(d))
    assert turns <= 0.05 * 300


@pytest.mark.parametrize("shift", [1.5, 3.0])
def test_the_means_of_the_scanners_meet_though_memberships_apply_only_part_of_the_shift(shift):
    z, portable, disease = turned(shift=shift)
    fitted = Aligned().fit(z, np.eye(2)[portable], given=Given(disease))
    mapped = apply(fitted.maps[0], z)  # before the erasure that would take disease with the rest

    def apart(x):
        cell = cells(x, portable, disease)
        return np.linalg.norm(np.mean([cell[1, y].mean(0) - cell[0, y].mean(0) for y in (0, 1)], 0))

    assert apart(z) > 0.9 * shift
    assert apart(mapped) < 0.05 * shift


@pytest.mark.parametrize("angle", [30.0, 60.0, 120.0])
def test_a_rotation_turns_one_direction_onto_the_other_and_leaves_the_rest(angle):
    rng = np.random.default_rng(0)
    a, b, rest = np.linalg.qr(rng.normal(size=(7, 3)))[0].T
    wish = np.cos(np.deg2rad(angle)) * a + np.sin(np.deg2rad(angle)) * b
    turn = rotation(2 * a, wish, wish, 0.0, 0.0)
    assert_allclose(turn @ a, wish, atol=1e-12)
    assert_allclose(turn @ rest, rest, atol=1e-12)
    assert_allclose(turn @ turn.T, np.eye(7), atol=1e-12)
    assert_allclose(np.linalg.det(turn), 1.0)


def test_directions_that_agree_or_are_noise_are_not_turned():
    a, b = np.eye(5)[0], np.eye(5)[1]
    near = np.cos(0.3) * a + np.sin(0.3) * b  # cosine 0.955
    assert_allclose(rotation(3 * a, near, near, 1e-4, 1e-4), np.eye(5))
    far = (a + b) * 3
    for own, rest in ((5.0, 0.01), (0.01, 5.0)):  # squared lengths, where both are 9 long
        assert_allclose(rotation(3 * a, far, 3 * b, own, rest), np.eye(5))
    assert_allclose(rotation(3 * a, 0 * b, 0 * b, 0.01, 0.01), np.eye(5))
    assert_allclose(rotation(a[:1], -a[:1], -a[:1], 0.01, 0.01), np.eye(1))  # one dimension
    assert np.abs(rotation(3 * a, far, 3 * b, 0.01, 0.01) - np.eye(5)).max() > 0.2


@pytest.mark.parametrize("wish", [-1.0, -0.5])
def test_opposite_directions_give_a_proper_rotation_and_no_nan(wish):
    a = np.eye(4)[0]
    turn = rotation(2 * a, wish * a, wish * a, 0.01, 0.01)
    assert np.isfinite(turn).all()
    assert_allclose(turn @ turn.T, np.eye(4), atol=1e-12)


def test_neighbours_mix_scanners_after_and_not_before():
    z, portable, disease = turned(n=1500, shift=5.0)
    fitted = Aligned(read="record").fit(z, np.eye(2)[portable], given=Given(disease))

    def mixing(x):
        x = x[disease == 1][:400]
        other = portable[disease == 1][:400]
        near = np.argsort(cdist(x, x), axis=1)[:, 1:11]
        return np.mean(other[near] != other[:, None])

    assert mixing(z) < 0.02
    assert mixing(apply(fitted, z, np.eye(2)[portable])) > 0.15


def test_an_unknown_reading_is_refused():
    with pytest.raises(SettingsError, match="read is 'image' or 'record', not 'pixels'"):
        Aligned(read="pixels")


def two_confounders(n, seed):
    """Four sites and two scanners that hardly overlap: some joint cells hold an image or two."""
    rng = np.random.default_rng(seed)
    site, ill = rng.choice(4, size=n, p=[0.45, 0.35, 0.15, 0.05]), rng.integers(2, size=n)
    chance = np.array([0.9, 0.1, 0.95, 0.03])[site] + 0.1 * (ill - 0.5)
    portable = (rng.random(n) < np.clip(chance, 0.01, 0.99)).astype(int)
    z = rng.normal(size=(n, 10))
    z[:, 0] += 2 * ill
    z[:, 1:] += 2 * np.random.default_rng(5).normal(size=(4, 9))[site]
    z[:, 4] += 2 * portable
    z[:, 6] *= 1 + portable
    z[:, 7] *= np.array([1.0, 1.5, 1.0, 0.7])[site]
    hot, mobile = np.eye(4)[site], np.eye(2)[portable]
    both = (hot[:, 1:, None] * mobile[:, None, 1:]).reshape(n, -1)  # as `Encoding.encode` has it
    return z, site, portable, ill, np.hstack([hot, mobile, both])


def test_two_confounders_with_thin_joint_cells_are_both_aligned_and_the_disease_stays():
    z, site, portable, ill, c = two_confounders(4000, 97)
    new, there, mobile, sick, _ = two_confounders(4000, 98)
    assert np.bincount(site * 4 + portable * 2 + ill).min() < 10
    found = {}
    for method in (LEACE(), Aligned()):
        fitted = method.fit(z, c, given=Given(ill))
        a, b = apply(fitted, z), apply(fitted, new)
        told = {}
        for name, old, wanted in (("site", site, there), ("portable", portable, mobile)):
            said = QuadraticDiscriminantAnalysis(reg_param=1e-3).fit(a, old).predict_proba(b)
            told[name] = np.mean(
                [
                    roc_auc_score(wanted[sick == s] == k, said[sick == s, k])
                    for s in (0, 1)
                    for k in range(said.shape[1])
                ]
            )
        reader = QuadraticDiscriminantAnalysis(reg_param=1e-3).fit(a, ill)
        told["ill"] = roc_auc_score(sick, reader.predict_proba(b)[:, 1])
        found[type(method).__name__] = told
    for name in ("site", "portable"):
        assert found["Aligned"][name] < found["LEACE"][name] - 0.02
        assert found["Aligned"][name] < 0.57
    assert found["Aligned"]["ill"] > 0.9
