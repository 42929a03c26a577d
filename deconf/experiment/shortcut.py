"""A planted shortcut on real films: train where the confounder predicts disease, score the rest.

Training films are resampled so that most diseased films have one level of the confounder and most
healthy ones the other.  On untouched test patients the AUROC is then split by pairs: *aligned*
films follow the shortcut, *crossed* films contradict it.  A head that uses the shortcut is good on
the first and worse than chance on the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from deconf.causal.weights import balancing_weights
from deconf.cohort.cohort import Cohort
from deconf.cohort.splits import patient_split
from deconf.experiment.answer import Found, Job
from deconf.experiment.config import Setting, Shortcut
from deconf.front import deconfound
from deconf.maths.intervals import (
    interval,
    patient_weights,
    stratified_aurocs,
    weighted_aurocs,
)
from deconf.maths.maps import Adapter
from deconf.methods.base import methods, resolve
from deconf.methods.centre import Centre
from deconf.methods.invariant import InvariantRisk
from deconf.probes.head import choose_strength, fit_head

DRAWS = 1000
METRICS = ("overall", "aligned", "crossed", "within", "reads confounder")


@dataclass(frozen=True)
class Films:
    """The cohort as this protocol sees it.

    Attributes
    ----------
    cohort : Cohort
    ill : (n,) float
        1, 0, or NaN where the diagnosis is not known.
    exposed : (n,) bool
        The level of the confounder that will go with disease.
    confounder : str
    """

    cohort: Cohort
    ill: Float[ndarray, " n"]
    exposed: Bool[ndarray, " n"]
    confounder: str

    @classmethod
    def of(cls, cohort: Cohort, shortcut: Shortcut) -> Films:
        """Read the two columns."""
        column = cohort.table[shortcut.confounder].astype(str)
        ill = cohort.table[cohort.outcomes[0]].astype(float).to_numpy()
        return cls(cohort, ill, (column == shortcut.with_disease).to_numpy(), shortcut.confounder)

    @property
    def agrees(self) -> Bool[ndarray, " n"]:
        """Whether a film follows the shortcut."""
        agrees: ndarray = (self.ill == 1) == self.exposed
        return agrees

    def resampled(self, rows: Int[ndarray, " m"], counts: tuple[int, int], seed: int) -> ndarray:
        """Draw rows: counts[0] of each kind that agrees, counts[1] of each that does not.

        Without replacement, and a second film of a patient only where patients run out.
        """
        rng = np.random.default_rng(seed)
        drawn = []
        for ill, exposed in ((1, True), (0, False), (1, False), (0, True)):
            cell = rng.permutation(rows[(self.ill[rows] == ill) & (self.exposed[rows] == exposed)])
            first = np.sort(np.unique(self.cohort.patients[cell], return_index=True)[1])
            cell = np.concatenate([cell[first], np.delete(cell, first)])
            drawn.append(cell[: counts[0] if bool(ill) == exposed else counts[1]])
        return np.concatenate(drawn)


def run_shortcut(
    cohort: Cohort, shortcut: Shortcut, *, seed: int = 0, progress: Callable[[str], object] = str
) -> tuple[pd.DataFrame, list[str]]:
    """Return a tidy table (setting, method, metric, estimate, low, high, ...) and notes.

    Estimates are means over the splits; intervals and paired differences to raw come from a
    bootstrap over patients that reuses one set of draws in every split and for every method.
    """
    films = Films.of(cohort, shortcut)
    draws = np.vstack([np.ones(len(cohort)), patient_weights(cohort.patients, DRAWS, seed)])
    tables, notes = [], []
    for setting in shortcut.settings:
        areas: dict[str, list[ndarray]] = {}
        chosen: list[str] = []
        for split in range(shortcut.splits):
            progress(f"{setting.name}: split {split + 1} of {shortcut.splits}")
            train, test = patient_split(
                cohort.patients, shortcut.test_size, strata=_strata(films), seed=seed + split
            )
            test = test[~np.isnan(films.ill[test])]
            for name, score in _scores(films, shortcut, setting, train, test, split, chosen):
                areas.setdefault(name, []).append(_areas(films, test, score, draws[:, test]))
        tables.append(_tabled(setting.name, areas))
        picks, counts = np.unique(chosen, return_counts=True)
        told = ", ".join(f"{p} {c}x" for p, c in zip(picks, counts, strict=True))
        notes.append(f"{setting.name}: auto chose {told}.")
    return pd.concat(tables, ignore_index=True), notes


def _scores(
    films: Films,
    shortcut: Shortcut,
    setting: Setting,
    train: ndarray,
    test: ndarray,
    split: int,
    chosen: list[str],
) -> Iterator[tuple[str, Float[ndarray, " t"]]]:
    """Yield the name of a method and its disease scores of the test films."""
    z = films.cohort.embeddings.astype(np.float64)  # type: ignore[union-attr]
    labelled = train[~np.isnan(films.ill[train])]
    unknown = train[np.isnan(films.ill[train])]
    rows = films.resampled(labelled, (setting.majority, setting.minority), split)
    balanced = films.resampled(labelled, (shortcut.target_per_cell,) * 2, split)
    few, more = films.cohort.subset(rows), films.cohort.subset(np.concatenate([rows, unknown]))
    everything = films.cohort.subset(np.concatenate([labelled, unknown]))
    outcome, name = few.outcomes[0], films.confounder
    weights = balancing_weights(few.table, [name], [outcome]).values

    def head(clean: ndarray, on: ndarray, w: ndarray | None, raw: ndarray = z) -> ndarray:
        y = films.ill[on]
        strength = choose_strength(raw[on], y, weights=w, patients=films.cohort.patients[on])
        return fit_head(clean[on], y, weights=w, strength=strength).score(clean[test])

    def cleaned(cohort: Cohort, weighted: bool = False, **settings: object) -> ndarray:
        fitted = deconfound("stored", [name], **settings).fit(cohort)  # type: ignore[arg-type]
        if settings.get("method", "auto") == "auto" and cohort is more:
            chosen.append(fitted.method)
        own = fitted.weights is not None or weighted
        return head(fitted.embed(films.cohort), rows, weights if own else None)

    exposed = films.exposed[:, None].astype(float)
    yield "raw", head(z, rows, None)
    yield "metadata only", head(exposed, rows, None, exposed)
    yield (
        "centred per level, marginal (reads the level)",
        cleaned(few, method=Centre(rank="full"), given=(), at_inference=True),
    )
    yield "leace, marginal", cleaned(few, method="leace", given=())
    yield "leace, conditional", cleaned(few, method="leace", unlabelled=False)
    yield "leace, conditional, with undiagnosed films", cleaned(more, method="leace")
    yield "reweight", head(z, rows, weights)
    yield "auto", cleaned(more)
    for method in map(resolve, shortcut.shelf):
        called = method.registered_name
        reads = methods.card(called).needs_confounders
        fitted = deconfound("stored", [name], method=method, at_inference=reads).fit(more)
        own = fitted.map
        if isinstance(method, InvariantRisk) and isinstance(own, Adapter):
            with torch.inference_mode():
                score = own.score(torch.tensor(z[test]))[:, 0].numpy()
            yield f"{called}, its own head (selection: {method.selection})", score
        else:
            clean = fitted.embed(films.cohort)
            said = " (reads the level)" if reads else ""
            yield f"{called}, balanced head{said}", head(clean, rows, weights)
    yield "target: unconfounded training films", head(z, balanced, None)
    yield "ceiling: leace fitted with every label", cleaned(everything, method="leace")
    yield "ceiling: auto fitted with every label", cleaned(everything)


def _strata(films: Films) -> ndarray:
    kinds: ndarray = np.nan_to_num(films.ill, nan=2).astype(int) * 2 + films.exposed
    return kinds


def _areas(
    films: Films, test: ndarray, score: ndarray, draws: Float[ndarray, "b t"]
) -> Float[ndarray, "b metrics"]:
    ill, exposed, agrees = films.ill[test] == 1, films.exposed[test], films.agrees[test]
    columns = [
        weighted_aurocs(score, ill, draws),
        weighted_aurocs(score[agrees], ill[agrees], draws[:, agrees]),
        weighted_aurocs(score[~agrees], ill[~agrees], draws[:, ~agrees]),
        stratified_aurocs(score, ill, exposed, draws),
        stratified_aurocs(score, exposed, ill, draws),
    ]
    return np.stack(columns, axis=1)


def _tabled(setting: str, areas: dict[str, list[ndarray]]) -> pd.DataFrame:
    means = {name: np.nanmean(np.stack(found), axis=0) for name, found in areas.items()}
    lines = []
    for name, mean in means.items():
        spread = np.nanstd([found[0] for found in areas[name]], axis=0)
        for i, metric in enumerate(METRICS):
            own = interval(mean[1:, i], float(mean[0, i]))
            gap = mean[:, i] - means["raw"][:, i]
            gain = interval(gap[1:], float(gap[0]))
            lines.append(
                {
                    "setting": setting,
                    "method": name,
                    "metric": metric,
                    "estimate": own.estimate,
                    "low": own.low,
                    "high": own.high,
                    "minus_raw": gain.estimate,
                    "minus_raw_low": gain.low,
                    "minus_raw_high": gain.high,
                    "sd_over_splits": spread[i],
                    "splits": len(areas[name]),
                }
            )
    return pd.DataFrame(lines)


def answered(job: Job) -> Found:
    """Answer a config of this kind."""
    shortcut = job.config.shortcut
    if shortcut is None:
        raise ValueError("kind 'shortcut' needs a table of its own")
    if job.quick:
        shortcut = shortcut.model_copy(update={"splits": 2})
    table, told = run_shortcut(job.films, shortcut, seed=job.config.seed, progress=job.progress)
    text = _text(job.config, job.films, table, [*job.notes, *told])
    return Found(table, text, {"figure.png": lambda path: figure(table, path)})


def _text(config: Config, cohort: Cohort, table: pd.DataFrame, notes: list[str]) -> str:
    lines = [
        config.title,
        f"{len(cohort):,} films of {len(np.unique(cohort.patients)):,} patients; encoder: "
        f"{config.encoder}.",
        "AUROC of disease on test patients, mean over splits [95 % over patients]; the last column "
        "is how well the disease score tells the confounder among films alike in disease.",
    ]
    for setting, part in table.groupby("setting", sort=False):
        lines += ["", f"{setting} training films per kind"]
        width = max(len(m) for m in part["method"])
        metrics = list(dict.fromkeys(part["metric"]))
        lines.append(" " * (width + 2) + "".join(f"{m:>19}" for m in metrics))
        for method, rows in part.groupby("method", sort=False):
            cells = [f"{r.estimate:.3f} [{r.low:.2f}, {r.high:.2f}]" for r in rows.itertuples()]
            lines.append(f"{method:<{width + 2}}" + "".join(f"{c:>19}" for c in cells))
    return "\n".join([*lines, "", *notes])


def figure(table: pd.DataFrame, path: Path) -> None:
    """Draw aligned and crossed AUROC of every method: a pair that meets is a shortcut unlearnt."""
    from matplotlib.figure import Figure

    settings = list(dict.fromkeys(table["setting"]))
    methods = list(dict.fromkeys(table["method"]))
    fig = Figure(figsize=(5.2 * len(settings), 0.42 * len(methods) + 1.2), layout="constrained")
    axes = np.atleast_1d(fig.subplots(1, len(settings), sharey=True))
    colours = {"aligned": "#c8553d", "crossed": "#2a6f97", "within": "#6c757d"}
    for ax, setting in zip(axes, settings, strict=True):
        part = table[table["setting"] == setting]
        for metric, shift in (("aligned", -0.22), ("within", 0.0), ("crossed", 0.22)):
            rows = part[part["metric"] == metric].set_index("method").loc[methods]
            y = np.arange(len(methods)) + shift
            ax.hlines(y, rows["low"], rows["high"], color=colours[metric], lw=1.6, alpha=0.6)
            ax.plot(rows["estimate"], y, "o", ms=4.5, color=colours[metric], label=metric)
        ax.axvline(0.5, color="0.6", lw=0.8, ls=":")
        ax.set(xlim=(0, 1), xlabel="AUROC of disease on test patients", title=setting)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(left=False)
    axes[0].set_yticks(np.arange(len(methods)), methods)
    axes[0].invert_yaxis()
    axes[-1].legend(frameon=False, loc="lower left", fontsize=8)
    fig.savefig(path, dpi=130)
