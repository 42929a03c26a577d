"""``deconf doctor``: what is installed and what is not, for a person or a bug report."""

from __future__ import annotations

import importlib.metadata as metadata
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

# Package, module it brings, what it is for, the extra that installs it.
OPTIONAL = (
    ("pylibjpeg", "pylibjpeg", "compressed DICOM", "dicom"),
    ("pylibjpeg-openjpeg", "openjpeg", "JPEG 2000 in DICOM", "dicom"),
    ("pyjpegls", "jpeg_ls", "JPEG-LS in DICOM", "dicom"),
    ("python-gdcm", "gdcm", "other compressed DICOM", "dicom"),
    ("onnx", "onnx", "export", "onnx"),
    ("onnxscript", "onnxscript", "export", "onnx"),
)


def doctor() -> None:
    """Say what is installed, how many threads, which GPU, where the data are."""
    from deconf.cli.terminal import say

    missing = []
    say(f"deconf {_version('deconf')}, Python {platform.python_version()}, {platform.platform()}")
    say()
    say("Needed")
    for name in _required():
        version = _version(name)
        missing += [] if version else [name]
        say(f"  {name:<18}{version or 'MISSING'}")
    say()
    say("Optional")
    for name, module, purpose, extra in OPTIONAL:
        found = _version(name) if importlib.util.find_spec(module) else None
        how = "" if found else f"; pip install 'deconf[{extra}]'"
        say(f"  {name:<19}{found or '-':<9}{purpose}{how}")
    say()
    say("Encoders")
    for line in _encoders():
        say(f"  {line}")
    say()
    say("Machine")
    for title, value in _machine():
        say(f"  {title:<18}{value}")
    if missing:
        say()
        say(f"Missing: pip install {' '.join(missing)}")
        raise typer.Exit(1)


def _required() -> list[str]:
    """Return what the package itself says it needs, extras left out."""
    try:
        said: Iterable[str] = metadata.requires("deconf") or ()
    except metadata.PackageNotFoundError:
        return []
    plain = (line for line in said if "extra ==" not in line)
    return sorted(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in plain)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _encoders() -> Iterator[str]:
    """Say of each shipped encoder whether its weights are what its card says."""
    from deconf.encoders.zoo import zoo_names
    from deconf.errors import DeconfError

    for name in zoo_names():
        try:
            from deconf.encoders.base import load_encoder

            yield f"zoo:{name:<14}{load_encoder(f'zoo:{name}')!r}"
        except DeconfError as error:
            yield f"zoo:{name:<14}UNUSABLE: {error}"
    yield "timm:<name>       any timm architecture, with --weights FILE.safetensors"


def _machine() -> Iterator[tuple[str, str]]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS", cores)
    yield "cores", f"{cores}; threads used: {threads} (set OMP_NUM_THREADS to change that)"
    yield "GPU", _gpu()
    yield "DECONF_DATA", _data()
    disk = shutil.disk_usage(Path.cwd())
    yield "free disk here", f"{disk.free / 1e9:.1f} of {disk.total / 1e9:.1f} GB"


def _gpu() -> str:
    try:
        import torch
    except ImportError:
        return "torch is missing"
    if torch.cuda.is_available():
        return ", ".join(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count()))
    if torch.backends.mps.is_available():
        return "Apple, by Metal"
    return "none that torch sees; nothing here needs one"


def _data() -> str:
    folder = os.environ.get("DECONF_DATA")
    if not folder:
        return "not set; only 'deconf run' needs it"
    if not Path(folder).is_dir():
        return f"{folder}: NOT A FOLDER"
    return folder if os.access(folder, os.R_OK | os.X_OK) else f"{folder}: NOT READABLE"
