from __future__ import annotations

import pytest
import torch
from torch import nn

from deconf.errors import SettingsError
from deconf.maths.maps import Adapter, Chain, Residual, from_spec


def trained(width: int = 6, hidden: int = 4) -> Residual:
    torch.manual_seed(0)
    net = Residual(width, hidden)
    nn.init.normal_(net.up.weight)
    nn.init.normal_(net.up.bias)
    return net


def test_training_starts_from_the_identity():
    z = torch.randn(9, 6)
    assert torch.equal(Residual(6, 4)(z), z)
    assert Adapter.of(Residual(6, 4), torch.ones(6), torch.full((6,), 2.0)).is_identity


def test_the_frozen_map_does_on_raw_embeddings_what_the_network_did_on_standardised_ones():
    net, head = trained(), nn.Linear(6, 2)
    centre, scale = torch.randn(6), torch.rand(6) + 0.5
    frozen = Adapter.of(net, centre, scale, head)
    x = torch.randn(50, 6)
    z = centre + scale * x
    torch.testing.assert_close(frozen(z), centre + scale * net(x))
    torch.testing.assert_close(frozen.score(z), head(net(x)), atol=1e-5, rtol=1e-5)
    assert not frozen.is_identity


def test_a_map_trained_without_a_head_says_so():
    with pytest.raises(SettingsError, match="without a head"):
        Adapter.of(trained(), torch.zeros(6), torch.ones(6)).score(torch.zeros(1, 6))


def test_it_is_rebuilt_from_its_spec_and_its_tensors():
    fitted = Chain(Adapter.of(trained(), torch.zeros(6), torch.ones(6), nn.Linear(6, 1)))
    rebuilt = from_spec(fitted.spec(), dict(fitted.state_dict()))
    z = torch.randn(5, 6)
    assert torch.equal(rebuilt(z), fitted(z))
    assert rebuilt.digest == fitted.digest
