"""Ups and downs of a series: whether it fell at all, what leaps out of it, what swings to and fro. numpy
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

WINDOW, FEWEST = 128, 16
"""Values before one that its z-score is told against, and how many of them at least."""
_AT_ONCE = 8192


@dataclass(frozen=True)
class Fall:
    """How far a series fell: means of its ``first`` and ``last`` values, and the standard error of the
    difference between the two.
    """

    first: float
    last: float
    error: float

    @property
    def beyond_noise(self) -> bool:
        """Whether it fell by more than two standard errors."""
        return self.first - self.last > 2 * self.error


def fall_of(values: Array) -> Fall:
    """First 2 % (three values at least) against the last quarter. The noise is that of successive
    differences, whose standard deviation is √2 of a value's where neighbours are independent and the trend is
    slow.
    """
    first, last = values[: max(3, len(values) // 50)], values[-max(3, len(values) // 4) :]
    steps = np.diff(values)
    noise = 1.4826 * float(np.median(np.abs(steps - np.median(steps)))) / np.sqrt(2)
    error = noise * np.sqrt(1 / len(first) + 1 / len(last))
    return Fall(float(first.mean()), float(last.mean()), float(error))


@dataclass(frozen=True)
class Spike:
    """A value that leaps out of those before it. ``mean``: theirs. ``lasted``: so many values stood above
    their mean + 3 standard deviations, this one included.
    """

    index: int
    value: float
    mean: float
    z: float
    lasted: int


def spikes_of(values: Array, z: float, least: float) -> list[Spike]:
    """Values more than ``z`` standard deviations, and more than ``least``, above the mean of up to WINDOW
    values before them; of neighbours within what one lasted, the first. Finite values [n].
    """
    means, spreads = _before(values)
    rise = values - means
    found: list[Spike] = []
    quiet_from = 0
    for at in np.flatnonzero((rise > z * spreads) & (rise > least)).tolist():
        if at < quiet_from:
            continue
        back = np.flatnonzero(values[at:] <= means[at] + 3 * spreads[at])
        lasted = int(back[0]) if len(back) else len(values) - at
        score = float(rise[at] / spreads[at]) if spreads[at] > 0 else float("inf")
        found.append(Spike(at, float(values[at]), float(means[at]), score, lasted))
        quiet_from = at + lasted
    return found


def _before(values: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of up to WINDOW values before each, [n]; NaN where fewer than FEWEST."""
    means, spreads = np.full(len(values), np.nan), np.full(len(values), np.nan)
    size = float(np.abs(values).max(initial=0.0)) or 1.0  # squares of huge numbers must not overflow
    scaled = np.asarray(values, np.float64) / size
    for at in range(FEWEST, min(WINDOW, len(values))):
        means[at], spreads[at] = scaled[:at].mean(), scaled[:at].std()
    if len(values) > WINDOW:
        windows = np.lib.stride_tricks.sliding_window_view(scaled, WINDOW)[:-1]
        for start in range(0, len(windows), _AT_ONCE):
            chunk = slice(start, start + _AT_ONCE)
            to = slice(WINDOW + start, WINDOW + start + len(windows[chunk]))
            means[to], spreads[to] = windows[chunk].mean(axis=1), windows[chunk].std(axis=1)
    return means * size, spreads * size


def swings_of(values: Array, least: float) -> Array:
    """Sizes of the swings between one turning point and the next, of ``least`` or more each; what goes on in
    one direction to either end is none.
    """
    turns = _turning_points(values, least)
    return np.abs(np.diff(values[turns[1:]])) if len(turns) > 2 else np.zeros(0)


def _turning_points(values: Array, least: float) -> list[int]:
    """Where the series first set out, and where it turned, by ``least`` or more each time: a zigzag."""
    low = high = 0
    turns: list[int] = []
    rising: bool | None = None
    for at in range(1, len(values)):
        high = at if values[at] > values[high] else high
        low = at if values[at] < values[low] else low
        if rising is not False and values[high] - values[at] >= least:
            turns.append(high)
            rising, low = False, at
        elif rising is not True and values[at] - values[low] >= least:
            turns.append(low)
            rising, high = True, at
        if rising:
            low = at
        elif rising is False:
            high = at
    return turns
