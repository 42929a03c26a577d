"""The result of a fit: an encoder and the map that cleans what it says, as one module."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder
from deconf.encoders.inputs import as_embeddings
from deconf.errors import CohortError, LeakageError, OverlapWarning, SettingsError, listing
from deconf.maths.design import Encoding
from deconf.maths.maps import AffineMap, ComBatMap, EmbeddingMap
from deconf.records.certificate import Certificate


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
    salt, patients : str, frozenset of str
        Salted digests of the patients of the fit, which know them again without naming them.
    audited : Certificate or None
        The certificate, once asked for.
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
        certify: Callable[[DeconfoundedEncoder], Certificate] | None = None,
        audited: Certificate | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.map = encoder, fitted
        self.plan, self.method, self.reasons = plan, method, reasons
        self.encoding, self.weights = encoding, weights
        self.salt, self.patients = salt, patients
        self._certify, self.audited = certify, audited

    @property
    def needs_confounders(self) -> bool:
        """Whether embedding a new image takes its confounders."""
        return bool(self.map.needs_confounders)

    @property
    def certificate(self) -> Certificate:
        """An audit of the procedure: cross-fitted by patient with the same settings, on first use.

        With ``fit(..., audit_on=other)`` it is an audit of this very map on other patients.
        `save` writes it once it has been made, and `deconf.verify` makes it again.

        Raises
        ------
        SettingsError
            The map was calibrated, or loaded and nobody had asked for its certificate before it
            was saved.
        """
        if self.audited is None:
            if self._certify is None:
                raise SettingsError(
                    "this map was calibrated, or loaded without its training cohort and saved "
                    "before its certificate was asked for. Fit it again with 'deconf fit "
                    "--certify', or ask for clean.certificate before clean.save; "
                    "deconf.audit(map, cohort, ...) judges it on new patients."
                )
            self.audited = self._certify(self)
        return self.audited

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

    def embed(
        self,
        what: Cohort | Any,
        *,
        on_error: str = "raise",
        workers: int | None = None,
        cache: str | Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Float[np.ndarray, "n d"]:
        """Return clean embeddings (n, d) float32 of a cohort, of images or of raw embeddings.

        Arrays (n, d) of an encoder that reads images are taken for its embeddings.

        Parameters
        ----------
        what, on_error, workers, cache, progress
            As `Encoder.embed`.

        Raises
        ------
        CohortError
            The width differs from that of the fit, or the map reads confounders and ``what`` is
            no cohort; or as `Encoder.embed`.
        ReadError
            A file is missing or damaged.

        Warns
        -----
        OverlapWarning
            The map reads confounders, and some rows have a level it was never shown.
        """
        how = {"on_error": on_error, "workers": workers, "cache": cache, "progress": progress}
        z = self._raw(what, how)
        c = None
        if self.needs_confounders:
            if not isinstance(what, Cohort):
                raise CohortError(
                    "this map reads the confounder of each image: pass a Cohort with its columns, "
                    "or fit with at_inference=False."
                )
            c = torch.tensor(self._design(what.table)).to(z.device)
        with torch.inference_mode():
            out = self.map(z, c) if c is not None else self.map(z)
        return out.float().cpu().numpy()

    def _raw(self, what: Cohort | Any, how: dict[str, Any]) -> Float[Tensor, "n d"]:
        """Return what the encoder says, where the map is."""
        z = as_embeddings(self.encoder, what)
        if z is None:
            z = torch.tensor(self.encoder.embed(what, **how))
        if z.shape[1] != self.width:
            raise CohortError(
                f"these embeddings have {z.shape[1]} columns; this map was fitted on {self.width}. "
                "Were they made by another encoder?"
            )
        return z.to(next(self.map.buffers()).device)

    def _design(self, table: pd.DataFrame) -> Float[np.ndarray, "n k"]:
        """Return the design of the confounders, where a level never seen may stand for a site."""
        if self.encoding is None or not (isinstance(self.map, ComBatMap) and len(self.map.unseen)):
            return design_of(self.encoding, table)  # type: ignore[arg-type]
        names = [column.name for column in self.encoding.columns]
        c, _ = self.encoding.encode(table)
        missing = table[names].isna().any(axis=1)
        if missing.any():
            raise CohortError(
                f"{missing.sum():,} of {len(table):,} rows do not say their {listing(names)}: this "
                "map is calibrated for a new site and would take them for it. Fill the column in."
            )
        return c

    def calibrated(self, what: Cohort | Any, **how: Any) -> DeconfoundedEncoder:
        """Return it for one site that training never saw, by its images without labels.

        Every level that was not met is taken for that site from then on: one calibrated encoder
        for each new site.  The certificate is not carried over, since it judged another map.

        Parameters
        ----------
        what : Cohort, images or embeddings (n, d)
            Of the new site alone, with the case mix of the training cohort; see
            `ComBatMap.calibrated`.
        **how
            ``on_error``, ``workers``, ``cache``, ``progress`` of `embed`.

        Raises
        ------
        SettingsError
            The method is not ``"combat"``.
        CohortError
            Some of a cohort's images have a level that training has seen.

        Examples
        --------
        >>> import pandas as pd, deconf
        >>> z, site = np.random.default_rng(0).normal(size=(90, 4)), np.repeat(["A", "B", "C"], 30)
        >>> all_sites = deconf.Cohort.from_arrays(z, pd.DataFrame({"site": site}))
        >>> known, new = all_sites.subset(site != "C"), all_sites.subset(site == "C")
        >>> cleaner = deconf.deconfound("stored", "site", method="combat", at_inference=True)
        >>> cleaner.fit(known).calibrated(new).embed(new).shape
        (30, 4)
        """
        if not isinstance(self.map, ComBatMap) or self.encoding is None:
            raise SettingsError(
                f"only maps of method='combat' can be calibrated for a new site, and this one is "
                f"of {self.method!r}. Maps that do not read the record need no calibration."
            )
        if isinstance(what, Cohort):
            _, seen = self.encoding.encode(what.table)
            if seen.any():
                names = listing(column.name for column in self.encoding.columns)
                raise CohortError(
                    f"{seen.sum():,} of {len(seen):,} images have a level of {names} that training "
                    "has seen: calibrate with the images of one new site alone, "
                    "cohort.subset(cohort.table[column] == site)."
                )
        z = self._raw(what, how)
        said = f"calibrated for a site unseen in training by {len(z):,} of its images"
        return DeconfoundedEncoder(
            self.encoder,
            self.map.calibrated(z),
            plan=self.plan,
            method=self.method,
            encoding=self.encoding,
            weights=self.weights,
            reasons=(*self.reasons, said),
            salt=self.salt,
            patients=self.patients,
        )

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

    def export(
        self,
        kind: str = "onnx",
        *,
        path: str | Path | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Path:
        """Write encoder and map as one ONNX graph for any number of images; return its path.

        The graph takes tensors as `forward` does: preprocessing stays outside, and its settings
        stand in the file's metadata (``deconf.preprocess``).

        Parameters
        ----------
        kind : "onnx"
        path : path, optional
            Default ``deconf.onnx`` in the working directory.
        shape : tuple of int, optional
            Of one input, (c, h, w), for a module without `Preprocess`.

        Raises
        ------
        SettingsError
            The map reads confounders, the shape of an input is not known, or the module cannot be
            exported.
        DeconfError
            The packages for ONNX are not installed.
        """
        from deconf.encoders.export import to_onnx

        if kind != "onnx":
            raise SettingsError(f"export writes 'onnx', not {kind!r}. The file is path=.")
        return to_onnx(self, Path("deconf.onnx" if path is None else path), shape=shape)

    def require_unseen(self, cohort: Cohort) -> None:
        """Raise `LeakageError` where the map was fitted on a patient of this cohort."""
        seen = self.patients & cohort.patient_digests(self.salt)
        if seen:
            raise LeakageError(
                f"{len(seen):,} of these patients were in the {len(self.patients):,} this map was "
                "fitted on: it would be judged on its own training data. Pass the unfitted "
                "deconfound(...), which compare refits in every fold, or hold these patients out."
            )

    def save(self, folder: str | Path) -> Path:
        """Write the map, what it was asked for, and digests of its patients; no identifiers.

        The certificate stands beside it, as ``certificate.json``, if it has been made.  The
        encoder's own weights are not written: its digest is, and `load` checks it.
        """
        from deconf.encoders.saved import write

        return write(self, Path(folder))


def design_of(encoding: Encoding, table: pd.DataFrame) -> Float[np.ndarray, "n k"]:
    """Return the design of the confounders; a level the map never saw matches no row of it.

    Warns
    -----
    OverlapWarning
        Some rows have such a level, or none.
    """
    c, read = encoding.encode(table)
    if not read.all():
        names = listing(column.name for column in encoding.columns)
        warnings.warn(
            f"{(~read).sum():,} of {len(read):,} rows have a level of {names} that was never "
            "seen in training, or none: no correction is known for them, and only what is "
            "erased from every image leaves them.",
            OverlapWarning,
            stacklevel=3,
        )
    return c
