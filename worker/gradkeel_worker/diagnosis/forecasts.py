"""What a forecast is held against: the last known value, and where a season is plain the value one season
back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gradkeel_worker.data.references import season, seasons_back

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared
    from gradkeel_worker.data.windows import Windows

Array = np.ndarray[Any, Any]


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
    at = windows.ends - seasons_back(length, windows.lead)
    known = at >= windows.start[windows.ends]
    return {"naive": naive, "seasonal_naive": np.where(known, filled[np.maximum(at, 0)], naive)}


def _filled(windows: Windows, mean: float) -> Array:
    """The target at every place, [N], missing ones as the docstring of ``naive_forecasts`` says."""
    places = np.arange(len(windows.target))
    last = np.maximum.accumulate(np.where(np.isfinite(windows.target), places, -1))
    return np.where(last >= windows.start, windows.target[np.maximum(last, 0)], mean)


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
