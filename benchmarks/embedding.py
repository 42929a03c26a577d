"""Embedding files beside a bare timm loop, by precision, and DICOM beside a plain pydicom loop.

    python -m benchmarks.embedding            two to three minutes on two cores
    python -m benchmarks.embedding --quick    a smoke test
    python -m benchmarks.embedding --weights mobilenetv2.safetensors --images films/ --out out.json

The bare loop is what one types without deconf: timm's own transform in as many threads, reading
without bound ahead, ``torch.stack``, the same net in the same precision and memory layout.  It
keeps no order of failures, hashes nothing, and cannot be stopped and resumed.  Runs are
interleaved, so that a busy machine is busy for both, and medians are compared.  Without
``--images`` noise is embedded, without ``--weights`` by a random net: neither changes the speed,
and errors by precision then mean little.  Nothing is written unless ``--out`` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from PIL import Image
from torch import Tensor

from deconf.cohort.cohort import Cohort
from deconf.cohort.images import read_image
from deconf.encoders.base import Encoder, load_encoder
from deconf.encoders.embedding import embed_files
from deconf.front import deconfound
from deconf.methods import LEACE

NET = "mobilenetv2_100"
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def noise(folder: Path, n: int) -> list[Path]:
    """Write grey JPEGs of 512 pixels: coarse noise, which is as large on disk as a film."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:04d}.jpg" for i in range(n)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(256, size=(64, 64), dtype=np.uint8))
        coarse.resize((512, 512), Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def timm_transform(encoder: Encoder) -> Callable[[Any], Tensor]:
    """Return timm's own transform to the same size and scale."""
    from timm.data import create_transform

    said: Any = encoder.preprocess
    return create_transform(
        (3, said.height, said.width),
        mean=said.mean,
        std=said.std,
        interpolation=said.interpolation,
        crop_pct=said.crop_share,
        crop_mode={"crop": "center", "squash": "squash"}[said.resize],
    )


def bare(encoder: Encoder, paths: Sequence[Path], workers: int) -> ndarray:
    transform, net, out = timm_transform(encoder), encoder.module, []

    def load(path: Path) -> Tensor:
        return transform(Image.open(path).convert("RGB"))

    with ThreadPoolExecutor(workers) as pool, torch.inference_mode():
        images = pool.map(load, paths)
        for _ in range(0, len(paths), encoder.batch):
            batch = torch.stack(list(islice(images, encoder.batch)))
            out.append(net(batch.contiguous(memory_format=torch.channels_last)).float().numpy())
    return np.concatenate(out)


def seconds(runs: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    """Return the median time of each run, the runs taking turns."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(times):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in took.items()}


def loops(encoder: Encoder, paths: list[Path], workers: int, times: int) -> dict[str, float]:
    """Return images/s of both loops and how far their embeddings differ."""
    n = len(paths)
    with tempfile.TemporaryDirectory() as cache:
        runs: dict[str, Callable[[], Any]] = {
            "deconf": lambda: embed_files(encoder, paths, workers=workers),
            "bare timm": lambda: bare(encoder, paths, workers),
        }
        mine, other = (
            embed_files(encoder, paths[:64], workers=workers),
            bare(encoder, paths[:64], workers),
        )
        took = seconds(runs, times)
        embed_files(encoder, paths, workers=workers, cache=cache)
        again = seconds({"": lambda: embed_files(encoder, paths, workers=workers, cache=cache)}, 3)
    return {
        **{name: n / each for name, each in took.items()},
        "cached": n / again[""],
        "ratio": took["bare timm"] / took["deconf"],
        "differ": relative(mine.vectors, other),
    }


def relative(z: ndarray, reference: ndarray) -> float:
    """Return the root mean square difference in standard deviations of the reference."""
    spread = (reference - reference.mean(axis=0)).std(dtype=np.float64)
    return float(np.sqrt(np.mean((z.astype(np.float64) - reference) ** 2)) / spread)


def precisions(encoder: Encoder, paths: list[Path], times: int) -> list[dict[str, Any]]:
    """Return images/s of the net alone and the error of its embeddings, by precision and layout."""
    read: Any = encoder.preprocess
    x = torch.stack([read(read_image(path)) for path in paths])
    net: Any = encoder.module

    def run(dtype: torch.dtype, layout: torch.memory_format) -> ndarray:
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return net(x.contiguous(memory_format=layout)).float().numpy()

    kinds = [(d, name) for d in (torch.float32, torch.bfloat16) for name in LAYOUTS]
    found = {kind: run(kind[0], LAYOUTS[kind[1]]) for kind in kinds}
    took = seconds({str(k): lambda d=k[0], name=k[1]: run(d, LAYOUTS[name]) for k in kinds}, times)
    return [
        {
            "precision": str(kind[0]).removeprefix("torch."),
            "layout": kind[1],
            "rate": len(x) / took[str(kind)],
            "error": relative(found[kind], found[kinds[0]]),
        }
        for kind in kinds
    ]


def wrapped(encoder: Encoder, paths: Sequence[Path], times: int) -> dict[str, float]:
    """Return images/s of the net alone, and of the net with a map of rank one behind it."""
    read: Any = encoder.preprocess
    x = torch.stack([read(read_image(path)) for path in paths])
    table = pd.DataFrame({"portable": np.arange(len(x)) % 2})
    cohort = Cohort.from_arrays(x.numpy(), table)
    cleaner = deconfound(encoder, ["portable"], method=LEACE(rank="full", strata="pooled"))
    clean = cleaner.fit(cohort)
    with torch.inference_mode():
        took = seconds({"alone": lambda: encoder(x), "wrapped": lambda: clean(x)}, times)
    rates = {name: len(x) / each for name, each in took.items()}
    return {**rates, "cost": took["wrapped"] / took["alone"] - 1}


def dicom(encoder: Encoder, n: int, times: int) -> dict[str, float]:
    """Return films/s from DICOM to tensor: 2,000 x 2,000, 16 bits, MONOCHROME1, a window."""
    import pydicom
    from pydicom.pixels import apply_windowing

    read: Any = encoder.preprocess
    with tempfile.TemporaryDirectory() as folder:
        paths = [a_film(Path(folder) / f"{i}.dcm", i) for i in range(n)]

        def plain() -> list[Tensor]:
            out = []
            for path in paths:
                film = pydicom.dcmread(path)
                shown = apply_windowing(film.pixel_array, film)  # float64, 0 to the 16-bit maximum
                grey = (255 * (1 - shown / (2**film.BitsStored - 1))).astype(np.float32)
                out.append(read(Image.fromarray(grey)))
            return out

        def ours() -> list[Tensor]:
            return [read(read_image(path)) for path in paths]

        differ = max(float((a - b).abs().max()) for a, b in zip(ours(), plain(), strict=True))
        took = seconds({"deconf": ours, "pydicom": plain}, times)
    return {
        **{name: n / each for name, each in took.items()},
        "ratio": took["pydicom"] / took["deconf"],
        "differ": differ,
    }


def a_film(path: Path, seed: int) -> Path:
    """Write one film as a digital X-ray machine does."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    pixels = np.random.default_rng(seed).integers(2**16, size=(2000, 2000), dtype=np.uint16)
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = generate_uid()
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME1"
    film.BitsAllocated = film.BitsStored = 16
    film.HighBit, film.PixelRepresentation = 15, 0
    film.WindowCenter, film.WindowWidth = 30000, 40000
    film.PixelData = pixels.tobytes()
    film.save_as(path, enforce_file_format=True)
    return path


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help=f".safetensors of {NET} (default: random)")
    parser.add_argument("--images", type=Path, help="folder of images (default: noise is made)")
    parser.add_argument("--quick", action="store_true", help="few images: a smoke test")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    asked = parser.parse_args()
    n, times = (32, 1) if asked.quick else (256, 5)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = max(4, cores or 1)
    encoder = load_encoder(
        f"timm:{NET}", weights=asked.weights or "random", device="cpu", precision="float32"
    )
    with tempfile.TemporaryDirectory() as made:
        if asked.images:
            found = sorted(p for p in asked.images.rglob("*") if p.suffix.lower() in SUFFIXES)
            paths = found[:: max(1, len(found) // n)][:n]
        else:
            paths = noise(Path(made), n)
        print(
            f"{NET}, {len(paths)} images, batches of {encoder.batch}, {workers} reading threads, "
            f"{torch.get_num_threads()} for the net, median of {times}.\n"
        )
        loop = loops(encoder, paths, workers, times)
        print(f"{'images/s':24}{'deconf':>9}{'bare timm':>11}{'ratio':>8}{'differ':>10}")
        print(
            f"{'files to embeddings':24}{loop['deconf']:>9.1f}{loop['bare timm']:>11.1f}"
            f"{loop['ratio']:>7.2f}x{loop['differ']:>10.0e}"
        )
        print(f"{'found in the cache':24}{loop['cached']:>9.0f}\n", flush=True)
        rows = precisions(encoder, paths[: encoder.batch], times)
        wrap = wrapped(encoder, paths[: encoder.batch], 3 * times)
    print(f"{'the net alone':24}{'images/s':>9}{'times':>8}  error, in standard deviations")
    for row in rows:
        name = f"{row['precision']} {row['layout']}"
        times_as_fast = row["rate"] / rows[0]["rate"]
        print(f"{name:24}{row['rate']:>9.1f}{times_as_fast:>7.1f}x  {row['error']:.1e}")
    print(
        f"\nwith a map behind it {wrap['wrapped']:.1f} images/s, alone {wrap['alone']:.1f}: "
        f"{100 * wrap['cost']:+.1f} % an image"
    )
    films = dicom(encoder, 2 if asked.quick else 8, times)
    print(f"\n{'DICOM, films/s':24}{'deconf':>9}{'pydicom':>11}{'ratio':>8}{'differ':>10}")
    print(
        f"{'2,000 x 2,000, 16 bits':24}{films['deconf']:>9.1f}{films['pydicom']:>11.1f}"
        f"{films['ratio']:>7.2f}x{films['differ']:>10.0e}"
    )
    if asked.out:
        machine = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "cores": cores,
        }
        figures = {"machine": machine, "loop": loop, "precisions": rows, "wrapped": wrap,
                   "dicom": films}  # fmt: skip
        asked.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
