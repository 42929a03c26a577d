"""A structural model of metadata and embedding: abduction, action, prediction."""

from deconf.scm.fitting import fit
from deconf.scm.model import Counterfactual, StructuralModel

__all__ = ["Counterfactual", "StructuralModel", "fit"]
