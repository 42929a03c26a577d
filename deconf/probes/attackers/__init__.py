"""Fresh attackers: probes that try to read a confounder from an embedding.

Each is a frozen setting; ``fit`` sees training rows only and returns a :class:`Probe`.  They
are chosen to fail differently: a linear probe sees means, the quadratic one variances and
products, neighbours and kernels see clusters, trees see steps, the network the rest.  All are
deterministic given a seed and tune themselves on training patients only.  Each reads levels, or
the order of a number (`deconf.probes.target`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from deconf.errors import SettingsError
from deconf.probes.attackers.linear import Logistic as Logistic
from deconf.probes.attackers.linear import Quadratic as Quadratic
from deconf.probes.attackers.neighbours import Neighbours as Neighbours
from deconf.probes.attackers.network import Network as Network
from deconf.probes.attackers.protocol import Attacker as Attacker
from deconf.probes.attackers.protocol import Probe as Probe
from deconf.probes.attackers.protocol import attackers as attackers
from deconf.probes.attackers.rbf import RadialBasis as RadialBasis
from deconf.probes.attackers.trees import Boosted as Boosted

Effort = Literal["quick", "full"]

QUICK = ("logistic", "quadratic", "knn", "boosted", "mlp")
FULL = (*QUICK, "rbf")
# What "full" lets grouped folds choose between; the linear ones tune themselves in any case.
TUNED: Mapping[str, Any] = MappingProxyType(
    {
        "knn": Neighbours(k=(3, 5, 15, 50, 150), tuning_rows=5000),
        "boosted": Boosted(trees=(40, 80, 160, 320), leaves=(4, 8, 24)),
        "mlp": Network(hidden=(32, 128, 512)),
        "rbf": RadialBasis(features=512, widths=((0.25, 0.5), (0.5, 1.0), (1.0, 2.0))),
    }
)


def settings_of(chosen: Iterable[str | Attacker] | None, effort: str) -> dict[str, Attacker]:
    """Return the attackers of an effort, or those chosen; a name means the effort's settings.

    Raises
    ------
    SettingsError
        An unknown attacker or effort, or none at all.
    """
    if effort not in ("quick", "full"):
        raise SettingsError(f"effort is {effort!r}: expected 'quick' or 'full'.")
    if chosen is None:
        chosen = QUICK if effort == "quick" else FULL
    elif isinstance(chosen, str):
        chosen = [chosen]
    tuned: Mapping[str, Any] = TUNED if effort == "full" else {}
    made: list[Attacker] = [
        one if not isinstance(one, str) else tuned.get(one) or attackers[one]() for one in chosen
    ]
    if not made:
        raise SettingsError("no attacker was named; leave attackers out to run the usual ones.")
    return {one.registered_name: one for one in made}
