"""Who takes part in a comparison, and what each makes of the training patients of a fold.

Every contender answers one question: given these training rows, what are the embeddings of the
training and the test rows, and with which weights is the head to be trained.  An unfitted cleaner
is refitted each time; an encoder, an array or a cleaner fitted elsewhere is what it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from deconf.causal.weights import balancing_weights
from deconf.cohort.cohort import Cohort
from deconf.errors import CohortError, OverlapWarning, listing
from deconf.evidence.leakage import embedded
from deconf.evidence.own_head import OwnHead, own_head
from deconf.maths.design import Encoding
from deconf.maths.maps import AffineMap


@dataclass(frozen=True)
class Learned:
    """What a contender made of one split.

    Attributes
    ----------
    train, test : (n_train, d) and (n_test, d)
    base : (n_train, d0)
        The raw embedding of the training rows, on which the ridge of the head is chosen.
    origin : str
        Names the base, so that one choice serves all who share it.
    weights : (n_train,) or None
        Head weights.
    map : the fitted map, or None
    cautions : tuple of str
        Overlap warnings of the fit.
    head : OwnHead or None
        The head that was trained with the map, where that is the answer of the method.
    """

    train: np.ndarray
    test: np.ndarray
    base: np.ndarray
    origin: str
    weights: np.ndarray | None = None
    map: Any = None
    cautions: tuple[str, ...] = ()
    head: OwnHead | None = None


class Contender(Protocol):
    """Anything that can be compared."""

    def learn(self, train: np.ndarray, test: np.ndarray, seed: int) -> Learned:
        """Learn from training rows; embed both."""


@dataclass(frozen=True)
class Fixed:
    """An embedding that nobody fits here: an encoder's, somebody's array, a cleaner fitted before.

    ``base`` is what it was made of, where that is known; ``head`` is its own.
    """

    z: np.ndarray
    origin: str
    base: np.ndarray | None = None
    head: OwnHead | None = None

    def learn(self, train: np.ndarray, test: np.ndarray, seed: int) -> Learned:
        """Take the rows."""
        del seed
        base = self.z if self.base is None else self.base
        return Learned(self.z[train], self.z[test], base[train], self.origin, head=self.head)


@dataclass(frozen=True)
class Refitted:
    """An unfitted cleaner, and the cohort with the raw embedding it works on."""

    cleaner: Any
    source: Cohort
    base: np.ndarray | None
    origin: str

    def learn(self, train: np.ndarray, test: np.ndarray, seed: int) -> Learned:
        """Fit on the training rows, embed both; the guard of the fitted cleaner is asked."""
        del seed  # the cleaner has its own
        learning, judged = self.source.subset(train), self.source.subset(test)
        with overlap_warnings() as cautions:
            fitted = self.cleaner.fit(learning)
            seen = as_array(fitted.embed(learning))
            unseen = embedded(fitted, judged)
        weights = getattr(fitted, "weights", None)
        return Learned(
            train=seen,
            test=unseen,
            base=seen if self.base is None else self.base[train],
            origin=self.origin,
            weights=None if weights is None else as_array(weights),
            map=getattr(fitted, "map", None),
            cautions=tuple(cautions),
            head=own_head(fitted, learning.table),
        )


@dataclass(frozen=True)
class Metadata:
    """No image at all: the recorded confounders and covariates, one-hot or standardised.

    What it reaches is what a representation reaches by knowing the workflow alone.  A level never
    met in training is all zeros.
    """

    cohort: Cohort
    columns: tuple[str, ...]

    @cached_property
    def table(self) -> Any:
        """The columns in question."""
        return self.cohort.table[list(self.columns)]

    def learn(self, train: np.ndarray, test: np.ndarray, seed: int) -> Learned:
        """Encode by the training rows."""
        del seed
        encoding = Encoding.of(self.table.iloc[train], self.columns)
        seen, _ = encoding.encode(self.table.iloc[train])
        unseen, _ = encoding.encode(self.table.iloc[test])
        return Learned(seen, unseen, seen, "metadata")


@dataclass(frozen=True)
class RandomProjection:
    """The raw embedding without as many random directions as the cleaner removed."""

    z: np.ndarray
    rank: int
    origin: str

    def learn(self, train: np.ndarray, test: np.ndarray, seed: int) -> Learned:
        """Project onto the complement of random directions, drawn by the seed."""
        rank = min(self.rank, self.z.shape[1] - 1)
        draw = np.random.default_rng(seed).normal(size=(self.z.shape[1], rank))
        gone = np.linalg.qr(draw)[0].astype(self.z.dtype)
        left = [z - (z @ gone) @ gone.T for z in (self.z[train], self.z[test])]
        return Learned(left[0], left[1], self.z[train], self.origin)


@dataclass(frozen=True)
class Reweighted:
    """The raw embedding; the head is trained on films weighted by  P(c) / P(c | s)."""

    cohort: Cohort
    z: np.ndarray
    confounders: tuple[str, ...]
    given: tuple[str, ...]
    origin: str

    def learn(self, train: np.ndarray, test: np.ndarray, seed: int) -> Learned:
        """Weigh the training rows."""
        found = balancing_weights(
            self.cohort.table.iloc[train].reset_index(drop=True),
            self.confounders,
            self.given,
            patient=self.cohort.roles["patient"],
            seed=seed,
        )
        if not found.values.any():
            raise CohortError(
                f"no training film has {listing([*self.confounders, *self.given])} all recorded: "
                "there is nothing to weigh by."
            )
        z = self.z
        return Learned(z[train], z[test], z[train], self.origin, weights=found.values)


@dataclass(frozen=True)
class Refused:
    """A contender that must not run, and why."""

    reason: str

    def learn(self, train: np.ndarray, test: np.ndarray, seed: int) -> Learned:
        """Raise."""
        del train, test, seed
        raise CohortError(self.reason)


def erased_directions(fitted: Any) -> np.ndarray | None:
    """Return an orthonormal basis (d, r) of what an affine map takes away; None for any other."""
    links = getattr(fitted, "maps", None)
    parts = list(links) if links is not None else [fitted]
    if not parts or not all(isinstance(part, AffineMap) for part in parts):
        return None
    found = [as_array(part.left) for part in parts]
    u, size, _ = np.linalg.svd(np.hstack(found), full_matrices=False)
    # 1e-9 of the longest: directions that are combinations of the others.
    return u[:, size > 1e-9 * size.max(initial=0.0)]


def rank_of(fitted: Any) -> int | None:
    """Return how many directions a map removes, summed over a chain; None where it cannot say."""
    links = getattr(fitted, "maps", None)
    ranks = [getattr(part, "rank", None) for part in (links if links is not None else [fitted])]
    return None if None in ranks else sum(int(rank) for rank in ranks if rank is not None)


@contextmanager
def overlap_warnings() -> Iterator[list[str]]:
    """Collect overlap warnings, which the report repeats; let every other warning through."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    for one in caught:
        if issubclass(one.category, OverlapWarning):
            said.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def as_array(x: Any) -> np.ndarray:
    """Return a tensor on any device, or anything else, as an array."""
    return x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)
