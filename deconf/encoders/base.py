"""What an encoder is: images in, embeddings out, with a width, a digest and a recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deconf.cohort.cohort import Cohort
from deconf.encoders.inputs import Files, Pixels, inputs_of
from deconf.encoders.placement import (
    BATCH,
    batch_for,
    chosen_device,
    chosen_precision,
    dtype_named,
    prefers_channels_last,
)
from deconf.encoders.preprocess import as_preprocess, described
from deconf.errors import CohortError, SettingsError, did_you_mean
from deconf.registry import Registry

__all__ = ["BATCH", "Encoder", "encoders", "load_encoder"]

encoders = Registry("encoder")


class Encoder(nn.Module):
    """Images to embeddings: `embed` for cohorts, files and arrays, `forward` for tensors.

    Made by `load_encoder`.

    Attributes
    ----------
    module : nn.Module or None
        None takes embeddings as they are.
    name : str
        As `load_encoder` takes it; for a module, the name of its class.
    preprocess : Preprocess or callable or None
        Makes a tensor (c, h, w) of a PIL image.
    width : int or None
        Columns of the embedding; None until the first batch for a module that does not tell.
    reads : int or None
        Axes of a batch the module was last given, 4 for images; None before the first.
    batch : int
        Inputs that go through at a time.
    line : str
        What to type to load it again.
    tuned_from : str
        Digest of the encoder it was trained from (`deconf.tuning`); empty for any other.
    origin : tuple of Encoder
        That encoder, where it is at hand.
    """

    def __init__(
        self,
        module: nn.Module | None,
        *,
        name: str | None = None,
        preprocess: Callable[[Any], Tensor] | None = None,
        line: str = "load_encoder(module)",
    ) -> None:
        super().__init__()
        self.module = module
        self.name = name or ("stored" if module is None else type(module).__qualname__)
        self.preprocess = preprocess
        self.width: int | None = _told_width(module)
        self.reads: int | None = None
        self.line = line
        self.batch = batch_for(torch.device(self.device), preprocess)
        self.tuned_from = ""
        self.origin: tuple[Encoder, ...] = ()  # a tuple, so that it is no part of this module
        self._autocast: torch.dtype | None = None
        self._channels_last = False

    @property
    def is_stored(self) -> bool:
        """Whether embeddings are taken as they are."""
        return self.module is None

    @property
    def device(self) -> str:
        """Where the module is."""
        first = self._first()
        return "cpu" if first is None else str(first.device)

    @property
    def precision(self) -> str:
        """The type the module computes in, by torch's name."""
        if self._autocast is not None:
            return str(self._autocast).removeprefix("torch.")
        first = self._first()
        return "float32" if first is None else str(first.dtype).removeprefix("torch.")

    @property
    def digest(self) -> str:
        """Sha256 of the weights and of how the net is built; "stored" where there is none."""
        if self.module is None:
            return "stored"
        sha = hashlib.sha256(type(self.module).__qualname__.encode())
        if built := getattr(self.module, "built", None):  # padding changes the numbers, no weight
            sha.update(json.dumps(built, sort_keys=True).encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            sha.update(name.encode())
            sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return sha.hexdigest()

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides the numbers, as JSON types: two encoders of one recipe agree."""
        return {
            "name": self.name,
            "digest": self.digest,
            "preprocess": described(self.preprocess),
            "precision": self.precision,
            "device": self.device.partition(":")[0],
        }

    def __repr__(self) -> str:
        """Return one line: name, width, precision and device."""
        if self.is_stored:
            return "Encoder('stored')"
        width = f"width {self.width}" if self.width else "width not known yet"
        return f"Encoder({self.name!r}, {width}, {self.precision} on {self.device})"

    def forward(self, images: Tensor) -> Float[Tensor, "n d"]:
        """Embed a batch of tensors; gradients flow."""
        if self.module is None:
            return images
        if self._autocast is None:
            out = self.module(images)
        else:
            with torch.autocast(images.device.type, self._autocast):
                out = self.module(images).float()
        if not isinstance(out, Tensor) or out.ndim != 2:
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise SettingsError(
                f"the encoder returns {shape}, not (n, d): pool it, or take its CLS token, in a "
                "module of your own."
            )
        self.width, self.reads = int(out.shape[1]), images.ndim
        return out

    def encode(self, batch: Tensor) -> Float[np.ndarray, "n d"]:
        """Embed one batch in evaluation mode, without gradients, as float32 in numpy."""
        with self._evaluating(), torch.inference_mode():
            array: np.ndarray = self(self._placed(batch)).float().cpu().numpy()
        return array

    def embed(
        self,
        what: Cohort | Any,
        *,
        on_error: str = "raise",
        workers: int | None = None,
        cache: str | Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Float[np.ndarray, "n d"]:
        """Embed images in batches, in evaluation mode, without gradients; one row for each.

        Parameters
        ----------
        what : Cohort, list or array
            A cohort of image files or of arrays; a list of paths or of PIL images; raw pixels in
            uint8, (n, h, w) or (n, h, w, 3), where the encoder has a preprocess; or tensors as
            `forward` takes them.
        on_error : "raise" or "skip"
            What an unreadable file does: "raise" stops at the first, "skip" reads on and names
            all of them at the end.  A row is never left out or made up.
        workers : int, optional
            Threads that read files.
        cache : folder, optional
            Where embeddings of files are kept and looked up by content and `recipe`.
        progress : callable, optional
            Told ``(done, total)``.

        Raises
        ------
        CohortError
            There is nothing in it that this encoder reads, or the encoder returns nan or infinity
            for some of it.
        ReadError
            A file is missing or damaged.
        """
        x = inputs_of(self, what)
        if isinstance(x, Files):
            return self._embed_files(
                x, on_error=on_error, workers=workers, cache=cache, progress=progress
            )
        if self.module is None and isinstance(x, Tensor):
            if x.ndim != 2:
                raise CohortError(
                    f"'stored' means embeddings (n, d); this cohort holds arrays of shape "
                    f"{tuple(x.shape)}. Pass the encoder that embeds them."
                )
            return x.numpy().astype(np.float32, copy=False)
        parts = []
        total = len(x.images) if isinstance(x, Pixels) else len(x)
        with self._evaluating():
            for start in range(0, total, self.batch):
                parts.append(self.encode(self._batch(x, start)))
                if progress is not None:
                    progress(min(start + self.batch, total), total)
        if not parts:
            raise CohortError("there is nothing to embed: no image at all.")
        array = np.concatenate(parts)
        bad = ~np.isfinite(array).all(axis=1)
        if bad.any():
            raise CohortError(
                f"the encoder returns nan or infinity for {bad.sum():,} of {len(array):,} images, "
                f"first in row {int(bad.argmax())} (counting from 0). Look at that image, or run "
                "the encoder in float32."
            )
        return array

    def _batch(self, x: Pixels | Tensor, start: int) -> Tensor:
        """Return some of the inputs as one tensor that `forward` takes."""
        if isinstance(x, Tensor):
            return x[start : start + self.batch]
        images = x.images[start : start + self.batch]
        return torch.stack([self.preprocess(image) for image in images])  # type: ignore[misc]

    def _embed_files(self, files: Files, *, on_error: str, **how: Any) -> np.ndarray:
        from deconf.encoders.embedding import embed_files

        done = embed_files(self, files.paths, on_error=on_error, **how)
        if done.unread:
            first = done.unread[0]
            raise CohortError(
                f"{len(done.unread):,} of {len(files.paths):,} files cannot be read, first "
                f"{str(first.path)!r}: {first.why} Every row needs its embedding: write a store "
                "with `deconf embed`, which lists them, and read it with Cohort.read(..., "
                'embedding=STORE, on_missing="drop"), which counts them.'
            )
        vectors: np.ndarray = done.vectors
        return vectors

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Hold every part in evaluation mode, and bring each back to its own."""
        # One by one: .train() on the whole would also wake the parts that were frozen on purpose.
        training = [part for part in self.modules() if part.training]
        if training and self.module is not None:
            self.module.eval()
        try:
            yield
        finally:
            for part in training:
                part.training = True

    def _first(self) -> Tensor | None:
        return None if self.module is None else next(self.module.parameters(), None)

    def _placed(self, x: Tensor) -> Tensor:
        """Return a batch where the module lives and in its precision, as images from disk are."""
        first = self._first()
        if first is None:
            return x
        x = x.to(first.device, first.dtype if first.is_floating_point() else x.dtype)
        if self._channels_last and x.ndim == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x


@encoders.register("stored", "embeddings already on disk, taken as they are")
def stored() -> Encoder:
    """Return the encoder that takes a cohort's embeddings as they are."""
    return Encoder(None, line='load_encoder("stored")')


def load_encoder(
    name: str | nn.Module,
    *,
    weights: Any = None,
    device: str = "auto",
    precision: str = "auto",
    pad_type: str | None = None,
    preprocess: Any = None,
) -> Encoder:
    """Return an encoder from a name or a module.  Nothing is downloaded.

    Parameters
    ----------
    name : str or torch module
        ``"timm:<architecture>"`` with ``weights=``; ``"zoo:<name>"``, a small model that comes
        with deconf; ``"stored"``, embeddings on disk; or a module that maps a batch of tensors to
        (n, d).
    weights : path or "random", optional
        A local .safetensors file for ``"timm:"``.  "random" is a seeded net without training, a
        baseline to compare with.
    device : str
        "auto" is the first of cuda, mps and cpu for a name, and leaves a module where it is.
    precision : str
        A torch dtype by name.  "auto" leaves a module as it is; for a name it is float32, and
        bfloat16 on GPUs that compute it natively for nets without batch norm.  On a CPU
        "bfloat16" is 1.7 times (MobileNetV2) to 3 times (ViT, ResNet) as fast as float32 and
        moves the embedding by 0.24, 0.02 and 0.03 of a standard deviation; see
        `deconf.encoders.placement.chosen_precision`.
    pad_type : str, optional
        Padding of the timm model, "same" for weights from TensorFlow.
    preprocess : Preprocess, callable or mapping, optional
        Instead of the one a name brings; a module that is to read images needs one.

    Raises
    ------
    SettingsError
        The name is unknown, or names a family this version cannot load; or weights, precision,
        padding or preprocess do not go with it.
    ReadError
        The weights are missing, damaged or altered.

    Examples
    --------
    >>> load_encoder(nn.Linear(4, 2))
    Encoder('Linear', width 2, float32 on cpu)
    """
    if isinstance(name, Encoder):
        return name
    preprocess = as_preprocess(preprocess)
    if isinstance(name, nn.Module):
        if weights is not None or pad_type is not None:
            what = "weights" if weights is not None else "pad_type"
            raise SettingsError(f"{what}= goes with a name; load them into the module yourself.")
        module = name if device == "auto" else name.to(chosen_device(device))
        module = module if precision == "auto" else module.to(dtype_named(precision))
        return Encoder(module, preprocess=preprocess)
    if isinstance(name, str) and name in encoders:
        if weights is not None or preprocess is not None or pad_type is not None:
            given = {"weights": weights, "preprocess": preprocess, "pad_type": pad_type}
            what = next(key for key, value in given.items() if value is not None)
            raise SettingsError(
                f"{name!r} takes no {what}=: nothing is encoded. Pass the module that holds them."
            )
        return encoders[name]()  # type: ignore[no-any-return]
    family, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
    options = {} if pad_type is None else {"pad_type": pad_type}
    if family == "timm":
        from deconf.encoders.hub import timm_line, timm_model

        line = timm_line(rest, weights, options, preprocess)
        module, preprocess = timm_model(
            rest, weights=weights, options=options, preprocess=preprocess
        )
    elif family == "zoo":
        from deconf.encoders.zoo import zoo_model

        if weights is not None or pad_type is not None:
            raise SettingsError(f"{name!r} brings its own weights and padding: leave yours out.")
        line = f"load_encoder({name!r})"
        module, preprocess = zoo_model(rest, preprocess=preprocess)
    else:
        raise _unknown(name)
    return _placed_encoder(module, str(name), preprocess, line, device, precision)


def _placed_encoder(
    module: nn.Module, name: str, preprocess: Any, line: str, device: str, precision: str
) -> Encoder:
    """Return a named model on its device, in its precision and memory layout."""
    place = chosen_device(device)
    dtype = chosen_precision(precision, module, place)
    is_mixed = dtype in (torch.bfloat16, torch.float16)  # weights stay float32, and so the digest
    module = module.to(place, torch.float32 if is_mixed else dtype)
    channels_last = prefers_channels_last(module)
    if channels_last:
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    encoder = Encoder(module, name=name, preprocess=preprocess, line=line)
    encoder._autocast = dtype if is_mixed else None
    encoder._channels_last = channels_last
    encoder.reads = 4
    return encoder


def _unknown(name: Any) -> SettingsError:
    if isinstance(name, str) and name.startswith(("hf:", "clip:")):
        family = name.partition(":")[0]
        return SettingsError(
            f"{name!r}: this version loads timm models, its own zoo and torch modules, and no "
            f"{family!r}. Load it yourself from a local folder and wrap it:\n"
            "    class Wrapped(torch.nn.Module):\n"
            "        def __init__(self, model): super().__init__(); self.model = model\n"
            "        def forward(self, x): return self.model(pixel_values=x)"
            ".last_hidden_state[:, 0]\n"
            "    load_encoder(Wrapped(model), preprocess=deconf.encoders.Preprocess(...))"
        )
    return SettingsError(
        f"no encoder is called {name!r}.{did_you_mean(str(name), encoders)} This version takes "
        "'timm:<architecture>', 'zoo:<name>', 'stored' (embeddings on disk) and any torch module "
        "that maps tensors to (n, d)."
    )


def _told_width(module: nn.Module | None) -> int | None:
    told = getattr(module, "num_features", None) or getattr(module, "out_features", None)
    return told if isinstance(told, int) else None
