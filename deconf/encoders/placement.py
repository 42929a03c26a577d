"""Where a model runs and how exactly: device, precision, memory layout, batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from deconf.errors import SettingsError, listing

BATCH = 256
BATCH_ON_CPU = 32  # images of 224 x 224: larger ones leave the cache and are not faster
PRECISIONS = ("float32", "float64", "bfloat16", "float16")


def chosen_device(asked: str) -> torch.device:
    """Return the device by name; "auto" is the first of cuda, mps and cpu that is there.

    Raises
    ------
    SettingsError
        No such device here.
    """
    here = ["cpu"]
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    if torch.cuda.is_available():
        here.insert(0, "cuda")
    if asked == "auto":
        return torch.device(here[0])
    try:
        device = torch.device(asked)
    except (RuntimeError, TypeError) as error:
        raise SettingsError(f"device is {asked!r}: expected 'auto', 'cpu' or 'cuda'.") from error
    is_missing = device.type in ("cuda", "mps") and device.type not in here
    if is_missing or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise SettingsError(
            f"device is {asked!r}, and torch finds none here (found: {listing(here)}). "
            "Use device='auto', or install a torch built for it."
        )
    return device


def dtype_named(precision: str) -> torch.dtype:
    """Return a torch dtype by name.

    Raises
    ------
    SettingsError
        Not one of the four floating types.
    """
    if precision not in PRECISIONS:
        raise SettingsError(
            f"precision is 'auto' or one of {listing(PRECISIONS)}, not {precision!r}."
        )
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def chosen_precision(asked: str, module: nn.Module, device: torch.device) -> torch.dtype:
    """Return the precision a named model computes in.

    "auto" is float32, and bfloat16 only on a GPU that computes it natively and for nets without
    batch norm.  bfloat16 keeps 8 bits, and how much of the embedding that costs is a matter of
    the net: on 64 chest films the rounding moved an untrained ViT-Tiny by 0.02 of a standard
    deviation over films, an untrained ResNet-18 by 0.03, and an ImageNet MobileNetV2 by 0.24
    (root mean square, CPU); float16, which keeps 11 bits but overflows sooner, by 0.01 or less.
    """
    if asked != "auto":
        return dtype_named(asked)
    is_native = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
    has_batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    return torch.bfloat16 if is_native and not has_batch_norm else torch.float32


def prefers_channels_last(module: nn.Module) -> bool:
    """Whether the net is convolutional: then channels-last memory is faster, with equal numbers.

    On one core in float32, MobileNetV2 1.5 times and ResNet-18 1.3 times; a ViT, whose one
    convolution cuts the patches, not at all.
    """
    return sum(isinstance(part, nn.Conv2d) for part in module.modules()) > 1


def batch_for(device: torch.device, preprocess: Any) -> int:
    """Return how many inputs go through at a time: fewer where they are images, on a CPU."""
    return BATCH_ON_CPU if preprocess is not None and device.type == "cpu" else BATCH
