"""Causal questions about imaging signals: effects, conditional independence, pixel experiments."""
