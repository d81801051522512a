"""The whole model as one ONNX graph: raw columns in, predictions in target units or probabilities out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto
from torch import nn

from gradkeel_worker.data import Prepared, TargetTransform, TargetTransforms
from gradkeel_worker.data.curves import YeoJohnson
from gradkeel_worker.data.target import BINARY
from gradkeel_worker.export.core import add_core
from gradkeel_worker.export.curves import straight
from gradkeel_worker.export.front import add_front
from gradkeel_worker.export.graph import Graph


def build_onnx(prepared: Prepared, model: nn.Module) -> ModelProto:
    """Inputs: one [N, 1] per feature column, DOUBLE (numbers, seconds since 1970 UTC) or STRING. Output:
    ``prediction`` [N], [N, outputs] of several targets or quantiles, or ``probabilities``
    [N, classes], DOUBLE. Of a model over windows the N rows are those of series, ``windows`` [M, length]
    INT64 names the rows of each window in order, and outputs have M entries.

    Raises ExportError."""
    graph = Graph()
    over = prepared.train.windows
    fed = add_front(graph, prepared.preparation, None if over is None else over.length)
    logits = graph.cast(add_core(graph, model, fed), TensorProto.DOUBLE)
    answers = "N" if over is None else "M"
    if prepared.classes is None:
        graph.output(_prediction(graph, prepared, logits), "prediction", _shape(prepared, answers))
    else:
        shape: list[str | int] = [answers, len(prepared.classes)]
        graph.output(_probabilities(graph, prepared, logits), "probabilities", shape)
    built = graph.model("gradkeel", _properties(prepared))
    onnx.checker.check_model(built)
    return built


def onnx_bytes(prepared: Prepared, model: nn.Module) -> bytes:
    """The serialised graph; the same model gives the same bytes."""
    data: bytes = build_onnx(prepared, model).SerializeToString(deterministic=True)
    return data


def write_onnx(result: Any, path: str | Path) -> None:
    """Write the graph of a training result (``prepared`` and ``model``)."""
    Path(path).write_bytes(onnx_bytes(result.prepared, result.model))


def _shape(prepared: Prepared, answers: str) -> list[str | int]:
    return [answers] if prepared.output_names is None else [answers, len(prepared.output_names)]


def _prediction(graph: Graph, prepared: Prepared, z: str) -> str:
    """What `Prepared.in_target_units` computes, of z [N, outputs]."""
    target = prepared.target
    if isinstance(target, TargetTransforms):
        parts = [
            _inverse(graph, one, graph.add("Gather", z, graph.constant([i], np.int64), axis=1))
            for i, one in enumerate(target.each)
        ]
        return graph.concat(parts)
    if prepared.output_names is not None:
        return graph.ascending(_inverse(graph, target, z), len(prepared.output_names))
    return _inverse(graph, target, graph.add("Reshape", z, graph.constant([-1], "int64")))


def _inverse(graph: Graph, target: TargetTransform, z: str) -> str:
    """The model's units to target units, of any shape."""
    if target.kind == "log1p":
        return graph.add("Sub", graph.add("Exp", z), graph.constant([1.0]))
    if target.link == "log":
        z = graph.add("Exp", z)
    scaled = graph.add("Mul", z, graph.constant([target.scale]))
    moved = graph.add("Add", scaled, graph.constant([target.center]))
    return _unbent(graph, target, moved) if target.kind == "power" else moved


def _unbent(graph: Graph, target: TargetTransform, value: str) -> str:
    for limit, beyond in ((target.lower, "Less"), (target.upper, "Greater")):
        if np.isfinite(limit):
            edge = graph.constant([limit])
            value = graph.add("Where", graph.add(beyond, value, edge), edge, value)
    return straight(graph, YeoJohnson(target.power), value)


def _probabilities(graph: Graph, prepared: Prepared, logits: str) -> str:
    told = _own_probabilities(graph, prepared, logits)
    if prepared.decision.temperature is None:
        return told
    raised = graph.add("Pow", told, graph.constant([1.0 / prepared.decision.temperature]))
    return graph.add("Div", raised, graph.add("ReduceSum", raised, graph.constant([1], "int64"), keepdims=1))


def _own_probabilities(graph: Graph, prepared: Prepared, logits: str) -> str:
    if prepared.task != BINARY:
        return graph.add("Softmax", logits, axis=1)
    both = [graph.add("Sigmoid", graph.add("Neg", logits)), graph.add("Sigmoid", logits)]
    return graph.concat(both)


def _properties(prepared: Prepared) -> dict[str, str]:
    classes = None if prepared.classes is None else list(prepared.classes)
    told: dict[str, Any] = {
        "target": prepared.config.target,
        "task": prepared.config.task,
        "classes": classes,
    }
    told |= {"outputs": prepared.output_names, "threshold": prepared.decision.threshold}
    return {"gradkeel": json.dumps(told)}
