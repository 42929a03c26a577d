"""An encoder that learns to tell findings from films: the plain way, shortcuts included.

Nothing here guards against confounding.  An encoder trained like this on one archive carries what
every such encoder carries: the disease, and the workflow that goes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor, nn

from deconf.errors import CohortError
from deconf.pretrain.recipe import Recipe
from deconf.training import Schedule, train

MEAN, DEVIATION = 0.5, 0.25  # of grey values in 0..1; the card of the encoder says the same


def pretrain(
    recipe: Recipe,
    images: UInt8[ndarray, "n h w"],
    table: pd.DataFrame,
    *,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, float], object] | None = None,
) -> tuple[nn.Module, list[float]]:
    """Train a fresh encoder; return it, (n, 1, h, w) to (n, d), and the loss of every epoch.

    Raises
    ------
    CohortError
        A target is no column, or holds missing values or text.
    """
    import timm

    answers, is_binary = _answers(table, recipe.targets)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        encoder = timm.create_model(
            recipe.architecture, pretrained=False, in_chans=1, num_classes=0, **recipe.options
        )
        width: int = encoder.num_features  # type: ignore[assignment]  # timm gives every net one
        head = nn.Linear(width, len(recipe.targets))
    both = nn.ModuleDict({"encoder": encoder, "head": head}).to(memory_format=torch.channels_last)

    def loss(rows: ndarray, draws: np.random.Generator) -> Tensor:
        x = _augmented(images[rows], recipe, draws)
        said = both["head"](both["encoder"](x))
        asked = answers[rows]
        binary = nn.functional.binary_cross_entropy_with_logits(
            said[:, is_binary], asked[:, is_binary]
        )
        other = (said[:, ~is_binary] - asked[:, ~is_binary]).square()
        return binary + other.mean() if other.numel() else binary

    schedule = Schedule(recipe.epochs, recipe.batch, recipe.learning_rate, seed=recipe.seed)
    history = train(both, loss, len(images), schedule, checkpoint=checkpoint, progress=progress)
    return encoder.eval(), history


def _answers(table: pd.DataFrame, targets: list[str]) -> tuple[Tensor, Tensor]:
    """Return the targets as (n, q), and which of them are 0/1."""
    columns, binary = [], []
    for name in targets:
        if name not in table:
            raise CohortError(f"the world has no column {name!r} to learn from.")
        codes = table[name]
        if codes.dtype == object or isinstance(codes.dtype, pd.StringDtype):
            codes = pd.Series(pd.factorize(codes, sort=True)[0])
        values = codes.to_numpy(dtype=np.float32)
        if np.isnan(values).any():
            raise CohortError(f"the target {name!r} has missing values.")
        binary.append(bool(np.isin(values, (0, 1)).all()))
        columns.append(values if binary[-1] else (values - values.mean()) / values.std())
    return torch.tensor(np.stack(columns, axis=1)), torch.tensor(binary)


def _augmented(
    films: UInt8[ndarray, "b h w"], recipe: Recipe, draws: np.random.Generator
) -> Float[Tensor, "b 1 h w"]:
    """Return films as the encoder reads them, moved and stretched a little."""
    x = torch.from_numpy(films)[:, None].float() / 255
    x = x * torch.tensor(draws.uniform(1 - recipe.gain, 1 + recipe.gain, (len(x), 1, 1, 1))).float()
    if recipe.shift:
        down, right = draws.integers(0, 2 * recipe.shift + 1, size=2)
        padded = nn.functional.pad(x, [recipe.shift] * 4, mode="replicate")
        x = padded[:, :, down : down + films.shape[1], right : right + films.shape[2]]
    out: Tensor = ((x - MEAN) / DEVIATION).contiguous(memory_format=torch.channels_last)
    return out
