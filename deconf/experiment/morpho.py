"""Digits rendered from a known causal model: counterfactuals of a structural model, scored.

    thickness = 0.5 + Gamma(10, 1/5),  intensity = 64 + 191 sigmoid(0.5 e + 2 thickness - 5)

Castro et al., "Morpho-MNIST: quantitative assessment and diagnostics for representation learning",
JMLR 2019; Pawlowski, Castro & Glocker, "Deep structural causal models for tractable counterfactual
inference", NeurIPS 2020, for the equations.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8
from numpy import ndarray

from deconf import scm
from deconf.cohort.cohort import Cohort
from deconf.errors import ReadError
from deconf.experiment.answer import Found, Job
from deconf.experiment.config import Config
from deconf.maths.intervals import Interval, bootstrap
from deconf.resources import development_data

LOW, SPAN = 64.0, 191.0  # grey levels
GRAPH = "thickness -> intensity; thickness -> image; intensity -> image; digit -> image"
RIDGE = 1.0  # of the readers, on pixels of unit mean variance
QUICK = 1000  # rows each


def truth(
    thickness: Float[ndarray, " n"], intensity: Float[ndarray, " n"], new: Float[ndarray, " n"]
) -> Float[ndarray, " n"]:
    """Return the intensity each digit would have had at another thickness, by the equations.

    Examples
    --------
    >>> t, i = np.array([2.0, 3.0]), np.array([120.0, 230.0])
    >>> np.allclose(truth(t, i, t), i)
    True
    """
    # sigmoid^-1 of the intensity, moved by 2 for each unit of thickness: the noise stays.
    logit = np.log((intensity - LOW) / (LOW + SPAN - intensity)) + 2 * (new - thickness)
    return LOW + SPAN / (1 + np.exp(-logit))


def read_digits(folder: Path) -> tuple[pd.DataFrame, UInt8[ndarray, "n p"]]:
    """Return thickness, intensity and digit of every image, and its pixels (n, 784).

    Raises
    ------
    ReadError
        A file is missing, or is no IDX file of this many images.
    """
    names = ("t10k-morpho.csv.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
    for name in names:
        if not (folder / name).is_file():
            raise ReadError(f"{folder.name} holds no {name}: see the README of the data.")
    table = pd.read_csv(folder / names[0])[["thickness", "intensity"]]
    pixels, digits = (_idx(folder / name) for name in names[1:])
    if not len(table) == len(pixels) == len(digits):
        raise ReadError(f"{folder.name}: {len(table)} rows, {len(pixels)} images: not one set.")
    return table.assign(digit=digits.ravel().astype(str)), pixels.reshape(len(pixels), -1)


def run_morpho(
    config: Config, *, quick: bool, progress: Callable[[str], object]
) -> tuple[pd.DataFrame, str]:
    """Return the tidy table of errors, and the text."""
    morpho = config.morpho
    if morpho is None:
        raise ValueError("run_morpho needs a config of kind 'morpho'")
    table, pixels = read_digits(development_data() / morpho.folder)
    train, test = (QUICK, QUICK) if quick else (morpho.train, morpho.test)
    films = Cohort.from_arrays(pixels[:train].astype(np.float32), table[:train])
    new = Cohort.from_arrays(pixels[-test:].astype(np.float32), table[-test:])
    order = np.random.default_rng(config.seed).permutation(len(new))
    wish = new.table["thickness"].to_numpy()[order]  # each digit as thick as another one is
    rows: list[dict[str, object]] = []
    models = {}
    for kind in ("affine", "flow"):
        progress(f"fitting the {kind} model on {train:,} digits")
        models[kind] = scm.fit(
            films, GRAPH, numbers=kind, embedding=kind, rank=morpho.rank, seed=config.seed
        )  # type: ignore[arg-type]
    made = {k: m.counterfactual(new, {"thickness": wish}) for k, m in models.items()}
    answered = np.intersect1d(made["affine"].rows, made["flow"].rows)
    progress("scoring")
    rows += _tabled(films, new, wish, made, answered, config.seed)
    rows += _seen(films, new, wish, made, answered, config.seed)
    frame = pd.DataFrame(rows).assign(n=len(answered), refused=len(new) - len(answered))
    return frame, _text(config, frame, train)


def _tabled(
    films: Cohort,
    new: Cohort,
    wish: ndarray,
    made: dict[str, scm.Counterfactual],
    rows: ndarray,
    seed: int,
) -> Iterator[dict[str, object]]:
    """Yield the error of the intensity in the table, method by method."""
    t, i = (new.table[name].to_numpy()[rows] for name in ("thickness", "intensity"))
    right, wish = truth(t, i, wish[rows]), wish[rows]
    known = films.table
    line = np.polyfit(known["thickness"], known["intensity"], 1)
    logit = np.log((known["intensity"] - LOW) / (LOW + SPAN - known["intensity"]))
    curve = np.polyfit(known["thickness"], logit, 1)
    own = np.log((i - LOW) / (LOW + SPAN - i)) + curve[0] * (wish - t)
    told = {
        "as it is": i,
        "mean of a linear regression": np.polyval(line, wish),
        "linear regression, residual kept": i + line[0] * (wish - t),
        "structural model, affine": _column(made["affine"], "intensity", rows),
        "structural model, flow": _column(made["flow"], "intensity", rows),
        "oracle: the true form, coefficients fitted": LOW + SPAN / (1 + np.exp(-own)),
    }
    for name, value in told.items():
        yield _row("intensity in the table (grey levels)", name, np.abs(value - right), seed)


def _seen(
    films: Cohort,
    new: Cohort,
    wish: ndarray,
    made: dict[str, scm.Counterfactual],
    rows: ndarray,
    seed: int,
) -> Iterator[dict[str, object]]:
    """Yield what a reader trained on real digits sees in counterfactual pixels, against the truth.

    Beside it what the same reader sees in real digits: no counterfactual can be read better.
    """
    from sklearn.linear_model import Ridge

    z, known = films.embeddings, films.table
    if z is None or new.embeddings is None:
        raise ValueError("digits come with their pixels")
    scale = float(z.std())
    t, i = (new.table[name].to_numpy()[rows] for name in ("thickness", "intensity"))
    right = {"thickness": wish[rows], "intensity": truth(t, i, wish[rows])}
    now = {"thickness": t, "intensity": i}
    for name, unit in (("thickness", "pixels"), ("intensity", "grey levels")):
        reader = Ridge(alpha=RIDGE * len(z)).fit(z / scale, known[name])

        def off(pixels: ndarray, value: ndarray, reader: Ridge = reader) -> ndarray:
            error: ndarray = np.abs(reader.predict(pixels / scale) - value)
            return error

        what = f"{name} read from the pixels ({unit})"
        yield _row(what, "as it is", off(new.embeddings[rows], right[name]), seed)
        for kind, one in made.items():
            pixels = one.cohort.embeddings[np.searchsorted(one.rows, rows)]  # type: ignore[index]
            yield _row(what, f"structural model, {kind}", off(pixels, right[name]), seed)
        yield _row(what, "real digits", off(new.embeddings[rows], now[name]), seed)


def _column(made: scm.Counterfactual, name: str, rows: ndarray) -> Float[ndarray, " n"]:
    values: ndarray = made.cohort.table[name].to_numpy(dtype=float)
    return values[np.searchsorted(made.rows, rows)]


def _row(what: str, method: str, error: ndarray, seed: int) -> dict[str, object]:
    found: Interval = bootstrap(
        lambda w: w @ error / w.sum(axis=1), np.arange(len(error)), seed=seed
    )
    return {
        "metric": what,
        "method": method,
        "estimate": found.estimate,
        "low": found.low,
        "high": found.high,
        "worst_in_twenty": float(np.quantile(error, 0.95)),
    }


def _idx(path: Path) -> UInt8[ndarray, ...]:
    """Return the array of an IDX file of bytes: magic number, sizes, values, all big-endian."""
    body = gzip.decompress(path.read_bytes())
    if len(body) < 4 or body[:3] != b"\x00\x00\x08":
        raise ReadError(f"{path.name} is no IDX file of bytes.")
    shape = np.frombuffer(body, ">i4", count=body[3], offset=4)
    values = np.frombuffer(body, np.uint8, offset=4 + 4 * body[3])
    if len(values) != shape.prod():
        raise ReadError(f"{path.name} is truncated: {len(values):,} of {shape.prod():,} values.")
    return values.reshape(shape)


def _text(config: Config, table: pd.DataFrame, train: int) -> str:
    n, refused = int(table["n"].iloc[0]), int(table["refused"].iloc[0])
    lines = [
        config.title,
        f"{train:,} digits to learn from; {n:,} others scored, {refused:,} refused. Each is "
        "made as thick as another one is.",
        "Mean absolute error [95 % over digits], and what 19 in 20 stay below.",
    ]
    for metric, part in table.groupby("metric", sort=False):
        lines += ["", str(metric)]
        for row in part.itertuples():
            told = f"{row.estimate:.2f} [{row.low:.2f}, {row.high:.2f}]"
            lines.append(f"  {row.method:<44}{told:>22}{row.worst_in_twenty:>9.2f}")
    return "\n".join(lines)


def answered(job: Job) -> Found:
    """Answer a config of this kind."""
    return Found(*run_morpho(job.config, quick=job.quick, progress=job.progress))
