from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from deconf.cohort.perceptual import signs


def picture(seed: int = 0, shape: tuple[int, int] = (68, 85)) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 120, size=shape).astype(np.uint8)


def cells(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Mean of equal blocks, for sizes that divide."""
    h, w = x.shape
    return x.reshape(rows, h // rows, columns, w // columns).mean(axis=(1, 3))


def test_the_signs_are_those_of_differences_of_block_means():
    x = np.random.default_rng(0).integers(0, 256, size=(16 * 17, 16 * 17)).astype(np.uint8)
    across, down = cells(x, 16, 17), cells(x, 17, 16)
    steps = np.concatenate([np.diff(across, axis=1).ravel(), np.diff(down, axis=0).ravel()])
    clear = np.abs(steps) > 0.05 * across.std() + 1e-3  # PIL sums in its own order
    unclear = np.abs(steps) < 0.05 * across.std() - 1e-3
    found = signs(Image.fromarray(x))
    assert_array_equal(found[clear], np.sign(steps[clear]))
    assert (found[unclear] == 0).all()
    assert (clear | unclear).mean() > 0.99


@pytest.mark.parametrize("mode", ["L", "RGB", "F"])
def test_brightness_contrast_and_mode_change_no_sign(mode):
    x = picture()
    brighter = Image.fromarray((2 * x + 10).astype(np.uint8)).convert(mode)
    assert_array_equal(signs(brighter), signs(Image.fromarray(x)))


def test_a_negative_has_all_signs_turned_round():
    x = picture()
    assert_array_equal(signs(Image.fromarray(255 - x)), -signs(Image.fromarray(x)))


def test_noise_in_the_black_around_a_film_tells_nothing():
    x = picture().astype(float)
    x[:, :40] = 0
    noisy = x.copy()
    noisy[:, :40] = np.random.default_rng(1).integers(0, 2, size=(68, 40))
    one, other = (signs(Image.fromarray(v.astype(np.uint8))) for v in (x, noisy))
    in_black = np.zeros((16, 16), dtype=bool)
    in_black[:, :7] = True
    assert not one[:256].reshape(16, 16)[in_black].any()
    assert not other[:256].reshape(16, 16)[in_black].any()
    assert (one != other).sum() <= 2  # the standard deviation moved a little


def test_a_blank_picture_has_no_signs():
    assert not signs(Image.new("L", (30, 40), 128)).any()
