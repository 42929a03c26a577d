"""Which alterations of a film are still found as copies, and how near different films come.

    python -m benchmarks.duplicates $DECONF_DATA/cxr_sites/images      # a minute for 1,163 films
    python -m benchmarks.duplicates FOLDER --films 100 --out result.json

Every film of a folder is altered in each way and compared with itself; all films are compared with
one another.  A copy is found where the distance is at most the default limit of
`Cohort.duplicates`.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from deconf.cohort.duplicates import LIMITS
from deconf.cohort.images import read_image
from deconf.cohort.perceptual import signs
from deconf.maths.pairs import close_pairs


def altered(image: Image.Image, rng: np.random.Generator) -> Iterator[tuple[str, Image.Image]]:
    """Yield an 8-bit grey film altered in ways that archives alter films."""
    (w, h), x = image.size, np.asarray(image) / 255
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    yield "JPEG, quality 30", Image.open(file)
    yield "half the size", image.resize((w // 2, h // 2))
    yield "three times the size", image.resize((3 * w, 3 * h))
    yield "squashed to a square", image.resize((224, 224))
    yield "gamma 0.6", _picture(x**0.6)
    yield "gamma 1.6", _picture(x**1.6)
    low, high = np.quantile(x, [0.02, 0.98])
    yield "window of the middle 96 %", _picture((x - low) / max(high - low, 1 / 255))
    yield "histogram equalised", ImageOps.equalize(image)
    yield "noise of 10 grey levels", _picture(x + rng.normal(0, 10 / 255, x.shape))
    marked = x.copy()
    marked[: h // 8, : w // 5] = 1
    yield "white mark on 2.5 %", _picture(marked)
    for share in (0.01, 0.02, 0.05):
        a, b = round(share * w), round(share * h)
        yield f"border of {100 * share:.0f} % cut off", image.crop((a, b, w - a, h - b))
    yield "border of 3 % added", ImageOps.expand(image, round(0.03 * w))
    yield "shifted by 3 %", image.crop((round(0.03 * w), 0, w, h))
    yield "rotated by 2°", image.rotate(2, Image.Resampling.BICUBIC)
    yield "mirrored", ImageOps.mirror(image)
    yield "negative", ImageOps.invert(image)


def _picture(x: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(255 * x.clip(0, 1)).astype(np.uint8))


def _unit(look: np.ndarray) -> np.ndarray:
    return look / max(np.linalg.norm(look), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    paths = sorted(path for path in asked.folder.iterdir() if path.is_file())[: asked.films]
    limit, rng = LIMITS["image"], np.random.default_rng(0)
    films = [read_image(path).convert("L") for path in paths]
    looks = np.stack([signs(film) for film in films]).astype(np.float32)
    distances: dict[str, list[float]] = {}
    for film, look in zip(films, looks, strict=True):
        for name, copy in altered(film, rng):
            apart = 1 - abs(float(_unit(look) @ _unit(signs(copy).astype(np.float32))))
            distances.setdefault(name, []).append(apart)
    found = {
        name: {
            "found": float(np.mean(np.array(apart) <= limit)),
            "median": float(np.median(apart)),
            "95 %": float(np.quantile(apart, 0.95)),
        }
        for name, apart in distances.items()
    }
    pairs = close_pairs(looks, 0.3, opposite=True)
    nearest = np.sort(pairs.distance)[:5].round(3).tolist()
    print(f"{len(films):,} films; a copy is found within {limit}")
    print(f"{'':28}{'found':>8}{'median':>9}{'95 % within':>13}")
    for name, line in found.items():
        print(f"{name:28}{line['found']:8.1%}{line['median']:9.3f}{line['95 %']:13.3f}")
    print(f"the nearest of {len(films) * (len(films) - 1) // 2:,} pairs of films: {nearest}")
    if asked.out:
        result = {"films": len(films), "limit": limit, "altered": found, "nearest pairs": nearest}
        asked.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
