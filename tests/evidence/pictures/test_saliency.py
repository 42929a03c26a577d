from __future__ import annotations

import doctest
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from deconf.errors import SettingsError
from deconf.evidence.pictures import saliency as module
from deconf.evidence.pictures.saliency import attributions, saliency, share_in
from deconf.maths.maps import AffineMap, Chain, LevelMap

SIDE, WIDTH = 32, 8
CORNER, CENTRE = (0, 0, 9, 9), (8, 8, 24, 24)  # round the mark, round the blob


@dataclass(frozen=True)
class Reader:
    """A small network that was taught to see a mark in the corner and a blob in the centre."""

    net: nn.Module
    mark: np.ndarray
    blob: np.ndarray
    films: Tensor
    is_marked: np.ndarray
    is_ill: np.ndarray


def films(n: int, seed: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.15, (n, 1, SIDE, SIDE))
    down, across = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    x += 0.4 * rng.random((n, 1, 1, 1)) * (down + across)  # exposure falls off to one side
    marked, ill = rng.integers(2, size=(2, n))
    x[marked == 1, 0, 2:7, 2:7] += 1
    x[ill == 1, 0] += np.exp(-(down**2 + across**2) / (2 * 0.18**2))
    return torch.tensor(x, dtype=torch.float32), marked, ill


@pytest.fixture(scope="module")
def reader() -> Reader:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 12, 5, stride=2, padding=2), nn.BatchNorm2d(12), nn.ReLU(inplace=True),
            nn.Conv2d(12, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, WIDTH),
        )  # fmt: skip
        heads = nn.Linear(WIDTH, 2)
        x, marked, ill = films(512, 0)
        y = torch.tensor(np.stack([marked, ill], axis=1), dtype=torch.float32)
        learn = torch.optim.Adam([*net.parameters(), *heads.parameters()], 1e-2)
        for _ in range(16):
            for rows in torch.randperm(len(x)).split(64):
                loss = nn.functional.binary_cross_entropy_with_logits(heads(net(x[rows])), y[rows])
                learn.zero_grad()
                loss.backward()
                learn.step()
        learn.zero_grad()
    seen, marked, ill = films(60, 9)
    with torch.no_grad():
        right = (heads(net.eval()(seen)).numpy() > 0) == np.stack([marked, ill], axis=1)
    assert right.mean() > 0.95  # else there is no truth to compare with
    mark, blob = heads.weight.detach().numpy()
    return Reader(net, mark, blob, seen, marked == 1, ill == 1)


def mean_share(heat: np.ndarray, box: tuple[int, int, int, int]) -> float:
    return float(np.mean([share_in(one, box) for one in heat]))


def test_the_heat_lies_on_what_the_head_was_taught_to_see(reader):
    marked, ill = reader.films[reader.is_marked], reader.films[reader.is_ill]
    assert mean_share(saliency(reader.net, marked, reader.mark), CORNER) > 0.6
    assert mean_share(saliency(reader.net, ill, reader.blob), CENTRE) > 0.6


def test_on_one_film_two_heads_look_at_two_places(reader):
    both = reader.films[reader.is_marked & reader.is_ill]
    mark, blob = attributions(reader.net, both, [reader.mark, reader.blob])
    assert mean_share(mark, CORNER) > mean_share(blob, CORNER) + 0.3
    assert mean_share(blob, CENTRE) > mean_share(mark, CENTRE) + 0.3


def test_it_finds_the_mark_better_than_the_plain_gradient(reader):
    x = reader.films[reader.is_marked].clone().requires_grad_()
    score = (reader.net.eval()(x) @ torch.tensor(reader.mark)).sum()
    gradient = torch.autograd.grad(score, x)[0][:, 0].numpy() ** 2
    heat = saliency(reader.net, x.detach(), reader.mark)
    assert mean_share(heat, CORNER) > mean_share(gradient, CORNER) + 0.2


def test_another_direction_and_a_random_last_layer_give_another_map(reader):
    both = reader.films[reader.is_marked & reader.is_ill]
    told = attributions(reader.net, both, [reader.mark])[0]
    alike, shares = [], []
    for seed in range(4):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            forgetful = nn.Sequential(*list(reader.net)[:-1], nn.Linear(16, WIDTH))
        heat = attributions(forgetful, both, [reader.mark], samples=8)[0]
        alike.append(rank_correlation(told, heat))
        shares.append(mean_share(heat, CORNER))
    other = attributions(reader.net, both, [reader.blob])[0]
    assert rank_correlation(told, other) < 0.6
    assert np.mean(alike) < 0.65
    assert np.mean(shares) < mean_share(told, CORNER) - 0.2
    again = attributions(reader.net, both, [reader.mark], seed=1)[0]
    assert rank_correlation(told, again) > 0.75  # or the lines above would only measure noise


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean([spearmanr(u.ravel(), v.ravel())[0] for u, v in zip(a, b, strict=True)]))


def erasing(direction: np.ndarray) -> AffineMap:
    """Return z - u uᵀ z: nothing of a direction is left."""
    u = (direction / np.linalg.norm(direction))[:, np.newaxis]
    return AffineMap(u, u.T, np.zeros(len(u)))


def by_level(direction: np.ndarray) -> LevelMap:
    """Return the same edit, done to the share of each of two levels that is read off z."""
    one = erasing(direction)
    return LevelMap(
        left=np.stack([one.left] * 2), right=np.stack([one.right] * 2),
        centre=np.zeros((2, WIDTH)), shift=np.zeros((2, WIDTH)),
        slope=np.random.default_rng(0).normal(size=(2, WIDTH)), bias=np.zeros(2),
        stretch=np.zeros((0, WIDTH)), middle=np.zeros(WIDTH), design=np.eye(2),
    )  # fmt: skip


@pytest.mark.parametrize("make", [erasing, by_level, lambda w: Chain(erasing(w), by_level(w))])
def test_once_the_mark_is_erased_the_outcome_looks_less_at_its_corner(reader, make):
    both = reader.films[reader.is_marked & reader.is_ill]
    shortcut = reader.blob + reader.mark  # a head that leans on the mark as well
    before = attributions(reader.net, both, [shortcut])[0]
    after = attributions(nn.Sequential(reader.net, make(reader.mark)), both, [shortcut])[0]
    assert mean_share(before, CORNER) > 0.3
    assert mean_share(after, CORNER) < 0.5 * mean_share(before, CORNER)
    assert mean_share(after, CENTRE) > mean_share(before, CENTRE)


def test_a_linear_score_is_told_pixel_by_pixel():
    # Without noise and box: ((x - blurred x) w)², exactly, as the gradient is w everywhere.
    weights, x = torch.rand(1, 6, 6), torch.rand(2, 1, 6, 6)
    heat = attributions(
        lambda batch: (batch * weights).flatten(1).sum(1, keepdim=True),
        x, [[2.0]], noise=0.0, smooth=0.0, samples=3,
    )[0]  # fmt: skip
    base = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    np.testing.assert_allclose(heat, ((2 * (x - base) * weights) ** 2)[:, 0], rtol=1e-5)


def test_attributions_add_up_to_the_change_of_the_score(reader):
    # Completeness, the axiom of integrated gradients; the midpoints of 64 steps leave 5 %.
    x = reader.films[:4]
    base = module.boxed(x, module._odd(module.BASELINE, x))
    signed = module._integrated(
        reader.net.eval(), x, torch.tensor(reader.mark)[None], samples=64, noise=0.0, seed=0
    )[0]
    with torch.no_grad():
        change = (reader.net(x) - reader.net(base)) @ torch.tensor(reader.mark)
    np.testing.assert_allclose(signed.sum((1, 2)), change, rtol=0.05, atol=0.05)


def test_each_film_has_its_99th_percentile_at_one_and_nothing_below_zero(reader):
    heat = saliency(reader.net, reader.films[:10], reader.mark)
    assert heat.dtype == np.float32
    assert heat.shape == (10, SIDE, SIDE)
    assert heat.min() >= 0
    np.testing.assert_allclose(np.percentile(heat, 99, axis=(1, 2)), 1, rtol=1e-5)


def test_a_direction_of_zeros_and_a_flat_film_give_zeros(reader):
    assert not saliency(reader.net, reader.films[:2], np.zeros(WIDTH)).any()
    assert not saliency(reader.net, torch.ones(1, 1, SIDE, SIDE), reader.mark).any()


def test_the_sign_and_the_size_of_a_head_do_not_change_the_scaled_map(reader):
    x = reader.films[:3]
    heat = saliency(reader.net, x, reader.mark)
    np.testing.assert_allclose(saliency(reader.net, x, -3 * reader.mark), heat, atol=1e-5)
    half, whole = attributions(reader.net, x, [reader.mark, 2 * reader.mark])
    np.testing.assert_allclose(whole, 4 * half, rtol=1e-3, atol=1e-5)


def test_a_map_depends_neither_on_the_run_nor_on_the_other_films(reader):
    heat = saliency(reader.net, reader.films[:11], reader.mark, samples=4)
    again = saliency(reader.net, reader.films[:11], reader.mark, samples=4)
    alone = saliency(reader.net, reader.films[9:10], reader.mark, samples=4)
    np.testing.assert_array_equal(heat, again)
    np.testing.assert_allclose(alone[0], heat[9], rtol=1e-3, atol=1e-5)
    assert len(saliency(reader.net, reader.films[:0], reader.mark)) == 0


def test_the_module_is_left_as_it_was(reader):
    net = nn.Sequential(reader.net, nn.Dropout(0.5))
    net.train()
    reader.net[1].eval()  # one part asleep on purpose
    reader.net[0].weight.requires_grad_(False)
    try:
        modes = [part.training for part in net.modules()]
        learns = [p.requires_grad for p in net.parameters()]
        mean = reader.net[4].running_mean.clone()
        films = reader.films[:2].clone().requires_grad_()
        state = torch.get_rng_state()
        first = saliency(net, films, reader.mark, samples=2)
        with torch.inference_mode():  # as inside somebody's evaluation loop
            np.testing.assert_array_equal(saliency(net, films, reader.mark, samples=2), first)
        with pytest.raises(SettingsError):
            saliency(net, films, [1.0])
        assert [part.training for part in net.modules()] == modes
        assert [p.requires_grad for p in net.parameters()] == learns
        assert all(p.grad is None for p in net.parameters())
        assert films.grad is None
        assert torch.equal(reader.net[4].running_mean, mean)
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        reader.net.eval().requires_grad_(True)


def test_an_encoder_that_normalises_in_place_and_one_in_half_precision_are_read(reader):
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return reader.net(x.mul_(1.0))

    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return reader.net(x)

    x = reader.films[reader.is_marked][:4]
    plain = saliency(reader.net, x, reader.mark)
    np.testing.assert_allclose(saliency(InPlace(), x, reader.mark), plain, rtol=1e-4)
    assert rank_correlation(saliency(Half(), x, reader.mark), plain) > 0.9


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"images": torch.zeros(2, 8)}, r"float batch \(n, c, h, w\), not torch.float32 of shape"),
        ({"images": torch.zeros(1, 1, 8, 8, dtype=torch.uint8)}, "preprocess returns"),
        ({"direction": np.ones(3)}, r"3 coefficients, the embedding is \(1, 8\)"),
        ({"samples": 0}, "samples of at least 1"),
        ({"noise": -0.1}, "noise of at least 0"),
        ({"smooth": 1.0}, "smooth from 0 to below 1"),
        ({"forward": lambda x: x.detach().flatten(1)[:, :WIDTH]}, "the encoder detaches"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_remedy(reader, how, words):
    asked = {"forward": reader.net, "images": reader.films[:1], "direction": reader.mark} | how
    with pytest.raises(SettingsError, match=words):
        saliency(**asked)


def test_the_share_inside_a_box():
    heat = np.zeros((4, 6), dtype=np.float32)
    heat[0, 5], heat[3, 0] = 3, 1
    assert share_in(heat, (0, 4, 2, 6)) == 0.75
    assert share_in(heat, (0, 0, 4, 6)) == 1
    assert np.isnan(share_in(0 * heat, (0, 0, 1, 1)))
    assert doctest.testmod(module).failed == 0
