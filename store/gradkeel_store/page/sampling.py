"""Fewer points for drawing, extremes kept."""

from __future__ import annotations

from collections.abc import Sequence

from gradkeel_store.page.source import Number, Numbers


def buckets(length: int, most: int) -> list[range]:
    """At most `most` consecutive, nearly equal ranges that cover `range(length)`."""
    parts = min(length, most)
    return [range(i * length // parts, (i + 1) * length // parts) for i in range(parts)]


def kept_indices(series: Sequence[Numbers], length: int, most: int = 220) -> list[int]:
    """Indices to draw: of every bucket the smallest and the largest entry of each series, and both ends."""
    if length <= most:
        return list(range(length))
    kept = {0, length - 1}
    for bucket in buckets(length, most):
        for values in series:
            kept.update(_extremes(values, bucket))
    return sorted(kept)


def _extremes(values: Numbers, bucket: range) -> set[int]:
    there = [(value, i) for i in bucket if (value := values[i]) is not None]
    return {min(there)[1], max(there)[1]} if there else set()


def largest(values: Numbers, bucket: range) -> Number:
    """The largest entry of a bucket."""
    return max((value for i in bucket if (value := values[i]) is not None), default=None)


def evenly(length: int, most: int) -> list[int]:
    """At most `most` indices, evenly spread, both ends among them."""
    if length <= most:
        return list(range(length))
    return sorted({round(i * (length - 1) / (most - 1)) for i in range(most)})
