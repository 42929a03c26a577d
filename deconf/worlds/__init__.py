"""Simulated cohorts whose causal truth is known.

``worlds.linear(trace="shift")`` draws embeddings, ``worlds.radiograph()`` chest radiographs.
"""

from deconf.worlds.cards import worlds
from deconf.worlds.linear import LinearWorld, linear
from deconf.worlds.radiograph import RadiographWorld, radiograph

names, card = worlds.names, worlds.card

__all__ = ["LinearWorld", "RadiographWorld", "card", "linear", "names", "radiograph"]
