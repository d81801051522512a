"""The bundle ``model.gradkeel``: a zip whose bytes depend on its contents alone."""

import hashlib
import json
import platform
import zipfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gradkeel.contract.resolve import to_json
from gradkeel_worker.data import Prepared, TargetTransform, TargetTransforms
from gradkeel_worker.data.categories import EMBEDDING
from gradkeel_worker.data.curves import Curve, QuantileTable
from gradkeel_worker.data.preparation import Source
from gradkeel_worker.data.scalers import DOMAIN_EDGE
from gradkeel_worker.data.table import BOOLEAN, CATEGORICAL, DATETIME, NUMERIC
from gradkeel_worker.export.card import model_card
from gradkeel_worker.export.check import check_export
from gradkeel_worker.export.front import WINDOWS, input_name
from gradkeel_worker.export.graph import ML_OPSET, OPSET
from gradkeel_worker.export.neighbors import batch_rows
from gradkeel_worker.export.onnx_model import onnx_bytes
from gradkeel_worker.export.weights import weights_bytes

FORMAT = "gradkeel.model"
FORMAT_VERSION = 1
MANIFEST, WEIGHTS, ONNX = "manifest.json", "weights.safetensors", "model.onnx"
_LIBRARIES = ("gradkeel", "torch", "numpy", "scikit-learn", "onnx", "onnxruntime", "safetensors")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_READABLE = 0o644 << 16


def write_bundle(
    result: Any,
    path: str | Path,
    *,
    dataset: dict[str, Any],
    job_id: str,
    created_at: str,
    report_html: str,
    onnx: str | Path | None = None,
    safetensors: str | Path | None = None,
) -> dict[str, str]:
    """Write the bundle of a training result (``prepared``, ``model``, ``report``, ``metrics``).

    ``dataset``: id, sha256 and name; ``columns``, the names of all of its columns, lets the predictor tell a
    mistyped column from one that the model left out. ``onnx`` and ``safetensors``: where the graph and the
    weights are to be written too, as files of their own; the same bytes as in the bundle.

    Returns "sha256:…" of the bundle, the ONNX graph and the weights. Raises ExportError where the graph and
    the model do not agree.
    """
    graph = onnx_bytes(result.prepared, result.model)
    check_export(result.prepared, result.model, graph)
    members = {
        WEIGHTS: weights_bytes(result),
        ONNX: graph,
        "report.json": _json(result.report),
        "report.html": report_html.encode(),
    }
    manifest = build_manifest(result, dataset=dataset, job_id=job_id, created_at=created_at)
    members["README.md"] = model_card(manifest, result.report).encode()
    manifest["members"] = {
        name: {"sha256": _digest(data), "bytes": len(data)} for name, data in members.items()
    }
    _write_zip(Path(path), {MANIFEST: _json(manifest), **members})
    for beside, name in ((onnx, ONNX), (safetensors, WEIGHTS)):
        if beside is not None:
            Path(beside).write_bytes(members[name])
    digests = {"onnx": members[ONNX], "safetensors": members[WEIGHTS], "bundle": Path(path).read_bytes()}
    return {name: f"sha256:{_digest(data)}" for name, data in digests.items()}


def build_manifest(result: Any, *, dataset: dict[str, Any], job_id: str, created_at: str) -> dict[str, Any]:
    """Everything that the predictor and a reader need to know, the members' digests aside."""
    prepared: Prepared = result.prepared
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created_at": created_at,
        "job_id": job_id,
        "task": prepared.config.task,
        "target": _target(prepared),
        "outputs": None if prepared.output_names is None else list(prepared.output_names),
        "columns": [_column(prepared, source) for source in prepared.preparation.sources],
        "windows": _windows(prepared),
        "preparation": prepared.preparation.to_manifest(),
        "decision": asdict(prepared.decision),
        "inputs": [{"name": i.name, "source": i.source, "role": i.role} for i in prepared.inputs],
        "rows": {name: len(getattr(prepared, name)) for name in ("train", "validation", "test")},
        "onnx": {
            "file": ONNX,
            "opset": OPSET,
            "ml_opset": ML_OPSET,
            "output": _output(prepared),
            "batch_rows": batch_rows(prepared.preparation.neighbors),
        },
        "metrics": result.metrics,
        "intervals": result.intervals,
        "verdict": result.report.get("verdict"),
        "dataset": dataset,
        "config": to_json(prepared.config),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
    }


def _target(prepared: Prepared) -> dict[str, Any]:
    target = prepared.target
    each = target.each if isinstance(target, TargetTransforms) else (target,)
    transforms = [_transform(one) for one in each]
    return {
        "name": prepared.config.target_text,
        "names": list(prepared.config.targets),
        "classes": None if prepared.classes is None else list(prepared.classes),
        "transform": transforms[0] if len(transforms) == 1 else None,
        "transforms": transforms,
    }


def _transform(transform: TargetTransform) -> dict[str, Any]:
    return {
        "kind": transform.kind,
        "center": transform.center,
        "scale": transform.scale,
        "link": transform.link,
        "power": transform.power if transform.kind == "power" else None,
    }


def _output(prepared: Prepared) -> str:
    return "prediction" if prepared.classes is None else "probabilities"


def _column(prepared: Prepared, source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "type": source.type,
        "required": source.required,
        "input": input_name(source.name),
        "missing_numbers": list(source.markers),
        "missing_texts": list(source.missing_texts),
        "integer": source.integer,
        "decimal": source.decimal,
        "levels": _levels(prepared, source),
        "above": _domain_edge(prepared, source),
        "scaling": _scaling(prepared, source),
        "example": _example(prepared, source),
    }


def _windows(prepared: Prepared) -> dict[str, Any] | None:
    """How rows are read as series, where the model reads windows; else null."""
    over, named = prepared.train.windows, prepared.series
    if over is None:
        return None
    return {
        "order": _series_column(named["order"]),
        "group": _series_column(named["group"]) if "group" in named else None,
        "length": over.length,
        "lead": over.lead,
        "input": WINDOWS,
    }


def _series_column(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "type": source.type,
        "required": True,
        "input": None,
        "missing_numbers": list(source.markers),
        "missing_texts": list(source.missing_texts),
        "integer": source.integer,
        "decimal": source.decimal,
        "levels": None,
        "above": None,
    }


def _domain_edge(prepared: Prepared, source: Source) -> float | None:
    """What a number must be above for its logarithm; None where limits or another scaling take any number."""
    fitted = prepared.preparation
    logged = [
        fitted.lower[i]
        for i in np.flatnonzero(fitted.scaler_mask("log1p"))
        if fitted.values[i].source == source.name
    ]
    return DOMAIN_EDGE if logged and logged[0] <= DOMAIN_EDGE else None


def _levels(prepared: Prepared, source: Source) -> list[str] | None:
    found = [e.levels for e in prepared.preparation.encodings if e.name == source.name]
    return [level for level in found[0] if level] if found else None


def _scaling(prepared: Prepared, source: Source) -> dict[str, Any]:
    fitted = prepared.preparation
    index = next((i for i, value in enumerate(fitted.values) if value.source == source.name), None)
    if index is None:
        encoding = next(e for e in fitted.encodings if e.name == source.name)
        unit = f"vector of {encoding.width}" if encoding.kind == EMBEDDING else "0 or 1 per level"
        return {"kind": encoding.kind, "center": None, "scale": None, "fill": None, "unit": unit}
    if source.type == DATETIME:
        unit = "place in the day, week and year as sine and cosine, and a trend"
        return {"kind": DATETIME, "center": None, "scale": None, "fill": None, "unit": unit}
    kind = fitted.values[index].scaler
    center, scale, fill = (float(a[index]) for a in (fitted.center, fitted.scale, fitted.fill))
    unit = _unit(kind, center, scale, fitted.curves[index])
    return {"kind": kind, "center": center, "scale": scale, "fill": fill, "unit": unit}


def _unit(kind: str, center: float, scale: float, curve: Curve | None) -> str:
    if isinstance(curve, QuantileTable):
        return "normal number of the share below x" if curve.normal else "share of training values below x"
    moved = "x" if curve is None else f"yeo_johnson(x, {curve.power:.6g})"
    units = {"log1p": "log(1 + x)", "signed_log1p": "sign(x) · log(1 + |x|)", "none": "as it is"}
    return units.get(kind, f"({moved} − {center:.6g}) / {scale:.6g}")


def _example(prepared: Prepared, source: Source) -> Any:
    fitted = prepared.preparation
    if source.type == CATEGORICAL:
        levels = _levels(prepared, source)
        return levels[0] if levels else None
    index = next(i for i, value in enumerate(fitted.values) if value.source == source.name)
    examples = {NUMERIC: float(fitted.fill[index]), DATETIME: "2024-05-17T12:00:00", BOOLEAN: "true"}
    return examples[source.type]


def _json(document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1, sort_keys=True, default=_plain)
    return text.encode()


def _plain(value: Any) -> Any:
    """numpy scalars as plain ones."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = _READABLE
            info.create_system = 3
            # weights do not compress: three quarters of a large model's export went into trying
            info.compress_type = zipfile.ZIP_STORED if name in (WEIGHTS, ONNX) else zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
