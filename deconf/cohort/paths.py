"""Where the images of a table lie, and which of them are not there."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from deconf.cohort.roles import quoted, row_name
from deconf.errors import CohortError
from deconf.maths.kinds import is_categorical

FEW = 16  # fewer files than this are asked for one by one, more by listing their folder
NEARBY = 200  # folders looked into for a hint


def starting_folder(folder: str | Path | None, home: Path | None) -> Path:
    """Return where relative image paths start: as told, at the table, or here.

    Raises
    ------
    CohortError
        The folder is not there.
    """
    start = Path(folder).expanduser() if folder is not None else home or Path()
    if folder is not None and not start.is_dir():
        what = "a file" if start.exists() else "not there"
        raise CohortError(
            f"folder={str(folder)!r} is {what}: name the folder the image paths start from."
        )
    return start.absolute()


def image_paths(table: pd.DataFrame, image: str, folder: Path) -> list[Path]:
    """Return the path of each row's image.

    Raises
    ------
    CohortError
        A row names none.
    """
    blank = _is_blank(table[image])
    if blank.any():
        raise CohortError(
            f"{row_name(table, int(blank.argmax()))} has no {image!r}; {blank.sum():,} of "
            f"{len(table):,} rows lack it. Leave those rows out: cohort.subset(...)."
        )
    return [folder / str(name) for name in table[image]]


def rows_with_image(
    table: pd.DataFrame, image: str, columns: Iterable[str | None], folder: Path, on_missing: str
) -> tuple[Int[np.ndarray, " kept"], str]:
    """Return the rows whose image file is there, and a note on the others, empty without any.

    Parameters
    ----------
    table : DataFrame of n rows
    image : str
        The column of paths, relative to ``folder`` or absolute.
    columns : column names
        Site and outcomes: whether files are missing at random is said of these.
    on_missing : "raise" or "drop"

    Raises
    ------
    CohortError
        Files are missing and shall not be; or all of them are.
    """
    missing = ~_is_there(table[image], folder)
    if not missing.any():
        return np.arange(len(table)), ""
    pattern = _pattern(table, missing, [c for c in columns if c is not None])
    if on_missing == "raise" or missing.all():
        raise CohortError(_message(table, image, missing, folder, pattern))
    if pattern:
        warnings.warn(f"images left out: {' '.join(pattern)}", stacklevel=4)
    count = "1 row" if missing.sum() == 1 else f"{missing.sum():,} rows"
    return np.flatnonzero(~missing), " ".join([f"{count} left out: no image file.", *pattern])


def _is_blank(names: pd.Series) -> Bool[np.ndarray, " n"]:
    return (names.isna() | (names.astype(str).str.strip() == "")).to_numpy()


def _is_there(names: pd.Series, folder: Path) -> Bool[np.ndarray, " n"]:
    """Return whether each row's file is there, listing each folder once.

    One question a file takes a minute for 50,000 files on a network disk; a listing, a second.
    """
    there = np.zeros(len(names), dtype=bool)
    rows = defaultdict(list)
    texts = names.astype(str).to_numpy()
    for row in np.flatnonzero(~_is_blank(names)):
        home, name = os.path.split(os.path.join(folder, texts[row]))
        rows[home].append((row, name))
    for home, asked in rows.items():
        held = _files(home) if len(asked) >= FEW else set()
        for row, name in asked:
            # Not listed: asked for once more, since some disks do not mind capitals.
            there[row] = name in held or os.path.isfile(os.path.join(home, name))
    return there


def _files(folder: str | Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def _message(
    table: pd.DataFrame,
    image: str,
    missing: Bool[np.ndarray, " n"],
    folder: Path,
    pattern: list[str],
) -> str:
    first, n = int(missing.argmax()), len(table)
    name = table[image].iloc[first]
    row = row_name(table, first)
    is_blank = bool(_is_blank(table[image])[first])
    if is_blank:
        lines = [f"{row} has no {image!r}."]
    elif Path(str(name)).is_absolute():
        lines = [f"the image {quoted(name)} of {row} does not exist."]
    else:
        lines = [f"the image {quoted(name)} of {row} is not in {str(folder)!r}."]
    lines.append(f"{missing.sum():,} of {n:,} rows lack their image file.")
    lines += [] if is_blank else _hints(str(name), folder)
    lines += pattern
    lines.append(
        "Paths start from folder=, by default the table's folder (the working directory for a "
        "DataFrame)."
        if missing.all()
        else 'Pass on_missing="drop" to leave them out (the Report will count them).'
    )
    return " ".join(lines)


def _hints(name: str, folder: Path) -> list[str]:
    """Return where the first missing file may be instead: elsewhere, or by another suffix."""
    if "\\" in name and (folder / name.replace("\\", "/")).is_file():
        return [f"{name.replace(chr(92), '/')!r} is there: write paths with '/'."]
    wanted = folder / name
    stem = wanted.stem if wanted.suffix else wanted.name
    same = sorted(f for f in _files(wanted.parent) if f.startswith(f"{stem}."))
    if same:
        return [f"{same[0]!r} is there: another suffix?"]
    bases = list(_near(folder))
    for base in bases:
        if (base / name).is_file():
            return [f"Did you mean folder={str(base)!r}?"]
    for base in bases:
        if (base / wanted.name).is_file():
            return [f"A file {wanted.name!r} lies in {str(base)!r}: correct the paths."]
    return []


def _near(folder: Path) -> Iterator[Path]:
    """Yield folders in which a missing file may lie: here, below, above, beside."""
    yield Path.cwd()
    for home in (folder, folder.parent):
        yield home
        try:
            with os.scandir(home) as entries:
                below = sorted(e.name for e in entries if e.is_dir())
        except OSError:
            continue
        yield from (home / name for name in below[:NEARBY])


def _pattern(table: pd.DataFrame, missing: Bool[np.ndarray, " n"], columns: list[str]) -> list[str]:
    """Return a sentence if one level of a column holds more of the missing than chance gives it.

    Hypergeometric upper tail, Bonferroni over all levels of all columns, at 0.05: a hint to look,
    not a test of anything (rows of one patient count one by one).
    """
    from scipy.stats import hypergeom

    n, m = len(table), int(missing.sum())
    if m == n:
        return []
    found = []
    for column in columns:
        if not is_categorical(table[column]):
            continue
        for level, rows in table.groupby(column, observed=True).indices.items():
            of_level = int(missing[rows].sum())
            p = float(hypergeom.sf(of_level - 1, n, len(rows), m))
            found.append((p, of_level, len(rows), column, level))
    if not found or min(found, key=lambda f: f[0])[0] * len(found) >= 0.05:
        return []
    _, of_level, rows_of_level, column, level = min(found, key=lambda f: f[0])
    return [
        f"{of_level:,} of the {m:,} have {column} = {quoted(level)}, as {rows_of_level:,} of all "
        f"{n:,} rows do: files may be missing for a reason, such as the scanner."
    ]
