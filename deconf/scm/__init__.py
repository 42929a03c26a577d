"""A structural model of metadata and embedding: abduction, action, prediction."""

from deconf.scm.fitting import fit
from deconf.scm.model import Counterfactual, StructuralModel
from deconf.scm.saved import load

__all__ = ["Counterfactual", "StructuralModel", "fit", "load"]
