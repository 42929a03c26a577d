"""Invariant-risk methods written out: loops over environments, a dummy scale, autograd, no reuse.

IRMv1 follows the listing in appendix D of Arjovsky et al. 2019; V-REx eq. 8 of Krueger et al. 2021;
Fishr eq. 4 of Rame et al. 2022, one backward pass for every row.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F


def irm_penalty(logits, y, environments):
    dummy = torch.ones(1, requires_grad=True)
    losses = F.binary_cross_entropy_with_logits(logits * dummy, y, reduction="none")
    position = torch.arange(len(y))
    penalties = []
    for e in environments.unique():
        halves = [losses[(environments == e) & (position % 2 == k)].mean() for k in (0, 1)]
        g1, g2 = (torch.autograd.grad(h, dummy, create_graph=True)[0] for h in halves)
        penalties.append((g1 * g2).sum())
    return torch.stack(penalties).mean()


def vrex_penalty(logits, y, environments):
    losses = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    risks = [losses[environments == e].mean() for e in environments.unique()]
    return torch.stack(risks).var(correction=0)


def fishr_penalty(features, head, y, environments):
    rows = []
    for phi, target in zip(features, y, strict=True):
        loss = F.binary_cross_entropy_with_logits(head(phi)[0], target)
        weight, bias = torch.autograd.grad(loss, (head.weight, head.bias))
        rows.append(torch.cat([weight[0], bias]))
    gradients = torch.stack(rows)
    v = [gradients[environments == e].var(0, correction=0) for e in environments.unique()]
    centre = torch.stack(v).mean(0)
    return torch.stack([((one - centre) ** 2).sum() for one in v]).mean()


def train_irm(
    x, y, environments, *, hidden, epochs, batch, rate, decay, penalty, warm_epochs, seed
):
    """Return the logits, as a function of standardised embeddings, that IRMv1 ends with."""
    torch.manual_seed(seed)
    down, up = torch.nn.Linear(x.shape[1], hidden), torch.nn.Linear(hidden, x.shape[1])
    head = torch.nn.Linear(x.shape[1], 1)
    with torch.no_grad():
        for zero in (up.weight, up.bias, head.weight, head.bias):
            zero.zero_()

    def logits(rows):
        return head(rows + up(torch.relu(down(rows))))[:, 0]

    everything = [p for layer in (down, up, head) for p in layer.parameters()]
    matrices, biases = ([p for p in everything if (p.ndim > 1) == m] for m in (True, False))
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
    )
    per_epoch = len(x) // batch
    steps = epochs * per_epoch
    warm = math.ceil(0.05 * steps)  # of the learning rate
    for step in range(steps):
        epoch = step // per_epoch
        order = np.random.default_rng([seed, epoch]).permutation(len(x))
        start = (step % per_epoch) * batch
        rows = np.sort(order[start : start + batch])
        f = logits(x[rows])
        e = environments[rows]
        losses = F.binary_cross_entropy_with_logits(f, y[rows], reduction="none")
        risk = torch.stack([losses[e == one].mean() for one in e.unique()]).mean()
        strength = 1.0 if epoch < warm_epochs else penalty
        loss = risk + strength * irm_penalty(f, y[rows], e)
        if strength > 1:
            loss = loss / strength
        rise = (step + 1) / warm
        fall = 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
        for group in optimiser.param_groups:
            group["lr"] = rate * (rise if step < warm else fall)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(everything, 1.0)
        optimiser.step()
    return lambda new: logits(new).detach()
