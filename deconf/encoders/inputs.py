"""What an encoder is given: files to read, raw pixels, or tensors as its module takes them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from deconf.cohort.cohort import Cohort
from deconf.encoders.preprocess import Preprocess
from deconf.errors import CohortError

if TYPE_CHECKING:
    from deconf.encoders.base import Encoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """Images to be read, one for each row."""

    paths: Sequence[Path]


@dataclass(frozen=True)
class Pixels:
    """Images in memory, to be preprocessed one by one: PIL images or arrays of 0 to 255."""

    images: Sequence[Any] | np.ndarray


def inputs_of(encoder: Encoder, what: Any) -> Files | Pixels | Tensor:
    """Return what an encoder has to do with a cohort, a list of images or an array.

    Raises
    ------
    CohortError
        There is nothing in it that this encoder reads.
    """
    if isinstance(what, Cohort):
        if encodes_files(encoder, what):
            if what.embeddings is not None:
                logger.info(
                    "the cohort holds embeddings and images: %s embeds the images. 'stored' takes "
                    "the embeddings.",
                    encoder.name,
                )
            return Files(what.image_paths)
        return _tensor(encoder, _held(encoder, what))
    if isinstance(what, str | Path):
        raise CohortError(
            f"{str(what)!r} is one path: pass a list of image files, or a cohort, as "
            'Cohort.read("studies.csv", image="path").'
        )
    if isinstance(what, list | tuple) and what:
        are_files = all(isinstance(one, str | Path) for one in what)
        if are_files or all(_is_picture(one) for one in what):
            if encoder.preprocess is None:
                raise _without_preprocess(encoder)
            return Files([Path(one) for one in what]) if are_files else Pixels(what)
    return _tensor(encoder, what)


def encodes_files(encoder: Encoder, cohort: Cohort) -> bool:
    """Whether a cohort is embedded by reading its image files.

    A stack of images in memory goes before the files; embeddings do not: who names an encoder
    wants its embeddings, and those at hand may be of another.
    """
    if encoder.preprocess is None or cohort.roles["image"] is None:
        return False
    return cohort.embeddings is None or cohort.embeddings.ndim == 2


def as_embeddings(encoder: Encoder, what: Any) -> Tensor | None:
    """Return what are embeddings of this image encoder already, (n, d) float32, or None."""
    if encoder.reads in (None, 2) or (isinstance(what, Cohort) and encodes_files(encoder, what)):
        return None
    array = what.embeddings if isinstance(what, Cohort) else what
    if isinstance(array, list | tuple) and array and not isinstance(array[0], list | tuple):
        return None  # files or images
    if isinstance(array, list | tuple):
        array = np.asarray(array)
    if getattr(array, "ndim", None) != 2:
        return None
    return array.float() if isinstance(array, Tensor) else torch.tensor(array).float()


def _held(encoder: Encoder, cohort: Cohort) -> np.ndarray:
    """Return the embeddings or the stack of images of a cohort."""
    if cohort.embeddings is not None:
        return cohort.embeddings
    if cohort.roles["image"] is None:
        raise CohortError(
            "this cohort holds neither embeddings nor image tensors. Pass embedding= to "
            'Cohort.read, or an array to Cohort.from_arrays; or name the image files, image="path".'
        )
    raise _without_preprocess(encoder)


def _without_preprocess(encoder: Encoder) -> CohortError:
    if encoder.is_stored:
        return CohortError(
            "'stored' takes embeddings, and these are images. Name the encoder that embeds them, "
            'as load_encoder("timm:mobilenetv2_100", weights="file.safetensors"), or bring their '
            "embeddings: pass embedding= to Cohort.read."
        )
    return CohortError(
        "these are images, and this encoder has no preprocess, which makes a tensor of an image: "
        "load_encoder(module, preprocess=deconf.encoders.Preprocess(height=224, width=224))."
    )


def _tensor(encoder: Encoder, what: Any) -> Tensor | Pixels:
    x = what if isinstance(what, Tensor) else torch.tensor(np.asarray(what))
    if encoder.preprocess is None:
        return x
    if x.dtype == torch.uint8:
        if x.ndim != 3 and not (x.ndim == 4 and x.shape[3] == 3):
            raise CohortError(
                f"uint8 is taken for raw pixels, and these have the shape {tuple(x.shape)}: "
                "expected (n, height, width) or (n, height, width, 3)."
            )
        return Pixels(x.cpu().numpy())
    if not isinstance(encoder.preprocess, Preprocess):
        return x
    channels = encoder.preprocess.channels
    is_colour = x.ndim == 4 and x.shape[3] == 3 != x.shape[1]
    if x.ndim == 3 or is_colour:  # a cohort keeps a stack of images as float32
        low, high = float(x.min()), float(x.max())
        is_8_bit = bool((x == x.round()).all())  # resized as 8 bits then, to the same numbers
        if not (low >= 0 and high <= 255) or 0 < high <= 1 or (is_colour and not is_8_bit):
            kind, expected = "grey images (n, height, width)", "pixels"
            if is_colour:
                kind, expected = "colour images (n, height, width, 3)", "whole numbers"
            raise CohortError(
                f"{kind} run from {low:g} to {high:g}: expected {expected} from 0 to 255."
            )
        return Pixels(x.to(torch.uint8 if is_8_bit else torch.float32).cpu().numpy())
    if x.ndim != 4 or x.shape[1] != channels:
        raise CohortError(
            f"{encoder.name!r} reads images, and this is an array of shape {tuple(x.shape)}: "
            "expected raw pixels in uint8, (n, height, width) or (n, height, width, 3), or floats "
            f"(n, {channels}, height, width) as preprocess returns them. Embeddings at hand go "
            "with 'stored'."
        )
    return x


def _is_picture(one: Any) -> bool:
    is_array = isinstance(one, np.ndarray) and one.dtype == np.uint8 and one.ndim in (2, 3)
    return is_array or hasattr(one, "getbands")  # a PIL image, without importing PIL
