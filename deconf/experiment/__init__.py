"""Experiments: a TOML file asks the question, a folder of results holds the answer."""

from deconf.experiment.runner import names, run

__all__ = ["names", "run"]
