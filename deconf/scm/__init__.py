"""A structural model of metadata and embedding: abduction, action, prediction."""

from deconf.scm.fitting import fit
from deconf.scm.model import Counterfactual, StructuralModel
from deconf.scm.posterior import Contrast, posterior_contrast
from deconf.scm.saved import load

__all__ = [
    "Contrast",
    "Counterfactual",
    "StructuralModel",
    "fit",
    "load",
    "posterior_contrast",
]
