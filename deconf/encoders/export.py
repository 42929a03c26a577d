"""A de-confounded encoder as one ONNX graph, for programs without torch."""

from __future__ import annotations

import copy
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from deconf.encoders.preprocess import Preprocess
from deconf.errors import SettingsError
from deconf.maths.maps import AffineMap, LevelMap
from deconf.resources import need

if TYPE_CHECKING:
    from deconf.encoders.deconfounded import DeconfoundedEncoder

LARGEST = 1_800_000_000  # bytes of weights inside the file: a protobuf ends at 2 GB


def to_onnx(cleaner: DeconfoundedEncoder, path: Path, *, shape: tuple[int, ...] | None) -> Path:
    """Write encoder and map in float32; see `DeconfoundedEncoder.export`."""
    for package in ("onnx", "onnxscript"):
        need(package, extra="onnx")
    module = nn.Sequential(_encoder(cleaner), *_links(cleaner)).eval()
    example = torch.zeros(2, *_shape(cleaner, shape))  # of one image torch would fix the number
    name = "embeddings" if cleaner.encoder.is_stored else "images"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about its own parts
            program: Any = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[name],
                output_names=["clean"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
            )
    except Exception as error:  # the exporter raises what it likes
        told = str(error).strip().splitlines()
        raise SettingsError(
            f"{cleaner.encoder.name!r} cannot be exported to ONNX: {told[0] if told else error}. "
            "A module must be free of branches on the numbers it is given."
        ) from error
    program.model.metadata_props.update(_metadata(cleaner))
    path.parent.mkdir(parents=True, exist_ok=True)
    size = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    if size > LARGEST:
        program.save(path, external_data=True)
        return path
    part = path.with_name(path.name + ".part")
    program.save(part, external_data=False)
    os.replace(part, path)  # whole or not there
    return path


def _encoder(cleaner: DeconfoundedEncoder) -> nn.Module:
    """Return a copy of the encoder's module, in float32 on the CPU; the original stays as it is."""
    module = cleaner.encoder.module
    return nn.Identity() if module is None else copy.deepcopy(module).cpu().float()


def _links(cleaner: DeconfoundedEncoder) -> list[nn.Module]:
    """Return the map as modules without a branch on values."""
    if cleaner.needs_confounders:
        raise SettingsError(
            f"the map of method {cleaner.method!r} reads the recorded confounder of every image, "
            "and the ONNX graph takes the image alone. Fit with at_inference=False."
        )
    links: list[nn.Module] = []
    for link in cleaner.map.links():
        if isinstance(link, AffineMap):
            links.append(copy.deepcopy(link).cpu().linear())
        elif isinstance(link, LevelMap):
            own = copy.deepcopy(link).cpu().float()
            del own.reads  # a tensor, on which the map branches; here it is a constant
            own.reads = False  # type: ignore[assignment]
            links.append(own)
        else:
            links.append(copy.deepcopy(link).cpu().float())
    return links


def _shape(cleaner: DeconfoundedEncoder, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    if cleaner.encoder.is_stored:
        return (cleaner.width,)
    own = cleaner.encoder.preprocess
    if asked is None and isinstance(own, Preprocess):
        return (own.channels, own.height, own.width)
    if asked is None:
        raise SettingsError(
            "the module does not tell which images it takes: pass the shape of one, as "
            'export("onnx", shape=(3, 224, 224)).'
        )
    return tuple(asked)


def _metadata(cleaner: DeconfoundedEncoder) -> dict[str, str]:
    recipe = cleaner.encoder.recipe
    return {
        "deconf.encoder": recipe["name"],
        "deconf.digest": recipe["digest"],
        "deconf.preprocess": json.dumps(recipe["preprocess"]),
        "deconf.method": cleaner.method,
    }
