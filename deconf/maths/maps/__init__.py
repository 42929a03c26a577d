"""Fitted maps from embedding to embedding: immutable, differentiable, saved without pickle.

Every kind of map is imported here, so that `from_spec` knows all of them wherever one is loaded.
"""

from deconf.maths.maps.adapter import Adapter, Residual
from deconf.maths.maps.affine import AffineMap
from deconf.maths.maps.base import KINDS, Chain, EmbeddingMap, from_spec
from deconf.maths.maps.combat import ComBatMap
from deconf.maths.maps.counterfactual import CounterfactualMap
from deconf.maths.maps.entropic import EntropicMap
from deconf.maths.maps.kernel import KernelMap
from deconf.maths.maps.level import LevelMap, recorded
from deconf.maths.maps.mixture import CellMap, MixtureMap

__all__ = [
    "KINDS",
    "Adapter",
    "AffineMap",
    "CellMap",
    "Chain",
    "ComBatMap",
    "CounterfactualMap",
    "EmbeddingMap",
    "EntropicMap",
    "KernelMap",
    "LevelMap",
    "MixtureMap",
    "Residual",
    "from_spec",
    "recorded",
]
