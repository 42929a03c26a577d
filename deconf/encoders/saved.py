"""A fitted map on disk: safetensors and JSON, sealed by sha256, without patient identifiers.

An encoder that was trained further (`deconf.tuning`) lies beside it, with all its weights.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from deconf.causal.invariance import Invariance
from deconf.encoders.base import Encoder, load_encoder
from deconf.encoders.deconfounded import DeconfoundedEncoder
from deconf.encoders.preprocess import Preprocess
from deconf.errors import ReadError, SettingsError
from deconf.maths.design import Column, Encoding
from deconf.maths.maps import from_spec
from deconf.records.certificate import Certificate

FORMAT = 2  # 1: the certificate was a text inside the record
RECORD, TENSORS, CERTIFICATE = "deconf.json", "map.safetensors", "certificate.json"
WEIGHTS = "encoder.safetensors"


@dataclass(frozen=True)
class SavedPlan:
    """The plan of a saved map: its text, its answer and its invariances."""

    text: str
    is_identified: bool
    invariances: Mapping[str, Invariance]

    def __str__(self) -> str:
        return self.text


def write(cleaner: DeconfoundedEncoder, folder: Path) -> Path:
    """Write ``deconf.json``, the tensors and the certificate; see `DeconfoundedEncoder.save`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CERTIFICATE).unlink(missing_ok=True)  # of the map that was saved here before
    if cleaner.audited is not None:
        cleaner.audited.save(folder / CERTIFICATE)
    tensors = {k: v.contiguous() for k, v in cleaner.map.state_dict().items()}
    if cleaner.weights is not None:
        tensors["head_weights"] = torch.tensor(cleaner.weights)
    save_file(tensors, folder / TENSORS)
    (folder / WEIGHTS).unlink(missing_ok=True)
    if cleaner.encoder.tuned_from and cleaner.encoder.module is not None:
        own = cleaner.encoder.module.state_dict()
        save_file({k: v.cpu().contiguous().clone() for k, v in own.items()}, folder / WEIGHTS)
    record = {
        "format": FORMAT,
        "map": cleaner.map.spec(),
        "method": cleaner.method,
        "encoder": cleaner.encoder.digest,
        "tuned_from": cleaner.encoder.tuned_from,
        WEIGHTS: _sha(folder / WEIGHTS) if cleaner.encoder.tuned_from else None,
        "recipe": cleaner.encoder.recipe,
        "line": cleaner.encoder.line,
        "reads": cleaner.encoder.reads,
        "encoding": None if cleaner.encoding is None else dataclasses.asdict(cleaner.encoding),
        "plan": str(cleaner.plan),
        "is_identified": bool(cleaner.plan.is_identified),
        "invariances": {n: dataclasses.asdict(i) for n, i in cleaner.plan.invariances.items()},
        "reasons": list(cleaner.reasons),
        "salt": cleaner.salt,
        "patients": sorted(cleaner.patients),
        TENSORS: _sha(folder / TENSORS),
        CERTIFICATE: _sha(folder / CERTIFICATE) if cleaner.audited is not None else None,
    }
    body = json.dumps(record, indent=1, sort_keys=True)
    seal = hashlib.sha256(body.encode()).hexdigest()
    (folder / RECORD).write_text(f"{seal}\n{body}\n", encoding="utf-8")
    return folder


def load(
    folder: str | Path, encoder: Encoder | nn.Module | str | None = None
) -> DeconfoundedEncoder:
    """Load what `DeconfoundedEncoder.save` wrote.

    Parameters
    ----------
    folder : path
    encoder : Encoder, module or name, optional
        The encoder the map was fitted on, unless that was "stored" or came with deconf.  Of a
        tuned one the encoder it started from, or any of its build: the weights are in the folder.

    Raises
    ------
    ReadError
        A file is missing, altered by as much as a byte, or of a later format.
    SettingsError
        The encoder is missing, or is not the one of the fit, or sees images otherwise.
    """
    record, tensors = _read(Path(folder))
    own = _encoder_of(record, encoder, Path(folder))
    own.reads = own.reads or record["reads"]
    weights = tensors.pop("head_weights", None)
    return DeconfoundedEncoder(
        own,
        from_spec(record["map"], tensors),
        plan=SavedPlan(
            record["plan"],
            record["is_identified"],
            {name: _invariance(r) for name, r in record["invariances"].items()},
        ),
        method=record["method"],
        encoding=None if record["encoding"] is None else _encoding(record["encoding"]),
        weights=None if weights is None else weights.numpy(),
        reasons=tuple(record["reasons"]),
        salt=record["salt"],
        patients=frozenset(record["patients"]),
        audited=_certificate_of(record, Path(folder)),
    )


def _certificate_of(record: dict[str, Any], folder: Path) -> Certificate | None:
    """Return the certificate that was saved with the map, and refuse any other."""
    if record.get(CERTIFICATE) is None:
        return None
    certificate = Certificate.read(folder / CERTIFICATE)  # knows a damaged file by its own seal
    if _sha(folder / CERTIFICATE) != record[CERTIFICATE]:
        raise ReadError(
            f"{folder / CERTIFICATE} is another certificate than the one saved with this map. Copy "
            "the folder again, or refit and save."
        )
    return certificate


def _encoder_of(
    record: dict[str, Any], given: Encoder | nn.Module | str | None, folder: Path
) -> Encoder:
    """Return the encoder of the fit, and refuse any other."""
    recipe = record.get("recipe") or {"name": "stored"}  # maps saved before encoders had one
    preprocess = recipe.get("preprocess")
    if given is None and str(recipe["name"]).startswith("zoo:"):
        own = load_encoder(recipe["name"], preprocess=preprocess)
    else:
        own = Encoder(None) if given is None else load_encoder(given)
    if record.get("tuned_from") and not own.is_stored and own.digest != record["encoder"]:
        own = _tuned(own, record, folder)
    if own.digest != record["encoder"]:
        line = record.get("line", "")
        how = "pass it, as load(folder, encoder)"
        how += f", with encoder = deconf.{line}." if line.startswith('load_encoder("') else "."
        raise SettingsError(
            "the map was fitted on another encoder: "
            + (how if given is None else "its weights differ, or how it is built.")
        )
    if isinstance(preprocess, dict) and isinstance(own.preprocess, Preprocess):
        now = own.preprocess.spec()
        differ = [k for k in now if now[k] != preprocess.get(k)]
        if differ:
            key = differ[0]
            raise SettingsError(
                f"the map was fitted on images made with {key} = {preprocess.get(key)!r}, and this "
                f"encoder has {now[key]!r}: pass preprocess={preprocess!r} to load_encoder."
            )
    return own


def _tuned(start: Encoder, record: dict[str, Any], folder: Path) -> Encoder:
    """Return a copy of an encoder with the weights of the folder."""
    path = folder / WEIGHTS
    if not path.is_file() or _sha(path) != record[WEIGHTS]:
        raise ReadError(
            f"{path} is missing or was altered after saving (its sha256 differs). Copy the folder "
            "again, or refit and save."
        )
    own = copy.deepcopy(start)
    try:
        own.module.load_state_dict(load_file(path))  # type: ignore[union-attr]
    except RuntimeError as error:
        raise SettingsError(
            f"{path} holds the weights of {record['recipe']['name']!r}, and {start.name!r} is "
            "built otherwise. Pass an encoder of the same build."
        ) from error
    own.tuned_from = record["tuned_from"]
    own.origin = (start,) if start.digest == record["tuned_from"] else ()
    return own


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    for name in (RECORD, TENSORS):
        if not (folder / name).is_file():
            raise ReadError(f"{folder} holds no {name}: is it a folder written by .save()?")
    try:
        seal, body = (folder / RECORD).read_bytes().split(b"\n", 1)
    except ValueError as error:
        raise ReadError(f"{folder / RECORD} is cut short. Copy the folder again.") from error
    if hashlib.sha256(body.removesuffix(b"\n")).hexdigest().encode() != seal:
        raise ReadError(
            f"{folder / RECORD} was altered after saving (its sha256 differs). Copy the folder "
            "again, or refit and save."
        )
    record = json.loads(body)
    if record["format"] > FORMAT:
        raise ReadError(
            f"{folder} was saved by a later deconf (format {record['format']}, known {FORMAT}). "
            "Upgrade deconf."
        )
    if _sha(folder / TENSORS) != record[TENSORS]:
        raise ReadError(
            f"{folder / TENSORS} was altered after saving (its sha256 differs). Copy the folder "
            "again, or refit and save."
        )
    return record, load_file(folder / TENSORS)


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _invariance(record: dict[str, Any]) -> Invariance:
    parts = tuple(_invariance(p) for p in record["parts"])
    return Invariance(**{k: _tuples(v) for k, v in record.items()} | {"parts": parts})


def _encoding(record: dict[str, Any]) -> Encoding:
    columns = [Column(**{k: _tuples(v) for k, v in c.items()}) for c in record["columns"]]
    return Encoding(tuple(columns))
