from __future__ import annotations

import pytest
import torch
from torch import nn

from deconf.errors import SettingsError
from deconf.tuning.lora import LowRank, add_low_rank, merge_low_rank


class Net(nn.Module):
    """Linear layers, convolutions of 1 x 1 (one strided), of 3 x 3 and in groups, attention."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.mix = nn.Conv2d(4, 6, 1, stride=2)
        self.each = nn.Conv2d(6, 6, 1, groups=6)
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        tokens = self.each(self.mix(self.stem(x)).relu()).flatten(2).transpose(1, 2)
        mixed = self.attend(tokens, tokens, tokens)[0].mean(dim=1)
        return torch.nn.functional.linear(mixed, self.head.weight, self.head.bias)  # past forward


def nets():
    torch.manual_seed(0)
    net = Net()
    return net, torch.randn(3, 2, 6, 6)


def stirred(net):
    for part in net.modules():
        if isinstance(part, LowRank):
            nn.init.normal_(part.up)
    return net


def test_it_starts_as_the_net_itself_and_only_corrections_are_trained():
    net, x = nets()
    before = net(x)
    assert add_low_rank(net, rank=2) == 2
    torch.testing.assert_close(net(x), before)  # attention takes another way through frozen parts
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"mix.down", "mix.up", "head.down", "head.up"}
    net(x).square().sum().backward()
    assert net.mix.up.grad.abs().max() > 0
    assert net.stem.weight.grad is None


def test_merged_it_is_built_as_before_and_says_what_the_corrections_said():
    net, x = nets()
    names, before = list(net.state_dict()), net(x)
    add_low_rank(net, rank=2)
    moved = stirred(net)(x)
    assert (moved - before).abs().max() > 0.1
    merge_low_rank(net)
    assert list(net.state_dict()) == names
    assert type(net.mix) is nn.Conv2d
    torch.testing.assert_close(net(x), moved, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Conv2d(4, 3, 1, stride=2)])
def test_a_correction_is_of_low_rank_and_twice_b_a(layer):
    x = torch.randn(5, 4) if isinstance(layer, nn.Linear) else torch.randn(2, 4, 5, 5)
    own = LowRank(layer, 9)  # no rank above the sides of the weight
    assert own.down.shape == (3, 4)
    nn.init.normal_(own.up)
    expected = layer.weight + 2 * (own.up @ own.down).view_as(layer.weight)
    torch.testing.assert_close(own.weight, expected)
    plain = LowRank(layer, 2)(x) - layer(x)
    assert torch.equal(plain, torch.zeros_like(plain))


def test_a_net_without_such_a_layer_is_told_what_to_do():
    with pytest.raises(SettingsError, match=r"neither a linear layer.*use tune='full'"):
        add_low_rank(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), 4)
