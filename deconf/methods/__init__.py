"""De-confounding methods: frozen settings, one file each.  ``methods.names()``, ``.card(name)``."""

from deconf.methods.base import Method, MethodCard, methods

from deconf.methods.leace import LEACE  # isort: skip  (registration order is simplest first)
from deconf.methods.aligned import Aligned
from deconf.methods.auto import Auto
from deconf.methods.centre import Centre
from deconf.methods.counterfactual import Counterfactual
from deconf.methods.quadratic import Quadratic
from deconf.methods.reweight import Reweight
from deconf.methods.transport import Transport

names, card = methods.names, methods.card

__all__ = [
    "LEACE",
    "Aligned",
    "Auto",
    "Centre",
    "Counterfactual",
    "Method",
    "MethodCard",
    "Quadratic",
    "Reweight",
    "Transport",
    "card",
    "names",
]
