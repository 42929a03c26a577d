"""Simulated cohorts whose causal truth is known: ``worlds.linear(trace="shift")``."""

from deconf.worlds.cards import worlds
from deconf.worlds.linear import LinearWorld, linear

names, card = worlds.names, worlds.card

__all__ = ["LinearWorld", "card", "linear", "names"]
