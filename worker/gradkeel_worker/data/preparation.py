"""The fitted preparation: raw columns in, what the model eats out. The exported graph does the same sums.

The inputs x of the model stand in this order: values (numbers, parts of dates, ordinal codes), means over
neighbours, missing indicators, one-hot blocks. Codes c of embedded categories stand beside them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gradkeel.local.cells import FALSE_WORDS, TRUE_WORDS
from gradkeel_worker.data import datetimes
from gradkeel_worker.data.categories import EMBEDDING, ONEHOT, Encoding
from gradkeel_worker.data.curves import Curve
from gradkeel_worker.data.neighbors import Neighbors
from gradkeel_worker.data.scalers import LOGARITHMS
from gradkeel_worker.data.storage import MEMORY, Storage
from gradkeel_worker.data.table import BOOLEAN, Array, Floats, Integers, Mask

VALUE, INDICATOR, CODE, NEIGHBORS = "value", "indicator", "code", "neighbors"
DATETIME_ROLE = "datetime"
PROPAGATE = "propagate"

BOOLEAN_TEXTS = {
    variant: value
    for words, value in ((FALSE_WORDS, 0.0), (TRUE_WORDS, 1.0))
    for word in sorted(words)
    for variant in dict.fromkeys((word, word.title(), word.upper()))
}


@dataclass(frozen=True)
class Source:
    """A feature column as the file has it. ``required``: it had no missing training cell. ``markers``:
    numbers that mean missing. ``missing_texts``: the config's own texts that do. ``integer``, ``decimal``:
    how the file writes its numbers."""

    name: str
    type: str
    required: bool
    markers: tuple[float, ...]
    missing_texts: tuple[str, ...]
    integer: bool
    decimal: str


@dataclass(frozen=True)
class ValueInput:
    """One number per row. ``part``: "value", a part of a date, or "code"; ``scaler``: kind of its scaling."""

    name: str
    source: str
    part: str
    scaler: str


@dataclass(frozen=True)
class Input:
    """One column of x. ``role``: value, datetime, neighbors, indicator or onehot. ``source``: the column that
    its numbers come from; for neighbours the target."""

    name: str
    source: str
    role: str


@dataclass(frozen=True)
class Category:
    """One column of c. Code 0 is the level that rare and unseen ones share; the table has len(levels) + 1
    rows."""

    name: str
    levels: tuple[str, ...]
    width: int


@dataclass(frozen=True)
class Preparation:
    """Everything fitted. The arrays have one entry per ValueInput, float64, in the column's own unit:
    ``lower`` and ``upper`` limits, ``fill`` for missing cells, then (x − ``center``) / ``scale``; where there
    is one of ``curves``, of the curve's results."""

    sources: tuple[Source, ...]
    values: tuple[ValueInput, ...]
    indicators: tuple[str, ...]
    encodings: tuple[Encoding, ...]
    missing: str
    center: Floats
    scale: Floats
    fill: Floats
    lower: Floats
    upper: Floats
    curves: tuple[Curve | None, ...]
    neighbors: Neighbors | None = None

    def transform(
        self, columns: Mapping[str, Array], storage: Storage = MEMORY, owners: Integers | None = None
    ) -> tuple[npt.NDArray[np.float32], Integers]:
        """x [n, d] float32 and c [n, k] int64 of typed columns: float64 (NaN missing) or str | None, [n]
        each. ``owners`` [n]: of training rows, which must not find themselves among their neighbours."""
        codes = {e.name: storage.keep(e.codes(columns[e.name])) for e in self.encodings}
        n = len(columns[next(iter(columns))])
        x = storage.matrix(n, self.width, np.float32)
        told = dict(zip(self.indicated(), range(self.numbers, self.width), strict=False))
        for i in range(len(self.values)):
            cells = self._raw_value(i, columns, codes)
            if i in told:
                x[:, told[i]] = np.isnan(cells)
            with np.errstate(over="ignore"):
                x[:, i] = self._scaled(i, self._filled(i, cells))
        if self.neighbors is not None:
            means = x[:, len(self.values) : self.numbers]
            self.neighbors.look_up(x[:, : len(self.values)], codes, owners, means)
        self._write_onehot(x, codes)
        return storage.by_rows(x), self._codes(codes, n, storage)

    @property
    def width(self) -> int:
        """Columns of x."""
        return len(self.inputs())

    @property
    def numbers(self) -> int:
        """Columns of x that are numbers, which stand first: values and means over neighbours."""
        return len(self.values) + (0 if self.neighbors is None else self.neighbors.width)

    def indicated(self) -> list[int]:
        """For each indicator the value whose missing cells it tells."""
        first = {value.source: i for i, value in reversed(list(enumerate(self.values)))}
        return [first[source] for source in self.indicators]

    def inputs(self) -> tuple[Input, ...]:
        """The columns of x, in order."""
        values = [Input(v.name, v.source, _role(v)) for v in self.values]
        means = [] if self.neighbors is None else self.neighbors.inputs()
        near = [Input(name, source, NEIGHBORS) for name, source in means]
        indicators = [Input(f"{source}=(missing)", source, INDICATOR) for source in self.indicators]
        onehots = [
            Input(f"{encoding.name}={encoding.level_name(code)}", encoding.name, ONEHOT)
            for encoding in self.of_kind(ONEHOT)
            for code in encoding.onehot_codes()
        ]
        return (*values, *near, *indicators, *onehots)

    def categories(self) -> tuple[Category, ...]:
        """The columns of c, in order."""
        return tuple(Category(e.name, e.levels, e.width) for e in self.of_kind(EMBEDDING))

    def of_kind(self, kind: str) -> list[Encoding]:
        """The encodings of one kind, in order."""
        return [encoding for encoding in self.encodings if encoding.kind == kind]

    def arrays(self) -> dict[str, Array]:
        """Every fitted array, by name."""
        plain = {name: getattr(self, name) for name in ("center", "scale", "fill", "lower", "upper")}
        curves = {
            f"curve.{i}.{name}": array
            for i, curve in enumerate(self.curves)
            if curve is not None
            for name, array in curve.arrays().items()
        }
        found = {} if self.neighbors is None else self.neighbors.arrays()
        near = {f"neighbors.{name}": array for name, array in found.items()}
        return {f"prepare.{name}": array for name, array in (plain | curves | near).items()}

    def to_manifest(self) -> dict[str, Any]:
        """The layout as JSON; entry i of each array in the weights file belongs to values[i], and so do the
        arrays curve.i."""
        return {
            "missing": self.missing,
            "values": [asdict(value) for value in self.values],
            "indicators": list(self.indicators),
            "categories": [
                {
                    "name": e.name,
                    "kind": e.kind,
                    "levels": list(e.levels),
                    "missing_code": e.missing,
                    "other": e.other,
                    "width": e.width,
                }
                for e in self.encodings
            ],
            "neighbors": None if self.neighbors is None else self.neighbors.to_manifest(),
        }

    def scaler_mask(self, kind: str) -> Mask:
        """Which values are scaled so, [m]."""
        return np.array([value.scaler == kind for value in self.values], dtype=bool)

    def _raw_value(self, i: int, columns: Mapping[str, Array], codes: Mapping[str, Integers]) -> Floats:
        """The cells behind one value as numbers, [n], NaN where they are missing."""
        value = self.values[i]
        raw = raw_value(value.part, self._types[value.source], columns[value.source], codes.get(value.source))
        return raw if self.missing == PROPAGATE else np.where(np.isinf(raw), np.nan, raw)

    def _filled(self, i: int, cells: Floats) -> Floats:
        limited = np.clip(cells, self.lower[i], self.upper[i])
        return limited if self.missing == PROPAGATE else np.where(np.isnan(cells), self.fill[i], limited)

    def _scaled(self, i: int, values: Floats) -> Floats:
        bend = self.curves[i] or LOGARITHMS.get(self.values[i].scaler)
        moved = values if bend is None else bend(values)
        return np.asarray((moved - self.center[i]) / self.scale[i])

    @cached_property
    def _types(self) -> dict[str, str]:
        return {source.name: source.type for source in self.sources}

    def _write_onehot(self, x: npt.NDArray[np.float32], codes: Mapping[str, Integers]) -> None:
        column = self.numbers + len(self.indicators)
        for encoding in self.of_kind(ONEHOT):
            for code in encoding.onehot_codes():
                x[:, column] = codes[encoding.name] == code
                column += 1

    def _codes(self, codes: Mapping[str, Integers], n: int, storage: Storage) -> Integers:
        embedded = self.of_kind(EMBEDDING)
        c = storage.matrix(n, len(embedded), np.int64)
        for column, encoding in enumerate(embedded):
            c[:, column] = codes[encoding.name]
        return storage.by_rows(c)


def raw_value(part: str, type_: str, cells: Array, codes: Integers | None) -> Floats:
    """The number behind each cell before any scaling, [n]; NaN where it is missing."""
    if part == CODE:
        assert codes is not None
        return codes.astype(np.float64)
    if type_ == BOOLEAN:
        return boolean_values(cells)
    return cells if part == VALUE else datetimes.part(cells, part)


def boolean_values(cells: Array) -> Floats:
    """1.0 for true words, 0.0 for false ones, NaN for anything else."""
    words = {cell: BOOLEAN_TEXTS.get(cell, np.nan) for cell in set(cells)}
    return np.array([words[cell] for cell in cells], dtype=np.float64)


def _role(value: ValueInput) -> str:
    return DATETIME_ROLE if value.part in datetimes.PARTS else VALUE
