"""The registry of worlds: simulated cohorts whose causal truth is known."""

from __future__ import annotations

from dataclasses import dataclass

from deconf.registry import Registry


@dataclass(frozen=True)
class WorldCard:
    """What a world is, what can be set, and which figures a sound method must reach in it."""

    summary: str
    options: tuple[str, ...]
    expected: tuple[str, ...]


worlds = Registry("world")
