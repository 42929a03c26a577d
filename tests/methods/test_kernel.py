from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from deconf.errors import SettingsError
from deconf.maths.maps import KernelMap
from deconf.maths.maps.kernel import read
from deconf.maths.moments import Given
from deconf.methods import LEACE, Kernel
from tests.strategies import apply


def exclusive_or(n, seed):
    """A level told by the product of two features, which no linear reader sees."""
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    z = rng.normal(size=(n, 6))
    level = (z[:, 0] * z[:, 1] + 0.3 * rng.normal(size=n) + 0.3 * (ill - 0.5) > 0).astype(int)
    z[:, 2] += 2 * ill
    return z, level, ill


def wider(n, seed):
    """A level that doubles the spread of one feature, and follows the disease."""
    rng = np.random.default_rng(seed)
    ill = rng.integers(2, size=n)
    level = (rng.random(n) < np.where(ill, 0.7, 0.3)).astype(int)
    z = rng.normal(size=(n, 6))
    z[:, 0] *= 1 + level
    z[:, 2] += 2 * ill
    return z, level, ill


def within(attacker, fit, score):
    """AUROC of a fresh attacker on other images, within the levels of what is held."""
    (a, codes, _), (b, new, held) = fit, score
    said = attacker.fit(a, codes)
    said = (
        said.decision_function(b)
        if hasattr(said, "decision_function")
        else said.predict_proba(b)[:, 1]
    )
    return np.mean([roc_auc_score(new[held == h], said[held == h]) for h in np.unique(held)])


@pytest.mark.parametrize(("leak", "after"), [(exclusive_or, 0.55), (wider, 0.58)])
def test_fresh_attackers_read_less_where_leace_leaves_everything(leak, after):
    (z, level, ill), (new, there, sick) = leak(3000, 97), leak(3000, 98)
    read_by = {}
    for method in (LEACE(), Kernel()):
        fitted = method.fit(z, np.eye(2)[level], given=Given(ill))
        a, b = apply(fitted, z), apply(fitted, new)
        read_by[method] = [
            within(attacker, (a, level, ill), (b, there, sick))
            for attacker in (SVC(), KNeighborsClassifier(50))
        ]
        assert within(SVC(), (a, ill, level), (b, sick, there)) > 0.85  # the disease stays
    before, now = read_by.values()
    assert min(before) > after + 0.05
    assert max(now) < after


def test_with_a_linear_reader_the_step_is_the_projection_that_erases_it():
    # Far from all landmarks a wide kernel is linear in between them: its slope is the same for all.
    rng = np.random.default_rng(0)
    x, direction = torch.tensor(rng.normal(size=(200, 3))), np.array([[3.0, 0.0, 4.0]]) / 5
    wide = 1e4
    marks = np.vstack([direction, -direction]) * wide
    a = np.array([[1.0], [-1.0]])
    f, slope = read(x, torch.tensor(marks), torch.tensor(a), torch.tensor(wide))
    fitted = KernelMap(
        np.zeros(3), np.eye(3), np.eye(3), marks[None], a[None], np.zeros((1, 1)),
        np.array([wide]), np.array([1e-20]),
    )  # fmt: skip
    expected = x.numpy() - x.numpy() @ direction.T @ direction
    assert torch.allclose(slope[0] / slope[0].norm(), torch.tensor(direction), atol=1e-3)
    assert f.abs().max() > 1e-6
    rows = np.abs(x.numpy() @ direction.T).ravel() < 1.9  # further than that no step goes
    assert_allclose(fitted(x).numpy()[rows], expected[rows], atol=1e-2)


def test_the_slope_of_a_reader_is_its_derivative():
    rng = np.random.default_rng(1)
    x, marks = (torch.tensor(rng.normal(size=(5, 4))) for _ in range(2))
    a, width = torch.tensor(rng.normal(size=(5, 2))), torch.tensor(1.3)
    slope = read(x, marks, a, width)[1]
    for row in range(5):
        jacobian = torch.autograd.functional.jacobian(
            lambda one: read(one[None], marks, a, width)[0][0], x[row]
        )
        assert_allclose(slope[row].numpy(), jacobian.numpy(), atol=1e-10)


def test_what_lies_beside_the_coordinates_is_left_alone():
    z, level, ill = exclusive_or(1500, 2)
    z = np.hstack([z, 0.01 * np.random.default_rng(3).normal(size=(1500, 2))])
    fitted = Kernel(coordinates=6).fit(z, np.eye(2)[level], given=Given(ill))
    assert not fitted.is_identity
    assert_allclose(apply(fitted, z)[:, 6:], z[:, 6:], atol=2e-3)


def test_it_says_when_readers_still_read():
    z, level, ill = exclusive_or(3000, 4)
    fitted = Kernel(rounds=1, ridge=0.1).fit(z, np.eye(2)[level], given=Given(ill))
    assert "after 1 kernel readers another still reads held-out patients" in fitted.remarks[0]


def test_several_levels_and_a_continuous_confounder():
    rng = np.random.default_rng(5)
    z = rng.normal(size=(3000, 5))
    angle = np.arctan2(z[:, 1], z[:, 0]) + 0.2 * rng.normal(size=3000)
    sector = ((angle + np.pi) / (2 * np.pi) * 6).astype(int) % 3  # opposite sectors alike
    many = Kernel().fit(z, np.eye(3)[sector])
    new = rng.normal(size=(3000, 5))
    there = ((np.arctan2(new[:, 1], new[:, 0]) + np.pi) / (2 * np.pi) * 6).astype(int) % 3
    scores = [
        SVC().fit(a, sector).score(b, there)
        for a, b in ((z, new), (apply(many, z), apply(many, new)))
    ]
    assert scores[0] > 0.75
    assert scores[1] < 0.45
    length = (z[:, :2] ** 2).sum(axis=1) / 2 - 1
    clean = apply(Kernel().fit(z, length[:, None]), z)
    before, after = (np.corrcoef((x[:, :2] ** 2).sum(axis=1), length)[0, 1] for x in (z, clean))
    assert before > 0.99
    assert abs(after) < 0.4


def test_bad_settings_are_refused():
    with pytest.raises(SettingsError, match="ridge is 0: it must be above zero"):
        Kernel(ridge=0)
