"""What an encoder is: images in, embeddings out, with a width and a digest."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, SettingsError, did_you_mean, listing
from deconf.registry import Registry

encoders = Registry("encoder")
BATCH = 256


class Encoder(nn.Module):
    """Images to embeddings: `embed` for cohorts and arrays, `forward` for tensors.

    Attributes
    ----------
    width : int or None
        Columns of the embedding; None until the first batch for a module that does not tell.
    preprocess : callable or None
        Applied to images read from files.
    reads : int or None
        Axes of a batch the module was last given, 4 for images; None before the first.
    """

    def __init__(self, module: nn.Module | None) -> None:
        super().__init__()
        self.module = module
        self.width: int | None = _told_width(module)
        self.preprocess: Any = None
        self.reads: int | None = None

    @property
    def is_stored(self) -> bool:
        """Whether embeddings are taken as they are."""
        return self.module is None

    @property
    def digest(self) -> str:
        """Sha256 of the weights; "stored" where there are none."""
        if self.module is None:
            return "stored"
        sha = hashlib.sha256(type(self.module).__qualname__.encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            sha.update(name.encode())
            sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return sha.hexdigest()

    def forward(self, images: Tensor) -> Float[Tensor, "n d"]:
        """Embed a batch of tensors; gradients flow."""
        if self.module is None:
            return images
        out = self.module(images)
        if not isinstance(out, Tensor) or out.ndim != 2:
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise SettingsError(
                f"the encoder returns {shape}, not (n, d): pool it, or take its CLS token, in a "
                "module of your own."
            )
        self.width, self.reads = int(out.shape[1]), images.ndim
        return out

    def embed(self, what: Cohort | Any) -> Float[np.ndarray, "n d"]:
        """Embed a cohort, a tensor or an array in batches, in evaluation mode, without gradients.

        Raises
        ------
        CohortError
            The cohort holds neither embeddings nor image tensors, or the encoder returns nan or
            infinity for some of them.
        """
        x = self.inputs(what)
        if self.module is None:
            if x.ndim != 2:
                raise CohortError(
                    f"'stored' means embeddings (n, d); this cohort holds arrays of shape "
                    f"{tuple(x.shape)}. Pass the encoder that embeds them."
                )
            return x.numpy().astype(np.float32, copy=False)
        # One by one: .train() on the whole would also wake the parts that were frozen on purpose.
        modes = [(part, part.training) for part in self.module.modules()]
        self.module.eval()
        try:
            with torch.inference_mode():
                parts = [
                    self(self._placed(x[i : i + BATCH])).float().cpu() for i in _starts(len(x))
                ]
        finally:
            for part, was_training in modes:
                part.training = was_training
        array: np.ndarray = torch.cat(parts).numpy()
        bad = ~np.isfinite(array).all(axis=1)
        if bad.any():
            raise CohortError(
                f"the encoder returns nan or infinity for {bad.sum():,} of {len(array):,} images, "
                f"first in row {int(bad.argmax())} (counting from 0). Look at that image, or run "
                "the encoder in float32."
            )
        return array

    def _placed(self, x: Tensor) -> Tensor:
        """Return a batch where the module lives and in its precision, as images from disk are."""
        first = next(self.module.parameters(), None) if self.module is not None else None
        if first is None:
            return x
        return x.to(first.device, first.dtype if first.is_floating_point() else x.dtype)

    @staticmethod
    def inputs(what: Cohort | Any) -> Tensor:
        """Return what the encoder reads, as one tensor."""
        if isinstance(what, Cohort):
            if what.embeddings is None:
                raise CohortError(
                    "this cohort holds neither embeddings nor image tensors. Pass embedding= to "
                    "Cohort.read, or an array to Cohort.from_arrays."
                )
            what = what.embeddings
        return what if isinstance(what, Tensor) else torch.tensor(np.asarray(what))


@encoders.register("stored", "embeddings already on disk, taken as they are")
def stored() -> Encoder:
    """Return the encoder that takes a cohort's embeddings as they are."""
    return Encoder(None)


def load_encoder(
    name: str | nn.Module, *, weights: Any = None, device: str = "auto", precision: str = "auto"
) -> Encoder:
    """Return an encoder from a name or a module.

    Parameters
    ----------
    name : "stored" or torch module
        A module must map a batch of tensors to (n, d).
    weights : optional
        File of weights; neither "stored" nor a module takes one.
    device : str
        "auto" leaves a module where it is.
    precision : str
        "auto" leaves a module as it is; otherwise a torch dtype by name, as "bfloat16".

    Raises
    ------
    SettingsError
        The name is unknown, or names a family this version cannot load; or weights or precision
        do not go with it.
    """
    if isinstance(name, Encoder):
        return name
    if isinstance(name, nn.Module):
        if weights is not None:
            raise SettingsError("weights= goes with a name; load them into the module yourself.")
        module = name if device == "auto" else name.to(device)
        return Encoder(module if precision == "auto" else module.to(_dtype(precision)))
    if isinstance(name, str) and name in encoders:
        if weights is not None:
            raise SettingsError(
                f"{name!r} takes no weights=: nothing is encoded. Pass the module that holds them."
            )
        return encoders[name]()  # type: ignore[no-any-return]
    raise SettingsError(
        f"no encoder is called {name!r}.{did_you_mean(str(name), encoders)} This version takes "
        "'stored' (embeddings on disk) and any torch module that maps tensors to (n, d)."
    )


def _starts(n: int) -> range:
    return range(0, n, BATCH)


def _dtype(precision: str) -> torch.dtype:
    known = ("float32", "float64", "bfloat16", "float16")
    if precision not in known:
        raise SettingsError(f"precision is 'auto' or one of {listing(known)}, not {precision!r}.")
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def _told_width(module: nn.Module | None) -> int | None:
    told = getattr(module, "num_features", None) or getattr(module, "out_features", None)
    return told if isinstance(told, int) else None
