"""Trained adapters on embeddings of a whole archive: films a second and peak memory, on a GPU.

    python -m benchmarks.gpu_shelf                   1,000,000 x 1,024 on the GPU, a few minutes
    python -m benchmarks.gpu_shelf --quick           a smoke test, on whatever there is
    python -m benchmarks.gpu_shelf --out gpu_shelf.json

The embeddings live on the device (4 GB in float32) and batches are drawn there.  Timed is
`deconf.methods.game.play` with the penalty of each method at its own settings, without closed form
and without the attackers that judge a round: the part that a GPU is for.  `throughput` takes any
`Penalty`, so that another objective is one line.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch

from deconf.encoders.placement import chosen_device
from deconf.methods.adapted import Adapted
from deconf.methods.base import methods
from deconf.methods.films import Films, stratified
from deconf.methods.game import Game, Penalty, Rounds, play, pointed
from deconf.methods.views import telling

NAMES = ("dann", "cdann", "critic", "mmd")
WARM = 20  # steps before the clock starts


def archive(n: int, d: int, device: torch.device, levels: int = 2, strata: int = 2) -> Films:
    """Return films drawn on the device: each level shifts one column and widens another."""
    draws = torch.Generator(device).manual_seed(0)
    level = torch.randint(levels, (n,), generator=draws, device=device)
    stratum = torch.randint(strata, (n,), generator=draws, device=device)
    x = torch.randn(n, d, generator=draws, device=device)
    x[:, 0] += level
    x[:, 1] *= 1 + level
    return Films(
        x=x,
        level=level,
        stratum=stratum,
        design=torch.nn.functional.one_hot(level, levels).float(),
        basis=x[:, :0],
        outcome=x[:, :0],
        weight=torch.ones(n, device=device),
        levels=levels,
        strata=strata,
        is_number=False,
    )


def throughput(films: Films, penalty: Penalty, rounds: Rounds) -> dict[str, float]:
    """Return films a second and peak memory in GB of training an adapter against a penalty."""
    device = films.x.device
    is_cuda = device.type == "cuda"
    adapter = pointed(films, rounds.hidden, 0)
    game = Game(adapter, None, penalty.to(device), 0.3)
    cell = films.cell.cpu().numpy()
    if is_cuda:
        torch.cuda.reset_peak_memory_stats(device)
    seconds, size = float("nan"), 0
    for steps in (WARM, rounds.steps):
        order, size = stratified(cell, rounds.batch, steps)
        start = time.perf_counter()
        some = Rounds(steps=steps, batch=rounds.batch, hidden=rounds.hidden)
        play(game, films, order, size, some, seed=0)
        if is_cuda:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if is_cuda else float("nan")
    return {
        "films_a_second": rounds.steps * size / seconds,
        "steps_a_second": rounds.steps / seconds,
        "batch": size,
        "peak_memory_gb": memory,
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small shapes: a smoke test")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    asked = parser.parse_args()
    device = chosen_device(asked.device)
    n, d, steps, batch = (2000, 64, 10, 256) if asked.quick else (1_000_000, 1024, 500, 2048)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    films = archive(n, d, device)
    print(f"{n:,} x {d} on {name or device.type}, {steps} steps of about {batch} films\n")
    found = {}
    for method in NAMES:
        settings: Adapted = methods[method]()
        own = films.marginal() if settings.is_marginal else films
        penalty = settings.penalty(own, telling(own, own.x))
        found[method] = throughput(own, penalty, Rounds(steps=steps, batch=batch))
        row = found[method]
        print(f"{method:8}{row['films_a_second']:>14,.0f} films/s"
              f"{row['peak_memory_gb']:>8.1f} GB", flush=True)  # fmt: skip
    if asked.out:
        machine = {"device": name, "torch": torch.__version__, "python": platform.python_version()}
        shape = {"n": n, "d": d, "steps": steps, "batch": batch}
        text = json.dumps({"machine": machine, "shape": shape, "methods": found}, indent=1)
        asked.out.write_text(text.replace("NaN", "null") + "\n")


if __name__ == "__main__":
    main()
