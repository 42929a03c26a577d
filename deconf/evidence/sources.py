"""From what a user passes to a contender, each encoder run once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from deconf.cohort.cohort import Cohort
from deconf.encoders.base import load_encoder
from deconf.encoders.tune import Tune
from deconf.evidence.contenders import Fixed, Refitted
from deconf.evidence.leakage import embedded
from deconf.evidence.own_head import own_head


class Sources:
    """Raw embeddings of the cohort, each encoder run once."""

    def __init__(self, cohort: Cohort) -> None:
        self.cohort = cohort
        self._found: dict[object, tuple[np.ndarray, str, Any]] = {}

    def raw(self, encoder: Any) -> tuple[np.ndarray, str]:
        """Return the embedding an encoder makes of the cohort, and a name for it."""
        key = same_as(encoder)
        if key not in self._found:
            z = embedded("stored" if key == "stored" else encoder, self.cohort)
            origin = "stored" if key == "stored" else f"encoder {len(self._found) + 1}"
            for known, name, _ in self._found.values():
                if known.shape == z.shape and np.array_equal(known, z):
                    z, origin = known, name  # the same numbers by another name
            # The encoder is kept beside its embedding, so that its id stays its own.
            self._found[key] = (z, origin, encoder)
        return self._found[key][:2]

    def contender(self, representation: Any) -> Fixed | Refitted:
        """Return what stands for a representation in the comparison.

        Raises
        ------
        CohortError, LeakageError, SettingsError
            As `deconf.evidence.leakage.audit`.
        """
        own = getattr(representation, "encoder", None)
        if not is_unfitted(representation):
            encoder = as_encoder(representation)
            if own is None or not hasattr(representation, "plan"):
                return Fixed(*self.raw(encoder))
            base, origin = self.raw(own)
            head = own_head(representation, self.cohort.table)
            return Fixed(embedded(representation, self.cohort), origin, base, head)
        if own is None:
            stored = self.cohort.embeddings
            origin = f"cleaner {id(representation)}" if stored is None else "stored"
            return Refitted(representation, self.cohort, stored, origin)
        base, origin = self.raw(own)
        return Refitted(*self._on_stored(representation, base), base, origin)

    def _on_stored(self, cleaner: Any, base: np.ndarray) -> tuple[Any, Cohort]:
        """Let a cleaner work on the embedding at hand: its encoder runs once, not in every fold.

        One that trains the encoder needs the images, in every fold anew.
        """
        trains = Tune.of(getattr(getattr(cleaner, "method", None), "tune", None)) is not None
        is_stored = same_as(cleaner.encoder) == "stored"
        if is_stored or trains or not dataclasses.is_dataclass(cleaner):
            return cleaner, self.cohort
        stored: Any = dataclasses.replace(
            cleaner,  # type: ignore[type-var]
            encoder=load_encoder("stored"),
        )
        return stored, self.cohort.with_embeddings(base)


def as_encoder(representation: Any) -> Any:
    """Return names and plain torch modules as encoders; everything else as it is."""
    is_module = hasattr(representation, "state_dict") and not hasattr(representation, "embed")
    if isinstance(representation, str) or is_module:
        return load_encoder(representation)
    return representation


def same_as(encoder: Any) -> object:
    """Return a key that two names of one encoder share."""
    if isinstance(encoder, str) or getattr(encoder, "is_stored", False):
        return "stored"
    module = getattr(encoder, "module", None)
    return id(encoder if module is None else module)


def raw_name(representations: Mapping[str, Any]) -> str | None:
    """Return the name under which the raw embedding was passed, if it was."""
    if "raw" in representations:
        return "raw"
    cleaners = [r for r in representations.values() if hasattr(r, "plan")]
    encoders = [r.encoder for r in cleaners if getattr(r, "encoder", None) is not None]
    raw = {same_as(encoder) for encoder in encoders or ["stored"]}
    for name, representation in representations.items():
        if not hasattr(representation, "plan") and same_as(representation) in raw:
            return name
    return None


def is_unfitted(representation: Any) -> bool:
    """Whether something is a cleaner that still has to be fitted."""
    return all(callable(getattr(representation, name, None)) for name in ("fit", "plan"))
