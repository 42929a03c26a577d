from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from deconf.tuning.objectives import Adversary, Reversed, info_nce, task_loss


def test_the_gradient_comes_back_turned_and_the_value_does_not():
    z = torch.tensor([1.0, -2.0], requires_grad=True)
    out = Reversed.apply(z, 0.5)
    assert torch.equal(out, z)
    (out * torch.tensor([3.0, 4.0])).sum().backward()
    assert torch.equal(z.grad, torch.tensor([-1.5, -2.0]))


def naive(a, b, who, temperature):
    z = F.normalize(torch.cat([a, b]), dim=1)
    who, n = torch.cat([who, who]).tolist(), len(a)
    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        near = {j: float(z[i] @ z[j]) / temperature for j in range(2 * n)}
        others = [j for j in near if who[j] != who[i]]
        below = sum(math.exp(near[j]) for j in [partner, *others])
        total -= math.log(math.exp(near[partner]) / below)
    return total / (2 * n)


def test_info_nce_is_what_the_paper_says_and_a_patient_is_no_negative_of_himself():
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 4)
    who = torch.tensor([0, 1, 2, 3, 3, 4])
    assert float(info_nce(a, b, who, 0.3)) == pytest.approx(naive(a, b, who, 0.3), rel=1e-5)
    assert float(info_nce(a, b, torch.arange(6), 0.3)) > float(info_nce(a, b, who, 0.3))


def test_a_trace_that_all_films_of_a_device_share_costs():
    torch.manual_seed(0)
    person = torch.randn(40, 8)
    trace = torch.zeros(8)
    trace[0] = 3.0
    alike = info_nce(person, person + 0.1 * torch.randn(40, 8), torch.arange(40))
    apart = info_nce(person - trace, person + trace, torch.arange(40))
    assert apart > 5 * alike


def test_what_tells_the_stratum_alone_is_no_clue_to_the_adversary():
    torch.manual_seed(0)
    strata = torch.randint(2, (600,))
    codes = (torch.rand(600) < 0.2 + 0.6 * strata).long()
    losses = {}
    for name, read in {"stratum": strata, "level": codes}.items():
        z = read[:, None].float()
        own = Adversary(1, 2, 2)
        optimiser = torch.optim.Adam(own.parameters(), lr=0.03)
        for _ in range(80):
            optimiser.zero_grad()
            own(z, codes, strata).backward()
            optimiser.step()
        with torch.no_grad():
            losses[name] = float(own(z, codes, strata))
    entropy = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))  # of the level given the stratum
    assert losses["stratum"] == pytest.approx(entropy, abs=0.03)
    assert losses["level"] < 0.8 * entropy


def test_rows_without_a_level_and_outcomes_not_recorded_do_not_count():
    torch.manual_seed(0)
    z, codes, strata = torch.randn(8, 3), torch.randint(2, (8,)), torch.zeros(8, dtype=torch.long)
    own = Adversary(3, 2, 1)
    with torch.no_grad():
        known = own(z[:5], codes[:5], strata[:5])
        codes[5:] = -1
        torch.testing.assert_close(own(z, codes, strata), known)
        assert float(own(z, torch.full((8,), -1), strata)) == 0.0
    said, asked = torch.randn(4, 2), torch.tensor([[1.0, 0.0]] * 4)
    asked[1:, 1] = torch.nan
    kept = torch.cat([said[:, 0], said[:1, 1]]), torch.cat([asked[:, 0], asked[:1, 1]])
    expected = F.binary_cross_entropy_with_logits(*kept)
    torch.testing.assert_close(task_loss(said, asked), expected)
    assert float(task_loss(said, torch.full((4, 2), torch.nan))) == 0.0
