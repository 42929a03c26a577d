"""De-confounding methods: frozen settings, one file each.  ``methods.names()``, ``.card(name)``."""

from deconf.methods.base import Method, MethodCard, methods

from deconf.methods.leace import LEACE  # isort: skip  (registration order is simplest first)
from deconf.methods.aligned import Aligned
from deconf.methods.auto import Auto
from deconf.methods.cacm import CACM
from deconf.methods.cdann import CDANN
from deconf.methods.centre import Centre
from deconf.methods.combat import ComBat
from deconf.methods.coral import CORAL
from deconf.methods.counterfactual import Counterfactual
from deconf.methods.critic import Critic
from deconf.methods.dann import DANN
from deconf.methods.described import configured
from deconf.methods.dfr import DFR
from deconf.methods.fishr import Fishr
from deconf.methods.group_dro import GroupDRO
from deconf.methods.hsic import HSIC
from deconf.methods.ib_irm import IBIRM
from deconf.methods.inlp import INLP
from deconf.methods.irm import IRM
from deconf.methods.kernel import Kernel
from deconf.methods.mmd import MMD
from deconf.methods.paired import Paired
from deconf.methods.quadratic import Quadratic
from deconf.methods.reweight import Reweight
from deconf.methods.selection import TestEnvironment
from deconf.methods.sinkhorn import Sinkhorn
from deconf.methods.splince import SPLINCE
from deconf.methods.transport import Transport
from deconf.methods.vrex import VREx

names, card = methods.names, methods.card

__all__ = [
    "CACM",
    "CDANN",
    "CORAL",
    "DANN",
    "DFR",
    "HSIC",
    "IBIRM",
    "INLP",
    "IRM",
    "LEACE",
    "MMD",
    "SPLINCE",
    "Aligned",
    "Auto",
    "Centre",
    "ComBat",
    "Counterfactual",
    "Critic",
    "Fishr",
    "GroupDRO",
    "Kernel",
    "Method",
    "MethodCard",
    "Paired",
    "Quadratic",
    "Reweight",
    "Sinkhorn",
    "TestEnvironment",
    "Transport",
    "VREx",
    "card",
    "configured",
    "names",
]
