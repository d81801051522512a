"""A last look before a model leaves: the exported graph beside the network it was made from."""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from gradkeel.local.model import open_session
from gradkeel_worker.data import Prepared
from gradkeel_worker.data.curves import QuantileTable
from gradkeel_worker.data.preparation import Preparation, Source
from gradkeel_worker.data.table import BOOLEAN, CATEGORICAL, DATETIME, NUMERIC, Array
from gradkeel_worker.data.target import BINARY
from gradkeel_worker.export.errors import ExportError
from gradkeel_worker.export.front import WINDOWS, input_name

_ROWS = 24
_TOLERANCE = 1e-4  # of the largest prediction; a wrong graph is off by far more
_NOISE = 20.0  # times what float32 itself loses on these rows, where large sums cancel


def check_export(prepared: Prepared, model: nn.Module, graph: bytes) -> None:
    """Run both on made-up rows: typical and far values, levels, missing and unseen. Raises ExportError."""
    columns = {source.name: _cells(source, prepared) for source in prepared.preparation.sources}
    ours = _network(prepared, model, columns, torch.float32)
    exact = _network(prepared, copy.deepcopy(model).double(), columns, torch.float64)
    theirs = _runtime(prepared, graph, columns)
    known = np.isfinite(ours) & np.isfinite(exact)
    compared = known & np.isfinite(theirs)
    if known.any() and not compared.any():
        raise ExportError("the exported graph gives no finite prediction where the model does")
    worst = np.abs(ours - theirs)[compared].max(initial=0.0)
    limit = _TOLERANCE * _size(prepared, ours[known]) + _NOISE * np.abs(ours - exact)[known].max(initial=0.0)
    if worst > limit:
        raise ExportError(f"the exported graph differs from the model by {worst:.3g}, more than {limit:.3g}")


def _size(prepared: Prepared, predictions: Array) -> float:
    spread = float(np.std(prepared.train.y_raw, axis=0).max()) if prepared.classes is None else 1.0
    return float(np.abs(predictions).max(initial=0.0)) + spread


def _network(prepared: Prepared, model: nn.Module, columns: dict[str, Array], dtype: torch.dtype) -> Array:
    x, c = prepared.preparation.transform(columns)
    if (windows := _windows(prepared)) is not None:
        x, c = x[windows], c[windows]
    with torch.no_grad():
        out = model(torch.from_numpy(x).to(dtype), torch.from_numpy(c)).double()
    if prepared.classes is None:
        return prepared.in_target_units(out.numpy())
    if prepared.task == BINARY:
        out = torch.cat([torch.zeros_like(out), out], dim=1)
    return prepared.decision.probabilities(np.asarray(out.softmax(1).numpy()))


def _runtime(prepared: Prepared, graph: bytes, columns: dict[str, Array]) -> Array:
    session = open_session(graph)
    fed = {input_name(name): _fed(cells) for name, cells in columns.items()}
    if (windows := _windows(prepared)) is not None:
        fed[WINDOWS] = windows
    return np.asarray(session.run(None, fed)[0])


def _windows(prepared: Prepared) -> Array | None:
    """Windows of the made-up rows, each beginning at another one and going round, int64 [_ROWS, length]."""
    over = prepared.train.windows
    if over is None:
        return None
    return (np.arange(_ROWS)[:, None] + np.arange(over.length)) % _ROWS


def _fed(cells: Array) -> Array:
    if cells.dtype == object:
        cells = np.array(["" if cell is None else cell for cell in cells], dtype=object)
    return cells[:, None]


def _cells(source: Source, prepared: Prepared) -> Array:
    return _MADE[source.type](source, prepared)


def _numbers(source: Source, prepared: Prepared) -> Array:
    fitted = prepared.preparation
    i = next(i for i, value in enumerate(fitted.values) if value.source == source.name)
    spread = _spread(fitted, i)
    cells = fitted.fill[i] + np.linspace(-0.9, 3.0, _ROWS) * spread
    cells[::7] = np.nan
    return np.asarray(cells)


def _spread(fitted: Preparation, i: int) -> float:
    """How far apart a column's cells lie, roughly, in its own unit."""
    curve = fitted.curves[i]
    if isinstance(curve, QuantileTable):
        return float(np.ptp(curve.at)) / 4
    bent = curve is not None or fitted.values[i].scaler in ("log1p", "none")
    return float(abs(fitted.fill[i]) if bent else fitted.scale[i])


def _moments(source: Source, prepared: Prepared) -> Array:
    cells = np.linspace(0.0, 2e9, _ROWS)
    cells[::7] = np.nan
    return cells


def _texts(source: Source, prepared: Prepared) -> Array:
    encoding = next(e for e in prepared.preparation.encodings if e.name == source.name)
    levels: list[Any] = [level or None for level in encoding.levels[: _ROWS - 2]]
    return np.resize(np.array([*levels, None, "\x00 never seen"], dtype=object), _ROWS)


def _truths(source: Source, prepared: Prepared) -> Array:
    return np.resize(np.array(["true", "false", None], dtype=object), _ROWS)


_MADE = {NUMERIC: _numbers, DATETIME: _moments, CATEGORICAL: _texts, BOOLEAN: _truths}
