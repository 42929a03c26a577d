"""Encoders trained from a recipe."""
