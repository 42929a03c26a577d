"""Out-of-fold scores: in every fold every contender learns, its heads train, test rows are scored.

A method whose answer is its own head is judged by it; see `deconf.evidence.own_head`.

The ridge of a head is chosen once per fold and weighting, on the raw embedding, so that a cleaned
embedding is not helped by its own choice; see `deconf.probes.head`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deconf.errors import CohortError, NotIdentified
from deconf.evidence.contenders import (
    Contender,
    Learned,
    RandomProjection,
    erased_directions,
    rank_of,
)
from deconf.evidence.folds import Fold
from deconf.evidence.lost import outside_span
from deconf.evidence.own_head import OwnHead, risk_of, selection_of
from deconf.evidence.tasks import Scores, Task, one_class
from deconf.probes.head import Head, choose_strength, fit_head


@dataclass
class Ledger:
    """What the folds brought in, task by task.

    Attributes
    ----------
    scores, frozen : {task: {representation: Scores}}
        ``frozen``: the head of the raw embedding, put on the cleaned one.
    refusals : {task: {representation: {fold: reason}}}
    ranks : {representation: directions removed, one number a fold}
    spans : rows of representation, held-out part, share out of span
    fits : {representation: for each fit, whether it warned of overlap}
    own : {representation: {task: for each fold, whether it was judged by a head of its own}}
    """

    rows: int
    scores: dict[str, dict[str, Scores]] = field(default_factory=dict)
    frozen: dict[str, dict[str, Scores]] = field(default_factory=dict)
    refusals: dict[str, dict[str, dict[int, str]]] = field(default_factory=dict)
    ranks: dict[str, list[int]] = field(default_factory=dict)
    spans: list[dict[str, object]] = field(default_factory=list)
    fits: dict[str, list[bool]] = field(default_factory=dict)
    own: dict[str, dict[str, list[bool]]] = field(default_factory=dict)

    def note(self, book: dict[str, dict[str, Scores]], task: Task, name: str) -> Scores:
        """Return the page of a representation, blank at first."""
        blank = Scores(np.full(self.rows, np.nan), np.zeros(self.rows))
        return book.setdefault(task.name, {}).setdefault(name, blank)

    def edits(self, task: Task, reference: str) -> dict[str, Scores]:
        """Return the pages of ``frozen`` that differ from raw at all."""
        raw = self.note(self.scores, task, reference).logit
        return {
            name: page
            for name, page in self.frozen.get(task.name, {}).items()
            if not np.array_equal(page.logit, raw, equal_nan=True)
        }

    def refuse(self, task: Task, name: str, fold: int, reason: str) -> None:
        """Enter a refusal; the first reason stands."""
        self.refusals.setdefault(task.name, {}).setdefault(name, {}).setdefault(fold, reason)


def learn_all(
    contenders: Mapping[str, Contender], part: Fold, *, fallback_rank: int, seed: int
) -> tuple[dict[str, Learned], dict[str, str]]:
    """Let every contender learn from a split; return what they learned, and who was refused why.

    The random projection comes last: it removes as many directions as the cleaner that removed
    the most, or ``fallback_rank`` where no cleaner can say.
    """
    learned: dict[str, Learned] = {}
    refused: dict[str, str] = {}
    order = sorted(contenders, key=lambda name: isinstance(contenders[name], RandomProjection))
    for name in order:
        contender = contenders[name]
        if isinstance(contender, RandomProjection):
            ranks = [rank_of(one.map) for one in learned.values() if one.map is not None]
            known = [rank for rank in ranks if rank is not None]
            contender = replace(contender, rank=max(known, default=fallback_rank))
        try:
            learned[name] = contender.learn(part.train, part.test, seed)
        except (NotIdentified, CohortError) as error:
            refused[name] = str(error).rstrip(".")
    return {name: learned[name] for name in contenders if name in learned}, refused


def score_fold(
    ledger: Ledger,
    contenders: Mapping[str, Contender],
    tasks: Sequence[Task],
    number: int,
    part: Fold,
    *,
    reference: str,
    fallback_rank: int,
    seed: int,
) -> None:
    """Enter one fold into the ledger."""
    if part.refused:
        for task in tasks:
            for name in contenders:
                ledger.refuse(task, name, number, part.refused)
        return
    learned, refused = learn_all(contenders, part, fallback_rank=fallback_rank, seed=seed)
    for name, one in learned.items():
        if one.map is not None:
            ledger.fits.setdefault(name, []).append(bool(one.cautions))
        _note_map(ledger, name, one, learned.get(reference), part)
    score_learned(ledger, learned, refused, tasks, number, part, reference=reference, seed=seed)


def score_learned(
    ledger: Ledger,
    learned: Mapping[str, Learned],
    refused: Mapping[str, str],
    tasks: Sequence[Task],
    number: int,
    part: Fold,
    *,
    reference: str,
    seed: int,
) -> None:
    """Train the heads of one fold on what was learned there, and enter their scores.

    Parameters
    ----------
    refused : mapping of representation to reason
        Those that learned nothing here.
    """
    for task in tasks:
        why = _single_class(task, part)
        for name in [*learned, *refused]:
            if why or name in refused:
                ledger.refuse(task, name, number, why or refused[name])
        if not why:
            _score(ledger, learned, task, number, part, reference=reference, seed=seed)


def _score(
    ledger: Ledger,
    learned: Mapping[str, Learned],
    task: Task,
    number: int,
    part: Fold,
    *,
    reference: str,
    seed: int,
) -> None:
    known = np.flatnonzero(~np.isnan(task.y[part.train]))
    y, patients = task.y[part.train][known], task.patients[part.train][known]
    strengths: dict[tuple[str, bytes], float] = {}
    heads: dict[str, Head] = {}
    for name, one in learned.items():
        has_own = one.head is not None and one.head.outcome == task.name
        ledger.own.setdefault(name, {}).setdefault(task.name, []).append(has_own)
        if one.head is not None and has_own:
            share = float(np.mean(y)) if one.head.share is None else one.head.share
            _enter(ledger.note(ledger.scores, task, name), part, one.head, one, share)
            continue
        weights = None if one.weights is None else np.asarray(one.weights, dtype=float)[known]
        key = one.origin, b"" if weights is None else weights.tobytes()
        if key not in strengths:
            strengths[key] = choose_strength(
                one.base[known], y, weights=weights, patients=patients, seed=seed
            )
        try:
            heads[name] = fit_head(one.train[known], y, weights=weights, strength=strengths[key])
        except CohortError as error:  # its weights leave one class only
            ledger.refuse(task, name, number, str(error))
            continue
        share = float(np.average(y, weights=weights))
        _enter(ledger.note(ledger.scores, task, name), part, heads[name], one, share)
    if reference not in heads:
        return
    raw = learned[reference]
    for name, one in learned.items():
        if one.origin == raw.origin and one.test.shape == raw.test.shape:
            page = ledger.note(ledger.frozen, task, name)
            _enter(page, part, heads[reference], one, float(y.mean()))


def _enter(page: Scores, part: Fold, head: Head | OwnHead, one: Learned, share: float) -> None:
    page.logit[part.test] = head.score(one.test)
    page.base[part.test] = np.log(share / (1 - share))


def heads_told(
    cleaners: Mapping[str, Any], ledger: Ledger, called: Mapping[str, str] | None = None
) -> list[str]:
    """Return by which heads the invariant-risk methods among some cleaners were judged.

    Parameters
    ----------
    called : mapping of name to str, optional
        What the cleaners are called in words, where the names of the ledger are not that.
    """
    told = []
    for name, cleaner in cleaners.items():
        if risk_of(cleaner) is None:
            continue
        rule = f"; selection {selection_of(cleaner) or 'not known'}"
        for task, own in ledger.own.get(name, {}).items():
            head = f"in {sum(own)} of {len(own)} folds by its own head, else by a fresh one"
            if all(own):
                head = "by the head that was trained with the map"
            elif not any(own):
                head = "by a fresh head, since its own is not for this task or not at hand"
            again = "" if all(own) else ", which finds again what the map left"
            told.append(f"{(called or {}).get(name, name)}: {task} is judged {head}{again}{rule}")
    return told


def _single_class(task: Task, part: Fold) -> str:
    for rows, where in ((part.train, "training"), (part.test, "test")):
        only = one_class(task.y, rows)
        if only is not None:
            value = f"no recorded {task.name}" if np.isnan(only) else f"only {task.name}={only:g}"
            return f"its {where} part holds {value}"
    return ""


def _note_map(ledger: Ledger, name: str, one: Learned, raw: Learned | None, part: Fold) -> None:
    if one.map is None:
        return
    rank = rank_of(one.map)
    if rank is not None:
        ledger.ranks.setdefault(name, []).append(rank)
    directions = erased_directions(one.map)
    is_same = raw is not None and raw.origin == one.origin
    if raw is None or directions is None or not is_same or "=" not in part.name:
        return
    share = outside_span(raw.test, raw.train, directions)
    ledger.spans.append({"representation": name, "held out": part.name, "share": share})
