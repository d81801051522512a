"""Fitting the look-up of neighbours on training rows: which columns measure a distance, with what weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor

from gradkeel.contract.config import NeighborMeans
from gradkeel.contract.resolve import MAX_NEIGHBOR_CLASSES, neighbor_spaces
from gradkeel_worker.data.errors import fault
from gradkeel_worker.data.neighbor_metric import Sample, learned
from gradkeel_worker.data.neighbors import Neighbors, Space, levels, place
from gradkeel_worker.data.preparation import CODE, Preparation
from gradkeel_worker.data.scalers import robust
from gradkeel_worker.data.table import Array, Floats, Integers

Singles = npt.NDArray[np.float32]

POINTER = "/prepare/neighbors"
SAMPLE_ROWS = 8000
"""Training rows at most that weights are learned on and choices are made by."""
FEWEST_ROWS = 200
"""Training rows below which "auto" chooses nothing: it could not tell a gain from chance."""
LEAST_GAIN = 0.02
"""Share of the squared error that a space of columns must take away to be kept by "auto"."""
LEAST_CERTAINTY = 2.5
"""And how many of its standard errors that must be."""
ANOTHER_LEVEL = 2.0
"""Squared distance of two levels under the scaled metric: that of two one-hot columns."""
FAR_OUT = 8.0
"""Robust standard deviations beyond which a target counts as that: one wild target would spoil the means of
all rows near it."""
FEW_ROWS = 0.1
"""Share of the rows beyond which such targets are a part of the data."""
_NO_SAY = 0.01
"""Learned squared weights below this move no neighbour; left out."""
_DOMINANT = 0.05
"""Share of the largest squared weight from which a column is one of those that say where a row lies."""
_JUDGED_CLASSES = 3
_HELD_OUT = 4


@dataclass(frozen=True)
class Rows:
    """The rows to be looked up. ``x`` [n, values] prepared values; ``codes`` [n] levels by category;
    ``targets`` [n, c] in the model's units, or 1 at the class, c named ``names``; ``target``: the column;
    ``weights`` [n] or None; ``owners`` [n]: rows of one owner must not see one another."""

    x: Singles
    codes: dict[str, Integers]
    targets: Singles
    names: tuple[str, ...]
    target: str
    weights: Singles | None
    owners: Integers

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Integers) -> "Rows":
        """Some of the rows."""
        codes = {name: levels[rows] for name, levels in self.codes.items()}
        weights = None if self.weights is None else self.weights[rows]
        return replace(
            self,
            x=self.x[rows],
            codes=codes,
            targets=self.targets[rows],
            weights=weights,
            owners=self.owners[rows],
        )


@dataclass(frozen=True)
class Chosen:
    """The look-up, or None; the columns and k it stands for, as the config writes them; and why, in words and
    numbers."""

    neighbors: Neighbors | None
    block: NeighborMeans | None
    record: dict[str, Any]
    message: str


def fit_neighbors(block: NeighborMeans, layout: Preparation, rows: Rows, seed: int) -> Chosen:
    """Fit on the reference rows. ``layout``: the preparation, without neighbours. Raises DataError."""
    builder = _Builder(layout, block.metric, rows, seed)
    if block.columns == "auto":
        return _automatic(block, builder)
    columns = tuple(neighbor_spaces(block).values())
    _check(block, builder, columns)
    return _chosen(block, builder, columns, block.k, {}, "as the config names them")


LOOK_UPS: dict[str, Callable[[Any, Preparation, Rows, int], Chosen] | None] = {
    "none": None,
    "means": fit_neighbors,
}
"""Kind → function(block, layout, training rows, seed)."""


def limited(targets: Floats) -> Singles:
    """Targets [n] moved to ``FAR_OUT`` robust standard deviations where a few lie beyond."""
    center, scale = robust(targets)
    beyond = np.abs(targets - center) > FAR_OUT * scale
    if not 0 < beyond.mean() <= FEW_ROWS:
        return targets.astype(np.float32)
    return np.clip(targets, center - FAR_OUT * scale, center + FAR_OUT * scale).astype(np.float32)


def references(block: Any, n: int, weights: Singles | None, seed: int) -> Integers:
    """Positions of the reference rows among n training rows, in an order that says nothing."""
    order = np.random.default_rng((seed, SAMPLE_ROWS)).permutation(n)
    counted = order if weights is None else order[weights[order] > 0]
    return counted[: block.rows]


# --------------------------------------------------------------------------------------------------- spaces


class _Builder:
    """Makes spaces over the reference rows."""

    def __init__(self, layout: Preparation, metric: str, rows: Rows, seed: int) -> None:
        self.rows, self.metric, self.seed = rows, metric, seed
        self.layout = layout
        coded = {encoding.name for encoding in layout.encodings}
        self.columns = tuple(source.name for source in layout.sources)
        self.values = {
            name: tuple(i for i, v in enumerate(layout.values) if v.source == name and v.part != CODE)
            for name in self.columns
        }
        self.encodings = {name: (name,) if name in coded else () for name in self.columns}
        spread = rows.x.astype(np.float64).std(axis=0)
        self.unit = 1 / np.where((spread > 0) & np.isfinite(spread), spread, 1.0)
        self._squares: dict[tuple[str, ...], tuple[Floats, Floats]] = {}

    def squares(self, columns: tuple[str, ...]) -> tuple[Floats, Floats]:
        """What a standard deviation of each value, and another level, adds to the squared distance."""
        if columns not in self._squares:
            self._squares[columns] = self._weigh(columns)
        return self._squares[columns]

    def space(self, columns: tuple[str, ...], rows: Rows) -> Space:
        """The space over some of the rows."""
        values, encodings = self._parts(columns)
        squares, differing = self.squares(columns)
        kept, told = squares > 0, differing > 0
        values = tuple(i for i, keep in zip(values, kept, strict=True) if keep)
        encodings = tuple(name for name, keep in zip(encodings, told, strict=True) if keep)
        weights = (np.sqrt(squares[kept]) * self.unit[list(values)]).astype(np.float32)
        added = differing[told].astype(np.float32)
        codes = levels(rows.codes, encodings, slice(0, len(rows)))
        return Space(columns, values, weights, encodings, added, place(rows.x, values, weights), codes)

    def neighbors(self, spaces: tuple[tuple[str, ...], ...], k: tuple[int, ...], rows: Rows) -> Neighbors:
        """The look-up over some of the rows."""
        made = tuple(self.space(columns, rows) for columns in spaces)
        return Neighbors(k, made, rows.targets, rows.weights, rows.owners, rows.names, rows.target)

    def _parts(self, columns: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        values = tuple(i for name in columns for i in self.values[name])
        return values, tuple(e for name in columns for e in self.encodings[name])

    def _weigh(self, columns: tuple[str, ...]) -> tuple[Floats, Floats]:
        values, encodings = self._parts(columns)
        if self.metric == "scaled" or len(values) + len(encodings) == 1:
            return np.ones(len(values)), np.full(len(encodings), ANOTHER_LEVEL)
        sample = self.rows.take(np.arange(min(len(self.rows), SAMPLE_ROWS)))
        numbers = place(sample.x, values, self.unit[list(values)].astype(np.float32))
        codes = levels(sample.codes, encodings, slice(0, len(sample)))
        found = learned(Sample(numbers, codes, sample.targets), self.seed)
        largest = max(max(squares.max(initial=0.0) for squares in found), _NO_SAY)
        least = min(_NO_SAY, largest)
        squares, differing = (np.where(each < least, 0.0, each) for each in found)
        return squares, differing


# ---------------------------------------------------------------------------------------------- the choice


def _automatic(block: NeighborMeans, builder: _Builder) -> Chosen:
    rows = builder.rows
    k = tuple(each for each in sorted(set(block.k)) if each <= _seen(rows) // 2)
    if len(rows.names) > MAX_NEIGHBOR_CLASSES:
        return nothing({}, f"the target has more than {MAX_NEIGHBOR_CLASSES} classes")
    if not k or len(rows) < FEWEST_ROWS:
        return nothing({}, f"{len(rows)} training rows are too few")
    judge = _Judge(builder, k)
    gains = {columns: judge.gain(columns) for columns in _candidates(builder)}
    kept = tuple(
        columns for columns, (gain, sure) in gains.items() if gain >= LEAST_GAIN and sure >= LEAST_CERTAINTY
    )
    judged = [{"columns": list(c), "gain": gain, "certainty": sure} for c, (gain, sure) in gains.items()]
    record = {"judged": judged, "rows": len(judge.held)}
    if not kept:
        return nothing(record, "no choice of columns lowered the error on held-out training rows")
    shares = _numbers([f"{gains[columns][0]:.0%}" for columns in kept])
    rows_held = len(judge.held)
    why = f"boosted trees lost {shares} of their squared error by them on {rows_held} held-out training rows"
    return _chosen(block, builder, kept, k, record, why)


def _candidates(builder: _Builder) -> Iterator[tuple[str, ...]]:
    """All columns; those that say where a row lies; the two that say most."""
    every = builder.columns
    yield every
    size = {name: _say(builder, every, name) for name in every}
    order = sorted(every, key=lambda name: -size[name])
    dominant = {name for name in every if size[name] >= _DOMINANT * size[order[0]]}
    seen = {every}
    for names in (dominant, set(order[:2])):
        columns = tuple(name for name in every if name in names)
        if columns not in seen:
            seen.add(columns)
            yield columns


def _say(builder: _Builder, columns: tuple[str, ...], name: str) -> float:
    """The squared weights of a column together."""
    values, encodings = builder._parts(columns)
    squares, differing = builder.squares(columns)
    own = [s for i, s in zip(values, squares, strict=True) if i in builder.values[name]]
    own += [s for e, s in zip(encodings, differing, strict=True) if e == name]
    return float(sum(own))


class _Judge:
    """Errors of boosted trees on held-out training rows, with and without the inputs that a look-up makes."""

    def __init__(self, builder: _Builder, k: tuple[int, ...]) -> None:
        sample = builder.rows.take(np.arange(min(len(builder.rows), SAMPLE_ROWS)))
        cut = len(sample) - len(sample) // _HELD_OUT
        self.builder, self.seed = builder, builder.seed
        self.known, self.held = sample.take(np.arange(cut)), sample.take(np.arange(cut, len(sample)))
        self.k = tuple(each for each in k if each < _seen(self.known)) or (1,)
        counts = self.known.targets.sum(axis=0)
        single = len(sample.names) == 1
        self.outputs = [0] if single else np.argsort(-counts)[:_JUDGED_CLASSES].tolist()
        self.before = self._errors([])

    def gain(self, columns: tuple[str, ...]) -> tuple[float, float]:
        """Share of the squared error that means in this space take away, and how many of its standard errors
        that is."""
        made = self.builder.neighbors((columns,), self.k, self.known)
        inputs = [np.empty((len(rows), made.width), np.float32) for rows in (self.known, self.held)]
        for rows, means in zip((self.known, self.held), inputs, strict=True):
            made.look_up(rows.x, rows.codes, rows.owners, means)
        saved = self.before - self._errors(inputs)
        error = float(saved.std() / np.sqrt(len(saved)))
        if error == 0 or self.before.mean() == 0:
            return 0.0, 0.0
        return float(saved.mean() / self.before.mean()), float(saved.mean() / error)

    def _errors(self, more: list[Singles]) -> Floats:
        """Squared error of each held-out row. ``more``: inputs of the known and of the held-out rows."""
        fitted = np.hstack([_bare(self.known), *more[:1]])
        judged = np.hstack([_bare(self.held), *more[1:]])
        total = np.zeros(len(self.held))
        for output in self.outputs:
            trees = HistGradientBoostingRegressor(max_iter=80, early_stopping=False, random_state=self.seed)
            trees.fit(fitted, self.known.targets[:, output], sample_weight=self.known.weights)
            total += (trees.predict(judged) - self.held.targets[:, output]) ** 2
        return total if self.held.weights is None else total * self.held.weights


def _bare(rows: Rows) -> Array:
    return np.hstack([rows.x, *(levels[:, None].astype(np.float32) for levels in rows.codes.values())])


# ---------------------------------------------------------------------------------------------- the outcome


def _chosen(
    block: NeighborMeans,
    builder: _Builder,
    columns: tuple[tuple[str, ...], ...],
    k: tuple[int, ...],
    record: dict[str, Any],
    why: str,
) -> Chosen:
    ordered = tuple(sorted(set(k)))
    made = builder.neighbors(columns, ordered, builder.rows)
    by = " and by ".join(_words(each, builder) for each in columns)
    message = f"the target's means over {_numbers(ordered)} nearest training rows are inputs, by {by}: {why}"
    weights = [_weights_of(space, builder) for space in made.spaces]
    resolved = NeighborMeans(k=ordered, columns=columns, metric=block.metric, rows=block.rows)
    return Chosen(
        made, resolved, record | {"columns": [list(c) for c in columns], "weights": weights}, message
    )


def nothing(record: dict[str, Any], why: str) -> Chosen:
    """What stands for a look-up where there is to be none."""
    return Chosen(
        None, None, record | {"columns": []}, f"no means over nearest training rows are inputs: {why}"
    )


def _weights_of(space: Space, builder: _Builder) -> dict[str, float]:
    """The factor on each value of unit spread, or the distance of another level, by name."""
    names = [builder.layout.values[i].name for i in space.values]
    sizes = space.weights / builder.unit[list(space.values)]
    numbers = dict(zip(names, sizes.tolist(), strict=True))
    return numbers | dict(zip(space.encodings, np.sqrt(space.differing).tolist(), strict=True))


def _words(columns: tuple[str, ...], builder: _Builder) -> str:
    return f"all {len(columns)} columns" if columns == builder.columns else ", ".join(columns[:8])


def _numbers(k: Sequence[Any]) -> str:
    return str(k[0]) if len(k) == 1 else f"{', '.join(map(str, k[:-1]))} and {k[-1]}"


def _seen(rows: Rows) -> int:
    """Rows that every row may look up at least: all but those of its own owner."""
    _, counts = np.unique(rows.owners, return_counts=True)
    return len(rows) - int(counts.max(initial=0))


def _check(block: NeighborMeans, builder: _Builder, spaces: tuple[tuple[str, ...], ...]) -> None:
    seen = _seen(builder.rows)
    if max(block.k) > seen:
        detail = f"{max(block.k)} neighbours are asked for, and a training row has {seen} others to look up"
        raise fault("out_of_range", f"{detail}; lower k, or raise rows", pointer=f"{POINTER}/k")
    if (classes := len(builder.rows.names)) > MAX_NEIGHBOR_CLASSES:
        detail = (
            f"the target has {classes} classes; neighbours are looked up for {MAX_NEIGHBOR_CLASSES} at most"
        )
        raise fault("out_of_range", f"{detail}: set prepare.neighbors to none", pointer=POINTER)
    for name in dict.fromkeys(name for columns in spaces for name in columns):
        if name not in builder.columns:
            detail = f"{name!r} is no feature of this training, so no distance can be measured by it"
            way = f"name others of {', '.join(builder.columns[:20])}"
            raise fault("unknown_column", f"{detail}; {way}", pointer=f"{POINTER}/columns", column=name)
