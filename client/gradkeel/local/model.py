"""The predictor: a bundle's exported graph, run on rows as they come."""

import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gradkeel.local.bundle import GRAPH, read_bundle
from gradkeel.local.errors import BundleError, LocalModelError
from gradkeel.local.intervals import Interval, interval_at
from gradkeel.local.rows import IMPUTE, STRICT, Array, Column, Reading, feed, known_columns
from gradkeel.local.windows import Layout, Series, lay_out

_CHUNK_ROWS = 16_384
"""Rows that are run at a time, where the bundle does not ask for fewer."""
_FEWEST_WINDOWS = 256


@dataclass(frozen=True)
class Predictions:
    """``values`` [n]: float64 in target units, or class names; of several targets or quantiles [n, outputs],
    in the order of the model's outputs. ``probabilities`` [n, classes] or None, in the order of the model's
    classes. ``lower`` and ``upper``: bounds of the prediction intervals that were asked for, [n], or
    [n, targets] of several targets, else None. ``warnings``: what was filled or not known.

    Of a model over windows, rows without a full window behind them have NaN or None. Where it forecasts, the
    steps after the last row of each series follow the rows. ``places`` [n] then says what each prediction is
    for: row (None for such a step), order (the row's cell, or the series' last), group, and step (0 for a
    row)."""

    values: Array
    probabilities: npt.NDArray[np.float64] | None = None
    warnings: list[str] = field(default_factory=list)
    lower: npt.NDArray[np.float64] | None = None
    upper: npt.NDArray[np.float64] | None = None
    places: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.values)


class Model:
    """A loaded model; safe to use from several threads."""

    def __init__(self, manifest: dict[str, Any], graph: bytes, *, threads: int = 1) -> None:
        self.manifest = manifest
        self.columns = tuple(Column.of(entry) for entry in manifest["columns"])
        self.target: str = manifest["target"]["name"]
        self.task: str = manifest["task"]
        classes = manifest["target"]["classes"]
        self.classes: tuple[str, ...] | None = None if classes is None else tuple(classes)
        outputs = manifest.get("outputs")  # models of before have one output and do not say so
        self.outputs: tuple[str, ...] | None = None if outputs is None else tuple(outputs)
        self.known = known_columns(manifest)
        self._rows: int = manifest["onnx"].get("batch_rows") or _CHUNK_ROWS
        self.threshold: float | None = manifest.get("decision", {}).get("threshold")
        windows = manifest.get("windows")
        self.series = None if windows is None else Series.of(windows)
        self._session = open_session(graph, threads)

    def __repr__(self) -> str:
        names = ", ".join(column.name for column in self.columns[:8])
        more = ", …" if len(self.columns) > 8 else ""
        return f"<Model of {self.target!r} ({self.task}) from {names}{more}>"

    def predict(self, rows: Any, policy: str = IMPUTE, interval: float | None = None) -> Predictions:
        """Predict for a dict of columns, a list of records, a data frame (pandas, polars) or an Arrow table.

        ``policy`` "strict" refuses missing columns and categories not seen in training; "impute" treats
        them as missing or as the rare level, and warns. Columns that the training table did not have are
        passed over with a warning. ``interval``: 0.8, 0.9 or 0.95 for prediction intervals that should hold
        that share of the targets, beside the predictions of a model of numbers. Raises MissingColumn,
        BadValue, NoInterval.
        """
        if policy not in (STRICT, IMPUTE):
            raise LocalModelError(f"policy is {STRICT!r} or {IMPUTE!r}, not {policy!r}")
        asked = None if interval is None else interval_at(self.manifest, interval)
        reading = Reading(policy, self.manifest["preparation"]["missing"], known=self.known)
        fed, n = feed(self.columns, rows, reading)
        if self.series is not None:
            return self._predict_windows(
                self.series, lay_out(self.series, rows, reading), fed, reading, asked
            )
        raw = self._run(fed, n)
        if not np.isfinite(raw).all():
            reading.warnings.append(f"{int((~np.isfinite(raw)).sum())} predictions are not finite")
        if self.classes is None:
            lower, upper = (None, None) if asked is None else asked.around(raw)
            return Predictions(raw, None, reading.warnings, lower, upper)
        return Predictions(self._chosen(raw), raw, reading.warnings)

    def _predict_windows(
        self,
        series: Series,
        layout: Layout,
        fed: dict[str, Array],
        reading: Reading,
        asked: Interval | None,
    ) -> Predictions:
        sorted_rows = {name: cells[layout.sorted] for name, cells in fed.items()}
        raw = self._run_windows(series, sorted_rows, layout.ends)
        if not np.isfinite(raw).all():
            reading.warnings.append(f"{int((~np.isfinite(raw)).sum())} predictions are not finite")
        values = np.full((len(layout.places), *raw.shape[1:]), np.nan)
        values[layout.answers] = raw
        if self.classes is None:
            lower, upper = (None, None) if asked is None else asked.around(values)
            return Predictions(values, None, reading.warnings, lower, upper, layout.places)
        chosen = np.full(len(values), None, dtype=object)
        chosen[layout.answers] = self._chosen(raw)
        return Predictions(chosen, values, reading.warnings, places=layout.places)

    def _run_windows(
        self, series: Series, fed: dict[str, Array], ends: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Predictions of the windows that end at some rows, ascending: so many at a time that not all of
        their rows are held at once."""
        parts, step = [], max(_FEWEST_WINDOWS, _CHUNK_ROWS // series.length)
        for i in range(0, len(ends), step):
            first, last = int(ends[i]) - series.length + 1, int(ends[i : i + step][-1])
            windows = ends[i : i + step, None] + np.arange(1 - series.length, 1) - first
            piece = {name: cells[first : last + 1] for name, cells in fed.items()}
            parts.append(self._session.run(None, piece | {series.input: windows})[0])
        return np.concatenate(parts)

    def _run(self, fed: dict[str, Array], n: int) -> npt.NDArray[np.float64]:
        starts = range(0, max(n, 1), self._rows)
        parts = [
            self._session.run(None, {name: cells[i : i + self._rows] for name, cells in fed.items()})[0]
            for i in starts
        ]
        return np.concatenate(parts) if len(parts) > 1 else np.asarray(parts[0])

    def _chosen(self, probabilities: npt.NDArray[np.float64]) -> Array:
        """The likeliest class; where the model has a threshold, the second class above it."""
        names: Array = np.array(self.classes, dtype=object)
        if self.threshold is None:
            return np.asarray(names[probabilities.argmax(axis=1)])
        return np.asarray(names[(probabilities[:, 1] > self.threshold).astype(np.intp)])


def load(source: str | Path | bytes, *, threads: int = 1) -> Model:
    """Load a bundle from a file or from its bytes, every member verified. Raises BundleError."""
    bundle = read_bundle(source)
    try:
        return Model(bundle.manifest, bundle.members[GRAPH], threads=threads)
    except (KeyError, TypeError) as error:
        raise BundleError(f"the manifest lacks what the predictor needs: {error}") from error


def open_session(graph: bytes, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU. Raises BundleError where the graph cannot be run.

    onnxruntime reports its use to its makers, and keeps a store for that in the user's cache folder, unless
    the environment says otherwise before it is loaded; so this is the one place that loads it.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        # loaded here: cells.py must stay light for those who only read text
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise BundleError("predicting needs onnxruntime: pip install 'gradkeel[local]'") from error
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has no root of its own below Exception
        raise BundleError(f"the graph cannot be run: {str(error)[:200]}") from error
