"""JSON that notices any change: the name of a record, its version, and a seal over the rest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

from deconf.errors import ReadError


def sealed(kind: str, version: int, body: Mapping[str, Any]) -> str:
    """Return the one text of a record: keys sorted, the seal a sha256 of the rest.

    Floats are written with as many digits as it takes to read back the same bits; what is no
    number is ``null``.  The seal is no signature: it shows damage and careless edits, while
    whoever alters a record on purpose can seal it anew.

    Parameters
    ----------
    kind : str
        What the record calls itself.
    version : int
        Of its fields.
    body : mapping
        JSON types.

    Examples
    --------
    >>> text = sealed("note", 1, {"p": 0.1 + 0.2})
    >>> unsealed(text, "note", 1)
    {'p': 0.30000000000000004}
    """
    record = {"record": kind, "version": version, **body}
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    record["seal"] = hashlib.sha256(canonical.encode()).hexdigest()
    return json.dumps(record, sort_keys=True, indent=1, allow_nan=False) + "\n"


def unsealed(text: str, kind: str, version: int, *, where: str = "this text") -> dict[str, Any]:
    """Return the body of a record.

    Parameters
    ----------
    text : str
    kind, version
        What is expected.
    where : str
        The file, for the messages.

    Raises
    ------
    ReadError
        Another kind of file, a version that is not known, or not the text that was sealed: a
        space more is a change.
    """
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ReadError(f"{where} is no JSON, or was cut short: {error}. Copy it again.") from error
    if not isinstance(record, dict) or record.get("record") != kind:
        raise ReadError(f"{where} holds no {kind}. Pass the file that deconf wrote.")
    said = record.get("version")
    if said != version:
        later = isinstance(said, int) and said > version
        raise ReadError(
            f"{where} holds a {kind} of version {said!r}, and this deconf knows {version}. "
            + ("pip install --upgrade deconf." if later else "Copy it again, or make it anew.")
        )
    body = {k: v for k, v in record.items() if k not in ("record", "version", "seal")}
    try:
        expected = sealed(kind, version, body)
    except ValueError:  # NaN, which Python reads and JSON has not
        expected = ""
    if text == expected:
        return body
    if text.replace("\r\n", "\n") == expected:
        raise ReadError(
            f"the line ends of {where} were changed, as git does on some machines. Put the line "
            "'*.json -text' into .gitattributes and check the file out again."
        )
    raise ReadError(
        f"{where} was altered after it was sealed: its sha256 differs. Copy it again, or make it "
        "anew."
    )


def plain(value: Any) -> Any:
    """Return a frozen value as JSON types: records become objects, what is no number ``None``."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def frozen(value: Any) -> Any:
    """Return JSON types that nobody can change: lists become tuples, objects read-only and sorted.

    Sorted as they are in the file, so that a record reads the same before and after.
    """
    if isinstance(value, Mapping):
        return MappingProxyType({k: frozen(value[k]) for k in sorted(value)})
    return tuple(map(frozen, value)) if isinstance(value, list | tuple) else value


def built(kind: type, record: Mapping[str, Any]) -> Any:
    """Return a flat frozen record of a class; ``None`` stands for what is no number.

    Raises
    ------
    TypeError
        A field is missing or unknown.
    """
    floats = {f.name for f in fields(kind) if f.type == "float"}
    return kind(**{k: math.nan if v is None and k in floats else v for k, v in record.items()})
