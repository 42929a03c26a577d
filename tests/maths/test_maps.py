from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from deconf.errors import SettingsError
from deconf.maths.maps import AffineMap, Chain, EmbeddingMap, from_spec
from deconf.maths.maps.affine import CHUNK


def affine(seed: int, d: int = 6, rank: int = 2) -> AffineMap:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return AffineMap(draw(d, rank), draw(rank, d), draw(d))


def embedding(seed: int, n: int = 20, d: int = 6) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 9), rank=st.integers(0, 4))
def test_a_map_is_its_formula(seed, d, rank):
    fitted, z = affine(seed, d, rank), embedding(seed, d=d)
    dense = torch.eye(d, dtype=torch.float64) - fitted.left @ fitted.right
    assert_close(fitted(z), fitted.centre + (z - fitted.centre) @ dense.T)
    assert fitted.rank == rank
    assert fitted.is_identity == (rank == 0)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), rank=st.integers(0, 4))
def test_a_map_folded_into_one_linear_layer_is_the_same_map(seed, rank):
    fitted, z = affine(seed, rank=rank), embedding(seed).float()
    layer = fitted.linear()
    assert_close(layer(z), fitted(z.double()).float(), atol=1e-4, rtol=1e-4)
    assert not any(p.requires_grad for p in layer.parameters())


@pytest.mark.parametrize("rows", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5])
def test_many_rows_are_mapped_as_few_are(rows):
    fitted = affine(0)
    z = embedding(1, n=rows)
    before = z.clone()
    out = fitted(z)
    for part in (slice(0, 7), slice(rows // 2, rows // 2 + 7), slice(-7, None)):
        assert_close(out[part], fitted(z[part]))
    assert_close(z, before, rtol=0, atol=0)  # and the input is left alone
    z.requires_grad_()
    assert_close(fitted(z).detach(), out)


def test_the_identity_returns_what_it_is_given_and_a_chain_of_them_is_one():
    z = embedding(0)
    assert AffineMap.identity(6)(z) is z
    assert Chain(AffineMap.identity(6), AffineMap.identity(6)).is_identity
    assert not Chain(AffineMap.identity(6), affine(0)).is_identity


def test_a_chain_applies_its_links_in_order():
    a, b, z = affine(0), affine(1), embedding(2)
    assert_close(Chain(a, b)(z), b(a(z)))
    assert (Chain(a, b)(z) - Chain(b, a)(z)).abs().max() > 0.1
    assert_close(Chain(Chain(a), b)(z), Chain(a, b)(z))


def test_the_confounder_reaches_only_the_links_that_read_it():
    class Reads(EmbeddingMap):
        needs_confounders = True

        def forward(self, z, c=None):
            return z + c

    class Blind(EmbeddingMap):
        def forward(self, z, c=None):
            assert c is None
            return z

    z, c = embedding(0), embedding(1)
    chain = Chain(affine(0), Blind(), Reads(), affine(1))
    assert chain.needs_confounders
    assert not Chain(affine(0)).needs_confounders
    assert_close(chain(z, c), affine(1)(affine(0)(z) + c))


@pytest.mark.parametrize("fitted", [affine(0), AffineMap.identity(6), Chain(affine(1), affine(2)),
                                    Chain(Chain(affine(3)), affine(4))])  # fmt: skip
def test_a_map_comes_back_from_its_spec_and_tensors_through_json(fitted):
    spec = json.loads(json.dumps(fitted.spec()))
    rebuilt = from_spec(spec, dict(fitted.state_dict()))
    z = embedding(5)
    assert_close(rebuilt(z), fitted(z), rtol=0, atol=0)
    assert rebuilt.spec() == fitted.spec()


def test_a_map_of_a_kind_from_another_version_is_refused_by_name():
    with pytest.raises(SettingsError, match=r"'HyperMap'.*version that saved it"):
        from_spec({"kind": "HyperMap"}, {})


def test_gradients_flow_and_match_differences():
    fitted = Chain(affine(0), affine(1))
    z = embedding(2).requires_grad_()
    assert torch.autograd.gradcheck(fitted, (z,))
    assert not list(fitted.parameters())  # fitted means fixed


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_precision_that_goes_in_comes_out(kind):
    fitted, z = affine(0), embedding(1)
    out = fitted(z.to(kind))
    assert out.dtype == kind
    # Two matrix products of six terms each: a few dozen units in the last place.
    assert_close(out.double(), fitted(z), atol=100 * torch.finfo(kind).eps, rtol=0)


def test_single_precision_far_from_zero_is_mapped_about_the_centre():
    fitted, z = affine(0), embedding(1, n=2000)
    far = AffineMap(fitted.left, fitted.right, fitted.centre + 1000)
    out = far((z + 1000).float()).double() - 1000
    assert (out - fitted(z)).abs().max() < 2e-3
    assert (out - fitted(z)).mean(dim=0).abs().max() < 5e-4


def test_empty_input_gives_empty_output():
    assert affine(0)(torch.zeros(0, 6)).shape == (0, 6)


def test_tensors_travel_with_the_module():
    chain = Chain(affine(0), affine(1)).to(torch.float32)
    assert {t.dtype for t in chain.state_dict().values()} == {torch.float32}
    assert np.isfinite(chain(embedding(0)).numpy()).all()


def test_the_digest_of_a_map_changes_with_one_bit_and_not_otherwise():
    one = affine(0)
    assert affine(0).digest == one.digest
    assert len(one.digest) == 64
    centre = one.centre.clone()
    centre[2] = torch.nextafter(centre[2], centre[2] + 1)
    others = [
        AffineMap(one.left, one.right, centre),
        affine(0).to(torch.float32),
        Chain(one),
        AffineMap.identity(6),
        affine(1),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 6
    zeros = [torch.zeros(6, 1, dtype=kind) for kind in (torch.float32, torch.int32)]
    assert len({AffineMap(z, z.T, z[:, 0]).digest for z in zeros}) == 2


def test_a_process_that_only_loads_knows_every_kind_of_map():
    told = "from deconf.encoders import saved; from deconf.maths.maps import KINDS; print(*KINDS)"
    known = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"AffineMap", "Chain", "LevelMap", "MixtureMap", "Adapter"} <= set(known)
