"""From an image to the tensor an encoder takes: resize, channels, mean and deviation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from deconf.errors import CohortError, SettingsError, did_you_mean, listing

if TYPE_CHECKING:
    from PIL.Image import Image

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the input of an encoder: ``preprocess(image) -> (c, h, w)`` float32.

    Pixels run from 0 to 255, are resized in that range, divided by 255, centred and scaled.

    Parameters
    ----------
    height, width : int
        Of the tensor, in pixels.
    mean, std : numbers or one for each channel
        In the range 0 to 1, as ImageNet's (0.485, 0.456, 0.406).  The default gives -1 to 1.
    resize : "squash" or "crop"
        "squash" keeps the whole image and changes its proportions, so that markers and borders at
        the edge stay seen.  "crop" scales the shorter side and keeps the centre.
    crop_share : float in (0, 1]
        Share of the resized image that is kept, around its centre.
    interpolation : str
        As Pillow names it; shrinking always averages (Pillow's antialiasing).
    channels : 3 or 1
        Grey is repeated; colour becomes grey by ITU-R 601 luma.

    Raises
    ------
    SettingsError
        A value is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> Preprocess(height=2, width=2, channels=1)(np.array([[0, 255], [255, 0]], dtype=np.uint8))
    tensor([[[-1.,  1.],
             [ 1., -1.]]])
    """

    height: int = 224
    width: int = 224
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    resize: Literal["squash", "crop"] = "squash"
    crop_share: float = 1.0
    interpolation: str = "bicubic"
    channels: Literal[1, 3] = 3

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingsError(f"{name} is {value!r}: expected pixels, say 224.")
        if self.channels not in (1, 3):
            raise SettingsError(f"channels is {self.channels!r}: expected 1 (grey) or 3 (colour).")
        if self.resize not in ("squash", "crop"):
            raise SettingsError(f"resize is {self.resize!r}: expected 'squash' or 'crop'.")
        if self.interpolation not in INTERPOLATIONS:
            raise SettingsError(
                f"interpolation is {self.interpolation!r}: expected one of "
                f"{listing(INTERPOLATIONS)}.{did_you_mean(self.interpolation, INTERPOLATIONS)}"
            )
        if not _is_number(self.crop_share) or not 0 < self.crop_share <= 1:
            raise SettingsError(f"crop_share is {self.crop_share!r}: expected a share in (0, 1].")
        for name in ("mean", "std"):
            object.__setattr__(self, name, self._per_channel(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise SettingsError(f"std is {self.std}: expected numbers above 0.")

    def _per_channel(self, name: str, given: Any) -> tuple[float, ...]:
        values = (given,) if _is_number(given) else tuple(given)
        if len(values) not in (1, self.channels):
            raise SettingsError(
                f"{name} has {len(values)} numbers and channels is {self.channels}: give one for "
                "each channel, or one for all."
            )
        for value in values:
            if not _is_number(value) or not 0 <= value <= 1:
                raise SettingsError(
                    f"{name} holds {value!r}: expected numbers from 0 to 1 (divide by 255 what is "
                    "in units of 8-bit pixels)."
                )
        return tuple(float(v) for v in values) * (self.channels // len(values))

    def __call__(self, image: Image | np.ndarray) -> Tensor:
        """Return the (channels, height, width) float32 tensor of one image.

        Parameters
        ----------
        image : PIL image, or array (h, w) or (h, w, 3)
            uint8, or numbers from 0 to 255 for deeper films (mode "F"), which are not rounded.

        Raises
        ------
        CohortError
            Pixels outside 0 to 255, an empty image, or one of another shape.
        """
        from PIL import Image as pillow

        picture = as_picture(image)
        if self.channels == 1 and picture.mode == "RGB":
            picture = picture.convert("L")
        size = self._scaled(*picture.size)
        if picture.size != size:
            way = pillow.Resampling[self.interpolation.upper()]
            picture = picture.resize(size, way)
        left, top = self._corner(*size)
        if size != (self.width, self.height):
            picture = picture.crop((left, top, left + self.width, top + self.height))
        pixels = np.array(picture, dtype=np.float32)
        if picture.mode == "F":
            np.clip(pixels, 0, 255, out=pixels)  # bicubic and lanczos overshoot; 8 bits clip too
        tensor = torch.from_numpy(pixels).div_(255)
        tensor = tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor[None]
        # The mean has a row for each channel, so that grey is repeated here.
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return tensor.sub(mean).div_(std).contiguous()

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return what is kept of an image of this size, in its pixels: left, top, right, bottom.

        Examples
        --------
        >>> Preprocess(height=64, width=64, resize="crop").seen(width=200, height=100)
        (50.0, 0.0, 150.0, 100.0)
        """
        across, down = self._scaled(width, height)
        left, top = self._corner(across, down)
        x, y = width / across, height / down
        return left * x, top * y, (left + self.width) * x, (top + self.height) * y

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the size (width, height) to which an image is scaled before its centre is kept.

        The same arithmetic as timm's evaluation transform, to the pixel.
        """
        across = math.floor(self.width / self.crop_share)
        down = math.floor(self.height / self.crop_share)
        if self.resize == "squash":
            return across, down
        if across == down:
            short = min(width, height)
            return int(across * width / short), int(across * height / short)
        ratio = min(width / across, height / down)
        return round(width / ratio), round(height / ratio)

    def _corner(self, across: int, down: int) -> tuple[int, int]:
        return round((across - self.width) / 2.0), round((down - self.height) / 2.0)

    def spec(self) -> dict[str, Any]:
        """Return the settings as JSON types, as cards and recipes hold them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Preprocess:
        """Return the preprocess of which this is the spec; absent keys keep their defaults.

        Raises
        ------
        SettingsError
            A key is unknown, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for key in spec:
            if key not in known:
                raise SettingsError(
                    f"preprocess has no setting {key!r}.{did_you_mean(key, known)} "
                    f"Known: {listing(known)}."
                )
        return cls(**spec)

    @classmethod
    def from_timm(cls, cfg: Mapping[str, Any]) -> Preprocess:
        """Return what a timm model was trained with, from its ``pretrained_cfg``.

        Raises
        ------
        SettingsError
            The model wants padded borders, which are not made here.
        """
        modes: dict[str, Literal["crop", "squash"]] = {"center": "crop", "squash": "squash"}
        mode = cfg.get("crop_mode") or "center"
        if mode not in modes:
            raise SettingsError(
                f"this model was trained with crop_mode {mode!r}, which is not made here: pass "
                "preprocess=Preprocess(resize='squash', ...) and say so."
            )
        channels, height, width = cfg["input_size"]
        return cls(
            height=height,
            width=width,
            mean=tuple(cfg["mean"]),
            std=tuple(cfg["std"]),
            resize=modes[mode],
            crop_share=cfg.get("crop_pct") or 0.875,
            interpolation=cfg.get("interpolation") or "bilinear",
            channels=channels,
        )


def as_picture(image: Image | np.ndarray) -> Image:
    """Return an image as Pillow's "L", "RGB" or "F", pixels from 0 to 255.

    Raises
    ------
    CohortError
        As `Preprocess.__call__`.
    """
    from PIL import Image as pillow

    if isinstance(image, pillow.Image):
        picture = image
    else:
        array = np.asarray(image)
        is_colour = array.ndim == 3 and array.shape[2] == 3
        if not (array.ndim == 2 or is_colour) or array.size == 0:
            raise CohortError(
                f"an image has the shape {array.shape}: expected (height, width) or "
                "(height, width, 3)."
            )
        if array.dtype != np.uint8:
            if is_colour or not np.issubdtype(array.dtype, np.number):
                raise CohortError(
                    f"a colour image holds {array.dtype}: expected uint8, from 0 to 255."
                    if is_colour
                    else f"an image holds {array.dtype}: expected pixels from 0 to 255."
                )
            array = array.astype(np.float32)
        picture = pillow.fromarray(array)
    if picture.mode.startswith("I"):  # whole numbers of 16 or 32 bits
        picture = picture.convert("F")
    if picture.mode == "F":
        _require_range(picture)
    elif picture.mode in ("1", "LA", "La"):
        picture = picture.convert("L")
    elif picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    return picture


def as_preprocess(given: Any) -> Any:
    """Return a preprocess from what a user passes: itself, a function, or the mapping of a spec.

    Raises
    ------
    SettingsError
    """
    if isinstance(given, Mapping):
        return Preprocess.from_spec(given)
    if given is not None and not callable(given):
        raise SettingsError(
            f"preprocess is {given!r}: expected deconf.encoders.Preprocess(...) or a function of "
            "a PIL image."
        )
    return given


def described(preprocess: Any) -> Any:
    """Return a preprocess as JSON types; a function by its code and what it closes over."""
    if preprocess is None or isinstance(preprocess, Preprocess):
        return None if preprocess is None else preprocess.spec()
    if not hasattr(preprocess, "__code__"):
        return repr(preprocess)
    code = preprocess.__code__
    closed = [cell.cell_contents for cell in preprocess.__closure__ or ()]
    told = repr((code.co_code, code.co_consts, code.co_names, preprocess.__defaults__, closed))
    return f"{preprocess.__qualname__} {hashlib.sha256(told.encode()).hexdigest()[:16]}"


def _require_range(picture: Image) -> None:
    low, high = (float(v) for v in picture.getextrema())  # type: ignore[arg-type]
    if not (low >= -0.5 and high <= 255.5):  # also nan
        raise CohortError(
            f"pixels run from {low:g} to {high:g}: expected 0 to 255. Scale them by the range of "
            "the film, as reading it from its file does."
        )


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return is_real and math.isfinite(value)
