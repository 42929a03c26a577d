"""Any method as a scikit-learn transformer: for pipelines, cross-validation and grid search.

One frame ``X`` holds the embedding and, beside it, the columns that the cleaning is about: the
confounders, what is held, the patient.  They are named, as everywhere in deconf, and taken out
again, so that the next step of a pipeline sees the clean embedding and nothing else.  Because they
are columns of ``X``, every split that scikit-learn makes splits them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Self
from warnings import warn

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import (
    FLOAT_DTYPES,
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from deconf.causal.graph import CausalGraph
from deconf.cohort.cohort import Cohort
from deconf.encoders.deconfounded import design_of
from deconf.encoders.saved import SavedPlan
from deconf.errors import SettingsError, did_you_mean, listing
from deconf.front import FEWEST_ROWS, deconfound
from deconf.maths.design import Encoding
from deconf.maths.maps import AffineMap, EmbeddingMap
from deconf.methods.base import Method, methods, resolve


class ColumnsError(SettingsError, ValueError):
    """The columns of ``X`` are not as named; a ValueError, as scikit-learn asks."""


def _is_readable(column: pd.Series[Any]) -> bool:
    """Whether a column holds numbers, be it as objects or as text."""
    return bool(pd.to_numeric(column, errors="coerce").notna().eq(column.notna()).all())


class Cleaner(TransformerMixin, BaseEstimator):
    """Remove confounders from the embedding columns of ``X``, as a step of a pipeline.

    Every column of ``X`` that is not named is embedding: the confounders, ``given``, ``patient``
    and each node of the graph are taken out and are not passed on.  The outcome is ``y``: by
    default it is held fixed (z ⊥ c | y), as in `deconfound`.

    At prediction the named columns must be there, and may be empty: only maps that read the
    confounder of a new image (``at_inference=True``) look at them.

    Parameters
    ----------
    confounders : column or columns
        Names of columns of a DataFrame, or positions.  Without any, nothing is removed.
    method : str, settings object or None
        See ``deconf.methods.names()``; its settings are parameters too, ``method__rank``.  None
        takes the named columns out and changes nothing: the raw embedding, to compare with.
    graph : text or CausalGraph, optional
        Node names are column names, and the name of ``y`` where it is a Series (else ``"y"``).
    given : column or columns, optional
        Your own adjustment set instead of the graph's; ``()`` holds nothing, not even ``y``.
    patient : column, optional
        The films of one patient count once where significance is judged.  Pass the same column as
        ``groups`` to `GroupKFold`: this one does not split.
    at_inference : bool
        Whether maps may read the confounder of a new image.
    unlabelled : bool
        See `deconfound`.
    seed : int

    Attributes
    ----------
    map_ : EmbeddingMap
    method_ : str
        What was fitted; for "auto", what it chose.
    plan_ : SavedPlan
        What was asked for, and whether the data allow it; print it.
    reasons_ : tuple of str
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Raises
    ------
    ValueError
        No embedding column is left, fewer than 20 rows, or the embedding is not finite.
    SettingsError
        A column or method is unknown, or the method answers with head weights (``reweight``) or
        with a head of its own (``dfr``).
    NotIdentified
        The graph yields no adjustment set.

    Warns
    -----
    OverlapWarning
        As `deconfound`: the map extrapolates.
    UserWarning
        No confounder is named; the method learns a head (``irm``), which a pipeline drops.

    Examples
    --------
    >>> import deconf, pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GroupKFold, cross_validate
    >>> from sklearn.pipeline import make_pipeline
    >>> films = deconf.worlds.linear(n=600, d=24).train().cohort
    >>> X = films.table[["portable"]].join(pd.DataFrame(films.embeddings).add_prefix("z"))
    >>> pipe = make_pipeline(deconf.Cleaner("portable", method="leace"), LogisticRegression())
    >>> found = cross_validate(
    ...     pipe, X, films.table["pneumonia"], groups=films.patients, cv=GroupKFold(3)
    ... )
    >>> bool(found["test_score"].mean() > 0.6)
    True
    """

    def __init__(
        self,
        confounders: str | int | Sequence[str | int] = (),
        *,
        method: str | Method | None = "auto",
        graph: str | CausalGraph | None = None,
        given: str | int | Sequence[str | int] | None = None,
        patient: str | int | None = None,
        at_inference: bool = False,
        unlabelled: bool = True,
        seed: int = 0,
    ) -> None:
        self.confounders = confounders
        self.method = method
        self.graph = graph
        self.given = given
        self.patient = patient
        self.at_inference = at_inference
        self.unlabelled = unlabelled
        self.seed = seed

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit on training rows.

        Parameters
        ----------
        X : (n, p) DataFrame or array
            Embedding columns and the named ones.
        y : (n,) or (n, q), optional
            Outcome or outcomes; values may be missing.
        """
        z, table = self._parted(X, reset=True)
        confounders = self._named(self.confounders)
        self.plan_ = SavedPlan("nothing was asked to be removed", True, {})
        self.map_: EmbeddingMap = AffineMap.identity(z.shape[1])
        self.encoding_: Encoding | None = None
        self.method_ = "none"
        self.reasons_: tuple[str, ...] = ()
        if not confounders:
            warn(
                "Cleaner() names no confounder: nothing is removed. Say which columns of X are "
                "confounders, Cleaner(['site']).",
                UserWarning,
                stacklevel=2,
            )
        if not confounders or self.method is None:
            return self
        method = resolve(self.method)
        learns_head = hasattr(method, "selection")
        if learns_head and methods.card(method.registered_name).head_weights:
            raise SettingsError(
                f"the answer of {method.registered_name!r} is a head of its own, which a pipeline "
                "does not carry on: deconfound(...).fit(cohort).map.score is it. Or choose a "
                "method that edits the embedding."
            )
        if learns_head:
            warn(
                f"the head that {method.registered_name!r} learns is not used in a pipeline: only "
                "its embedding is, and whatever comes next is fitted anew, by the mean risk. "
                "deconfound(...).fit(cohort).map.score has its own.",
                UserWarning,
                stacklevel=2,
            )
        elif methods.card(method.registered_name).head_weights:
            raise SettingsError(
                f"the method {method.registered_name!r} answers with weights of the head, which a "
                "pipeline does not carry on. Use deconfound(...).fit(cohort).weights as "
                "sample_weight, or a method that edits the embedding."
            )
        check_array(z, ensure_min_samples=FEWEST_ROWS, estimator=self, input_name="X")
        outcomes = self._outcomes(y, table)
        cohort = Cohort.from_arrays(
            z,
            table.join(outcomes),
            patient=None if self.patient is None else self._named(self.patient)[0],
            outcome=list(outcomes.columns) or None,
        )
        clean = deconfound(
            "stored",
            confounders,
            graph=self.graph,
            given=None if self.given is None else self._named(self.given),
            method=method,
            at_inference=self.at_inference,
            unlabelled=self.unlabelled,
            seed=self.seed,
        ).fit(cohort)
        self.map_, self.encoding_ = clean.map, clean.encoding
        self.method_, self.reasons_ = clean.method, clean.reasons
        plan = clean.plan
        self.plan_ = SavedPlan(str(plan), plan.is_identified, dict(plan.invariances))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the clean embedding (n, d); the named columns are gone."""
        check_is_fitted(self)
        z, table = self._parted(X, reset=False)
        c = None
        if self.map_.needs_confounders and self.encoding_ is not None:
            c = torch.tensor(design_of(self.encoding_, table))
        with torch.inference_mode():
            tensor = torch.tensor(z)
            out: np.ndarray = (self.map_(tensor) if c is None else self.map_(tensor, c)).numpy()
        return out

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the embedding columns."""
        check_is_fitted(self)
        names = self._names()
        given = names if input_features is None else [str(name) for name in input_features]
        if len(given) != len(names) or (hasattr(self, "feature_names_in_") and given != names):
            raise ColumnsError(
                "input_features is not equal to feature_names_in_: it should have length equal to "
                f"the {len(names)} columns of the fit."
            )
        taken = set(self._taken())
        kept = [g for g, name in zip(given, names, strict=True) if name not in taken]
        return np.array(kept, dtype=object)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, with ``deep`` also the settings of the method."""
        own: dict[str, Any] = super().get_params(deep=False)
        settings = self._settings() if deep else None
        if settings is not None:
            own |= {f"method__{f.name}": getattr(settings, f.name) for f in fields(settings)}
        return own

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``method__rank`` changes one setting of the method."""
        nested = {k.split("__", 1)[1]: v for k, v in params.items() if k.startswith("method__")}
        super().set_params(**{k: v for k, v in params.items() if not k.startswith("method__")})
        if not nested:
            return self
        settings = self._settings()
        known = [f.name for f in fields(settings)] if settings is not None else []
        for name in nested:
            if name not in known:
                raise ColumnsError(
                    f"Invalid parameter 'method__{name}' for the method {self.method!r}."
                    f"{did_you_mean(name, known)} Its settings: {listing(known) or 'none'}."
                )
        self.method = replace(settings, **nested)
        return self

    def _settings(self) -> Any:
        """Return the settings of the method, or None where they are not known."""
        if isinstance(self.method, str) and self.method in methods:
            return resolve(self.method)
        return self.method if is_dataclass(self.method) else None

    def _parted(self, X: Any, *, reset: bool) -> tuple[np.ndarray, pd.DataFrame]:
        """Return the embedding (n, d) and the named columns, both checked."""
        if not isinstance(X, pd.DataFrame):
            X = validate_data(self, X, reset=reset, dtype=FLOAT_DTYPES, ensure_all_finite=False)
            X = pd.DataFrame(X, columns=[f"x{k}" for k in range(X.shape[1])], copy=False)
        else:
            validate_data(self, X, reset=reset, skip_check_array=True)
            X = X.set_axis(self._names(), axis=1)
        taken = self._taken()
        left = X.columns.difference(taken, sort=False)
        if not len(left):
            raise ColumnsError(
                f"X has {X.shape[1]} feature(s), all of them named as {listing(taken)}: no "
                "embedding is left to clean."
            )
        words = [str(n) for n in left if not _is_readable(X[n])]
        if words and len(words) < len(left):
            raise ColumnsError(
                f"{listing(words)} of X {'hold' if words[1:] else 'holds'} no numbers and cannot "
                "belong to the embedding: name it in Cleaner(..., patient=, given=) or as a "
                "confounder, or leave it out."
            )
        z = check_array(X[left], dtype=FLOAT_DTYPES, estimator=self, input_name="X")
        return z, X[taken].reset_index(drop=True)

    def _names(self) -> list[str]:
        """Return the columns of the fit by name; x0, x1, ... where ``X`` has no names."""
        names: Any = getattr(self, "feature_names_in_", None)
        if names is not None:
            return [str(name) for name in names]
        return [f"x{k}" for k in range(self.n_features_in_)]

    def _taken(self) -> list[str]:
        """Return the columns that are no embedding."""
        found = self._named(self.confounders) + self._named(self.given)
        found += self._named(self.patient)
        if self.graph is not None:
            graph = CausalGraph.parse(self.graph) if isinstance(self.graph, str) else self.graph
            nodes = set(graph.nodes)
            found += [name for name in self._names() if name in nodes]
        return list(dict.fromkeys(found))

    def _named(self, columns: str | int | Sequence[str | int] | None) -> list[str]:
        """Return columns by name, positions too."""
        names = self._names()
        several = [columns] if isinstance(columns, str | int | np.integer) else columns or ()
        found = []
        for column in several:
            if isinstance(column, int | np.integer) and -len(names) <= column < len(names):
                found.append(names[column])
            elif column in names:
                found.append(str(column))
            else:
                raise ColumnsError(
                    f"X has no column {column!r}.{did_you_mean(str(column), names)} "
                    f"It has {len(names)} feature(s): {listing(names)}."
                )
        return found

    def _outcomes(self, y: Any, table: pd.DataFrame) -> pd.DataFrame:
        """Return the outcomes as columns, under the names by which a graph may call them."""
        if y is None:
            return pd.DataFrame(index=table.index)
        check_consistent_length(table, y)
        if isinstance(y, pd.Series):
            y = y.to_frame("y" if y.name is None else str(y.name))
        elif not isinstance(y, pd.DataFrame):
            y = np.asarray(y)
            y = y.ravel() if y.ndim == 1 or y.shape[1] == 1 else y
            columns = ["y"] if y.ndim == 1 else [f"y{k}" for k in range(y.shape[1])]
            y = pd.DataFrame(y.reshape(len(y), -1), columns=columns)
        taken: Mapping[str, Any] = dict.fromkeys(self._names())
        for name in y.columns:
            if name in taken:
                raise ColumnsError(
                    f"the outcome {name!r} is a column of X too: leave it out of X, or the next "
                    "step would be handed the answer."
                )
        return y.reset_index(drop=True)
