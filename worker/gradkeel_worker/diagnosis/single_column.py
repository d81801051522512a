"""How well one column alone tells the target of rows that it was not fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradkeel_worker.diagnosis.sampling import sample

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared

Array = np.ndarray[Any, Any]

_MOST_ROWS = 5_000
_MOST_COLUMNS = 500
_OWN_BIN = 64
"""Up to so many different values each have a bin of their own."""
_MOST_BINS = 200
_ROWS_A_BIN = 5
_NUMBERS = ("value", "datetime", "indicator")


@dataclass(frozen=True)
class Alone:
    """What one column does alone on ``rows`` held-out rows.

    Numbers: ``score`` is the share of the variance of the target's ranks that a curve through the column
    explains. Classes: the share of the errors of always naming the most frequent class that naming each
    value's own takes away; ``right`` is the share of rows it names right.
    """

    name: str
    source: str
    target: str
    score: float
    rows: int
    right: float | None = None


def judge_columns(prepared: Prepared, seed: int) -> list[Alone]:
    """Every column that the model is fed, best first; nothing for models over windows, whose past values of
    the target are meant to tell it, nor without held-out rows.
    """
    train, held = _some(seed, prepared.train), _some(seed, prepared.validation, prepared.test)
    rows = len(held.y)
    if prepared.train.windows is not None or not rows or len(train.y) < _ROWS_A_BIN:
        return []
    actual, known = _targets(prepared, held.y), _targets(prepared, train.y)
    found = []
    for name, source, seen, asked in _columns(prepared, train, held):
        for target in known:
            score, right = _score(prepared, (seen, known[target]), (asked, actual[target]))
            found.append(Alone(name, source, target, score, rows, right))
    return sorted(found, key=lambda one: -one.score)


@dataclass(frozen=True)
class _Rows:
    """Some rows: x [n, d], c [n, k] and the target's own units y, [n] or [n, targets]."""

    x: Array
    c: Array
    y: Array


def _some(seed: int, *parts: Part) -> _Rows:
    """A sample of the parts' rows together, each part's share by its size."""
    rows = sum(len(part.rows) for part in parts)
    share = min(1.0, _MOST_ROWS / max(rows, 1))
    taken = [part.take(sample(len(part.rows), round(share * len(part.rows)), seed)) for part in parts]
    joined = [np.concatenate(each) for each in zip(*((p.x, p.c, p.y_raw) for p in taken), strict=True)]
    return _Rows(*joined)


def _targets(prepared: Prepared, y: Array) -> dict[str, Array]:
    return dict(zip(prepared.config.targets, y.reshape(len(y), -1).T, strict=True))


def _score(
    prepared: Prepared, seen: tuple[Array, Array], asked: tuple[Array, Array]
) -> tuple[float, float | None]:
    if prepared.classes is None:
        return explained_ranks(*seen, *asked), None
    return errors_taken_away(*seen, *asked)


def _columns(prepared: Prepared, train: _Rows, held: _Rows) -> Iterator[tuple[str, str, Array, Array]]:
    """Each column: its name, its source, and its values in the training and in the held-out rows."""
    inputs = prepared.inputs[:_MOST_COLUMNS]
    for j, one in enumerate(inputs):
        if one.role in _NUMBERS:
            yield one.name, one.source, train.x[:, j], held.x[:, j]
    for source in dict.fromkeys(one.source for one in inputs if one.role == "onehot"):
        levels = [j for j, one in enumerate(inputs) if one.role == "onehot" and one.source == source]
        yield source, source, _level(train.x[:, levels]), _level(held.x[:, levels])
    for k, category in enumerate(prepared.categories[:_MOST_COLUMNS]):
        yield category.name, category.name, train.c[:, k], held.c[:, k]


def _level(columns: Array) -> Array:
    """Which of some one-hot columns is set, [n]; 0 where none is."""
    return np.asarray((columns.argmax(axis=1) + 1) * (columns.max(axis=1) > 0))


def explained_ranks(x: Array, y: Array, x_held: Array, y_held: Array) -> float:
    """R² of the target's ranks on held-out rows, by a curve through the means of bins of x.

    Ranks are places among the fitted rows, so that neither tails nor any increasing function of x or y change
    the result. Values that are not finite count as the lowest. May be negative.
    """
    wanted, ranks = ranked(y, y_held), ranked(y, y)
    places, at = ranked(x, x), ranked(x, x_held)
    codes, _ = _bins(places, places)
    count = np.bincount(codes)
    middle, mean = (np.bincount(codes, v)[count > 0] / count[count > 0] for v in (places, ranks))
    told = np.interp(at, middle, mean)
    spread = float(((wanted - ranks.mean()) ** 2).sum())
    return 1.0 - float(((wanted - told) ** 2).sum()) / spread if spread > 0 else 0.0


def errors_taken_away(x: Array, y: Array, x_held: Array, y_held: Array) -> tuple[float, float]:
    """Goodman and Kruskal's λ on held-out rows, and the share that is named right: for each bin of x the most
    frequent class of the fitted rows there. y: class indexes.
    """
    y, y_held = np.asarray(y, np.int64), np.asarray(y_held, np.int64)
    codes, asked = _bins(ranked(x, x), ranked(x, x_held))
    classes = int(max(y.max(), y_held.max())) + 1
    counts = np.bincount(codes * classes + y, minlength=(max(codes.max(), asked.max()) + 1) * classes)
    table = counts.reshape(-1, classes)
    usual = int(np.bincount(y).argmax())
    named = np.where(table.sum(axis=1) > 0, table.argmax(axis=1), usual)[asked]
    wrong, wrong_always = float((named != y_held).mean()), float((y_held != usual).mean())
    return (1.0 - wrong / wrong_always if wrong_always > 0 else 0.0), 1.0 - wrong


def ranked(fitted: Array, values: Array) -> Array:
    """Places of values among the fitted ones, 0 to 1; ties have the middle of theirs."""
    order = np.sort(_finite(fitted))
    values = _finite(values)
    places = np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right")
    return np.asarray(places / (2 * len(order)))


def _finite(values: Array) -> Array:
    found = np.asarray(values, np.float64)
    return np.where(np.isnan(found), -np.inf, found)


def _bins(fitted: Array, values: Array) -> tuple[Array, Array]:
    """Codes of bins for the fitted values and for others: one bin a value where those are few, else bins of
    about equal numbers of rows.
    """
    distinct = np.unique(fitted)
    if len(distinct) <= _OWN_BIN:
        edges = (distinct[1:] + distinct[:-1]) / 2
    else:
        bins = int(min(_MOST_BINS, len(fitted) // _ROWS_A_BIN))
        edges = np.unique(np.quantile(fitted, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, fitted, "right"), np.searchsorted(edges, values, "right")
