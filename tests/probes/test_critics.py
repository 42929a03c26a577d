from __future__ import annotations

import pytest
import torch
from torch import nn

from deconf.probes.critics import Adversary, reversal, steepness


def test_every_stratum_has_a_head_of_its_own():
    torch.manual_seed(0)
    adversary = Adversary(3, 8, 2, 2, is_smooth=False)
    t, stratum = torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])
    said = adversary(t, stratum)
    heads = adversary.head(torch.relu(adversary.body[0](t)))
    assert torch.equal(said[0::2], heads[0::2, :2])
    assert torch.equal(said[1::2], heads[1::2, 2:])


def test_the_slope_of_a_smooth_adversarys_hidden_layer_is_one_at_most():
    torch.manual_seed(0)
    adversary = Adversary(5, 16, 2)
    with torch.no_grad():
        adversary.body[0].parametrizations.weight.original.mul_(100)
        for _ in range(50):
            adversary(torch.randn(4, 5))
    assert float(torch.linalg.matrix_norm(adversary.body[0].weight.detach(), 2)) == pytest.approx(
        1, abs=0.01
    )


def test_who_reads_a_reversal_learns_and_who_wrote_it_unlearns():
    w, t = torch.tensor(2.0, requires_grad=True), torch.tensor([[3.0]], requires_grad=True)
    (w * reversal(t, 0.5)).sum().backward()
    assert w.grad == 3
    assert t.grad == -1


@pytest.mark.parametrize(("slope", "expected"), [(1.0, 0.0), (3.0, 4.0)])
def test_steepness_is_the_squared_departure_of_the_slope_from_one(slope, expected):
    class Plane(nn.Module):
        def forward(self, t, stratum):
            return slope * t[:, :1].expand(-1, 2)

    t, level = torch.randn(40, 3), torch.arange(40) % 2
    assert float(steepness(Plane(), t, level, torch.zeros_like(level))) == pytest.approx(expected)


def test_films_of_different_strata_are_never_paired():
    class Nowhere(nn.Module):
        def forward(self, t, stratum):
            raise AssertionError("asked between strata")

    level = torch.arange(10) % 2
    assert float(steepness(Nowhere(), torch.randn(10, 2), level, level)) == 0
