"""Domain-adversarial training of a residual adapter, written out: the reference of a test.

Two players, two gradients, by hand.  The adversaries descend their loss; the adapter descends its
move and *ascends* the adversaries' loss.  Of every four steps three are the adversaries' alone.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def dann(x, level, batches, w, readers, view, *, strength, reconstruction, rate, alone):
    """Train in place.  ``w``: (down, in_bias, up, out_bias); ``readers``: lists
    [raw, bias, head, head_bias, u, v], the hidden layer divided by its largest singular value, of
    which u and v are the running vectors; ``alone``: steps in which the adversaries start."""
    own = [p for r in readers for p in r[:4]]
    decayed = [p for p in (*own, *w) if p.ndim > 1]
    others = [p for p in (*own, *w) if p.ndim <= 1]
    adam = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    )
    warm = math.ceil(0.05 * len(batches))
    for step, rows in enumerate(batches):
        z, c = x[rows], level[rows]
        count = torch.bincount(c).to(z)
        weight = 1 / (len(count) * count[c])  # every level counts the same
        down, in_bias, up, out_bias = w
        t = z + torch.relu(z @ down.T + in_bias) @ up.T + out_bias
        seen = torch.cat([unit(t), unit(t @ view).clamp(-5, 5) ** 2 - 1], dim=1)
        fooled = 0.0
        for raw, bias, head, head_bias, u, v in readers:
            with torch.no_grad():  # one step of the power method
                u.copy_(F.normalize(raw @ v, dim=0))
                v.copy_(F.normalize(raw.T @ u, dim=0))
            sigma = u.clone() @ raw @ v.clone()
            said = torch.relu(seen @ (raw / sigma).T + bias) @ head.T + head_bias
            wrong = -torch.log_softmax(said, dim=1)[torch.arange(len(c)), c]
            fooled = fooled + (weight * wrong).sum() / len(readers)
        moved = (weight * ((t - z) ** 2).mean(dim=1)).sum()
        mine = torch.autograd.grad(fooled, own, retain_graph=True)
        theirs = torch.autograd.grad(reconstruction * moved - strength * fooled, w)
        is_own = step < alone or step % 4 != 3
        grads = [*mine, *([None] * 4 if is_own else theirs)]
        norm = torch.sqrt(sum((g**2).sum() for g in grads if g is not None))
        for p, g in zip((*own, *w), grads, strict=True):
            p.grad = None if g is None else g * min(1.0, float(1 / (norm + 1e-6)))
        for group in adam.param_groups:
            left = (step - warm) / (len(batches) - warm)
            slow = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * left))
            group["lr"] = rate * slow
        adam.step()


def unit(h):
    """Return columns at mean 0 and variance 1."""
    return (h - h.mean(dim=0)) / torch.sqrt(((h - h.mean(dim=0)) ** 2).mean(dim=0) + 1e-8)
