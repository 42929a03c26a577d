"""``--set penalty=10``: the settings of a method, read from words."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deconf.errors import SettingsError

if TYPE_CHECKING:
    from deconf.methods.base import Method


def method_from(name: str, said: Sequence[str]) -> str | Method:
    """Return a method with the settings that were said, or its name where none were.

    Parameters
    ----------
    said : sequence of str
        ``"penalty=10"``, ``"penalty=[1, 10]"``, ``"selection=held_out_site"``: a value is written
        as in JSON or TOML, and the quotes of a word may be left out.

    Raises
    ------
    SettingsError
        One is not NAME=VALUE or is said twice, or as `configured`.
    """
    if not said:
        return name
    from deconf.methods.described import configured

    given: dict[str, Any] = {}
    for one in said:
        setting, _, text = (part.strip() for part in one.partition("="))
        if not (setting and text):
            raise SettingsError(f"--set {one!r}: write NAME=VALUE, say --set penalty=10.")
        if setting in given:
            raise SettingsError(f"--set {setting} is said twice; a list is written [1, 10].")
        given[setting] = _value(text)
    return configured(name, given)


def _value(text: str) -> Any:
    """Return what a value says: as JSON, else as TOML, else a bare word.

    >>> _value("1e2"), _value("[1, 10]"), _value("null"), _value("1_000"), _value("training")
    (100.0, [1, 10], None, 1000, 'training')
    """
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
