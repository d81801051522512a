"""The preparation as a graph: raw columns [N, 1] in, x and codes out, in double until after the scaling.

The sums are those of ``Preparation.transform``, in the same order.
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from gradkeel_worker.data import datetimes
from gradkeel_worker.data.categories import EMBEDDING, ONEHOT
from gradkeel_worker.data.preparation import (
    BOOLEAN_TEXTS,
    CODE,
    PROPAGATE,
    VALUE,
    Preparation,
    Source,
    ValueInput,
)
from gradkeel_worker.data.table import BOOLEAN, CATEGORICAL, DATETIME, NUMERIC, Array
from gradkeel_worker.export.curves import bent
from gradkeel_worker.export.graph import Graph
from gradkeel_worker.export.neighbors import add_neighbors

INPUT_TYPES = {
    NUMERIC: TensorProto.DOUBLE,
    DATETIME: TensorProto.DOUBLE,
    CATEGORICAL: TensorProto.STRING,
    BOOLEAN: TensorProto.STRING,
}
WINDOWS = "windows"
TAKEN_NAMES = ("prediction", "probabilities", WINDOWS)


@dataclass(frozen=True)
class Fed:
    """What the model eats: ``x`` [N, d] float, None where d is 0; ``codes``: [N] int64 of each embedded
    category. ``windows``: [M, length] int64, which rows make each window; None where rows stand alone."""

    x: str | None
    codes: list[str]
    windows: str | None = None


def input_name(column: str) -> str:
    """The graph's name for a column: its own, unless an output or the input of windows has that."""
    return f"{column} (column)" if column in TAKEN_NAMES else column


def add_front(graph: Graph, preparation: Preparation, length: int | None = None) -> Fed:
    """Add the inputs and the preparation. ``length``: rows of a window, where the model reads windows."""
    columns = {s.name: graph.input(input_name(s.name), INPUT_TYPES[s.type]) for s in preparation.sources}
    codes = {e.name: graph.look_up(columns[e.name], e.text_codes()) for e in preparation.encodings}
    blocks = _values(graph, preparation, columns, codes)
    if preparation.neighbors is not None:
        near = add_neighbors(graph, preparation.neighbors, blocks[0] if preparation.values else None, codes)
        blocks.insert(1 if preparation.values else 0, near)
    for encoding in preparation.of_kind(ONEHOT):
        wanted = graph.constant([encoding.onehot_codes()], np.int64)
        blocks.append(graph.cast(graph.add("Equal", codes[encoding.name], wanted), TensorProto.FLOAT))
    embedded = [
        graph.add("Reshape", codes[e.name], graph.constant([-1], np.int64))
        for e in preparation.of_kind(EMBEDDING)
    ]
    windows = None if length is None else graph.positions(WINDOWS, length)
    return Fed(graph.concat(blocks) if blocks else None, embedded, windows)


def _values(
    graph: Graph, preparation: Preparation, columns: dict[str, str], codes: dict[str, str]
) -> list[str]:
    """The scaled values [N, m] and the indicators [N, i], as float."""
    if not preparation.values:
        return []
    sources = {source.name: source for source in preparation.sources}
    raw = graph.concat([_raw(graph, sources[v.source], v, columns, codes) for v in preparation.values])
    if preparation.missing != PROPAGATE:
        raw = graph.add("Where", graph.add("IsInf", raw), graph.constant([[np.nan]]), raw)
    missing = graph.add("IsNaN", raw)
    value = _limited(graph, preparation, raw)
    if preparation.missing != PROPAGATE:
        value = graph.add("Where", missing, graph.constant([preparation.fill]), value)
    blocks = [graph.cast(_scaled(graph, preparation, value), TensorProto.FLOAT)]
    if preparation.indicators:
        chosen = graph.constant(preparation.indicated(), np.int64)
        blocks.append(graph.cast(graph.add("Gather", missing, chosen, axis=1), TensorProto.FLOAT))
    return blocks


def _raw(
    graph: Graph, source: Source, value: ValueInput, columns: dict[str, str], codes: dict[str, str]
) -> str:
    if value.part == CODE:
        return graph.cast(codes[source.name], TensorProto.DOUBLE)
    if source.type == BOOLEAN:
        return _boolean(graph, source, columns[source.name])
    cell = columns[source.name]
    for marker in source.markers:
        hit = graph.add("Equal", cell, graph.constant([[marker]]))
        cell = graph.add("Where", hit, graph.constant([[np.nan]]), cell)
    return cell if value.part in (VALUE, datetimes.TREND) else _wave(graph, cell, value.part)


def _boolean(graph: Graph, source: Source, cell: str) -> str:
    blank = {*source.missing_texts, *(str(int(m)) for m in source.markers if m in (0, 1))}
    return graph.look_up_number(cell, {t: v for t, v in BOOLEAN_TEXTS.items() if t not in blank})


def _wave(graph: Graph, cell: str, part: str) -> str:
    cycle, wave = part.split("_")
    length, offset = datetimes.CYCLES[cycle]
    turns = graph.add("Div", graph.add("Add", cell, graph.constant([[offset]])), graph.constant([[length]]))
    phase = graph.add("Sub", turns, graph.add("Floor", turns))
    return graph.add(wave.title(), graph.add("Mul", phase, graph.constant([[2 * np.pi]])))


def _limited(graph: Graph, preparation: Preparation, value: str) -> str:
    for limits, beyond in ((preparation.lower, "Less"), (preparation.upper, "Greater")):
        if np.isfinite(limits).any():
            limit = graph.constant([limits])
            value = graph.add("Where", graph.add(beyond, value, limit), limit, value)
    return value


def _scaled(graph: Graph, preparation: Preparation, value: str) -> str:
    if (mask := preparation.scaler_mask("log1p")).any():
        value = _where(graph, mask, _log1p(graph, value), value)
    if (mask := preparation.scaler_mask("signed_log1p")).any():
        size = _log1p(graph, graph.add("Abs", value))
        value = _where(graph, mask, graph.add("Mul", graph.add("Sign", value), size), value)
    value = bent(graph, preparation.curves, value)
    centered = graph.add("Sub", value, graph.constant([preparation.center]))
    return graph.add("Div", centered, graph.constant([preparation.scale]))


def _log1p(graph: Graph, value: str) -> str:
    return graph.add("Log", graph.add("Add", value, graph.constant([[1.0]])))


def _where(graph: Graph, mask: Array, yes: str, no: str) -> str:
    return graph.add("Where", graph.constant([mask], np.bool_), yes, no)
