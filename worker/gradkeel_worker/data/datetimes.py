"""Dates and times as numbers: where in the day, the week and the year, and how far along.

A cycle enters as the sine and cosine of its phase, so that its end lies beside its start. Phases come from
seconds since 1970-01-01 UTC by division alone, which an ONNX graph can do too; the year is the mean one of
365.2425 days.
"""

import numpy as np

from gradkeel_worker.data.table import Floats

DAY = 86_400.0
CYCLES: dict[str, tuple[float, float]] = {
    "day": (DAY, 0.0),
    "week": (7 * DAY, 3 * DAY),  # 1970-01-01 was a Thursday: three days into the week
    "year": (365.2425 * DAY, 0.0),
}
"""Name → length and offset, in seconds."""
_SEASON = 30 * DAY  # within less, the place in the year is the trend once more
TREND = "trend"
PARTS = (*(f"{cycle}_{wave}" for cycle in CYCLES for wave in ("sin", "cos")), TREND)


def part(values: Floats, name: str) -> Floats:
    """One part of each moment, [n]. ``values``: seconds since 1970 UTC, NaN stays NaN."""
    if name == TREND:
        return values
    cycle, wave = name.split("_")
    angle = 2 * np.pi * phase(values, cycle)
    return np.sin(angle) if wave == "sin" else np.cos(angle)


def phase(values: Floats, cycle: str) -> Floats:
    """Share of the cycle that has passed, in [0, 1)."""
    length, offset = CYCLES[cycle]
    turns = (values + offset) / length
    with np.errstate(invalid="ignore"):
        return np.asarray(turns - np.floor(turns))


def varying(values: Floats) -> tuple[str, ...]:
    """The parts that tell training moments apart. ``values``: the training part's, without missing ones."""
    if len(np.unique(values)) < 2:
        return ()
    days = np.floor(values / DAY)
    moving = {
        "day": len(np.unique(values - days * DAY)) > 1,
        "week": len(np.unique(np.mod(days + 3, 7))) > 1,
        "year": np.ptp(values) > _SEASON,
    }
    return tuple(name for name in PARTS if name == TREND or moving[name.split("_")[0]])
