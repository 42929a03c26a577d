"""Encoders of timm: any architecture by name, with weights from a local file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deconf.encoders.preprocess import Preprocess
from deconf.errors import ReadError, SettingsError, did_you_mean, listing

logger = logging.getLogger(__name__)
PREFIXES = ("module.", "model.")  # of DataParallel and of Lightning
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar")
HEADS = ("classifier.", "fc.", "head.", "head_dist.")  # not used: the embedding is before them

# Telling keys of other families, for a message: the first that is found in the file names it.
FAMILIES = {
    "layer1.0.conv1.weight": "a ResNet",
    "blocks.0.attn.qkv.weight": "a vision transformer of timm",
    "blocks.0.0.conv_dw.weight": "a MobileNet or EfficientNet of timm",
    "stages.0.blocks.0.conv_dw.weight": "a ConvNeXt of timm",
    "features.denseblock1.denselayer1.conv1.weight": "a DenseNet",
    "features.0.0.weight": "a torchvision model, whose names differ from timm's",
    "encoder.layer.0.attention.attention.query.weight": "a Hugging Face transformer",
    "vision_model.embeddings.class_embedding": "a CLIP of Hugging Face",
    "visual.conv1.weight": "a CLIP of OpenAI",
}


class TimmFeatures(nn.Module):
    """Images (n, c, h, w) to the pooled features (n, d) a timm model gives its classifier.

    Attributes
    ----------
    built : dict
        Architecture and options: what the weights do not tell.
    """

    def __init__(self, model: nn.Module, built: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.built = dict(built)
        self.num_features = 0

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled features."""
        features = self.model.forward_features(images)  # type: ignore[operator]
        out: Tensor = self.model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return out


def timm_model(
    architecture: str,
    *,
    weights: str | Path | None,
    options: Mapping[str, Any] | None = None,
    preprocess: Any = None,
) -> tuple[TimmFeatures, Any]:
    """Return a timm model in evaluation mode, and its preprocess.

    Parameters
    ----------
    architecture : str
        As timm calls it, with or without the tag of a set of weights.
    weights : path or "random"
        A .safetensors file with the names of timm.
    options : mapping, optional
        Handed to ``timm.create_model``, as ``pad_type``.
    preprocess : Preprocess or callable, optional
        Instead of the one the architecture was trained with.

    Raises
    ------
    ReadError
        The file is missing, damaged, or does not hold the weights of this architecture.
    SettingsError
        An unknown architecture or option, no weights, or a file that is a pickle.
    """
    model = _created(architecture, dict(options or {}), preprocess)
    if weights is None:
        raise SettingsError(
            f"'timm:{architecture}' needs weights=: nothing is downloaded. Pass a local file, "
            f'load_encoder("timm:{architecture}", weights="{architecture}.safetensors"), or '
            'weights="random" for an untrained net as a baseline.'
        )
    if str(weights) != "random":
        load_weights(model, Path(weights), f"timm:{architecture}")
    if preprocess is None:
        preprocess = Preprocess.from_timm(model.pretrained_cfg)
    built = {"architecture": architecture.partition(".")[0], "options": dict(options or {})}
    wrapped = TimmFeatures(model, built).eval()
    wrapped.num_features = _width(wrapped, preprocess, f"timm:{architecture}")
    return wrapped, preprocess


def timm_line(architecture: str, weights: Any, options: Mapping[str, Any], preprocess: Any) -> str:
    """Return what to type to load a model again; of the file the name alone, not its folder."""
    said = [f'"timm:{architecture}"']
    if weights is not None:
        said.append(f'weights="{Path(weights).name}"')
    said += [f'{key}="{value}"' for key, value in options.items()]
    if isinstance(preprocess, Preprocess):
        spec, usual = preprocess.spec(), Preprocess(channels=preprocess.channels).spec()
        own = [f"{k}={v!r}" for k, v in spec.items() if v != usual[k] or (k, v) == ("channels", 1)]
        said.append(f"preprocess=deconf.encoders.Preprocess({', '.join(own)})")
    elif preprocess is not None:
        said.append("preprocess=...")
    return f"load_encoder({', '.join(said)})"


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load a .safetensors file into a model; every weight must be there and fit.

    Raises
    ------
    ReadError, SettingsError
        As `timm_model`.
    """
    own = model.state_dict()
    found = _unwrapped(_read(path), own, path)
    cfg = getattr(model, "pretrained_cfg", {})
    told = cfg.get("classifier") or ()
    heads = tuple(f"{h}." for h in ((told,) if isinstance(told, str) else told)) + HEADS
    missing = [k for k in own if k not in found and not k.endswith("num_batches_tracked")]
    left = [k for k in found if k not in own]
    unexpected = [k for k in left if not k.startswith(heads)]
    wrong = [k for k in own if k in found and found[k].shape != own[k].shape]
    if missing or unexpected or wrong:
        raise ReadError(_mismatch(path, name, own, found, missing, unexpected, wrong))
    if left:
        logger.info("%s: the head is not used (%s)", path.name, listing(left, 4))
    tensors = {k: v.to(own[k].dtype) for k, v in found.items() if k in own}
    model.load_state_dict(tensors, strict=False)


def _created(architecture: str, options: dict[str, Any], preprocess: Any) -> Any:
    import timm

    base = architecture.partition(".")[0]
    if not timm.is_model(base):
        known = timm.list_models()
        raise SettingsError(
            f"timm has no architecture {architecture!r}.{did_you_mean(base, known)} "
            f"timm.list_models() lists all {len(known):,}."
        )
    if isinstance(preprocess, Preprocess) and preprocess.channels != 3:
        options = {"in_chans": preprocess.channels} | options
    try:
        # A fork, so that a random net is the same each time and the caller's generator is left.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return timm.create_model(architecture, pretrained=False, num_classes=0, **options)
    except (TypeError, RuntimeError, ValueError) as error:
        told = f" with {options}" if options else ""
        raise SettingsError(f"timm does not build {architecture!r}{told}: {error}") from error


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix.lower() in PICKLES:
        target = f"{path.stem}.safetensors"
        raise SettingsError(
            f"{str(path)!r} is a pickle, which may run code when it is opened and is not loaded "
            "here. If you trust it, convert it once:\n"
            f'    weights = torch.load("{path.name}", map_location="cpu", weights_only=True)\n'
            "    safetensors.torch.save_file({k: v.contiguous() for k, v in weights.items()}, "
            f'"{target}")'
        )
    if path.is_dir():
        inside = sorted(p.name for p in path.glob("*.safetensors"))
        held = f"it holds {listing(inside)}" if inside else "and holds no .safetensors file"
        raise ReadError(f"{str(path)!r} is a folder, {held}: pass the file.")
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*.safetensors")]
        raise ReadError(
            f"there is no file {str(path)!r}.{did_you_mean(path.name, beside)} Nothing is "
            "downloaded: pass a local .safetensors file."
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ReadError(
            f"{str(path)!r} is no whole .safetensors file ({error}). Copy it again."
        ) from error


def _unwrapped(found: dict[str, Tensor], own: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Strip the prefix a training loop put before every name, and say so."""
    for prefix in PREFIXES:
        wrapped = [k for k in found if k.startswith(prefix)]
        if 2 * len(wrapped) > len(found) and not any(k.startswith(prefix) for k in own):
            logger.info("%s: %r stripped from %d names", path.name, prefix, len(wrapped))
            found = {k.removeprefix(prefix): v for k, v in found.items()}
    return found


def _mismatch(
    path: Path,
    name: str,
    own: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    wrong: list[str],
) -> str:
    said = [f"{str(path)!r} does not hold the weights of {name!r}:"]
    if missing:
        said.append(f"{len(missing):,} of {len(own):,} are missing, first {missing[0]!r};")
    if unexpected:
        said.append(f"{len(unexpected):,} names are unknown, first {unexpected[0]!r};")
    if wrong:
        key = wrong[0]
        said.append(
            f"{len(wrong):,} have another shape, first {key!r}: {tuple(found[key].shape)} in the "
            f"file, {tuple(own[key].shape)} in the model;"
        )
    other = next((kind for key, kind in FAMILIES.items() if key in found and key not in own), None)
    if other:
        said.append(f"the file looks like {other}.")
    elif wrong and not missing and not unexpected:
        said.append("is it another size of this architecture, or another number of channels?")
    else:
        said.append("is it of another architecture?")
    return " ".join(said)


def _width(module: nn.Module, preprocess: Any, name: str) -> int:
    """Return the columns of the embedding, by one blank image."""
    if not isinstance(preprocess, Preprocess):
        return int(getattr(module.model, "head_hidden_size", 0) or module.model.num_features)  # type: ignore[arg-type,union-attr]
    shape = (preprocess.channels, preprocess.height, preprocess.width)
    try:
        with torch.inference_mode():
            out = module(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise SettingsError(f"{name!r} takes no image of {shape}: {error}") from error
    return int(out.shape[-1])
