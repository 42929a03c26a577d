"""Optional packages and files that may or may not be there."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

from deconf.errors import DeconfError, ReadError


def need(module: str, *, extra: str) -> ModuleType:
    """Import an optional package, or say which pip line brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DeconfError(
            f"this needs the package {module!r}: pip install 'deconf[{extra}]'"
        ) from error


def packaged(folder: str) -> Path:
    """Return a data folder: inside the wheel (``deconf/_<name>``) or in a source checkout."""
    here = Path(__file__).resolve().parent
    inside = here / {"models": "_models", "experiments/configs": "_experiments"}[folder]
    return inside if inside.is_dir() else here.parent / folder


def development_data() -> Path:
    """Return the folder of real data named by ``DECONF_DATA``; there is no default."""
    folder = os.environ.get("DECONF_DATA")
    if not folder:
        raise ReadError(
            "this experiment reads real data that do not come with deconf: set the environment "
            "variable DECONF_DATA to their folder (it holds embeddings/, tables/ and README.md)."
        )
    if not Path(folder).is_dir():
        raise ReadError(f"DECONF_DATA is {folder!r}, which is not a folder.")
    return Path(folder)
