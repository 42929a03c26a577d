"""A certificate made once more: is it of this cleaner and these data, do its figures come out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from deconf.cohort.cohort import Cohort
from deconf.encoders.base import Encoder
from deconf.encoders.deconfounded import DeconfoundedEncoder
from deconf.errors import OverlapWarning, SettingsError, listing
from deconf.evidence.certificate import audited, figures_of, findings_of, sample_of
from deconf.evidence.provenance import versions
from deconf.evidence.verdict import GAP
from deconf.front import Deconfounder, deconfound
from deconf.methods.described import rebuilt
from deconf.records.certificate import Certificate
from deconf.records.comparison import Check, Verification, compared, same_figures

# In AUROC.  On simulated films whose embeddings were disturbed by 1e-6 of themselves, as by another
# machine's arithmetic, the furthest figure of an audit moved by 0.018; a verdict, too, counts no
# leak within 0.02 of its floor.
TOLERANCE = GAP
# Two maps are one when nowhere further apart than this, in standard deviations of the embedding:
# float32 arithmetic in another order stays well below it.
APART = 1e-3
WORDS = ("trained_on", "method", "graph", "settings", "assumptions", "warnings", "notes")


def verify(
    clean: DeconfoundedEncoder, cohort: Cohort, *, tolerance: float = TOLERANCE
) -> Verification:
    """Make the certificate of a cleaner again, and compare every digest and every figure.

    What certifies the procedure is fitted anew by the settings in the certificate: on the whole
    cohort, which must give this map, and on half of it for the audit.  What certifies this map is
    audited anew.  Nothing is recomputed where encoder, map or cohort are others.

    Parameters
    ----------
    clean : DeconfoundedEncoder
        As fitted, or as `deconf.load` gave it.
    cohort : Cohort
        The certified one: that of the fit, or that of ``audit_on=``.
    tolerance : float
        In AUROC, for another machine or other versions, where boosted trees break ties otherwise.
        On the machine that made the certificate all figures are the same bit for bit, which 0 asks
        for.

    Raises
    ------
    SettingsError
        There is no certificate, this version does not know its settings, or the tolerance is
        negative.

    Examples
    --------
    >>> import deconf
    >>> films = deconf.worlds.linear(n=400, d=24).train().cohort
    >>> clean = deconf.deconfound("stored", ["portable"], method="leace").fit(films)
    >>> deconf.verify(clean, films).passed
    True
    """
    if not tolerance >= 0:
        raise SettingsError(f"tolerance is {tolerance!r}: give a difference in AUROC, 0 or more.")
    certificate = clean.certificate
    notes = _other_versions(certificate)
    checks = list(_identity(certificate, clean, cohort))
    if not all(check.agrees for check in checks):
        checks.append(Check("figures", False, "not recomputed, since the above differs"))
        return Verification(tuple(checks), identical=False, notes=notes)
    if certificate.certifies == "procedure":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OverlapWarning)  # said at the fit, and certified
            fresh = _procedure(_start(clean.encoder), certificate).fit(cohort)
            again = fresh.certificate
            checks.append(_same_map(clean, fresh, cohort))
        for name in WORDS:
            what = name.replace("_", " ")
            checks.append(compared(what, getattr(certificate, name), getattr(again, name)))
        here = again.findings, again.figures
    else:
        names = [finding.confounder for finding in certificate.findings]
        effort, seed = certificate.effort, certificate.settings["seed"]
        found = audited(clean, cohort, names, effort=effort, seed=seed)
        checks.append(compared("notes", certificate.notes, found.reasons))
        here = findings_of(found), figures_of(found)
        notes = (
            "settings, assumptions and warnings are those of the fit, whose cohort is not here",
            *notes,
        )
    certified = certificate.findings, certificate.figures
    checks += same_figures(certified, here, tolerance)
    # By text, in which two figures that are no number are alike.
    return Verification(tuple(checks), identical=repr(certified) == repr(here), notes=notes)


def _identity(
    certificate: Certificate, clean: DeconfoundedEncoder, cohort: Cohort
) -> Iterator[Check]:
    """Compare what the certificate is about with what is at hand."""
    own = certificate.sample
    here = sample_of(cohort, clean.encoder, own.salt)
    yield compared("encoder", certificate.encoder, clean.encoder.digest)
    yield compared("map", certificate.map, clean.map.digest)
    yield compared("roles", own.roles, here.roles)
    cohort_check = compared("cohort", own.table, here.table)
    if not cohort_check.agrees:
        said = (
            f"{here.films:,} films of {here.patients:,} patients, certified {own.films:,} of "
            f"{own.patients:,}. Every cell, every number of the embeddings and their order "
            "count: pass the certified table and embeddings, unchanged"
        )
        cohort_check = Check("cohort", False, said)
    yield cohort_check
    if own.pixels or here.pixels:
        yield compared("image files", own.pixels, here.pixels)
    if own.keyed:
        yield Check("patients", True, f"{own.patients:,}; behind a key, not compared one by one")
        return
    shared = len(set(own.people) & set(here.people))
    said = f"{shared:,} of the {own.patients:,} certified, among the {here.patients:,} here"
    yield Check("patients", own.people == here.people, said)


def _start(encoder: Encoder) -> Encoder:
    """Return the encoder the procedure starts from: of a tuned one, that before the training."""
    if encoder.tuned_from and not encoder.origin:
        raise SettingsError(
            "this encoder was tuned, and what certifies the procedure trains it again from its "
            "start: load the folder with the encoder it started from, load(folder, encoder)."
        )
    return encoder.origin[0] if encoder.origin else encoder


def _procedure(encoder: Encoder, certificate: Certificate) -> Deconfounder:
    """Return the unfitted cleaner that a certificate describes."""
    settings = dict(certificate.settings)
    try:
        method, confounders = settings.pop("method"), settings.pop("confounders")
        return deconfound(encoder, confounders, method=rebuilt(method), **settings)
    except (TypeError, KeyError) as error:
        made = certificate.versions.get("deconf", "?")
        raise SettingsError(
            f"the certificate was made by deconf {made}, and this version does not know its "
            f"settings ({error}). pip install 'deconf=={made}'."
        ) from error


def _same_map(clean: DeconfoundedEncoder, fresh: DeconfoundedEncoder, cohort: Cohort) -> Check:
    """Say whether the settings, fitted to the cohort once more, give the certified map."""
    what = "map fitted anew"
    if clean.map.digest == fresh.map.digest:
        return Check(what, True, "bit for bit")
    ours, theirs = clean.embed(cohort), fresh.embed(cohort)
    scale = float(np.sqrt(theirs.var(0).mean())) or 1.0
    apart = float(np.abs(ours - theirs).max()) / scale
    said = f"{apart:.2g} standard deviations of the embedding off, tolerance {APART:g}"
    return Check(what, apart <= APART, said)


def _other_versions(certificate: Certificate) -> tuple[str, ...]:
    """Return a note on the packages that are of another version than those of the certificate."""
    here = versions()
    other = [
        f"{package} {made} (here {here.get(package, 'none')})"
        for package, made in certificate.versions.items()
        if here.get(package) != made
    ]
    return (f"made with {listing(other)}",) if other else ()
