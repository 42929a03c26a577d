"""The settings of a method as JSON types, and a method from what was so written.

A certificate holds them; whoever verifies it builds the same method again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from math import isfinite
from typing import Any

from deconf.methods.base import Method, methods, resolve
from deconf.methods.settings import check_names, check_required, expected


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


def configured(name: str, settings: Mapping[str, Any]) -> Method:
    """Return a method from its name and settings as a file or a command line has them.

    Parameters
    ----------
    name : str
        A registered name.
    settings : mapping
        Values as JSON or TOML has them: a list for a tuple, a table for `Rounds` or `Tune`, and
        ``{"name": ..., "settings": ...}`` for a method within a method.  What is not named keeps
        its default.

    Raises
    ------
    SettingsError
        No such method or setting (with the nearest there is), one that has to be said is missing,
        or a value is of another kind or out of range.

    Examples
    --------
    >>> configured("leace", {"rank": "full", "shrinkage": 0.1})
    LEACE(shrinkage=0.1, rank='full', strata='auto')
    >>> configured("cdann", {"widths": [32, 64], "rounds": {"count": 2}}).rounds.count
    2
    """
    kind = methods[name]
    check_names(settings, kind, repr(name))
    check_required(settings, kind, repr(name))
    method: Method = kind(**{k: _as_was(v) for k, v in settings.items()})
    return method


def offered(name: str) -> list[tuple[str, str, str]]:
    """Return the settings of a method: name, what it may be, and its default as JSON.

    The default is empty where there is none: such a setting has to be said.

    >>> [(setting, default) for setting, _, default in offered("irm")][:3]
    [('selection', ''), ('oracle', 'null'), ('hidden', '64')]
    """
    own: tuple[Field[Any], ...] = fields(methods[name]) if is_dataclass(methods[name]) else ()
    may_be, usual = expected(methods[name]), described(resolve(name))["settings"]
    required = {f.name for f in own if f.default is f.default_factory is MISSING}
    return [
        (f.name, may_be[f.name], "" if f.name in required else json.dumps(usual[f.name]))
        for f in own
    ]


def rebuilt(description: Mapping[str, Any]) -> Method:
    """Return the method that was described: equal to it, settings within settings too.

    Raises
    ------
    SettingsError
        No such method, or it refuses its settings.
    KeyError
        The settings are those of another version.
    """
    settings = description["settings"]
    for name in settings.keys() - {f.name for f in fields(methods[description["name"]])}:
        raise KeyError(name)
    return configured(description["name"], settings)


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


def _as_was(value: Any) -> Any:
    """Return a setting as it was, where it is a method's settings; the method sees to the rest."""
    if isinstance(value, Mapping) and "name" in value and set(value) <= {"name", "settings"}:
        return configured(value["name"], value.get("settings", {}))
    return value
