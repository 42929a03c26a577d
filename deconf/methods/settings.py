"""The kind of every setting, checked against the annotations of the frozen dataclass that has it.

What a setting must lie between its method says itself; that a width is a whole number is said once,
here, and so is what a file or a command line may write: a list for a tuple, a table for settings
within settings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from deconf.errors import SettingsError, did_you_mean, listing

WORDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a word",
    NoneType: "None",
}
LONG = 60  # characters of a value that a message repeats


def check(settings: Any) -> None:
    """Check the kind of every field of a frozen dataclass, for its ``__post_init__``.

    Numbers of numpy become Python's, lists become tuples and mappings the settings they stand for,
    so that equal settings are equal and can be written down.

    Raises
    ------
    SettingsError
        Naming the setting, its value and what is expected.
    """
    own: type = type(settings)
    for name, kind in _kinds(own).items():
        value = getattr(settings, name)
        plain = _plain(value, kind)
        if not _fits(plain, kind):
            words = [v for one in _arms(kind) for v in get_args(one) if get_origin(one) is Literal]
            hint = did_you_mean(value, words) if isinstance(value, str) else ""
            raise SettingsError(f"{name} is {_expected(kind)}, not {_said(value)}.{hint}")
        if plain is not value:
            object.__setattr__(settings, name, plain)


def check_names(written: Iterable[str], kind: type, what: str) -> None:
    """Refuse names that are no settings of a dataclass, by the name of what it sets.

    Raises
    ------
    SettingsError
        With the nearest setting there is, and all of them.
    """
    known = [f.name for f in fields(kind) if f.init] if is_dataclass(kind) else []
    for name in written:
        if name not in known:
            has = f"Settings: {listing(known, 24)}." if known else "It has none."
            raise SettingsError(
                f"{what} has no setting {str(name)!r}.{did_you_mean(str(name), known)} {has}"
            )


def expected(kind: type) -> dict[str, str]:
    """Return what each field of a dataclass may be, in words.

    >>> from deconf.methods import LEACE
    >>> expected(LEACE)["shrinkage"]
    "'oas' or a number"
    """
    return {name: _expected(one) for name, one in _kinds(kind).items()}


def check_required(written: Collection[str], kind: type, what: str) -> None:
    """Refuse settings without one that has no default.

    Raises
    ------
    SettingsError
        With what it may be.
    """
    for f in fields(kind) if is_dataclass(kind) else ():
        if f.name not in written and not _is_optional(f):
            may_be = expected(kind)[f.name]
            raise SettingsError(f"{what} needs {f.name}: {may_be}; there is no default.")


@cache
def _kinds(kind: type) -> dict[str, Any]:
    """Return the annotated kind of every field."""
    try:
        hints = get_type_hints(kind)
    except NameError:  # a class defined inside a function, of kinds that only the function knows
        return {}
    return {f.name: hints[f.name] for f in fields(kind)}


def _arms(kind: Any) -> tuple[Any, ...]:
    """Return the kinds that a union allows: the kind itself, where it is none."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _plain(value: Any, kind: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        of = next((get_args(a)[0] for a in _arms(kind) if get_origin(a) is tuple), Any)
        return tuple(_plain(v, of) for v in value)
    if isinstance(value, Mapping):
        for one in _arms(kind):
            if isinstance(one, type) and _is_optional_throughout(one):
                check_names(value, one, one.__name__)
                return one(**value)
    return value


def _is_optional_throughout(kind: type) -> bool:
    """Return whether a dataclass has a default for every field, as settings have."""
    return is_dataclass(kind) and all(_is_optional(f) for f in fields(kind))


def _is_optional(f: Field[Any]) -> bool:
    return f.default is not MISSING or f.default_factory is not MISSING


def _fits(value: Any, kind: Any) -> bool:
    arms = _arms(kind)
    if len(arms) > 1:
        return any(_fits(value, one) for one in arms)
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) is tuple:
        of = get_args(kind)[0]
        return isinstance(value, tuple) and len(value) > 0 and all(_fits(v, of) for v in value)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and value == value
    if kind is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)


def _expected(kind: Any) -> str:
    """Return a kind in words: ``'oas' or a number``."""
    parts = []
    for one in sorted(_arms(kind), key=lambda a: (a is NoneType, get_origin(a) is not Literal)):
        if get_origin(one) is Literal:
            parts += [repr(word) for word in get_args(one)]
        elif get_origin(one) is tuple:
            of = WORDS[get_args(one)[0]].split(" ", 1)[1]
            parts.append(f"a tuple of one {of} or more")
        else:
            parts.append(WORDS.get(one, getattr(one, "wanted", f"{one.__name__}(...)")))
    return " or ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _said(value: Any) -> str:
    """Return a value as a message repeats it: never the numbers of an array."""
    if hasattr(value, "shape"):
        return f"an array {tuple(value.shape)}"
    if isinstance(value, list | tuple) and any(hasattr(v, "shape") for v in value):
        return f"({', '.join(_said(v) for v in value)})"
    text = repr(value)
    return text if len(text) <= LONG else f"{text[:LONG]}..."
