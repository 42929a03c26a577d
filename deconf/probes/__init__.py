"""Instruments that try to read a confounder from an embedding."""

from __future__ import annotations
