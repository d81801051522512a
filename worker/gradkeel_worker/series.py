"""Every step of a run as one Parquet table, and the test part's predictions as CSV."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

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
LAYER_SERIES = ("layer_norm", "weight_norm", "update_ratio")


def write_series(readings: Readings, path: Path) -> None:
    """One row a step; a layer's quantities are named `layer_norm/NAME` and so on. Non-finite numbers stay."""
    columns: dict[str, NDArray[Any]] = {name: getattr(readings, key) for name, key in STEP_COLUMNS.items()}
    steps = len(readings.steps)
    for series in LAYER_SERIES:
        values = getattr(readings, series)
        if len(values) == steps:
            columns |= {f"{series}/{layer}": values[:, i] for i, layer in enumerate(readings.layers)}
    pq.write_table(pa.table(columns), path, compression="zstd")


def write_predictions(
    predictions: Mapping[str, NDArray[Any]], classes: Sequence[str] | None, path: Path
) -> None:
    """Columns row, actual, prediction, and `probability_CLASS` each. Nothing is written without rows.

    A job with folds has a column `fold` too: the number of the fold that a row was held out in, empty for
    rows of the test part.
    """
    if not len(predictions.get("row", ())):
        return
    names = ["row", "actual", "prediction"]
    columns = [np.asarray(predictions[name]) for name in names]
    probabilities = predictions.get("probabilities")
    if probabilities is not None and classes:
        names += [harmless(f"probability_{name}") for name in classes]
        columns += list(np.asarray(probabilities).T)
    if "fold" in predictions:
        names.append("fold")
        columns.append(np.array([fold or "" for fold in predictions["fold"].tolist()], dtype=object))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for start in range(0, len(columns[0]), ROWS_AT_ONCE):
            cells = [column[start : start + ROWS_AT_ONCE].tolist() for column in columns]
            writer.writerows([harmless(cell) for cell in row] for row in zip(*cells, strict=True))


def harmless(cell: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a quote in front; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell
