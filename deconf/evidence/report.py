"""The result of a comparison: numbers first, then text, JSON, and a page to read and print."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from deconf.errors import SettingsError, did_you_mean
from deconf.evidence.external import COLUMNS as EXTERNAL
from deconf.evidence.neighbourhoods import COLUMNS as NEAR
from deconf.evidence.pairs import COLUMNS as PAIRS
from deconf.evidence.pictures.atlas import Points, atlas
from deconf.evidence.questions import Questions
from deconf.evidence.sweep import COLUMNS as SWEEP
from deconf.evidence.verdict import Verdict

if TYPE_CHECKING:
    from deconf.evidence.pictures.films import Film

SUFFIXES = (".html", ".json", ".csv", ".parquet")


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What a comparison found.

    Attributes
    ----------
    leakage : DataFrame
        One row per representation, confounder, kind (conditional or marginal) and attacker:
        AUROC with interval, floor, p.
    verdict : mapping of (representation, confounder) to Verdict
        Held to the representation's own invariance; what else it is held to stands under the
        statement, such as ``"z ⊥ portable | severity"``.
    lost : DataFrame
        Effective rank, and how well columns nobody asked to erase are still read.
    out_of_span : DataFrame
        Share of each held-out level's mean shift that lies outside the erased directions.
    plans : mapping of cleaner to Plan
    names, baselines, reference
        The representations in order; those nobody passed; the one differences are taken to.
    confounders, tasks : tuple of str
    reasons, warnings : tuple of str
        What was left out, merged or assumed; what makes a figure mean less.
    config : mapping
        Settings, versions, fingerprint and size of the cohort; no patient.
    sweep : DataFrame
        AUROC of each representation while the association of confounder and outcome goes from
        that of the archive (``power`` 0) over none (1) to its reverse (2), with ``correlation``
        as it then is, a paired interval and ``difference`` to the raw embedding.
    pairs : DataFrame
        AUROC of each representation among aligned, crossed and same-level pairs of films, each
        with its share of all pairs; see `pair_split`.
    questions : Questions
        Whether each confounder can be read, is used by the prediction, and divides performance.
    external : DataFrame
        With ``hold_out``: the AUROC to expect at another site, and whether the same estimate held
        at each site that was left out; see `external`.
    neighbours : DataFrame
        What the neighbours of a held-out film share with it, disease or confounder; see
        `neighbourhoods`.
    points : Points or None
        Principal components of some held-out films; see `atlas`.
    films : tuple of Film
        Some of those films, where the cohort names image files.
    """

    table: pd.DataFrame
    leakage: pd.DataFrame
    verdict: Mapping[tuple[str, str], Verdict]
    lost: pd.DataFrame
    out_of_span: pd.DataFrame
    plans: Mapping[str, Any]
    names: tuple[str, ...]
    baselines: tuple[str, ...]
    reference: str
    confounders: tuple[str, ...]
    tasks: tuple[str, ...]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    config: Mapping[str, object]
    sweep: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SWEEP)))
    pairs: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(PAIRS)))
    questions: Questions = field(default_factory=Questions)
    external: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(EXTERNAL)))
    neighbours: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(NEAR)))
    points: Points | None = None
    films: tuple[Film, ...] = ()

    @cached_property
    def atlas(self) -> pd.DataFrame:
        """A map of held-out films in the plane: a picture, not evidence.

        One row per representation and film: ``x``, ``y``, and the level of each confounder and
        outcome in words; no patient, no file.  The same films for every representation.  Laid out
        on first use, two seconds for each representation of 600 films.
        """
        return atlas(Points({}, pd.DataFrame(), 0) if self.points is None else self.points)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per representation, task, metric and environment.

        ``selection`` says who chose penalty and epoch of an invariant-risk method, and is empty for
        any other.  Columns ``estimate``, ``low`` and ``high`` (95 %, by patient), ``n`` films of
        ``n_patients``, ``difference`` to the raw embedding with its paired interval, ``detectable``
        (the smallest difference that would have been found with 80 % power), ``status``
        ("ok" or "REFUSED") and ``reason``.  A refused figure is nan.
        """
        return self.table.copy()

    @property
    def plan(self) -> Mapping[str, str]:
        """The plan of each cleaner in plain English."""
        return {name: str(plan) for name, plan in self.plans.items()}

    def sentences(self) -> list[str]:
        """Return a sentence for each verdict and one for the price of each cleaning."""
        from deconf.evidence.narrative import price_sentences, verdict_sentences

        return [*verdict_sentences(self), *price_sentences(self)]

    def __str__(self) -> str:
        from deconf.evidence.narrative import tell

        return tell(self)

    def __repr__(self) -> str:
        return f"Report({', '.join(self.names)}; tasks {', '.join(self.tasks)})"

    def to_json(self) -> str:
        """Return every figure as JSON text; a figure that is not there is null.

        Pictures (``atlas`` and ``films``) are left out: they show single films.
        """
        return json.dumps(
            {
                "config": _plain(self.config),
                "confounders": self.confounders,
                "tasks": self.tasks,
                "representations": self.names,
                "baselines": self.baselines,
                "reference": self.reference,
                "sentences": self.sentences(),
                "verdicts": [
                    {
                        "representation": name,
                        "confounder": confounder,
                        "word": verdict.word,
                        "sentence": verdict.sentence,
                        "worst": verdict.worst,
                        "auroc": _plain(verdict.estimate.estimate),
                        "low": _plain(verdict.estimate.low),
                        "high": _plain(verdict.estimate.high),
                        "floor": _plain(verdict.floor),
                        "p": _plain(verdict.p),
                        "n": verdict.n,
                        "needed": verdict.needed,
                    }
                    for (name, confounder), verdict in self.verdict.items()
                ],
                "task": _records(self.table),
                "leakage": _records(self.leakage),
                "lost": _records(self.lost),
                "out_of_span": _records(self.out_of_span),
                "sweep": _records(self.sweep),
                "pairs": _records(self.pairs),
                "questions": _records(self.questions.to_frame()),
                "differences": _records(self.questions.differences()),
                "external": _records(self.external),
                "neighbours": _records(self.neighbours),
                "plans": self.plan,
                "reasons": self.reasons,
                "warnings": self.warnings,
            },
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
        )

    def save(self, path: str | Path) -> Path:
        """Write the report by its suffix: .html, .json, or the frame as .csv or .parquet.

        The .html file is complete in itself: it opens offline and prints on A4.

        Raises
        ------
        SettingsError
            Another suffix, or a folder that is not there.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise SettingsError(
                f"a report is saved as {', '.join(SUFFIXES)}, not {path.suffix or 'without suffix'}"
                f" ({path.name!r}).{did_you_mean(suffix, SUFFIXES)}"
            )
        if not path.parent.is_dir():
            raise SettingsError(f"there is no folder {str(path.parent)!r}: make it first.")
        if suffix == ".html":
            from deconf.evidence.page.page import page

            path.write_text(page(self), encoding="utf-8")
        elif suffix == ".json":
            path.write_text(self.to_json(), encoding="utf-8")
        elif suffix == ".csv":
            self.table.to_csv(path, index=False)
        else:
            self.table.to_parquet(path, index=False)
        return path


def _records(frame: pd.DataFrame) -> list[Any]:
    return [_plain(row) for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    """Return JSON types; nan becomes null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
