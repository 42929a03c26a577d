"""What the data say against an invariant-risk fit, in words that travel with the map."""

from __future__ import annotations

import numpy as np
import torch

from deconf.maths.design import pooled
from deconf.maths.maps import Adapter, AffineMap
from deconf.maths.moments import Given
from deconf.methods.environments import Environments
from deconf.methods.levels import MOST_MAPPED
from deconf.methods.quadratic import Quadratic
from deconf.probes.leakage import leakage

UNEVEN = 0.1  # difference of the outcome's rate between environments from which it is remarked on
WIDEST = 2048  # columns up to which the directions of the trace are counted


def misgivings(data: Environments, *, seed: int) -> list[str]:
    """Return why these environments may not do what they are meant to do; often nothing.

    - With d_e directions in which environments differ, about d_e + 1 environments are needed to
      tell invariant from spurious (Rosenfeld et al., "The risks of invariant risk minimization",
      ICLR 2021, https://arxiv.org/abs/2010.05761).  d_e is counted as the directions in which
      means or variances differ within the outcome: at least so many.
    - Environments in which the outcome is differently frequent, and which the embedding shows,
      meet every one of these penalties by an intercept of their own.
    """
    said = []
    found = trace(data, seed=seed)
    if data.count <= found:
        said.append(
            f"{data.count} environments differ in at least {found} directions of the embedding "
            f"within the outcome; fewer than {found + 1} environments cannot tell an invariant "
            "predictor from a spurious one (Rosenfeld et al. 2021)"
        )
    codes, y, weight = (t.cpu().numpy() for t in (data.codes, data.y, data.weight))
    rates = [
        np.average(y[codes == e], weights=weight[codes == e])
        for e in range(data.count)
        if weight[codes == e].any()
    ]
    if max(rates) - min(rates) > UNEVEN:
        said.append(
            f"the outcome's rate runs from {min(rates):.2f} to {max(rates):.2f} over the "
            "environments: where the embedding shows the environment, an intercept of its own "
            "meets the penalty, and the predictor is not invariant"
        )
    return said


def trace(data: Environments, *, seed: int) -> int:
    """Return in how many directions environments differ within the outcome; 0 where not counted."""
    if data.x.shape[1] > WIDEST or data.count > MOST_MAPPED:
        return 0
    x, codes, y = data.x.cpu().numpy(), data.codes.cpu().numpy(), data.y.cpu().numpy()
    fitted = Quadratic(most=1.0).fit(
        x,
        np.eye(data.count)[codes],
        given=Given(y.astype(int)),
        weights=data.weight.cpu().numpy(),
        patients=data.patients,
        seed=seed,
    )
    return sum(link.rank for link in fitted.links() if isinstance(link, AffineMap))


def left(fitted: Adapter, held: Environments, *, seed: int) -> str:
    """Return what a fresh linear probe reads of the environment before and after, in words."""
    z = torch.from_numpy(held.raw())
    with torch.inference_mode():
        after = fitted(z).numpy()
    codes, y = held.codes.cpu().numpy(), held.y.cpu().numpy().astype(int)
    read = [
        leakage(
            x, pooled(codes), y, held.patients,
            attackers=("logistic",), permutations=20, bootstraps=200, seed=seed,
        )
        for x in (z.numpy(), after)
    ]  # fmt: skip
    if any(r.reason for r in read):
        return "too few held-out patients to audit the map: ask deconf.audit on others"
    raw, clean = (r.estimate for r in read)
    verdict = "less than" if clean.high < raw.estimate else "no less than"
    return (
        f"a fresh linear probe on {read[0].n_test:,} held-out patients reads the environment at "
        f"AUROC {clean} from the map, {verdict} at {raw} from what it was given; only the head "
        "was asked to be invariant"
    )
