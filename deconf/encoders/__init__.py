"""Images to vectors: encoders, and the de-confounded encoder.  ``encoders.names()``."""

from deconf.encoders.base import Encoder, encoders, load_encoder

names, card = encoders.names, encoders.card

__all__ = ["Encoder", "card", "load_encoder", "names"]
