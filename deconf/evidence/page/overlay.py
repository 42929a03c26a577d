"""Example films for the page: the film once, the heat over it as a translucent layer.

A heat layer is a small picture of its own with a transparent palette: the film is not stored five
times, and eight films with four layers each take a few hundred kilobytes.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from deconf.evidence.narrative import signed

if TYPE_CHECKING:
    from deconf.evidence.pictures.films import Film
    from deconf.evidence.report import Report

HEAT_SIDE = 72  # pixels of the longest side of a heat layer: it is smooth, the browser enlarges it
STRONGEST = 0.78  # opacity of the hottest point: the film stays visible under it
COLD, HOT = np.array([255.0, 190.0, 60.0]), np.array([214.0, 30.0, 0.0])
KINDS = {
    "aligned": "Aligned: the shortcut tells the truth here",
    "crossed": "Crossed: the shortcut misleads here",
}
ROLES = ("confounder", "outcome")


def plates(report: Report) -> list[dict[str, Any]]:
    """Return the films of each kind, with their scores and heat layers."""
    found: list[dict[str, Any]] = []
    for kind, title in KINDS.items():
        films = [
            _plate(film, f"film{number}", report)
            for number, film in enumerate(report.films)
            if film.kind == kind
        ]
        if films:
            found.append({"title": title, "films": films})
    return found


def _plate(film: Film, name: str, report: Report) -> dict[str, object]:
    height, width = film.image.shape[:2]
    order = [n for n in report.names if n in film.scores]
    raw = film.scores.get(report.reference)
    shown = [n for n in order if any((n, role) in film.heat for role in ROLES)]
    return {
        "id": name,
        "caption": film.caption,
        "width": width,
        "height": height,
        "source": picture(film.image),
        "scores": [
            {
                "name": n,
                "kind": "reference" if n == report.reference else "own",
                "percent": round(100 * float(film.scores[n])),
                "change": ""
                if raw is None or n == report.reference
                else signed(float(film.scores[n]) - float(raw)),
            }
            for n in order
        ],
        "heats": [
            {"name": n, "role": role, "source": layer(film.heat[n, role])}
            for n in shown
            for role in ROLES
            if (n, role) in film.heat
        ],
    }


def picture(image: np.ndarray) -> str:
    """Return a film (h, w) or (h, w, 3) of uint8 as a PNG data URI."""
    from PIL import Image

    return _png(Image.fromarray(np.ascontiguousarray(image)))


def layer(heat: np.ndarray) -> str:
    """Return heat (h, w), 0 to about 1, as a PNG data URI: warm, and clear where it is cold."""
    from PIL import Image

    level = np.clip(np.nan_to_num(np.asarray(heat, dtype=float)), 0.0, 1.0)
    drawn = Image.fromarray(np.round(255 * level).astype(np.uint8))
    scale = HEAT_SIDE / max(drawn.size)
    if scale < 1:
        drawn = drawn.resize(
            (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale))),
            Image.Resampling.BOX,
        )
    shade = np.linspace(0.0, 1.0, 256)
    ramp = COLD + (HOT - COLD) * shade[:, np.newaxis]
    drawn.putpalette(np.round(ramp).astype(np.uint8).tobytes())
    # The square root would flood the film; a power above one leaves only what is hot.
    clear = np.round(255 * STRONGEST * shade**1.3).astype(np.uint8).tobytes()
    return _png(drawn, transparency=clear)


def _png(image: object, **options: object) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True, **options)  # type: ignore[attr-defined]
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
