"""Every step of a run as one Parquet table, and the test part's predictions as CSV."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gradkeel_worker.data import Prepared
from gradkeel_worker.engine.readings import Readings

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
ROWS_AT_ONCE = 1 << 16
"""Rows of predictions that are made text at once."""
STEP_COLUMNS = {
    "step": "steps",
    "epoch": "epoch",
    "loss": "loss",
    "lr": "lr",
    "global_norm": "global_norm",
    "clipped_norm": "clipped_norm",
    "clip_coefficient": "clip_coefficient",
    "nonfinite": "nonfinite",
    "skipped": "skipped",
}
HISTOGRAMS = ("gradient_histogram/", "weight_histogram/")
MOST_COLUMNS = 500
"""Names of a series of some steps that become columns; of more, the largest at the last of the steps."""
LAYER_SERIES = ("layer_norm", "weight_norm", "update_ratio")


def write_series(readings: Readings, path: Path) -> None:
    """One row a step; a layer's quantities are named `layer_norm/NAME` and so on. Non-finite numbers stay.

    What was measured at some steps only is null at the others: `activation_std/LAYER`,
    `gradient_noise/trace`, `input_gradient/COLUMN` and so on, and lists of counts in
    `gradient_histogram/LAYER`.
    """
    columns: dict[str, Any] = {name: getattr(readings, key) for name, key in STEP_COLUMNS.items()}
    steps = len(readings.steps)
    for series in LAYER_SERIES:
        values = getattr(readings, series)
        if len(values) == steps:
            columns |= {f"{series}/{layer}": values[:, i] for i, layer in enumerate(readings.layers)}
    if len(readings.cosine) == steps:
        columns["cosine"] = readings.cosine
    for name, (at, values, names) in readings.sparse.items():
        places = np.searchsorted(readings.steps, at)
        if name.startswith(HISTOGRAMS):
            columns[name] = _spread_out(places, values.astype(np.int64).tolist(), steps)
            continue
        for i in np.sort(np.argsort(-np.nan_to_num(values[-1]), kind="stable")[:MOST_COLUMNS]).tolist():
            columns[f"{name}/{names[i]}"] = _spread_out(places, values[:, i].tolist(), steps)
    pq.write_table(pa.table(columns), path, compression="zstd")


def _spread_out(places: NDArray[np.int64], values: list[Any], steps: int) -> pa.Array:
    """A column of ``steps`` rows with the values at their places and nulls elsewhere."""
    rows = np.full(steps, -1)
    rows[places] = np.arange(len(places))
    return pa.array(values).take(pa.array(rows, mask=rows < 0))


def write_predictions(predictions: Mapping[str, NDArray[Any]], prepared: Prepared, path: Path) -> None:
    """Columns row, of series order and group, actual, prediction, and `probability_CLASS` each; of several
    targets `actual_TARGET` and `prediction_TARGET` each, of quantiles `prediction_LEVEL` each. Nothing is
    written without rows.

    A job with folds has a column `fold` too: the number of the fold that a row was held out in, empty for
    rows of the test part.
    """
    if not len(predictions.get("row", ())):
        return
    targets = None if isinstance(prepared.config.target, str) else prepared.config.target
    columns = {
        name: np.asarray(predictions[name]) for name in ("row", "order", "group") if name in predictions
    }
    columns |= _columns("actual", predictions["actual"], targets)
    columns |= _columns("prediction", predictions["prediction"], prepared.output_names)
    if "probabilities" in predictions:
        columns |= _columns("probability", predictions["probabilities"], prepared.classes)
    if "fold" in predictions:
        folds = [fold or "" for fold in predictions["fold"].tolist()]
        columns["fold"] = np.array(folds, dtype=object)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([harmless(name) for name in columns])
        for start in range(0, len(columns["row"]), ROWS_AT_ONCE):
            cells = [column[start : start + ROWS_AT_ONCE].tolist() for column in columns.values()]
            writer.writerows([harmless(cell) for cell in row] for row in zip(*cells, strict=True))


def _columns(what: str, values: NDArray[Any], names: Sequence[str] | None) -> dict[str, NDArray[Any]]:
    """``values`` [n] as one column, or [n, names] as one column a name."""
    if names is None:
        return {what: np.asarray(values)}
    return {f"{what}_{name}": np.asarray(values)[:, index] for index, name in enumerate(names)}


def harmless(cell: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a quote in front; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell
