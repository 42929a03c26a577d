"""What a method is: frozen settings with a `fit` that returns a map, and a card."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from deconf.encoders.tune import Tune
from deconf.errors import SettingsError
from deconf.maths.maps import EmbeddingMap
from deconf.maths.moments import Given
from deconf.methods.settings import check
from deconf.registry import Registry

methods = Registry("method")


@dataclass(frozen=True)
class MethodCard:
    """What a method promises and needs; read by `auto`, the docs table and the law tests.

    Parameters
    ----------
    guarantee : str
        What holds after fitting, in words.
    laws : tuple of str
        Which law tests apply: "idempotent", "equivariant", "recoding", "duplicates", "streams",
        "null" (data without confounding come back unchanged).
    needs : tuple of str
        "outcome", "levels" (categorical confounders only) or "pairs" (films of one patient at
        several levels; the laws below are then met in the tests of the method).
    streams : bool
        Fits from `CellMoments` alone.
    second_moments : bool
        Wants the scatter of each level, not of each stratum.
    needs_confounders : bool
        The map reads the confounder of a new image.
    head_weights : bool
        The method's answer lies in the weights of the head.
    dear : bool
        Fits networks or attackers: seconds where closed forms take milliseconds.
    cost : str
        Order of magnitude, in n, d, k.
    source : str
        The paper.
    """

    guarantee: str
    laws: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    streams: bool = False
    second_moments: bool = False
    needs_confounders: bool = False
    head_weights: bool = False
    dear: bool = False
    cost: str = "n d^2"
    source: str = ""


class Method(ABC):
    """Frozen settings; `fit` returns the fitted map and leaves nothing on the method.

    The kind of every setting is checked against its annotation before a method's own
    ``__post_init__``, if it has one, looks at the value.
    """

    registered_name: ClassVar[str]
    wanted: ClassVar[str] = "settings such as Aligned()"  # in a message on settings within settings

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("__post_init__")

        def __post_init__(self: Any) -> None:
            check(self)
            if own is not None:
                own(self)

        if own is not None or not hasattr(cls, "__post_init__"):
            cls.__post_init__ = __post_init__  # type: ignore[attr-defined]

    @classmethod
    def by_name(cls) -> Self:
        """Return the settings that the bare name stands for."""
        return cls()

    @abstractmethod
    def fit(
        self,
        z: Float[ndarray, "n d"],
        c: Float[ndarray, "n k"],
        *,
        given: Given | None = None,
        outcome: ndarray | None = None,
        weights: Float[ndarray, " n"] | None = None,
        patients: ndarray | None = None,
        seed: int = 0,
    ) -> EmbeddingMap:
        """Fit on training rows.

        Parameters
        ----------
        z : (n, d) array or tensor
            Embeddings.
        c : (n, k) float
            Design of the confounders (see `deconf.maths.design`).
        given : Given, optional
            Adjustment set; none is the marginal constraint.
        outcome : (n,) or (n, q), optional
            Outcomes, for methods that keep them.
        weights : (n,), optional
            Row weights; a weight of 2 is a row seen twice.
        patients : (n,), optional
            Patient of each row: the films of one patient count once where significance is judged.
        """


def as_arrays(
    z: Any, c: Any, given: Given | None, *, rows: int = 2
) -> tuple[Float[ndarray, "n d"], Float[ndarray, "n k"], Given]:
    """Check and convert what a method is handed; tensors become arrays."""
    z, c = numbers(z, "z"), numbers(c, "c").astype(np.float64, copy=False)
    if z.dtype not in (np.float32, np.float64):
        z = z.astype(np.float32)
    if c.ndim == 1:
        c = c[:, None]
    if z.ndim != 2 or len(z) != len(c) or len(z) < rows:
        raise SettingsError(
            f"fit needs z (n, d) and c (n, k) with n >= {rows}; got {z.shape} and {c.shape}."
        )
    given = given or Given.nothing(len(z))
    if len(given.codes) != len(z):
        raise SettingsError(f"given has {len(given.codes)} rows, z has {len(z)}.")
    return z, c, given


def tensor(x: ndarray) -> torch.Tensor:
    """Return an array as a tensor; read-only ones (a cohort's) are copied, as torch demands."""
    return torch.from_numpy(np.require(x, requirements=["C", "W"]))


def numbers(x: Any, name: str) -> ndarray:
    """Return an array or a tensor as an array of numbers.

    Raises
    ------
    SettingsError
        It holds words or other things, or rows of unequal length.
    """
    try:
        out = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)
        if out.dtype.kind not in "fiub":
            out = out.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{name} must be an array of numbers ({error}).") from error
    return out


def resolve(method: str | Method) -> Method:
    """Return a settings object from a registered name or from itself."""
    if isinstance(method, Method):
        return method
    if isinstance(method, str):
        settings: Method = methods[method].by_name()
        return settings
    raise SettingsError(
        f"method must be a name or a settings object such as LEACE(rank='full'), not {method!r}."
    )


def require_untuned(part: Method, setting: str) -> None:
    """Refuse a method within a method that is to train the encoder: nobody would.

    Raises
    ------
    SettingsError
        ``part`` has a ``tune=``.
    """
    tune = getattr(part, "tune", None)
    if Tune.of(tune) is not None:
        kind = type(part).__name__
        raise SettingsError(
            f"{setting} is {kind}(tune={tune!r}), and only the method itself trains an encoder, "
            f"never one within another: pass method={kind}(tune=...) to deconfound, or leave "
            f"tune='none' in {setting}."
        )
