"""From values to places on an axis: 0 at its low end, 1 at its high end."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from gradkeel_store.page.source import Number
from gradkeel_store.page.wording import brief, decade


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, linear or logarithmic; values outside land on its edges."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where the value lies, 0 … 1. On a logarithmic axis zero and below lie on the low edge."""
        if self.log:
            if value <= self.low:
                return 0.0
            place = (math.log10(value) - math.log10(self.low)) / self._decades()
        else:
            place = _share(value, self.low, self.high)
        return min(1.0, max(0.0, place))

    def _decades(self) -> float:
        return (math.log10(self.high) - math.log10(self.low)) or 1.0

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Values to mark, with their labels."""
        return self._log_ticks(most) if self.log else self._linear_ticks(most)

    def _log_ticks(self, most: int) -> list[tuple[float, str]]:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        stride = max(1, round(nice_step(last - first, most)))
        whole = [(10.0**e, decade(e)) for e in range(-(-first // stride) * stride, last + 1, stride)]
        if last - first >= 2:
            return whole
        return [(v, brief(v)) for e in range(first - 1, last + 1) for v in _within(self, 10.0**e)]

    def _linear_ticks(self, most: int) -> list[tuple[float, str]]:
        step = nice_step(self.high - self.low, most)
        if not step:
            return [(self.low, brief(self.low))]
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(i * step, brief(float(f"{i * step:.10g}"))) for i in range(first, min(last, first + 20) + 1)]


def _within(scale: Scale, power: float) -> list[float]:
    return [m * power for m in (1, 2, 5) if scale.low * 0.999 <= m * power <= scale.high * 1.001]


def _share(value: float, low: float, high: float) -> float:
    # halves first: the difference of two doubles may overflow
    span = high / 2 - low / 2
    return (value / 2 - low / 2) / span if span else 0.5


def nice_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 × 10ⁿ that needs at most `most` steps; 0 where the span is out of range."""
    if not sys.float_info.min <= span / most < math.inf:
        return 0.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next((m * power for m in (1, 2, 5) if m * power * most >= span), 10 * power)


def linear(values: Iterable[Number], *, zero: bool = False, pad: float = 0.04) -> Scale:
    """A linear axis around the values; with `zero` it begins at zero."""
    low, high = _range(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = (high / 2 - low / 2) * 2 * pad if high > low else (abs(high) * 0.1 or 0.5)
    return Scale(low if zero and low == 0 else _bounded(low - room), _bounded(high + room))


def logarithmic(values: Iterable[Number], *, pad: float = 0.08) -> Scale:
    """A logarithmic axis around the positive values."""
    low, high = _range(value for value in values if value is not None and value > 0)
    if low <= 0:
        return Scale(0.1, 10.0, log=True)
    room = max((math.log10(high) - math.log10(low)) * pad, 0.15 if high > low else 0.5)
    return Scale(_power(math.log10(low) - room), _power(math.log10(high) + room), log=True)


def fitting(values: Iterable[Number]) -> Scale:
    """Logarithmic where the positive values span more than a factor of 20, else linear."""
    there = [value for value in values if value is not None]
    positive = [value for value in there if value > 0]
    spread = bool(positive) and min(there) >= 0 and max(positive) / 20 > min(positive)
    return logarithmic(positive) if spread else linear(there)


def exact_range(values: Iterable[Number]) -> Scale:
    """A linear axis that ends where the values end."""
    low, high = _range(values)
    return Scale(low, high if high > low else low + 1)


def _range(values: Iterable[Number]) -> tuple[float, float]:
    there = [value for value in values if value is not None]
    return (min(there), max(there)) if there else (0.0, 1.0)


def _bounded(value: float) -> float:
    return min(1.7e308, max(-1.7e308, value))


def _power(exponent: float) -> float:
    return float(10.0 ** min(308.2, max(-307.0, exponent)))
