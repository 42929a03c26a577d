"""Which embeddings are looked at: raw ones, and what a cleaner makes of them, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder, load_encoder
from deconf.encoders.deconfounded import DeconfoundedEncoder
from deconf.encoders.inputs import Files, Pixels, inputs_of
from deconf.errors import CohortError, SettingsError, listing


@dataclass(frozen=True, eq=False)
class Representation:
    """A name, and the map that makes this embedding of the encoder's (None: as it is)."""

    name: str
    clean: DeconfoundedEncoder | None
    design: Tensor | None  # confounders of the films, for maps that read them

    def of(self, z: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
        """Return the representation of raw embeddings of all the films."""
        if self.clean is None:
            return z
        fitted = self.clean.map
        if z.shape[1] != fitted.width:
            raise CohortError(
                f"{self.name!r} was fitted on embeddings of {fitted.width} columns and the encoder "
                f"beside it makes {z.shape[1]}: was it fitted on another encoder?"
            )
        place = next(fitted.buffers()).device
        x = torch.from_numpy(np.ascontiguousarray(z)).to(place)
        with torch.inference_mode():
            out = fitted(x) if self.design is None else fitted(x, self.design.to(place))
        array: np.ndarray = out.float().cpu().numpy()
        return array


@dataclass(frozen=True, eq=False)
class Group:
    """Representations that start from one encoder: its images are encoded once for all of them."""

    encoder: Encoder
    images: Files | Pixels
    members: tuple[Representation, ...]


def grouped(given: Any, cohort: Cohort) -> list[Group]:
    """Return the representations by the encoder that reads their images.

    A cleaner alone stands beside its own encoder, called raw.  A cleaner of stored embeddings
    takes those of the one image encoder that is named with it.

    Raises
    ------
    SettingsError
        Nothing in it reads images, or a cleaner is not fitted.
    CohortError
        The cohort has no images, or the encoder no preprocess.
    LeakageError
        A cleaner was fitted on patients of this cohort.
    """
    named = _named(given)
    images = {
        id(encoder): encoder for encoder, _ in named.values() if encoder and not encoder.is_stored
    }
    if not images:
        raise SettingsError(
            "nothing here reads images: 'stored' takes embeddings, and an edit of pixels needs the "
            "encoder that made them. Pass it, or name both: {'raw': encoder, 'clean': cleaner}."
        )
    groups: dict[int, list[Representation]] = {key: [] for key in images}
    for name, (encoder, clean) in named.items():
        if encoder is None or encoder.is_stored:
            if len(images) > 1:
                raise SettingsError(
                    f"{name!r} cleans stored embeddings and {len(images)} image encoders are "
                    "named: with one of them it is clear whose. Call intervene once for each."
                )
            key = next(iter(images))
        else:
            key = id(encoder)
        if clean is not None:
            clean.require_unseen(cohort)
        groups[key].append(Representation(name, clean, _design(clean, cohort)))
    return [
        Group(images[key], _pixels_of(images[key], cohort), tuple(members))
        for key, members in groups.items()
    ]


def _named(given: Any) -> dict[str, tuple[Encoder | None, DeconfoundedEncoder | None]]:
    if isinstance(given, Mapping):
        if not given:
            raise SettingsError("encoder={} is empty: name at least one, {'raw': encoder}.")
        return {str(name): _one(one) for name, one in given.items()}
    encoder, clean = _one(given)
    if clean is None:
        return {"raw": (encoder, None)}
    return {"raw": (encoder, None), "clean": (encoder, clean)}


def _one(given: Any) -> tuple[Encoder | None, DeconfoundedEncoder | None]:
    if isinstance(given, DeconfoundedEncoder):
        return given.encoder, given
    if hasattr(given, "fit") and not isinstance(given, nn.Module):
        raise SettingsError(
            "a cleaner has to be fitted before it is tried on edits, on other patients: "
            "clean = deconfound(...).fit(training); intervene(clean, cohort, ...)."
        )
    return load_encoder(given), None


def _design(clean: DeconfoundedEncoder | None, cohort: Cohort) -> Tensor | None:
    """Return the confounders of the films: an edit changes the picture and not the record."""
    if clean is None or not clean.needs_confounders:
        return None
    c, read = clean.encoding.encode(cohort.table)  # type: ignore[union-attr]
    if not read.all():
        raise CohortError(
            f"{(~read).sum():,} of {len(read):,} films have a level of the confounder that the "
            f"cleaner was never shown, or none, first in row {int((~read).argmax())}: leave them "
            "out, cohort.subset(...)."
        )
    return torch.from_numpy(np.asarray(c, dtype=np.float32))


def _pixels_of(encoder: Encoder, cohort: Cohort) -> Files | Pixels:
    has_stack = cohort.embeddings is not None and cohort.embeddings.ndim > 2
    if cohort.roles["image"] is None and not has_stack:
        raise CohortError(
            "this cohort has no images, and an intervention edits pixels: name the column of "
            "paths, Cohort.read(..., image='path'), or pass a stack of images to "
            f"Cohort.from_arrays. Columns: {listing(cohort.table.columns, 24)}."
        )
    if encoder.preprocess is None:
        raise CohortError(
            f"{encoder.name!r} has no preprocess, so an edit cannot stand between the image and "
            "its tensor: load_encoder(module, preprocess=deconf.encoders.Preprocess(height=224, "
            "width=224))."
        )
    images = inputs_of(encoder, cohort)
    if isinstance(images, Tensor):
        raise CohortError(
            f"this cohort holds arrays of shape {tuple(images.shape)}, tensors as the module takes "
            "them: edits are made on pixels of 0 to 255, grey (n, h, w), or on image files."
        )
    return images
