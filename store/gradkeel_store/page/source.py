"""Reading a report that may lack anything: every getter answers with the right type or with nothing.

A report of another version, of a job that died, or one whose numbers are null must still be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Number = float | None
Numbers = list[Number]


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is an object, else an empty one."""
    return {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """The value where it is a list, else an empty one."""
    return list(value) if isinstance(value, list | tuple) else []


def records(value: Any) -> list[dict[str, Any]]:
    """The objects of a list."""
    return [mapping(one) for one in items(value) if isinstance(one, Mapping)]


def number(value: Any) -> Number:
    """The value where it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if math.isfinite(as_float) else None


def numbers(value: Any) -> Numbers:
    """A list of numbers, None where an entry is none."""
    return [number(one) for one in items(value)]


def text(value: Any) -> str:
    """The value where it is text, else an empty one."""
    return value if isinstance(value, str) else ""


def present(values: Numbers) -> list[float]:
    """The numbers that are there."""
    return [value for value in values if value is not None]


def last(values: Numbers) -> Number:
    """The last number that is there."""
    return next((value for value in reversed(values) if value is not None), None)


def median(values: list[float]) -> Number:
    """The median; None of nothing."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if not ordered:
        return None
    return ordered[half] if len(ordered) % 2 else ordered[half - 1] / 2 + ordered[half] / 2


@dataclass(frozen=True)
class View:
    """What a section may look at: the report, the job's document where the caller has it, and the title."""

    report: dict[str, Any]
    job: dict[str, Any]
    title: str
    thrift: int = 1

    def most(self, limit: int) -> int:
        """How many of a thing to draw: `limit`, or fewer where the page would grow too large."""
        return max(5, limit // self.thrift)

    def part(self, key: str) -> dict[str, Any]:
        """A top-level object of the report."""
        return mapping(self.report.get(key))

    def entries(self, key: str) -> list[dict[str, Any]]:
        """A top-level list of objects of the report."""
        return records(self.report.get(key))

    @property
    def is_preflight(self) -> bool:
        """Whether nothing was to be trained: by the job, or by what alone the report holds."""
        return self.job.get("kind") == "preflight" or (bool(self.entries("preflight")) and not self.steps)

    @property
    def config(self) -> dict[str, Any]:
        """The job's resolved config, where it is known."""
        return mapping(self.job.get("config")) or mapping(self.part("provenance").get("config"))

    @property
    def steps(self) -> list[float]:
        """The optimizer steps at which the series were kept; what is no number counts as its index."""
        given = numbers(self.part("series").get("steps"))
        return [float(i) if step is None else step for i, step in enumerate(given)]

    def series(self, key: str) -> Numbers:
        """One series, as long as `steps`."""
        return _fitted(numbers(self.part("series").get(key)), len(self.steps))

    @property
    def layers(self) -> dict[str, dict[str, Any]]:
        """Per-layer series by layer name, in forward order."""
        return {key: mapping(value) for key, value in mapping(self.part("series").get("layers")).items()}

    def layer_series(self, layer: str, key: str) -> Numbers:
        """One series of one layer, as long as `steps`."""
        return _fitted(numbers(self.layers.get(layer, {}).get(key)), len(self.steps))


def _fitted(values: Numbers, length: int) -> Numbers:
    return (values + [None] * length)[:length]
