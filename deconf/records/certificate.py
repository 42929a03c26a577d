"""The certificate of a cleaner: what was audited, on whom, with which answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from deconf.errors import ReadError, SettingsError
from deconf.records.salting import new_salt, salt_under
from deconf.records.sealed import built, frozen, plain, sealed, unsealed

if TYPE_CHECKING:
    import pandas as pd

KIND, VERSION = "deconf certificate", 1

Certifies = Literal["procedure", "this map"]
SPOKEN = {
    "procedure": "the procedure: the same settings, fitted anew on one half of the patients and "
    "audited on the other",
    "this map": "this map, audited on patients it was not fitted on",
}


@dataclass(frozen=True)
class Figure:
    """What one attacker read of one confounder.

    Attributes
    ----------
    confounder, kind, given, attacker : str
        ``kind`` is "conditional" (as the graph says) or "marginal"; ``given`` names what is held.
    measure : str
        AUROC, or its like for numbers: concordance.
    auroc, low, high : float
        That figure with its 95 % interval, by patient.
    floor, p, p_below : float
        What is to be expected without a leak; p-value, corrected for the number of attackers; that
        of a figure as far below one half.
    bits, bits_low, bits_high : float or None
        Saved per film by a code that has the embedding, of the kind as a whole.
    n : int
        Held-out patients.
    """

    confounder: str
    kind: str
    given: str
    attacker: str
    measure: str
    auroc: float
    low: float
    high: float
    floor: float
    p: float
    p_below: float
    bits: float | None
    bits_low: float | None
    bits_high: float | None
    n: int


@dataclass(frozen=True)
class Finding:
    """The verdict on one confounder; ``str()`` is its word.

    Attributes
    ----------
    confounder, invariance : str
        The independence that was tested, in words.
    word, sentence : str
    worst : str
        The strongest attacker.
    auroc, low, high, floor, p : float
        Of the strongest attacker; p after Holm.
    n : int
        Held-out patients.
    needed : int or None
        About how many would decide.
    """

    confounder: str
    invariance: str
    word: str
    sentence: str
    worst: str
    auroc: float
    low: float
    high: float
    floor: float
    p: float
    n: int
    needed: int | None = None

    def __str__(self) -> str:
        return self.word


@dataclass(frozen=True)
class Sample:
    """Whom a certificate speaks of; no identifier among it.

    Attributes
    ----------
    films, patients : int
    roles : mapping
        Which column was image, patient, site, outcome.
    table : str
        Sha256 of the table and the embeddings that came with it.
    pixels : str
        Sha256 of the image files where the encoder read them, else empty.
    salt : str
    people : tuple of str
        Salted digests of the patients, sorted.
    keyed : bool
        Whether checking them takes a key (`Certificate.keyed`).
    """

    films: int
    patients: int
    roles: Mapping[str, Any]
    table: str
    pixels: str
    salt: str
    people: tuple[str, ...]
    keyed: bool = False


@dataclass(frozen=True, eq=False)
class Certificate:
    """What was audited, on whom, by which settings, and what came out.

    Made by ``clean.certificate``, written by ``clean.save`` as ``certificate.json``, recomputed by
    `deconf.verify`.  ``str()`` is the certificate in plain words.

    Patients appear as ``sha256(salt + id)`` only, with a salt drawn for each certificate.  Who
    holds another table can ask whether any of its patients were among the certified ones
    (`shared_with`), and two certificates on the same patients cannot be linked.  Salting does
    **not** hide a patient from somebody who can guess: the salt is in the file, and all seven-digit
    record numbers are tried in seconds.  Where identifiers are short and the certificate goes out
    of the house, give away ``certificate.keyed(cohort, key)``, whose digests say nothing without
    the key; the ``deconf.json`` of a saved cleaner holds salted digests of its own.

    Attributes
    ----------
    certifies : {"procedure", "this map"}
    encoder, map : str
        Digests: of the encoder ("stored" without one), of the map's kind and tensors.
    method : str
        What was fitted.
    trained_on : str
        Sha256 of table and embeddings of the fit.
    sample : Sample
        The cohort: that of the fit for "procedure", the other patients for "this map".
    settings : mapping
        All arguments of `deconf.deconfound` but the encoder.
    graph : str
        As used; the default graph where none was given.
    effort : str
        How hard the attackers tried.
    findings : tuple of Finding
    figures : tuple of Figure
    assumptions, warnings, notes : tuple of str
        Of the plan, and of the audit.
    versions : mapping of package to version
    """

    certifies: Certifies
    encoder: str
    map: str
    method: str
    trained_on: str
    sample: Sample
    settings: Mapping[str, Any]
    graph: str
    effort: str
    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    versions: Mapping[str, str]

    @property
    def verdict(self) -> Mapping[str, Finding]:
        """The finding of each confounder; its ``str()`` is clean, leaks or undecided."""
        return MappingProxyType({finding.confounder: finding for finding in self.findings})

    def to_frame(self) -> pd.DataFrame:
        """Return the figures as `deconf.Audit.to_frame` does: a row per attacker."""
        import pandas as pd

        verdict = self.verdict
        rows = [asdict(f) | {"verdict": str(verdict[f.confounder])} for f in self.figures]
        columns = [f.name for f in fields(Figure)]
        return pd.DataFrame(rows, columns=[*columns, "verdict"])

    def shared_with(self, cohort: Any, *, key: str | bytes | None = None) -> int:
        """Return how many of the certified patients are also in this cohort.

        Parameters
        ----------
        cohort : Cohort
            With the same identifiers in its patient column.
        key : str or bytes, optional
            Of a keyed certificate.

        Raises
        ------
        SettingsError
            A key is missing, or there is none to give.
        """
        return len(set(self.sample.people) & cohort.patient_digests(self._salt(key)))

    def keyed(self, cohort: Any, key: str | bytes) -> Certificate:
        """Return the same certificate, its patients recognisable to holders of a key only.

        Parameters
        ----------
        cohort : Cohort
            The certified one.
        key : str or bytes
            A secret of 16 characters or more, drawn by chance; kept, and told by another way.

        Raises
        ------
        SettingsError
            The key is short, or this is another cohort.
        """
        if len(key) < 16:
            raise SettingsError(
                f"a key of {len(key)} characters can be guessed: draw one, say with "
                "secrets.token_hex(16)."
            )
        if cohort.digest != self.sample.table:
            raise SettingsError(
                "these are other data than the certified ones: pass the cohort of the certificate."
            )
        salt = new_salt()
        people = tuple(sorted(cohort.patient_digests(salt_under(key, salt))))
        return replace(self, sample=replace(self.sample, salt=salt, people=people, keyed=True))

    def _salt(self, key: str | bytes | None) -> str:
        if self.sample.keyed == (key is None):
            raise SettingsError(
                "the patients of this certificate are behind a key: pass key=."
                if self.sample.keyed
                else "the patients of this certificate are behind no key: leave key= out."
            )
        return self.sample.salt if key is None else salt_under(key, self.sample.salt)

    def to_json(self) -> str:
        """Return the certificate as sealed JSON, from which every float comes back bit for bit."""
        return sealed(KIND, VERSION, plain(self))

    @classmethod
    def from_json(cls, text: str, *, where: str = "this text") -> Certificate:
        """Read what `to_json` wrote.

        Raises
        ------
        ReadError
            Altered by as much as a byte, another kind of file, or of a version not known.
        """
        body = unsealed(text, KIND, VERSION, where=where)
        try:
            body |= {
                "sample": built(Sample, frozen(body["sample"])),
                "findings": tuple(built(Finding, f) for f in body["findings"]),
                "figures": tuple(built(Figure, f) for f in body["figures"]),
            }
            return cls(**{name: frozen(value) for name, value in body.items()})
        except (TypeError, KeyError) as error:
            raise ReadError(
                f"{where} is sealed, and no certificate: {error}. It was not written by deconf."
            ) from error

    def save(self, path: str | Path) -> Path:
        """Write the certificate as a file of JSON; return its path."""
        path = Path(path)
        path.write_bytes(self.to_json().encode())
        return path

    @classmethod
    def read(cls, path: str | Path) -> Certificate:
        """Read a certificate from a file.

        Raises
        ------
        ReadError
            There is no such file, or as `from_json`.
        """
        try:
            text = Path(path).read_bytes().decode()
        except OSError as error:
            raise ReadError(f"no certificate at {path}: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise ReadError(f"{path} is no text (UTF-8): was it altered? Copy it again.") from error
        return cls.from_json(text, where=str(path))

    def __eq__(self, other: object) -> bool:
        # By text: of two figures that are no number, Python says that they differ.
        return isinstance(other, Certificate) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> tuple[Any, ...]:
        # Read-only mappings can be neither copied nor pickled; their text can.
        return Certificate.from_json, (self.to_json(),)

    def __str__(self) -> str:
        return "\n".join(_told(self))


def _told(certificate: Certificate) -> list[str]:
    """Return the lines of a certificate in plain words."""
    sample, versions = certificate.sample, certificate.versions
    lines = [
        f"CERTIFICATE of {SPOKEN[certificate.certifies]}.",
        f"Cohort    {sample.films:,} films of {sample.patients:,} patients, {sample.table[:16]}",
        f"Encoder   {certificate.encoder[:16]}",
        f"Map       {certificate.method}, {certificate.map[:16]}",
        f"Graph     {certificate.graph}",
        f"Effort    {certificate.effort}, seed {certificate.settings.get('seed')}",
        "",
    ]
    for finding in certificate.findings:
        lines += [
            f"{finding.confounder}  ({finding.invariance})",
            f"  {finding.sentence}.",
            *_marginal(certificate, finding),
        ]
    for title in ("assumptions", "warnings", "notes"):
        if said := getattr(certificate, title):
            lines += [title.capitalize(), *(f"  - {line}" for line in said)]
    made = ", ".join(f"{package} {version}" for package, version in versions.items())
    return [*lines, "", f"Made with {made} (certificate version {VERSION})"]


def _marginal(certificate: Certificate, finding: Finding) -> list[str]:
    """Return the line on what is read with nothing held, where something is held."""
    own = [f for f in certificate.figures if f.confounder == finding.confounder]
    open_ = [f for f in own if f.kind == "marginal" and not math.isnan(f.auroc)]
    if not open_ or not any(f.given for f in own):
        return []
    worst = max(open_, key=lambda f: f.auroc)
    return [
        f"  Without holding anything fixed: AUROC {worst.auroc:.2f} [{worst.low:.2f}, "
        f"{worst.high:.2f}] by {worst.attacker}; {worst.floor:.2f} is to be expected of a clean "
        "embedding."
    ]
