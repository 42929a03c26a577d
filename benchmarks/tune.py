"""Training an encoder further: images per second and peak memory, by mode and precision.

    python -m benchmarks.tune                     ViT-B on a GPU, else a ViT-Tiny: some minutes
    python -m benchmarks.tune --quick             a smoke test of a tiny net on the CPU
    python -m benchmarks.tune --net vit_base_patch16_224 --batch 128 --out out.json

Images are noise in memory, so that the figures are those of the steps alone: forward, backward and
the step of the optimiser, with task head and adversary, as `deconf.tuning` takes them, in the
precision it would choose.  The first steps, which choose kernels, are not timed.  Nothing is
written unless ``--out`` is given.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder
from deconf.encoders.tune import Tune
from deconf.maths.maps import AffineMap
from deconf.training import Schedule, train
from deconf.tuning.encoder import Run
from deconf.tuning.judge import Target

WARM_UP = 3  # steps that are not timed


def net(name: str, device: str, size: int) -> Encoder:
    """Return a random net of timm that reads tensors of images."""
    import timm

    options = {"img_size": size} if "vit" in name else {}
    made = timm.create_model(name, pretrained=False, num_classes=0, **options)
    return Encoder(made.to(device))


def measured(
    name: str, mode: str, *, batch: int, steps: int, device: str, size: int = 224
) -> dict[str, Any]:
    """Return images/s and peak memory in GiB of some steps."""
    encoder, n = net(name, device, size), batch * (steps + WARM_UP)
    rng = np.random.default_rng(0)
    some = rng.standard_normal((batch, 3, size, size), dtype=np.float32)
    table = pd.DataFrame({"site": rng.integers(2, size=batch)})
    cohort = Cohort.from_arrays(some, table)
    raw = encoder.embed(cohort)
    target = Target("site", table["site"].to_numpy(), np.zeros(batch, dtype=np.int64))
    how = Tune(mode, epochs=1, batch=batch)  # type: ignore[arg-type]
    run = Run(encoder, cohort, raw, np.arange(batch), AffineMap.identity(raw.shape[1]))
    outcome = rng.integers(2, size=(batch, 1)).astype(float)
    run.prepare([target], outcome, how, "adversary", 0)
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    began, done = 0.0, 0

    def loss(rows: np.ndarray, draws: np.random.Generator) -> torch.Tensor:
        nonlocal began, done
        done += 1
        if done == WARM_UP + 1:
            if on_gpu:
                torch.cuda.synchronize()
            began = time.perf_counter()
        return run.loss(rows % batch, draws)

    train(run, loss, n, Schedule(1, batch, how.rate))
    if on_gpu:
        torch.cuda.synchronize()
    took = time.perf_counter() - began
    run.close()
    peak = (
        torch.cuda.max_memory_allocated()
        if on_gpu
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return {
        "net": name,
        "mode": mode,
        "batch": batch,
        "precision": run.encoder.precision,
        "trained": sum(p.numel() for p in run.encoder.parameters() if p.requires_grad),
        "samples_per_s": batch * steps / took,
        "peak_GiB": peak / 2**30,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default=None)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = asked.net or ("vit_base_patch16_224" if device == "cuda" else "vit_tiny_patch16_224")
    batch, steps, size = asked.batch, asked.steps, 224
    if asked.quick:
        device, name, batch, steps, size = "cpu", "vit_tiny_patch16_224", 4, 2, 32
    rows = [
        measured(name, mode, batch=batch, steps=steps, device=device, size=size)
        for mode in ("lora", "full")
    ]
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format))
    where = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    print(f"on {where or device}, torch {torch.__version__}; peak memory of the process on a CPU")
    if asked.out is not None:
        found = {"rows": rows, "device": where or device, "torch": torch.__version__}
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
