"""Flows: invertible networks that shape noise as its causes say, where affine is not enough.

One coordinate gets a monotone rational spline whose knots depend on the causes, a vector gets
affine couplings whose networks see the causes, with a permutation after each.  Both start at the
identity, stand on the noise of the affine mechanism, and keep the epoch that held-out patients
find likeliest; where that is the start, the flow is the identity.

Durkan, Bekasov, Murray & Papamakarios, "Neural spline flows", NeurIPS 2019; Dinh, Sohl-Dickstein &
Bengio, "Density estimation using Real NVP", ICLR 2017; the transforms are pyro's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor, nn

from deconf.scm.affine import LOG2PI
from deconf.training import Schedule, train

COUPLINGS, BINS, BOUND = 4, 8, 4.0
HIDDEN = 32
STEPS, BATCH = 300, 256
SCHEDULE = Schedule(learning_rate=3e-3, weight_decay=1e-3)


class _Coupled(nn.Module):
    """Half of the coordinates moved by a network of the other half and the causes, in turn."""

    order: Tensor
    layers: Any  # of pyro's conditional transforms

    def __init__(self, width: int, causes: int, layers: int, order: Int[ndarray, "l r"]) -> None:
        from pyro.distributions.transforms import ConditionalAffineCoupling
        from pyro.nn import ConditionalDenseNN

        super().__init__()
        self.register_buffer("order", torch.as_tensor(order))
        half = width // 2
        self.layers = nn.ModuleList()
        for _ in range(layers):
            net = ConditionalDenseNN(half, max(causes, 1), [HIDDEN], [width - half] * 2)
            _silence(net.layers[-1])
            self.layers.append(ConditionalAffineCoupling(half, net))

    def outward(self, u: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Return e and log |de/du|."""
        volume = torch.zeros(len(u), dtype=u.dtype)
        for layer, order in zip(self.layers, self.order, strict=True):
            step = layer.condition(d)  # a new object each time: pyro caches (x, y) on the old one
            moved = step(u)
            volume = volume + step.log_abs_det_jacobian(u, moved)
            u = moved[:, order]
        return u, volume

    def inward(self, e: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and log |du/de|."""
        volume = torch.zeros(len(e), dtype=e.dtype)
        for layer, order in zip(self.layers[::-1], self.order.flip(0), strict=True):
            e = e[:, torch.argsort(order)]
            step = layer.condition(d)
            before = step.inv(e)
            volume = volume - step.log_abs_det_jacobian(before, e)
            e = before
        return e, volume


class _Splined(nn.Module):
    """One coordinate bent by a monotone spline whose knots depend on the causes."""

    spline: Any

    def __init__(self, causes: int) -> None:
        from pyro.distributions.transforms import ConditionalSpline
        from pyro.nn import DenseNN

        super().__init__()
        net: Any = DenseNN(max(causes, 1), [HIDDEN, HIDDEN], [BINS, BINS, BINS - 1])
        _silence(net.layers[-1])
        with torch.no_grad():  # softplus of it is one: the slope of the identity at every knot
            net.layers[-1].bias[2 * BINS :] = math.log(math.e - 1)
        self.spline = ConditionalSpline(net, 1, BINS, bound=BOUND, order="quadratic")

    def outward(self, u: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Return e and log |de/du|."""
        step = self.spline.condition(d)
        e = step(u)
        return e, step.log_abs_det_jacobian(u, e).sum(dim=-1)

    def inward(self, e: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and log |du/de|."""
        step = self.spline.condition(d)
        u = step.inv(e)
        return u, -step.log_abs_det_jacobian(u, e).sum(dim=-1)


@dataclass(frozen=True, eq=False)
class FlowNoise:
    """A fitted flow of (n, r) noise.

    Attributes
    ----------
    net : module
    centre, scale : (q,)
        Of the design of the causes, as the networks see it.
    """

    net: Any
    centre: Float[ndarray, " q"]
    scale: Float[ndarray, " q"]

    def inward(
        self, e: Float[ndarray, "n r"], d: Float[ndarray, "n q"]
    ) -> tuple[Float[ndarray, "n r"], Float[ndarray, " n"]]:
        """Return normal noise u of affine noise e, and log |du/de|."""
        with torch.no_grad():
            u, volume = self.net.inward(torch.tensor(e), self._context(d))
        return u.numpy(), volume.numpy()

    def outward(self, u: Float[ndarray, "n r"], d: Float[ndarray, "n q"]) -> Float[ndarray, "n r"]:
        """Return affine noise e of normal noise u."""
        with torch.no_grad():
            out: ndarray = self.net.outward(torch.tensor(u), self._context(d))[0].numpy()
        return out

    def _context(self, d: Float[ndarray, "n q"]) -> Tensor:
        return _context((d - self.centre) / self.scale)

    def spec(self) -> dict[str, Any]:
        """Return what `of` needs beside the arrays, as JSON types."""
        width = 1 if isinstance(self.net, _Splined) else int(self.net.order.shape[1])
        return {"width": width, "causes": len(self.centre)}

    def arrays(self) -> dict[str, ndarray]:
        """Return the arrays, by name."""
        own = {f"net.{k}": v.numpy() for k, v in self.net.state_dict().items()}
        return own | {"centre": self.centre, "scale": self.scale}

    @classmethod
    def of(cls, spec: dict[str, Any], arrays: dict[str, ndarray]) -> FlowNoise:
        """Rebuild a flow from `spec` and `arrays`."""
        order = arrays.get("net.order", np.zeros((0, 0), dtype=np.int64))
        net = _net(spec["width"], spec["causes"], order)
        state = {
            k.removeprefix("net."): torch.tensor(v) for k, v in arrays.items() if k[:4] == "net."
        }
        net.load_state_dict(state)
        return cls(net, arrays["centre"], arrays["scale"])


def fit_flow(
    e: Float[ndarray, "n r"],
    d: Float[ndarray, "n q"],
    rows: Int[ndarray, " t"],
    held_out: Int[ndarray, " h"],
    *,
    seed: int,
) -> tuple[FlowNoise, float, float]:
    """Fit a flow by maximum likelihood; return it, and held-out log-likelihoods before and after.

    Parameters
    ----------
    e : (n, r)
        Noise of the affine mechanism.
    rows, held_out : rows
        Other patients each: those it learns from, and those that choose the epoch.
    """
    centre, scale = d[rows].mean(axis=0), d[rows].std(axis=0)
    scale[scale < 1e-9] = 1.0  # a constant column of a design in units of one
    draws = np.random.default_rng(seed)
    order = np.stack([draws.permutation(e.shape[1]) for _ in range(COUPLINGS)])
    through = np.arange(e.shape[1])
    for step in order[:-1]:
        through = through[step]
    order[-1] = np.argsort(through)  # back where they were: the start is the identity
    with torch.random.fork_rng():  # the caller's draws go on as if nothing had happened
        torch.manual_seed(seed)
        net = _net(e.shape[1], d.shape[1], order)
    x, context = torch.tensor(e), _context((d - centre) / scale)

    def likelihood(which: ndarray) -> Tensor:
        u, volume = net.inward(x[which], context[which])
        return (volume - 0.5 * ((u**2).sum(dim=1) + u.shape[1] * LOG2PI)).mean()

    def held() -> float:
        with torch.no_grad():
            return float(likelihood(held_out))

    before = best = held()
    state = {k: v.clone() for k, v in net.state_dict().items()}

    def watch(epoch: int, epochs: int, loss: float) -> None:
        nonlocal best, state
        del epoch, epochs, loss
        now = held()
        if now > best:
            best, state = now, {k: v.clone() for k, v in net.state_dict().items()}

    batch = min(BATCH, len(rows))
    epochs = math.ceil(STEPS / (len(rows) // batch))
    own = replace(SCHEDULE, seed=seed, batch=batch, epochs=epochs)
    train(net, lambda batch, _: -likelihood(rows[batch]), len(rows), own, progress=watch)
    net.load_state_dict(state)
    return FlowNoise(net.requires_grad_(False), centre, scale), before, best


def _net(width: int, causes: int, order: Int[ndarray, "l r"]) -> _Coupled | _Splined:
    net = _Splined(causes) if width == 1 else _Coupled(width, causes, len(order), order)
    return net.double()


def _context(d: Float[ndarray, "n q"]) -> Tensor:
    return torch.tensor(d if d.shape[1] else np.ones((len(d), 1)))


def _silence(layer: nn.Module) -> None:
    """Set a layer to zero, so that the flow begins as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
