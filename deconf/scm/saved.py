"""A structural model on disk: safetensors and JSON, sealed by sha256, without identifiers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from deconf.causal.graph import CausalGraph
from deconf.errors import ReadError
from deconf.maths.design import Column, Encoding
from deconf.scm.affine import Affine
from deconf.scm.coordinates import Coordinates
from deconf.scm.design import Causes
from deconf.scm.mechanism import Choice, Mechanism, Number, Vector
from deconf.scm.model import StructuralModel
from deconf.scm.structure import Structure

FORMAT = 1
RECORD, TENSORS = "scm.json", "scm.safetensors"


def write(model: StructuralModel, folder: Path) -> Path:
    """Write ``scm.json`` and ``scm.safetensors``; see `StructuralModel.save`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    own = model.structure
    record: dict[str, Any] = {
        "format": FORMAT,
        "graph": str(own.graph),
        "order": list(own.order),
        "context": {name: list(context) for name, context in own.context.items()},
        "blocked": own.blocked,
        "beyond": list(own.beyond),
        "nodes": [_node(node, f"{i}", tensors) for i, node in enumerate(model.nodes.values())],
        "embedding": None,
        "share": None,
        "salt": model.salt,
        "patients": sorted(model.patients),
        "notes": list(model.notes),
    }
    if model.embedding is not None and model.coordinates is not None:
        record["embedding"] = _vector(model.embedding, "image", tensors)
        record["share"] = model.coordinates.share
        for name in ("centre", "axes", "scale"):
            tensors[f"coordinates.{name}"] = getattr(model.coordinates, name)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / TENSORS)
    record[TENSORS] = hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest()
    body = json.dumps(record, indent=1, sort_keys=True)
    seal = hashlib.sha256(body.encode()).hexdigest()
    (folder / RECORD).write_text(f"{seal}\n{body}\n", encoding="utf-8")
    return folder


def load(folder: str | Path) -> StructuralModel:
    """Load what `StructuralModel.save` wrote.

    Raises
    ------
    ReadError
        A file is missing, altered by as much as a byte, or of a later format.
    """
    record, tensors = _read(Path(folder))
    structure = Structure(
        CausalGraph.parse(record["graph"]),
        tuple(record["order"]),
        {name: tuple(context) for name, context in record["context"].items()},
        record["blocked"],
        tuple(record["beyond"]),
    )
    nodes = [_node_of(spec, f"{i}", tensors) for i, spec in enumerate(record["nodes"])]
    embedding, coordinates = None, None
    if record["embedding"] is not None:
        embedding = _vector_of(record["embedding"], "image", tensors)
        arrays = {name: tensors[f"coordinates.{name}"] for name in ("centre", "axes", "scale")}
        coordinates = Coordinates(share=record["share"], **arrays)
    return StructuralModel(
        structure,
        {node.name: node for node in nodes},
        embedding,
        coordinates,
        frozenset(record["patients"]),
        record["salt"],
        tuple(record["notes"]),
    )


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    for name in (RECORD, TENSORS):
        if not (folder / name).is_file():
            raise ReadError(f"{folder} holds no {name}: it is no folder of StructuralModel.save.")
    seal, _, body = (folder / RECORD).read_text(encoding="utf-8").partition("\n")
    body = body.removesuffix("\n")
    if hashlib.sha256(body.encode()).hexdigest() != seal:
        raise ReadError(f"{folder / RECORD} was altered: its seal is broken. Copy it again.")
    record = json.loads(body)
    if record["format"] != FORMAT:
        raise ReadError(
            f"{folder / RECORD} is of format {record['format']}, this version reads {FORMAT}. "
            "Load it with the version that saved it."
        )
    if hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest() != record[TENSORS]:
        raise ReadError(f"{folder / TENSORS} is damaged or of another model. Copy it again.")
    return record, load_file(folder / TENSORS)


def _node(node: Mechanism, place: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    if isinstance(node, Number):
        own = {"centre": node.centre, "scale": node.scale}
        return {"name": node.name, **own, "vector": _vector(node.vector, place, tensors)}
    tensors |= {f"{place}.slope": node.slope, f"{place}.intercept": node.intercept}
    causes = dataclasses.asdict(node.causes)
    return {
        "name": node.name, "levels": list(node.levels), "causes": causes, "dtype": node.dtype
    }  # fmt: skip


def _node_of(spec: dict[str, Any], place: str, tensors: dict[str, np.ndarray]) -> Mechanism:
    if "vector" in spec:
        vector = _vector_of(spec["vector"], place, tensors)
        return Number(spec["name"], spec["centre"], spec["scale"], vector)
    return Choice(
        spec["name"],
        tuple(spec["levels"]),
        _causes(spec["causes"]),
        tensors[f"{place}.slope"],
        tensors[f"{place}.intercept"],
        spec["dtype"],
    )


def _vector(vector: Vector, place: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    tensors |= {f"{place}.affine.{name}": a for name, a in vars(vector.affine).items()}
    flow = None
    if vector.flow is not None:
        flow = vector.flow.spec()
        tensors |= {f"{place}.flow.{name}": a for name, a in vector.flow.arrays().items()}
    return {"causes": dataclasses.asdict(vector.causes), "flow": flow}


def _vector_of(spec: dict[str, Any], place: str, tensors: dict[str, np.ndarray]) -> Vector:
    affine = Affine(**_under(f"{place}.affine.", tensors))
    if spec["flow"] is None:
        return Vector(_causes(spec["causes"]), affine)
    from deconf.scm.flows import FlowNoise

    flow = FlowNoise.of(spec["flow"], _under(f"{place}.flow.", tensors))
    return Vector(_causes(spec["causes"]), affine, flow)


def _under(head: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}


def _causes(spec: dict[str, Any]) -> Causes:
    columns = [
        Column(**(c | {"levels": None if c["levels"] is None else tuple(c["levels"])}))
        for c in spec["encoding"]["columns"]
    ]
    seen = tuple(tuple(pair) for pair in spec["seen"])
    return Causes(Encoding(tuple(columns)), seen, tuple(tuple(r) for r in spec["reach"]))
