"""Measures of dependence to train against: MMD and HSIC, weighted, unbiased, differentiable.

Both are averages over *distinct* films (U-statistics): where nothing depends on the confounder
their mean is zero, so that training is not driven by the size of a batch.

Gretton et al., "A kernel two-sample test", JMLR 2012; Song et al., "Feature selection via
dependence maximization", JMLR 2012 (the unbiased HSIC); both here with a weight for every film.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

WIDTHS = (0.25, 1.0, 4.0)  # of the kernels in the mixture, times the median distance
BLOCK, MOST = 4, 16  # coordinates of a small kernel, and those that small kernels look at
RIDGE = 1e-4  # relative to the total weight, one: collinear columns of a basis count once
FEWEST = 4  # films below which the unbiased HSIC does not exist


def mixture(
    t: Float[Tensor, "n d"], median: Float[Tensor, ""] | None = None
) -> Float[Tensor, "n n"]:
    """Return the mean of three Gaussian kernels, 0.25, 1 and 4 times the median distance wide.

    Parameters
    ----------
    median : tensor, optional
        Default: `median_distance` of these films.
    """
    squared = _squared_distances(t)
    median = median_distance(t) if median is None else median
    return torch.stack([torch.exp(-0.5 * squared / (w * median) ** 2) for w in WIDTHS]).mean(0)


def blockwise(h: Float[Tensor, "n r"]) -> Float[Tensor, "n n"]:
    """Return the mean of the mixture kernels of all coordinates and of each four of the first 16.

    What differs in one coordinate of thirty hardly moves the distance in all of them.
    """
    blocks = [h[:, j : j + BLOCK] for j in range(0, min(h.shape[1], MOST), BLOCK)]
    kernels = [mixture(part) for part in ([h, *blocks] if len(blocks) > 1 else [h])]
    return torch.stack(kernels).mean(dim=0)


def without(
    h: Float[Tensor, "n r"], basis: Float[Tensor, "n m"], weight: Float[Tensor, " n"]
) -> Float[Tensor, "n r"]:
    """Return h less its weighted regression on a constant and the basis; as it is for m = 0."""
    if not basis.shape[1]:
        return h
    known = torch.cat([torch.ones_like(basis[:, :1]), basis], dim=1)
    weighted = known.T * weight
    gram = weighted @ known + RIDGE * torch.eye(known.shape[1], dtype=h.dtype, device=h.device)
    out: Tensor = h - known @ torch.linalg.solve(gram, weighted @ h)
    return out


def median_distance(t: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the median of the distances that are not zero; 1 where all films are the same."""
    apart = _squared_distances(t.detach())
    apart = apart[apart > 0]
    return apart.median().sqrt() if len(apart) else t.new_ones(())


def mmd(
    kernel: Float[Tensor, "n n"],
    weight: Float[Tensor, " n"],
    level: Int[Tensor, " n"],
    stratum: Int[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Return MMD^2 between levels inside strata: the mean over pairs of levels, then over strata.

        MMD^2(p, q) = E k(x, x') + E k(y, y') - 2 E k(x, y),   x, x' ~ p and y, y' ~ q distinct

    Strata count by their weight; a level with a single film in a stratum is left out there, for it
    has no pair of its own.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    >>> half, one = torch.ones(4), torch.zeros(4, dtype=torch.long)
    >>> apart = mmd(mixture(x), half, torch.tensor([0, 0, 1, 1]), one)
    >>> mixed = mmd(mixture(x), half, torch.tensor([0, 1, 0, 1]), one)
    >>> bool(apart > 0.9), bool(mixed < 0)
    (True, True)
    """
    levels, strata = int(level.max()) + 1, int(stratum.max()) + 1
    member = torch.nn.functional.one_hot(level * strata + stratum, levels * strata)
    a = member.to(kernel.dtype) * weight[:, None]
    total = a.sum(dim=0)
    # E k over distinct films of two cells: sum of w w' k less what a film says of itself.
    sums = a.T @ kernel @ a - torch.diag(a.square().T @ kernel.diagonal())
    pairs = torch.outer(total, total) - torch.diag(a.square().sum(dim=0))
    alone = ((a > 0).sum(dim=0) < 2).view(levels, strata).T
    mean = (sums / pairs.clamp_min(torch.finfo(kernel.dtype).tiny)).view(
        levels, strata, levels, strata
    )
    block = torch.einsum("lsms->slm", mean)
    own = block.diagonal(dim1=1, dim2=2)
    squared = own[:, :, None] + own[:, None, :] - 2 * block
    upper = torch.ones(levels, levels, dtype=torch.bool, device=kernel.device).triu(1)
    met = ~(alone[:, :, None] | alone[:, None, :]) & upper
    number = met.sum(dim=(1, 2))
    each = torch.where(met, squared, 0.0).sum(dim=(1, 2)) / number.clamp_min(1)
    share = total.view(levels, strata).sum(dim=0) * (number > 0)
    out: Tensor = (share * each).sum() / share.sum().clamp_min(torch.finfo(kernel.dtype).tiny)
    return out


def hsic(
    kernel: Float[Tensor, "n n"],
    other: Float[Tensor, "n n"],
    weight: Float[Tensor, " n"],
    stratum: Int[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Return the unbiased HSIC inside strata, averaged by their weight.

        HSIC = sum over i, j distinct of  w_i w_j k_ij m_ij / ((sum w)^2 - 3 sum w^2),
        m_ij = l_ij - a_i - a_j  such that  sum over j distinct of  w_j m_ij = 0  for every i

    With equal weights it is Song's estimate (m is the U-centred kernel of Székely & Rizzo 2014);
    whatever the weights, its mean is zero where the films could be dealt out anew.  A stratum of
    fewer than four films is left out, as is one in which a single film has half of the weight.
    """
    found, shares = [kernel.new_zeros(())], [kernel.new_zeros(())]
    for s in stratum.unique():
        here = torch.nonzero((stratum == s) & (weight > 0))[:, 0]
        if len(here) < FEWEST or weight[here].max() >= weight[here].sum() / 2:
            continue
        inside = torch.meshgrid(here, here, indexing="ij")
        found.append(_hsic(kernel[inside], other[inside], weight[here]))
        shares.append(weight[here].sum())
    share = torch.stack(shares)
    out: Tensor = share @ torch.stack(found) / share.sum().clamp_min(torch.finfo(kernel.dtype).tiny)
    return out


def _hsic(k: Tensor, l: Tensor, w: Tensor) -> Tensor:
    w = w / w.sum()
    l = l - torch.diag(l.diagonal())
    rest = 1 - 2 * w
    row = l @ w
    total = (w * row / rest).sum() / (1 + (w / rest).sum())
    a = (row - total) / rest
    centred = l - a[:, None] - a
    centred = centred - torch.diag(centred.diagonal())
    out: Tensor = w @ (k * centred) @ w / (1 - 3 * w.square().sum())
    return out


def _squared_distances(t: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Return |t_i - t_j|^2; unlike the distance itself it has a gradient where films coincide."""
    t = t - t.mean(dim=0)
    length = t.square().sum(dim=1)
    return (length[:, None] + length - 2 * t @ t.T).clamp_min(0)
