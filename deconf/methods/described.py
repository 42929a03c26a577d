"""The settings of a method as JSON types, and a method from what was so written.

A certificate holds them; whoever verifies it builds the same method again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from math import isfinite
from typing import Any

from deconf.methods.base import Method, methods


def described(method: Method) -> dict[str, Any]:
    """Return name and settings of a method as JSON types.

    >>> from deconf.methods import CDANN, Aligned
    >>> described(CDANN(start=Aligned()))["settings"]["start"]
    {'name': 'aligned', 'settings': {'read': 'image'}}
    """
    own: tuple[Field[Any], ...] = fields(method) if is_dataclass(method) else ()
    return {
        "name": method.registered_name,
        "settings": {f.name: _as_json(getattr(method, f.name)) for f in own},
    }


def rebuilt(description: Mapping[str, Any]) -> Method:
    """Return the method that was described: equal to it, settings within settings too.

    Raises
    ------
    SettingsError
        No such method, or it refuses its settings.
    KeyError, TypeError
        The settings are those of another version.
    """
    kind, settings = methods[description["name"]], description["settings"]
    usual = kind()
    method: Method = kind(**{k: _as_was(v, getattr(usual, k, None)) for k, v in settings.items()})
    return method


def _as_json(value: Any) -> Any:
    """Return a setting as JSON has it; what JSON does not have, as Python would print it."""
    if isinstance(value, Method):
        return described(value)
    if isinstance(value, list | tuple):
        return [_as_json(v) for v in value]
    if is_dataclass(value):
        return {f.name: _as_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _as_json(one) for name, one in value.items()}
    is_plain = value is None or isinstance(value, bool | int | str)
    return value if is_plain or (isinstance(value, float) and isfinite(value)) else repr(value)


def _as_was(value: Any, usual: Any) -> Any:
    """Return a setting as it was, the default telling what kind of thing it is."""
    if isinstance(value, Mapping) and set(value) == {"name", "settings"}:
        return rebuilt(value)
    if isinstance(value, Mapping) and is_dataclass(usual) and not isinstance(usual, type):
        return type(usual)(**value)
    return tuple(value) if isinstance(value, list) else value
