"""The result of a fit: an encoder and the map that cleans what it says, as one module."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder
from deconf.errors import CohortError, LeakageError, ReadError, SettingsError
from deconf.maths.design import Column, Encoding
from deconf.maths.maps import AffineMap, EmbeddingMap, from_spec

FORMAT = 1


class DeconfoundedEncoder(nn.Module):
    """An encoder followed by a fitted map.

    Attributes
    ----------
    encoder : Encoder
    map : EmbeddingMap
    plan : Plan or SavedPlan
        What was asked for; after `load`, its text.
    reasons : tuple of str
        Why the method was chosen.
    method : str
        What was fitted.
    weights : (n,) float64 or None
        Head weights in the row order of the fitted cohort.
    """

    def __init__(
        self,
        encoder: Encoder,
        fitted: EmbeddingMap,
        *,
        plan: Any,
        method: str,
        encoding: Encoding | None = None,
        weights: Float[np.ndarray, " n"] | None = None,
        reasons: tuple[str, ...] = (),
        salt: str = "",
        patients: frozenset[str] = frozenset(),
        certify: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.map = encoder, fitted
        self.plan, self.method, self.reasons = plan, method, reasons
        self.encoding, self.weights = encoding, weights
        self._salt, self._patients = salt, patients
        self._certify, self._certificate = certify, None

    @property
    def needs_confounders(self) -> bool:
        """Whether embedding a new image takes its confounders."""
        return bool(self.map.needs_confounders)

    @property
    def certificate(self) -> Any:
        """An audit of the procedure: cross-fitted by patient with the same settings, on first use.

        With ``fit(..., audit_on=other)`` it is an audit of this very map on other patients.
        """
        if self._certificate is None:
            if self._certify is None:
                raise SettingsError(
                    "this map was loaded without its training cohort and was saved before its "
                    "certificate was asked for. Use deconf.audit(map, cohort, ...) on new patients."
                )
            self._certificate = self._certify()
        return self._certificate

    def forward(self, images: Tensor, confounders: Tensor | None = None) -> Float[Tensor, "n d"]:
        """Embed a batch of tensors and clean it; gradients flow into the encoder.

        Parameters
        ----------
        images : tensor
            What the encoder takes; for "stored", embeddings (n, d).
        confounders : (n, k), optional
            Design of the confounders (``encoding.encode``) for maps that read them.
        """
        z = self.encoder(images)
        return self.map(z, confounders) if self.needs_confounders else self.map(z)

    def embed(self, what: Cohort | Any) -> Float[np.ndarray, "n d"]:
        """Return clean embeddings (n, d) float32 of a cohort, of images or of raw embeddings.

        Raises
        ------
        CohortError
            The width differs from that of the fit, or the map reads confounders and ``what`` is
            no cohort.
        """
        z = torch.tensor(self.encoder.embed(what))
        width = self.width
        if z.shape[1] != width:
            raise CohortError(
                f"these embeddings have {z.shape[1]} columns; this map was fitted on {width}. "
                "Were they made by another encoder?"
            )
        c = None
        if self.needs_confounders:
            if not isinstance(what, Cohort):
                raise CohortError(
                    "this map reads the confounder of each image: pass a Cohort with its columns, "
                    "or fit with at_inference=False."
                )
            c = torch.tensor(self.encoding.encode(what.table)[0])  # type: ignore[union-attr]
        with torch.inference_mode():
            out = self.map(z, c) if c is not None else self.map(z)
        return out.float().numpy()

    @property
    def width(self) -> int:
        """Columns of the embedding."""
        return self.map.width

    def fold(self) -> nn.Module:
        """Return the same computation with the map as linear layers: cleaning costs nothing more.

        Raises
        ------
        SettingsError
            The map is not affine, so that no linear layer equals it.
        """
        links = self.map.links()
        if not all(isinstance(link, AffineMap) for link in links):
            raise SettingsError(
                f"the map of method {self.method!r} is not affine and cannot be folded. Fit with "
                "method='leace' or 'quadratic', whose maps are."
            )
        layers = [link.linear() for link in links if isinstance(link, AffineMap)]
        folded = layers[0]
        for layer in layers[1:]:
            both = nn.Linear(folded.in_features, layer.out_features)
            with torch.no_grad():
                both.weight.copy_(layer.weight.double() @ folded.weight.double())
                both.bias.copy_(layer.weight.double() @ folded.bias.double() + layer.bias)
            folded = both.requires_grad_(False)
        return folded if self.encoder.is_stored else nn.Sequential(self.encoder, folded)

    def require_unseen(self, cohort: Cohort) -> None:
        """Raise `LeakageError` where the map was fitted on a patient of this cohort."""
        seen = self._patients & cohort.patient_digests(self._salt)
        if seen:
            raise LeakageError(
                f"{len(seen):,} of these patients were in the {len(self._patients):,} this map was "
                "fitted on: it would be judged on its own training data. Pass the unfitted "
                "deconfound(...), which compare refits in every fold, or hold these patients out."
            )

    def save(self, folder: str | Path) -> Path:
        """Write the map, what it was asked for, and digests of its patients; no identifiers.

        The encoder's own weights are not written: its digest is, and `load` checks it.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.contiguous() for k, v in self.map.state_dict().items()}
        if self.weights is not None:
            tensors["head_weights"] = torch.tensor(self.weights)
        save_file(tensors, folder / "map.safetensors")
        certificate = None if self._certificate is None else str(self._certificate)
        record = {
            "format": FORMAT,
            "map": self.map.spec(),
            "method": self.method,
            "encoder": self.encoder.digest,
            "encoding": None if self.encoding is None else _encoding_record(self.encoding),
            "plan": str(self.plan),
            "is_identified": bool(self.plan.is_identified),
            "invariances": {
                name: {"given": list(i.given), "text": str(i)}
                for name, i in self.plan.invariances.items()
            },
            "reasons": list(self.reasons),
            "certificate": certificate,
            "salt": self._salt,
            "patients": sorted(self._patients),
            "sha256": {"map.safetensors": _sha(folder / "map.safetensors")},
        }
        text = json.dumps(record, indent=1, sort_keys=True, default=str)
        seal = hashlib.sha256(text.encode()).hexdigest()
        (folder / "deconf.json").write_text(f'{{"seal": "{seal}", "record": {text}}}\n')
        return folder


class SavedInvariance:
    """The adjustment set of a saved map."""

    def __init__(self, name: str, record: dict[str, Any]) -> None:
        self.confounders, self.given = (name,), tuple(record["given"])
        self.is_identified, self.assumptions, self.parts = True, (), ()
        self._text = record["text"]

    def __str__(self) -> str:
        return str(self._text)


class SavedPlan:
    """The plan of a saved map: its text and its adjustment sets."""

    def __init__(self, record: dict[str, Any]) -> None:
        self._text = record["plan"]
        self.is_identified = record["is_identified"]
        self.invariances = {n: SavedInvariance(n, r) for n, r in record["invariances"].items()}

    def __str__(self) -> str:
        return str(self._text)


def load(folder: str | Path, encoder: Encoder | nn.Module | None = None) -> DeconfoundedEncoder:
    """Load what `DeconfoundedEncoder.save` wrote.

    Parameters
    ----------
    folder : path
    encoder : Encoder or module, optional
        The encoder the map was fitted on, unless that was "stored".

    Raises
    ------
    ReadError
        A file is missing, altered by as much as a byte, or of a later format.
    SettingsError
        The encoder is missing or is not the one of the fit.
    """
    folder = Path(folder)
    for name in ("deconf.json", "map.safetensors"):
        if not (folder / name).is_file():
            raise ReadError(f"{folder} holds no {name}: is it a folder written by .save()?")
    text = (folder / "deconf.json").read_text()
    try:
        head, body = text[:-2].split(', "record": ', 1)
        seal = json.loads(head + "}")["seal"]
        record = json.loads(body)
    except (ValueError, KeyError) as error:
        raise ReadError(f"{folder / 'deconf.json'} is altered or cut short: {error}.") from error
    if hashlib.sha256(body.encode()).hexdigest() != seal:
        raise ReadError(f"{folder / 'deconf.json'} was altered after saving. Save it again.")
    if record["format"] > FORMAT:
        raise ReadError(f"{folder} was saved by a later deconf (format {record['format']}).")
    if _sha(folder / "map.safetensors") != record["sha256"]["map.safetensors"]:
        raise ReadError(
            f"{folder / 'map.safetensors'} was altered after saving (sha256 differs). Copy the "
            "folder again, or refit."
        )
    own = encoder if isinstance(encoder, Encoder) else Encoder(encoder)
    if own.digest != record["encoder"]:
        raise SettingsError(
            "the map was fitted on another encoder: "
            + ("pass it, as load(folder, encoder)." if encoder is None else "weights differ.")
        )
    tensors = load_file(folder / "map.safetensors")
    weights = tensors.pop("head_weights", None)
    out = DeconfoundedEncoder(
        own,
        from_spec(record["map"], tensors),
        plan=SavedPlan(record),
        method=record["method"],
        encoding=None if record["encoding"] is None else _encoding(record["encoding"]),
        weights=None if weights is None else weights.numpy(),
        reasons=tuple(record["reasons"]),
        salt=record["salt"],
        patients=frozenset(record["patients"]),
    )
    out._certificate = record["certificate"]
    return out


def new_salt() -> str:
    """Return a fresh salt for patient digests."""
    return secrets.token_hex(16)


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _encoding_record(encoding: Encoding) -> list[dict[str, Any]]:
    return [
        {
            "name": c.name,
            "levels": None if c.levels is None else list(c.levels),
            "centre": c.centre,
            "scale": c.scale,
            "has_unknown": c.has_unknown,
        }
        for c in encoding.columns
    ]


def _encoding(record: list[dict[str, Any]]) -> Encoding:
    return Encoding(
        tuple(
            Column(**(r | {"levels": None if r["levels"] is None else tuple(r["levels"])}))
            for r in record
        )
    )
