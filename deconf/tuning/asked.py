"""What is asked of a training: refused before any work where nothing could come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deconf.encoders.base import Encoder
from deconf.encoders.tune import Tune
from deconf.errors import SettingsError


def tune_of(method: Any, encoder: Encoder, checkpoint: str | Path | None) -> Tune | None:
    """Return how a method asks for an encoder to be trained, or None.

    Raises
    ------
    SettingsError
        The embeddings are stored ones; or a checkpoint is named, and nothing is to be trained.
    """
    how = Tune.of(getattr(method, "tune", None))
    if how is not None:
        require_encoder(encoder)
    elif checkpoint is not None:
        raise SettingsError(
            f"checkpoint={str(checkpoint)!r} keeps the training of an encoder, and "
            f"{method.registered_name!r} as it is set trains none: leave it out, or name a method "
            "with tune=, say method=CDANN(tune='lora')."
        )
    return how


def require_encoder(encoder: Encoder) -> None:
    """Refuse embeddings on disk, where there is nothing to train.

    Raises
    ------
    SettingsError
        The encoder is "stored".
    """
    if encoder.is_stored:
        raise SettingsError(
            "tune= trains an encoder on images, and 'stored' has no encoder: pass the one that "
            "made these embeddings, with the images, or leave tune='none'."
        )
