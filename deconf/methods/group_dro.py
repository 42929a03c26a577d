"""Group distributionally robust optimisation (GroupDRO): the worst group's risk.

Sagawa, Koh, Hashimoto & Liang, "Distributionally robust neural networks for group shifts", ICLR
2020, https://arxiv.org/abs/1911.08731 (algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from deconf.errors import SettingsError
from deconf.methods.base import MethodCard, methods
from deconf.methods.environments import Batch, Environments, Objective, Predictor, Watch, trained
from deconf.methods.invariant import InvariantRisk


@methods.register(
    "group_dro",
    MethodCard(
        guarantee="none for new environments; the worst group's risk is small on the fitting data",
        needs=("outcome", "levels"),
        dear=True,
        cost="epochs x n d h",
        source="Sagawa et al. 2020",
    ),
)
@dataclass(frozen=True)
class GroupDRO(InvariantRisk):
    """Weigh groups by how badly they are served, and follow the weighted risk.

    Parameters
    ----------
    groups : "cells" or "environments"
        Outcome times confounder (the paper's), or the levels of the confounder alone.
    step : float or tuple of float
        η of the exponentiated-gradient step of the group weights; `selection` chooses of several.
    selection, oracle, hidden, epochs, batch, learning_rate, weight_decay
        See `InvariantRisk`.

    Warnings
    --------
    A network that fits every training row has no worst group: it needs strong regularisation or an
    early epoch.  A strong baseline for the task, and no cleaning of the embedding.
    """

    groups: Literal["cells", "environments"] = "cells"
    step: float | tuple[float, ...] = 0.05

    searched: ClassVar[str] = "step"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups not in ("cells", "environments"):
            raise SettingsError(f"groups is 'cells' or 'environments', not {self.groups!r}.")

    @property
    def compares_environments(self) -> bool:
        """Whether the groups are environments; cells balance the shortcut itself."""
        return self.groups == "environments"

    def learn(self, data: Environments, watch: Watch, *, seed: int) -> Predictor:
        """Train one network with one step."""
        (step,) = self.values()
        objective = worst_group(data, step, cells=self.groups == "cells")
        return trained(data, self.fitting(), objective, seed=seed, watch=watch)


def worst_group(data: Environments, step: float, *, cells: bool) -> Objective:
    """Return the loss  Σ_g q_g R_g  with  q_g <- q_g exp(η R_g), normalised, before each use."""
    count = data.count * 2 if cells else data.count
    q = torch.full((count,), 1 / count, device=data.x.device)

    def objective(batch: Batch) -> Float[Tensor, ""]:
        codes = 2 * batch.codes + batch.y.long() if cells else batch.codes
        risks, _ = batch.means(batch.losses(), codes, count)
        q.mul_(torch.exp(step * risks.detach()))
        q.div_(q.sum())
        return (q * risks).sum()

    return objective
