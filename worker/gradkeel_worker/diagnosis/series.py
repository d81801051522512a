"""Readings as the report's series: down-sampled with extremes kept, non-finite numbers as null and listed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from gradkeel_worker.diagnosis.course import Course
from gradkeel_worker.diagnosis.swings import FEWEST, WINDOW
from gradkeel_worker.engine.readings import Readings

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

MAX_POINTS = 1_000
_MAX_NUMBERS = 250_000
"""Numbers in all series together at most; each takes about 10 bytes in JSON."""
_MAX_LISTED = 2_000
_GLOBAL = ("loss", "lr", "global_norm", "clipped_norm", "clip_coefficient")
_BY_LAYER = ("zero_fraction", "activation_mean", "activation_std", "dead_fraction", "saturated_fraction")
_HISTOGRAMS = ("gradient_histogram", "weight_histogram")
_CURVATURE = ("lambda_max", "gauss_newton_lambda_max", "preconditioned_lambda_max", "hessian_trace")
_HISTOGRAM_NUMBERS, _COLUMN_NUMBERS, _MOST_COLUMNS = 60_000, 20_000, 500
"""Numbers of all histograms together at most, of all columns, and columns."""
_MOST_MOMENTS = 200
"""Steps of what was measured at some steps only."""
_LAYERED = {"norm": "layer_norm", "weight_norm": "weight_norm", "update_ratio": "update_ratio"}


def series_of(readings: Readings) -> Json:
    """The report's ``series``."""
    keep = kept_positions(readings)
    found: Json = {"steps": readings.steps[keep].tolist()}
    for name in _GLOBAL:
        found[name] = numbers(getattr(readings, name)[keep])
    found["loss_z"] = numbers(z_scores(readings.loss, keep))
    found["norm_z"] = numbers(z_scores(readings.global_norm, keep))
    found["first_to_last_layer"] = numbers(Course(readings).layer_ratios[keep]) if readings.layers else []
    found["layers"] = {
        layer: _layer(readings, index, layer, keep) for index, layer in enumerate(readings.layers)
    }
    found["nonfinite"] = nonfinite_places(readings)
    found["cosine"] = numbers(readings.cosine[keep]) if len(readings.cosine) else []
    found["gradient_noise"] = _noise(readings)
    found["input_gradient"] = _input_gradient(readings)
    found["histogram_bins"] = _bins(readings)
    found["curvature"] = _curvature(readings)
    return found


def _some(steps: Array, most: int) -> Array:
    """Positions of at most ``most`` of the steps, evenly spread, first and last among them."""
    return np.linspace(0, len(steps) - 1, min(len(steps), max(2, most))).astype(int)


def _noise(readings: Readings) -> Json | None:
    """Trace of the gradient's covariance, squared norm of its mean, and the ratio of their means."""
    if "gradient_noise" not in readings.sparse:
        return None
    steps, values, names = readings.sparse["gradient_noise"]
    some = _some(steps, _MOST_MOMENTS)
    columns = {name: numbers(values[some, i]) for i, name in enumerate(names)}
    scale = readings.sparse["noise_scale"][1][some, 0]
    return {"steps": steps[some].tolist(), **columns, "noise_scale": numbers(scale)}


def _input_gradient(readings: Readings) -> Json | None:
    """By column of the file; of very many those that moved the loss most at the last measurement."""
    if "input_gradient" not in readings.sparse:
        return None
    steps, values, names = readings.sparse["input_gradient"]
    largest = np.argsort(-np.nan_to_num(values[-1]), kind="stable")[:_MOST_COLUMNS]
    some = _some(steps, min(_MOST_MOMENTS, _COLUMN_NUMBERS // max(1, len(largest))))
    columns = {names[i]: numbers(values[some, i]) for i in sorted(largest.tolist())}
    return {"steps": steps[some].tolist(), "columns": columns, "columns_of": len(names)}


def _curvature(readings: Readings) -> Json | None:
    """By quantity, the steps at which it was measured and what was; None where nothing was."""
    found: Json = {}
    for key in _CURVATURE:
        if key in readings.sparse:
            steps, values, names = readings.sparse[key]
            columns = {name: numbers(values[:, i]) for i, name in enumerate(names)}
            found[key] = {"steps": steps.tolist(), **columns}
    if "hessian_density" in readings.sparse:
        steps, values, names = readings.sparse["hessian_density"]
        shares = [numbers(row) for row in values]
        found["hessian_density"] = {"steps": steps.tolist(), "bins": list(names), "shares": shares}
    return found or None


def _bins(readings: Readings) -> list[str]:
    """What the counts of every histogram count."""
    prefixes = tuple(f"{kind}/" for kind in _HISTOGRAMS)
    return next(
        (list(names) for key, (_, _, names) in readings.sparse.items() if key.startswith(prefixes)), []
    )


def _histogram(readings: Readings, kind: str, layer: str) -> Json | None:
    steps, values, names = readings.sparse.get(f"{kind}/{layer}", (np.zeros(0), np.zeros(0), ()))
    if not names:
        return None
    each = len(_HISTOGRAMS) * len(readings.layers) * len(names)
    some = _some(steps, min(_MOST_MOMENTS, _HISTOGRAM_NUMBERS // each))
    return {"steps": steps[some].tolist(), "counts": values[some].astype(np.int64).tolist()}


def kept_positions(readings: Readings, most: int = MAX_POINTS) -> Array:
    """Positions to keep, ``most`` or a few more: of every stretch its first step and the extremes of loss,
    norm and clip coefficient.
    """
    count = len(readings.steps)
    arrays = len(_GLOBAL) + 5 + 8 * len(readings.layers)
    points = int(max(50, min(most, _MAX_NUMBERS // arrays)))
    if count <= points:
        return np.arange(count)
    edges = np.linspace(0, count, points // 6 + 1).astype(np.int64)
    kept = {0, count - 1, *np.flatnonzero(~np.isfinite(readings.loss))[:20].tolist()}
    for a, b in pairwise(edges):
        kept.add(int(a))
        for values in (readings.loss, readings.global_norm):
            kept.update(_extremes(values, int(a), int(b)))
        kept.update(_extremes(readings.clip_coefficient, int(a), int(b))[:1])
    return np.array(sorted(kept), np.int64)


def z_scores(values: Array, positions: Array) -> Array:
    """Of the values at some positions: how many standard deviations they lie from the mean of the finite ones
    among the steps before. NaN where those are too few or all alike.
    """
    scores = np.full(len(positions), np.nan)
    for i, at in enumerate(positions.tolist()):
        before = values[max(0, at - WINDOW) : at]
        before = before[np.isfinite(before)]
        if len(before) < FEWEST or not np.isfinite(values[at]):
            continue
        size = float(np.abs(before).max()) or 1.0  # squares of huge numbers must not overflow
        spread = float(np.std(before / size))
        if spread > 0:
            scores[i] = (values[at] / size - float(np.mean(before / size))) / spread
    return scores


def _extremes(values: Array, a: int, b: int) -> list[int]:
    """Positions of the smallest and the largest finite value in [a, b)."""
    window = values[a:b]
    finite = np.flatnonzero(np.isfinite(window))
    if not len(finite):
        return []
    return [a + int(finite[window[finite].argmin()]), a + int(finite[window[finite].argmax()])]


def numbers(values: Array) -> list[float | None]:
    """Six significant digits, null where not finite."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, np.float64).tolist()]


def _layer(readings: Readings, index: int, name: str, keep: Array) -> Json:
    found: Json = {}
    for key, attribute in _LAYERED.items():
        values = getattr(readings, attribute)
        found[key] = numbers(values[keep, index]) if len(values) else []
    for key in _BY_LAYER:
        steps, values, names = readings.sparse.get(key, (np.zeros(0), np.zeros(0), ()))
        if name in names:
            some = _some(steps, _MOST_MOMENTS)
            found[key] = {"steps": steps[some].tolist(), "values": numbers(values[some, names.index(name)])}
    for kind in _HISTOGRAMS:
        if (histogram := _histogram(readings, kind, name)) is not None:
            found[kind] = histogram
    return found


def nonfinite_places(readings: Readings) -> list[Json]:
    """Every non-finite number that was measured: {series, step, kind}; the first _MAX_LISTED of them.

    ``series`` is a name in the report's series, or "layers.<layer>.<name>" for one of a layer.
    """
    found: list[Json] = []
    for name, values in _measured(readings):
        for i in np.flatnonzero(~np.isfinite(values))[:_MAX_LISTED].tolist():
            kind = "nan" if np.isnan(values[i]) else "inf" if values[i] > 0 else "-inf"
            found.append({"series": name, "step": int(readings.steps[i]), "kind": kind})
    return sorted(found, key=lambda place: place["step"])[:_MAX_LISTED]


def _measured(readings: Readings) -> Iterator[tuple[str, Array]]:
    """Every series of one number a step, by its name in ``nonfinite``."""
    for name in _GLOBAL:
        yield name, getattr(readings, name)
    for key, attribute in _LAYERED.items():
        values = getattr(readings, attribute)
        for index, layer in enumerate(readings.layers if len(values) else ()):
            yield f"layers.{layer}.{key}", values[:, index]
