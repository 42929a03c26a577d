from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from deconf.errors import SettingsError
from deconf.maths.moments import Given
from deconf.methods import CORAL, LEACE
from tests.reference.coral import coral
from tests.strategies import apply, invertible


def scanners(seed=0, n=4000, d=6, follows=0.3):
    """Two scanners with covariances and means of their own, and a disease that follows them."""
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    scanner = (rng.random(n) < 0.5 + follows * (2 * ill - 1)).astype(int)
    mixing = [invertible(np.random.default_rng(5 + s), d, 6.0) for s in (0, 1)]
    z = rng.normal(size=(n, d))
    z = np.where(scanner[:, None] == 1, z @ mixing[1], z @ mixing[0])
    z += 2.0 * np.arange(d) * scanner[:, None] / d
    z[:, 0] += 2 * ill
    return z, scanner, ill


def test_equals_the_algorithm_of_the_paper():
    z, scanner, _ = scanners()
    for s in (0, 1):  # so that the paper's identity and a shrinkage of one half are the same
        own = z[scanner == s] - z[scanner == s].mean(axis=0)
        z[scanner == s] = own * np.sqrt(z.shape[1] / own.var(axis=0).sum())
    share = np.bincount(scanner) / len(z)
    common = sum(p * np.cov(z[scanner == s].T, bias=True) for s, p in enumerate(share))
    ours = apply(
        CORAL(shrinkage=0.5, read="record").fit(z, np.eye(2)[scanner]), z, np.eye(2)[scanner]
    )
    for s in (0, 1):
        assert np.abs(ours[scanner == s] - z[scanner == s]).max() > 0.1
        assert_allclose(ours[scanner == s], coral(z[scanner == s], common), atol=1e-9)


def test_means_and_covariances_of_the_levels_agree_within_strata():
    z, scanner, ill = scanners()
    c = np.eye(2)[scanner]
    clean = apply(CORAL(shrinkage=0.0, read="record").fit(z, c, given=Given(ill)), z, c)

    def within(x, s):
        rows = [x[(scanner == s) & (ill == y)] for y in (0, 1)]
        mean = sum((ill == y).mean() * r.mean(axis=0) for y, r in enumerate(rows))
        left = np.vstack([r - r.mean(axis=0) for r in rows])
        return mean, left.T @ left / len(left)

    for before, after in zip(within(z, 0), within(z, 1), strict=True):
        assert np.abs(before - after).max() > 0.3
    for here, there in zip(within(clean, 0), within(clean, 1), strict=True):
        assert_allclose(here, there, atol=1e-9)


def test_marginally_the_disease_that_follows_the_scanner_goes_and_within_strata_it_stays():
    rng = np.random.default_rng(4)
    ill = rng.integers(2, size=6000)
    scanner = (rng.random(6000) < np.where(ill, 0.9, 0.1)).astype(int)
    z = rng.normal(size=(6000, 4))
    z[:, 3] *= 1 + scanner
    z[:, 0] += 2 * ill
    c, sick, gaps = np.eye(2)[scanner], ill == 1, []
    for given in (None, Given(ill)):
        clean = apply(CORAL(read="record").fit(z, c, given=given), z, c)
        gaps.append(clean[sick & (scanner == 0), 0].mean() - clean[sick & (scanner == 1), 0].mean())
    assert gaps[0] > 1.0  # the sick of two scanners are torn apart
    assert abs(gaps[1]) < 0.25


def test_colouring_turns_a_disease_that_all_scanners_show_alike():
    # Why the page sends such data to 'aligned': nothing was wrong with the disease direction.
    z, scanner, ill = scanners(follows=0.4)
    c, sick = np.eye(2)[scanner], ill == 1
    clean = apply(CORAL(read="record").fit(z, c, given=Given(ill)), z, c)
    before, after = (
        x[sick & (scanner == 0), 0].mean() - x[sick & (scanner == 1), 0].mean() for x in (z, clean)
    )
    assert abs(before) < 0.1
    assert abs(after) > 1.0


def test_a_scanner_that_no_table_names_is_read_from_the_image():
    z, scanner, ill = scanners(seed=1)
    new, there, _ = scanners(seed=2)
    keep = {"c": np.eye(2)[scanner], "given": Given(ill)}

    def readable(method):
        fitted = method.fit(z, **keep)
        probe = QuadraticDiscriminantAnalysis(reg_param=1e-3).fit(apply(fitted, z), scanner)
        return roc_auc_score(there, probe.predict_proba(apply(fitted, new))[:, 1])

    assert readable(CORAL()) < readable(LEACE()) - 0.05


def test_a_thin_level_is_not_coloured_twice():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(2000, 12)) * np.geomspace(0.2, 5, 12)
    level = (np.arange(2000) < 15).astype(int)  # the same law; fifteen rows
    fitted = CORAL(read="record").fit(z, np.eye(2)[level])
    new = rng.normal(size=(5000, 12)) * np.geomspace(0.2, 5, 12)
    out = apply(fitted, new, np.tile([0.0, 1.0], (5000, 1)))
    assert_allclose(out.std(axis=0), new.std(axis=0), rtol=0.6)


def test_bad_settings_are_refused():
    with pytest.raises(SettingsError, match=r"'oas' or in \[0, 1\], not 2"):
        CORAL(shrinkage=2)
    with pytest.raises(SettingsError, match="'image' or 'record', not 'site'"):
        CORAL(read="site")
