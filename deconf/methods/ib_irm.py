"""Invariant risk minimisation with an information bottleneck (IB-IRM).

Where invariant features tell the outcome fully, invariance alone does not choose among predictors;
of those that are left the one with the least entropy of its features is taken, and variance stands
in for entropy.

Ahuja et al., "Invariance principle meets information bottleneck for out-of-distribution
generalization", NeurIPS 2021, https://arxiv.org/abs/2106.06607.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from deconf.errors import SettingsError
from deconf.methods.base import MethodCard, methods
from deconf.methods.environments import Batch
from deconf.methods.invariant import Penalised
from deconf.methods.irm import irm_penalty


@methods.register(
    "ib_irm",
    MethodCard(
        guarantee="none for new environments; that of irm in these, with features of less variance",
        needs=("outcome", "levels"),
        dear=True,
        cost="epochs x n d h",
        source="Ahuja et al. 2021",
    ),
)
@dataclass(frozen=True)
class IBIRM(Penalised):
    """Add to IRM's penalty the variance of the mapped embedding inside environments.

    Parameters
    ----------
    bottleneck : float
        Strength γ of the variance.
    penalty, warmup, selection, oracle, hidden, epochs, batch, learning_rate, weight_decay
        See `Penalised` and `InvariantRisk`.

    Warnings
    --------
    The bottleneck takes what the head does not need, other diseases included: look at what was
    lost before the map serves another task.
    """

    bottleneck: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.bottleneck >= 0:
            raise SettingsError(f"bottleneck is a number from zero, not {self.bottleneck!r}.")

    def penalty_of(self, batch: Batch, strength: float) -> Float[Tensor, ""]:
        """Return IRM's penalty plus γ times the mean variance of a feature, warm-up or not."""
        return strength * irm_penalty(batch) + self.bottleneck * feature_variance(batch)


def feature_variance(batch: Batch) -> Float[Tensor, ""]:
    """Return the variance of a feature inside an environment: mean over both."""
    mean, present = batch.means(batch.features)
    square, _ = batch.means(batch.features**2)
    return (square - mean**2).mean(dim=1).sum() / present.sum()
