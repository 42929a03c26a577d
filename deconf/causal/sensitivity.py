"""How a conclusion stands errors of the label and poor proxies, by making them worse on purpose.

The recorded label is not the disease.  How wrong it is is seldom known, so more error is put in: 5,
10 and 20 % of the labels are flipped, at random, and then among the films of one level of the
confounder alone, for reports are wrong in one view more often than in the other.  The rate at which
the conclusion turns says how much the answer leans on the label.  A proxy for severity is blurred
likewise, and the sets {Y}, {proxy} and {Y, proxy} are held in turn: where they agree, little hangs
on the choice.

Errors that are added say how fast a conclusion moves, not where it would stand without the error
there is already (Cook & Stefanski, "Simulation-extrapolation estimation in parametric measurement
error models", JASA 1994, extrapolate back; here nothing is extrapolated).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from deconf.causal.narrative import in_words
from deconf.errors import CohortError, SettingsError, did_you_mean, listing
from deconf.maths.intervals import factorised
from deconf.maths.kinds import codes, is_categorical, levels, numbers, said

Conclude = Callable[[pd.DataFrame, tuple[str, ...]], object]
"""``conclude(table, given)``: anything whose ``str()`` is a conclusion, such as a `Verdict`."""

SHARES = (0.05, 0.10, 0.20)
RELIABILITIES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
FIRM = 0.05
"""Share of draws in which a conclusion may turn and still be called firm."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """What became of a conclusion.

    Attributes
    ----------
    baseline : str
        The conclusion on the table as it is.
    table : DataFrame
        One row for each change: ``change`` in words, ``given``, ``amount``, ``draws``, ``turned``
        (share of draws with another conclusion) and ``mostly`` (the commonest one).
    """

    baseline: str
    table: pd.DataFrame

    @property
    def is_firm(self) -> bool:
        """Whether no change turns the conclusion in more than 5 % of its draws."""
        return bool((self.table["turned"] <= FIRM).all())

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def __str__(self) -> str:
        """Return what turns the conclusion, the least first, as sentences."""
        turns = self.table[self.table["turned"] > FIRM]
        tried = in_words(dict.fromkeys(self.table["change"]))
        if turns.empty:
            return f"The conclusion {self.baseline!r} stands under every change tried: {tried}."
        lines = [f"The conclusion {self.baseline!r} can turn (tried: {tried})."]
        for change, part in turns.groupby("change", sort=False):
            row = part.iloc[0]
            often = f"in {100 * row['turned']:.0f} % of {row['draws']} draws"
            if row["draws"] == 1:
                often = "there"
            lines.append(f"{change}, {row['amount']}: {often}, mostly to {row['mostly']!r}.")
        return "\n".join(lines)


def label_errors(
    table: pd.DataFrame,
    outcome: str,
    confounder: str,
    conclude: Conclude,
    *,
    given: Sequence[str] | None = None,
    shares: Sequence[float] = SHARES,
    repeats: int = 20,
    patient: str | None = None,
    seed: int = 0,
) -> Sensitivity:
    """Flip labels, at random and by level of the confounder, and conclude again.

    Parameters
    ----------
    table : DataFrame
    outcome : str
        A column of two values; missing ones stay missing.
    confounder : str
        Flips are also made among the rows of one of its levels alone.
    conclude : callable
        ``conclude(table, given)``, on a table whose outcome was changed.
    given : sequence of str, optional
        What is held; default the outcome.
    shares : sequence of float
        Share of the labels that are flipped.
    repeats : int
        Draws of each kind and share.
    patient : str, optional
        The labels of a patient are flipped together.
    seed : int

    Raises
    ------
    CohortError
        A column is absent, or the outcome has not two values.
    SettingsError
        A share or a number of draws is out of range.

    Examples
    --------
    >>> frame = pd.DataFrame({"ill": [0, 1] * 50, "site": ["A"] * 60 + ["B"] * 40})
    >>> def sicker_site(table, given):
    ...     return table.groupby("site")["ill"].mean().idxmax()
    >>> found = label_errors(frame, "ill", "site", sicker_site, repeats=5)
    >>> found.table["change"].unique().tolist()
    ['ill flipped at random', 'ill flipped where site=A', 'ill flipped where site=B']
    """
    _check(table, (outcome, confounder, *(given or ())), repeats)
    for share in shares:
        if not 0 < share < 1:
            raise SettingsError(f"shares={shares!r}: expected shares between 0 and 1, as 0.05.")
    values = levels(table[outcome])
    if len(values) != 2:
        raise CohortError(
            f"the outcome {outcome!r} has {len(values)} values ({listing(map(said, values), 6)}): "
            "labels are flipped between two. Make it a column of two."
        )
    held = (outcome,) if given is None else tuple(given)
    level, known = codes(table[confounder]) if is_categorical(table[confounder]) else ([], [])
    where: dict[str, npt.NDArray[np.bool_]] = {
        f"{outcome} flipped at random": np.ones(len(table), dtype=bool)
    }
    for k, name in enumerate(known):
        where[f"{outcome} flipped where {confounder}={said(name)}"] = np.asarray(level) == k
    unit = _units(table, patient)

    def changed(rows: npt.NDArray[np.bool_], share: float, rng: np.random.Generator) -> Any:
        flips = (rng.random(unit.max() + 1) < share)[unit] & rows & table[outcome].notna()
        new = table.copy()
        other = table[outcome].map({values[0]: values[1], values[1]: values[0]})
        new[outcome] = table[outcome].where(~flips, other.astype(table[outcome].dtype))
        return new

    def lines(baseline: str) -> Iterator[dict[str, object]]:
        for i, (change, rows) in enumerate(where.items()):
            for j, share in enumerate(shares):
                rngs = [np.random.default_rng([seed, i, j, r]) for r in range(repeats)]
                found = [str(conclude(changed(rows, share, rng), held)) for rng in rngs]
                yield _line(change, held, f"{100 * share:g} %", found, baseline)

    baseline = str(conclude(table, held))
    return Sensitivity(baseline, pd.DataFrame(lines(baseline)))


def proxy_range(
    table: pd.DataFrame,
    outcome: str,
    proxy: str,
    conclude: Conclude,
    *,
    reliabilities: Sequence[float] = RELIABILITIES,
    repeats: int = 10,
    patient: str | None = None,
    seed: int = 0,
) -> Sensitivity:
    """Hold {outcome}, {proxy} and both in turn, and the proxy at lower and lower reliability.

    A reliability r is the correlation of the proxy with a second reading of it: of a number, noise
    is added until its own variance is a share r of all; of categories, each is drawn anew from
    all of them with chance 1 - r.  What the table holds counts as r = 1.

    Parameters
    ----------
    table : DataFrame
    outcome, proxy : str
    conclude : callable
        ``conclude(table, given)``.
    reliabilities : sequence of float
        Down from 1.
    repeats : int
        Draws of each reliability below 1.
    patient : str, optional
        The proxy of a patient's films is changed together.
    seed : int

    Returns
    -------
    Sensitivity
        Against what is concluded holding both, the proxy as it is.

    Raises
    ------
    CohortError
        A column is absent.
    SettingsError
        A reliability or a number of draws is out of range.
    """
    _check(table, (outcome, proxy), repeats)
    for r in reliabilities:
        if not 0 < r <= 1:
            raise SettingsError(f"reliabilities={reliabilities!r}: expected numbers in (0, 1].")
    unit = _units(table, patient)
    baseline = str(conclude(table, (outcome, proxy)))

    def lines() -> Iterator[dict[str, object]]:
        alone = str(conclude(table, (outcome,)))
        yield _line(f"only {outcome} held", (outcome,), "as recorded", [alone], baseline)
        for given in ((proxy,), (outcome, proxy)):
            for j, r in enumerate(sorted(reliabilities, reverse=True)):
                draws = 1 if r == 1 else repeats
                found = []
                for k in range(draws):
                    rng = np.random.default_rng([seed, j, k])
                    new = table.assign(**{proxy: _blurred(table[proxy], r, unit, rng)})
                    found.append(str(conclude(new, given)))
                what = f"{in_words(given)} held"
                yield _line(what, given, f"reliability {r:g}", found, baseline)

    return Sensitivity(baseline, pd.DataFrame(lines()))


def _blurred(
    column: pd.Series[Any],
    reliability: float,
    unit: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Any:
    if reliability == 1:
        return column
    if is_categorical(column):
        present = column.dropna()
        drawn = rng.choice(len(present), unit.max() + 1)
        again = (rng.random(unit.max() + 1) < 1 - reliability)[unit] & column.notna().to_numpy()
        other = present.iloc[drawn[unit]].set_axis(column.index)
        return column.where(~again, other)
    values = numbers(column)
    size = np.sqrt(np.nanvar(values) * (1 - reliability) / reliability)
    return values + size * rng.standard_normal(unit.max() + 1)[unit]


def _line(
    change: str, given: tuple[str, ...], amount: str, found: Sequence[str], baseline: str
) -> dict[str, object]:
    others = Counter(one for one in found if one != baseline)
    return {
        "change": change,
        "given": ", ".join(given),
        "amount": amount,
        "draws": len(found),
        "turned": sum(others.values()) / len(found),
        "mostly": others.most_common(1)[0][0] if others else baseline,
    }


def _units(table: pd.DataFrame, patient: str | None) -> npt.NDArray[np.int64]:
    if patient is None:
        return np.arange(len(table))
    return np.asarray(factorised(table[patient].to_numpy()), dtype=np.int64)


def _check(table: pd.DataFrame, names: Sequence[str], repeats: int) -> None:
    for name in names:
        if name not in table.columns:
            raise CohortError(
                f"the table has no column {name!r}.{did_you_mean(name, table.columns)} "
                f"Columns: {listing(table.columns)}."
            )
    if repeats < 1:
        raise SettingsError(f"repeats={repeats!r}: expected one draw or more.")
