"""A stretch of the file whose targets the model cannot tell while it tells those of the rest. numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared

Array = np.ndarray[Any, Any]

_FEWEST_ROWS = 60
"""Rows below which there is nothing to tell a stretch by."""
_FEWEST_INSIDE = 10
_MOST_INSIDE = 0.6
_CHANCE = 1e-3
"""Probability that rows in random order show as strong a stretch."""
_RELATED = 0.4
"""Correlation of predictions and targets that the rest has to show."""
_UNRELATED = 0.4
"""Correlation inside over that of the rest up to which it is as good as none."""
_TAIL = 0.02
"""Share of the rows with the poorest agreement that count as no worse than the next."""
_LIKE_SPREAD = 0.6
"""Spread of the targets inside over that of the rest: where they vary less, they are harder to tell apart."""


@dataclass(frozen=True)
class Answers:
    """Rows with their targets and predictions, [n, targets], or indicators and probabilities of the
    classes, [n, classes]. ``rows``: record index in the file, ``lines``: line in it or None.
    """

    rows: Array
    lines: Array | None
    actual: Array
    predicted: Array


@dataclass(frozen=True)
class Block:
    """First and last of the looked-at rows of the stretch, as places in the file; correlation of predictions
    and targets inside it and in the rest; ``chance``: how often rows in random order show as strong a one.
    """

    first: dict[str, int | None]
    last: dict[str, int | None]
    rows: int
    inside: float
    outside: float
    chance: float


def answers_of(prepared: Prepared, told: list[tuple[Part, Array]]) -> Answers | None:
    """Parts with their predictions as rows in the order of the file; None for windows, quantiles and where
    there are no predictions.
    """
    told = [(part, predicted) for part, predicted in told if len(part.rows)]
    if not told or prepared.levels or told[0][0].windows is not None:
        return None
    rows = np.concatenate([part.rows for part, _ in told])
    order = np.argsort(rows, kind="stable")
    lines = [part.lines for part, _ in told if part.lines is not None]
    actual = np.concatenate([part.y_raw for part, _ in told])
    if prepared.classes is not None:
        actual = np.eye(len(prepared.classes))[actual]
    return Answers(
        rows[order],
        np.concatenate(lines)[order] if len(lines) == len(told) else None,
        actual.reshape(len(rows), -1)[order].astype(np.float64),
        np.concatenate([predicted for _, predicted in told]).reshape(len(rows), -1)[order],
    )


def strange_block(answers: Answers) -> Block | None:
    """The stretch of rows whose targets have nothing to do with the predictions, though they vary as much as
    those of the rest, which have; None where there is none.

    It is looked for where the walk of the rows' agreement about its mean falls furthest; Kuiper's statistic
    (1960) bounds how often rows in random order fall as far.
    """
    n = len(answers.rows)
    if n < _FEWEST_ROWS or not np.isfinite(answers.predicted).all():
        return None
    start, end, fall = _stretch(_agreement(answers))
    inside = np.zeros(n, bool)
    inside[start:end] = True
    chance = _kuiper(fall)
    if not (_FEWEST_INSIDE <= end - start <= _MOST_INSIDE * n and chance < _CHANCE):
        return None
    within, beyond = _related(answers, inside), _related(answers, ~inside)
    spread = _spread(answers.actual[inside]) / max(_spread(answers.actual[~inside]), 1e-300)
    noise = 2 / np.sqrt(end - start)  # two standard errors of a correlation of 0
    unrelated = within <= min(max(noise, _UNRELATED * beyond), beyond / 2)
    if beyond < _RELATED or not unrelated or spread < _LIKE_SPREAD:
        return None
    return Block(_place(answers, start), _place(answers, end - 1), end - start, within, beyond, chance)


def _place(answers: Answers, at: int) -> dict[str, int | None]:
    line = None if answers.lines is None else int(answers.lines[at])
    return {"row": int(answers.rows[at]), "line": line}


def _agreement(answers: Answers) -> Array:
    """How far each prediction agrees with its row's target more than with the targets of all, [n]."""
    off = answers.actual - answers.actual.mean(axis=0), answers.predicted - answers.predicted.mean(axis=0)
    return np.asarray(-(np.abs(off[0] / _scale(off[0]) - off[1] / _scale(off[1]))).sum(axis=1))


def _scale(values: Array) -> Array:
    scale = values.std(axis=0)
    return np.where(scale > 0, scale, 1.0)


def _stretch(values: Array) -> tuple[int, int, float]:
    """(start, end, fall) of the stretch over which the walk of the values falls furthest; the fall in units
    of √n standard deviations.
    """
    bounded = np.maximum(values, np.quantile(values, _TAIL))
    walk = np.concatenate([[0.0], np.cumsum((bounded - bounded.mean()) / _scale(bounded))])
    highest = np.maximum.accumulate(walk)
    end = int(np.argmax(highest - walk))
    start = int(np.argmax(walk[: end + 1]))
    return start, end, float((walk[start] - walk[end]) / np.sqrt(len(values)))


def _kuiper(fall: float) -> float:
    """Probability that the range of a Brownian bridge is as large: 2 Σ (4j²v² − 1) e^(−2j²v²)."""
    j = np.arange(1, 101)
    each = (4 * j**2 * fall**2 - 1) * np.exp(-2 * j**2 * fall**2)
    return float(np.clip(2 * each.sum(), 0.0, 1.0)) if fall > 0.4 else 1.0


def _related(answers: Answers, chosen: Array) -> float:
    """Correlation of predictions and targets over the chosen rows, all columns together."""
    actual = answers.actual[chosen] - answers.actual[chosen].mean(axis=0)
    predicted = answers.predicted[chosen] - answers.predicted[chosen].mean(axis=0)
    size = np.sqrt((actual**2).sum() * (predicted**2).sum())
    return float((actual * predicted).sum() / size) if size > 0 else 0.0


def _spread(values: Array) -> float:
    return float(np.sqrt(values.var(axis=0).sum()))
