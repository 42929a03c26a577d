"""An encoder as it is shipped: weights, a card that says what they are, and how well they tell."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from deconf.maths.intervals import auroc
from deconf.pretrain.recipe import Recipe
from deconf.pretrain.supervised import DEVIATION, MEAN, pretrain
from deconf.probes.head import choose_strength, fit_head

NEW_FILMS = 1500
Progress = Callable[[int, int, float, float], object]  # epoch, epochs, loss, seconds so far


def make(
    recipe: Recipe, folder: Path, *, seed: int | None = None, progress: Progress | None = None
) -> Path:
    """Train by a recipe; write ``weights.safetensors`` and ``card.toml``; return the folder.

    Stopped, it goes on from the last epoch.  Weights are rounded to float16, which halves the file;
    the figures of the card are those of the rounded encoder, on films of other patients.
    """
    from safetensors.torch import load_file, save_file

    from deconf import worlds

    recipe = recipe if seed is None else recipe.model_copy(update={"seed": seed})
    folder.mkdir(parents=True, exist_ok=True)
    world = worlds.worlds[recipe.world](**recipe.settings)
    films = world.train()
    began = time.monotonic()
    checkpoint = folder / "checkpoint.safetensors"
    encoder, history = pretrain(
        recipe,
        films.images,
        films.table,
        checkpoint=checkpoint,
        progress=lambda epoch, epochs, loss: (
            progress and progress(epoch, epochs, loss, time.monotonic() - began)
        ),
    )
    minutes = (time.monotonic() - began) / 60
    weights = folder / "weights.safetensors"
    save_file({k: _half(v) for k, v in encoder.state_dict().items()}, weights)
    weights.chmod(0o644)
    encoder.load_state_dict({k: v.float() for k, v in load_file(weights).items()}, strict=False)
    card = _card(recipe, encoder, films, world, weights, history, minutes)
    (folder / "card.toml").write_text(card, encoding="utf-8")
    checkpoint.unlink(missing_ok=True)
    return folder


def _half(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as float16, running statistics and counters as they are.

    A running variance below 6e-8 would round to zero.
    """
    is_weight = tensor.is_floating_point() and tensor.ndim > 1
    return (tensor.half() if is_weight else tensor).contiguous()


def _card(
    recipe: Recipe,
    encoder: nn.Module,
    films: Any,
    world: Any,
    weights: Path,
    history: list[float],
    minutes: float,
) -> str:
    height, width = films.images.shape[1:]
    where = "GPU" if torch.cuda.is_available() else "CPU"
    lines = {
        "title": recipe.title,
        "architecture": f"timm:{recipe.architecture}",
        "options": {"in_chans": 1, **recipe.options},
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "licence": "Apache-2.0",
        "source": "trained by deconf pretrain from recipe.toml beside this card",
        "trained_on": [f"worlds.{recipe.world}({_arguments(recipe.settings)})"],
        "width": int(encoder.num_features),  # type: ignore[arg-type]
        "preprocess": {
            "height": height,
            "width": width,
            "mean": [MEAN],
            "std": [DEVIATION],
            "resize": "squash",
            "interpolation": "bicubic",
            "channels": 1,
        },
        "recipe": "recipe.toml",
        "notes": f"{len(films.table):,} films, {recipe.epochs} epochs in {minutes:.0f} minutes "
        f"on a {where}, last loss {history[-1]:.3f}. Linear probes on other patients, AUROC: "
        f"{_told(encoder, films, world, recipe.targets)}.",
        "not_for": "anything but simulated films: it has never seen a patient",
    }
    return "".join(f"{key} = {_toml(value)}\n" for key, value in lines.items())


def _told(encoder: nn.Module, films: Any, world: Any, targets: list[str]) -> str:
    """Return how well linear probes of the embedding tell each 0/1 column."""
    new = world.test("aligned", NEW_FILMS)
    columns = [c for c in dict.fromkeys([*targets, "portable"]) if _is_binary(films.table[c])]
    z, z_new = (_embedded(encoder, draw.images[:6000]) for draw in (films, new))
    said = []
    for column in columns:
        y = films.table[column].to_numpy()[: len(z)]
        strength = choose_strength(z, y, patients=films.cohort.patients[: len(z)])
        score = fit_head(z, y, strength=strength).score(z_new)
        said.append(f"{column} {auroc(score, new.table[column].to_numpy()):.2f}")
    return ", ".join(said)


def _embedded(encoder: nn.Module, images: np.ndarray) -> np.ndarray:
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), 256):
            x = torch.tensor(images[start : start + 256])[:, None].float() / 255
            parts.append(encoder((x - MEAN) / DEVIATION).numpy())
    return np.concatenate(parts)


def _is_binary(column: Any) -> bool:
    return set(column.unique()) <= {0, 1}


def _arguments(settings: dict[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in settings.items())


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
