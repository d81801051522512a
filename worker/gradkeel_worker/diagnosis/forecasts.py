"""What a forecast is held against: the last known value, and where a season is plain the value one season
back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared
    from gradkeel_worker.data.windows import Windows

Array = np.ndarray[Any, Any]

LONGEST_SEASON = 400
PLAIN = 0.3
"""Autocorrelation of the changes from row to row from which a season counts as plain."""
_CHANCE = 4.0
"""So many standard errors (1 / √rows) are no chance even of the largest of many autocorrelations."""
_NEARLY = 0.9
"""The shortest of the seasons that come so near to the strongest is taken: its multiples are seasons too."""


def naive_forecasts(prepared: Prepared) -> dict[str, dict[str, Array]]:
    """Part → baseline → predictions float64 [n] in target units; nothing for a task without a horizon.

    naive: the target at the forecast's origin. seasonal_naive: at the last step known then that lies whole
    seasons before the one predicted; naive where the series is not that long yet. Where a target is missing,
    the last one known before it in the series stands for it, and the training part's mean before the first.
    """
    windows = prepared.train.windows
    if windows is None or not windows.lead:
        return {}
    filled = _filled(windows, float(np.mean(prepared.train.y_raw)))
    length = season(prepared.train)
    return {name: _of_part(getattr(prepared, name), filled, length) for name in ("validation", "test")}


def _of_part(part: Part, filled: Array, length: int | None) -> dict[str, Array]:
    windows = part.windows
    assert windows is not None
    naive = filled[windows.ends]
    if length is None:
        return {"naive": naive}
    back = length * -(-windows.lead // length)
    at = windows.ends + windows.lead - back
    known = at >= windows.start[windows.ends]
    return {"naive": naive, "seasonal_naive": np.where(known, filled[np.maximum(at, 0)], naive)}


def _filled(windows: Windows, mean: float) -> Array:
    """The target at every place, [N], missing ones as the docstring of ``naive_forecasts`` says."""
    places = np.arange(len(windows.target))
    last = np.maximum.accumulate(np.where(np.isfinite(windows.target), places, -1))
    return np.where(last >= windows.start, windows.target[np.maximum(last, 0)], mean)


def season(train: Part) -> int | None:
    """Rows of a season of the training targets, by the autocorrelation of their changes from row to row in
    the longest stretch of one series; None where none is plain."""
    changes = np.diff(_longest_stretch(train))
    most = min(LONGEST_SEASON, len(changes) // 3)
    if most < 3 or not changes.std() > 0:
        return None
    found = _autocorrelation(changes, most + 1)
    lags = np.arange(2, most + 1)
    plain = max(PLAIN, _CHANCE / np.sqrt(len(changes)))
    peaks = lags[(found[lags] > found[lags - 1]) & (found[lags] >= found[lags + 1]) & (found[lags] >= plain)]
    if not len(peaks):
        return None
    return int(peaks[found[peaks] >= _NEARLY * found[peaks].max()][0])


def _longest_stretch(train: Part) -> Array:
    """Targets of the most training rows that follow one another in a series."""
    windows = train.windows
    assert windows is not None
    order = np.argsort(windows.ends)
    ends = windows.ends[order]
    cuts = np.flatnonzero((np.diff(ends) != 1) | (np.diff(windows.start[ends]) != 0)) + 1
    return np.asarray(max(np.split(train.y_raw[order], cuts), key=len), np.float64)


def _autocorrelation(values: Array, lags: int) -> Array:
    """Of lags 0 to ``lags``, by way of the spectrum (Wiener-Khinchin), padded so that nothing goes round."""
    centred = values - values.mean()
    size = 1 << (2 * len(centred) - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size)) ** 2
    found = np.fft.irfft(power, size)[: lags + 1]
    return np.asarray(found / found[0])


def scale_of_changes(prepared: Prepared) -> float | None:
    """Mean |change| of the target from one training row of a series to the next: what MASE is measured in
    (Hyndman & Koehler 2006). None where there is none."""
    train = prepared.train
    windows = train.windows
    if windows is None or not windows.lead:
        return None
    labels = windows.ends + windows.lead
    held = np.full(len(windows.target), np.nan)
    held[labels] = train.y_raw
    changes = np.abs(np.diff(held))[np.diff(windows.start) == 0]
    known = changes[np.isfinite(changes)]
    return float(known.mean()) if len(known) and known.mean() > 0 else None
