"""From facts to films: each patient's chest, its disease, the exposure, the letters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from deconf.maths.threads import one_thread
from deconf.worlds import findings
from deconf.worlds.acquisition import SCANNERS, counted, developed
from deconf.worlds.anatomy import CM, VARIES, Pose, Stack, chest
from deconf.worlds.curves import NORMALS, WIRE_NORMALS, splat, wires
from deconf.worlds.markings import STYLES, stamp

PHOTONS = 3500.0
"""Quanta per pixel of a 128-pixel film in the open beam, per unit of exposure."""
PIXELS = 1 << 16
"""Pixels drawn at a time: few, so that a chunk stays in the cache (1.4 times as fast)."""


def films(truth: pd.DataFrame, size: int, seed: int, draw: int) -> Stack:
    """Return the films of a table of facts, (n, size, size) uint8.

    A film depends on its row, its number and the patient's number alone, whatever else is drawn.

    Parameters
    ----------
    truth : DataFrame
        From `mechanisms.facts`; the index numbers the films.
    size : int
        Pixels on a side.
    seed, draw : int
    """
    out = np.empty((len(truth), size, size), dtype=np.uint8)
    step = max(1, PIXELS // size**2)
    with one_thread(step * size**2):  # small products, thousands of them
        for start in range(0, len(truth), step):
            rows = truth.iloc[start : start + step]
            out[start : start + step] = _chunk(rows, size, seed, draw)
    return out


def _numbers(rows: pd.DataFrame, seed: int, draw: int, size: int) -> Iterator[np.ndarray]:
    """Yield the random numbers of patients, then those of films, one array per use."""
    cuts = np.cumsum([len(VARIES), NORMALS, findings.NORMALS])
    people, chances, grains, poses, noises = [], [], [], [], []
    for film, person in zip(rows.index, rows["person"], strict=True):
        rng = np.random.default_rng([seed, draw, 0, person])
        people.append(rng.standard_normal(cuts[-1], dtype=np.float32))
        grains.append(rng.standard_normal((findings.GRAIN, findings.GRAIN), dtype=np.float32))
        chances.append(rng.random(findings.UNIFORMS))
        rng = np.random.default_rng([seed, draw, 1, film])
        poses.append(rng.standard_normal(8 + WIRE_NORMALS, dtype=np.float32))
        noises.append(rng.standard_normal((size, size), dtype=np.float32))
    yield from np.split(np.stack(people), cuts[:-1], axis=1)
    yield np.stack(chances)
    yield np.stack(grains)
    yield from np.split(np.stack(poses), [8], axis=1)
    yield np.stack(noises)


def _chunk(rows: pd.DataFrame, size: int, seed: int, draw: int) -> Stack:
    def column(values: object) -> Stack:
        return np.asarray(values, dtype=np.float32)[:, None, None]

    varies, branches, places, chances, coarse, pose, leads, noise = _numbers(rows, seed, draw, size)
    v = {name: varies[:, k, None, None] for k, name in enumerate(VARIES)}
    supine = column(rows["projection"] == "AP")
    p = np.clip(pose, -2.2, 2.2)[:, :, None, None]
    stand = Pose(
        shift_x=0.03 * p[:, 0] * (1 + 0.8 * supine),
        shift_y=0.03 * p[:, 1] + 0.02,
        turn=0.018 * p[:, 2] * (1 + 1.2 * supine),
        zoom=1 + 0.025 * p[:, 3] + 0.03 * supine,
        breath=p[:, 4],
        supine=supine,
    )
    body = chest(
        v, stand,
        age=column(rows["age"]),
        female=column(rows["sex"] == "F"),
        enlarged=1 + 0.22 * column(rows["cardiomegaly"]),
        branches=branches, size=size,
    )  # fmt: skip
    body = findings.with_findings(
        body, places, chances, coarse,
        pneumonia=column(rows["pneumonia"]), extent=column(rows["extent"]),
        effusion=column(rows["effusion"]), nodule=column(rows["nodule"]),
    )  # fmt: skip
    path = body.path()
    wired = rows["leads"].to_numpy()
    if wired.any():
        path[wired] += CM * splat(wires(leads[wired], np.ones(wired.sum())), size)

    scanners = [SCANNERS[name] for name in rows["scanner"]]

    def of(name: str) -> Stack:
        return column([getattr(s, name) for s in scanners])

    photons = column(rows["exposure"]) * PHOTONS * (128 / size) ** 2 / of("noise") ** 2
    signal = counted(
        path, noise,
        photons=photons,
        scatter=0.10 + 0.16 * supine,  # no grid at the bedside
        blur=np.hypot(of("blur"), 0.010 * supine),
        grain=of("grain"),
    )  # fmt: skip
    picture = developed(
        signal, levelling=of("levelling"), contrast=of("contrast"), gamma=of("gamma")
    )
    _letters(picture, rows, pose)
    return (picture * 255 + 0.5).astype(np.uint8)


def _letters(picture: Stack, rows: pd.DataFrame, pose: np.ndarray) -> None:
    """Darken or whiten the collimated border, then write the letters, in place."""
    size = picture.shape[1]
    facts = zip(rows["scanner"], rows["style"], rows["marker"], strict=True)
    for k, (name, site, marked) in enumerate(facts):
        scanner, style = SCANNERS[name], STYLES[site % len(STYLES)]
        width = round(scanner.border * size / 2)
        if width:
            inner = picture[k, width:-width, width:-width].copy()
            picture[k] = scanner.border_grey
            picture[k, width:-width, width:-width] = inner
        gap = 0.07 + 0.015 * np.clip(pose[k, 5:8], -2, 2)
        across = 1 if style.side == "L" else -1
        low = 0.24 if style.corner == (across, -1) else 0.0  # room for the word above
        stamp(picture[k], style.side, (across, -1), 0.11, inset=(gap[0], gap[1] + low))
        if marked:
            stamp(
                picture[k], style.word, style.corner, style.height,
                boxed=style.boxed, inset=(gap[2], gap[1]),
            )  # fmt: skip
