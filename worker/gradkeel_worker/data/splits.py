"""Which rows train, validate and test. Every function returns positions among the rows it was given."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from gradkeel.contract.config import ColumnSplit, GroupSplit, OrderedSplit, RandomSplit, StratifiedSplit
from gradkeel.local.cells import number_text
from gradkeel_worker.data.errors import DataError, fault
from gradkeel_worker.data.table import Array, Column, Integers, Table

DECILES = 10
_MEMBERS = 2
_ROUNDING = 1e-9  # 0.15 / 0.85 · n may come out a hair above a whole number


@dataclass(frozen=True)
class Indices:
    """Positions of the rows of each part, [n] each."""

    train: Integers
    validation: Integers
    test: Integers


@dataclass(frozen=True)
class SplitRows:
    """What a split may look at. ``kept`` [n]: positions in the table of the rows that have a target;
    ``strata`` [n]: their class or target value; ``order``, ``group``: the columns block's own."""

    table: Table
    kept: Integers
    strata: Array
    order: str | None = None
    group: str | None = None

    def column(self, name: str, pointer: str) -> Column:
        return self.table.need(name, pointer)


def split_rows(config: Any, rows: SplitRows) -> Indices:
    """Part the rows as the config's split block says. Raises DataError where that leaves nothing to train
    on."""
    parts = SPLITS[config.kind](config, rows)
    if len(parts.train) == 0:
        raise fault("empty_part", "the split leaves no row to train on", pointer="/split")
    return parts


def sizes(n: int, validation: float, test: float) -> tuple[int, int]:
    """Rows of the validation and the test part; shares of the whole, rounded up as scikit-learn does."""
    n_test = part_of(n, test)
    rest = n - n_test
    n_validation = part_of(rest, validation / (1 - test))
    if n_test + n_validation >= n:
        detail = f"{n} rows are too few for a validation share of {validation:g} and a test share of {test:g}"
        raise fault("too_few_rows", detail, pointer="/split")
    return n_validation, n_test


def part_of(n: int, share: float) -> int:
    """A share of n, rounded up."""
    return math.ceil(n * share - _ROUNDING)


def _random(config: RandomSplit, rows: SplitRows) -> Indices:
    return _shuffled(config, len(rows.kept), None)


def _stratified(config: StratifiedSplit, rows: SplitRows) -> Indices:
    return _shuffled(config, len(rows.kept), rows.strata)


def _shuffled(config: RandomSplit | StratifiedSplit, n: int, strata: Array | None) -> Indices:
    n_validation, n_test = sizes(n, config.validation, config.test)
    rest, test = cut(np.arange(n), n_test, config.seed, strata)
    train, validation = cut(rest, n_validation, config.seed, strata)
    return Indices(train, validation, test)


def cut(positions: Integers, size: int, seed: int, strata: Array | None) -> tuple[Integers, Integers]:
    """``positions`` without ``size`` of them, and those, at random; ``strata`` keep their shares."""
    if size == 0:
        return positions, positions[:0]
    chosen = None if strata is None else pooled(strata[positions], min(size, len(positions) - size))
    first, second = train_test_split(positions, test_size=size, random_state=seed, stratify=chosen)
    return first, second


def pooled(values: Array, most: int) -> Array:
    """Codes of at most so many strata, each with a row for either side; the rarest are pooled until that
    holds."""
    if values.dtype.kind == "f" and len(np.unique(values)) > DECILES:
        edges = np.quantile(values, np.linspace(0, 1, min(DECILES, most) + 1)[1:-1])
        values = np.searchsorted(edges, values, side="right")
    codes = np.unique(values, return_inverse=True)[1]
    while len(counts := np.bincount(codes)) > 1 and (counts.min() < _MEMBERS or len(counts) > most):
        rare, next_rare = np.argsort(counts, kind="stable")[:2]
        codes = np.unique(np.where(codes == rare, next_rare, codes), return_inverse=True)[1]
    return codes


def _ordered(config: OrderedSplit, rows: SplitRows) -> Indices:
    name = config.column or rows.order
    if name is None:
        raise fault(
            "required", "an ordered split needs split.column or columns.order", pointer="/split/column"
        )
    column = rows.column(name, "/split/column")
    values = column.values[rows.kept]
    missing = np.flatnonzero(column.missing()[rows.kept])
    if len(missing):
        index = int(rows.kept[missing[0]])
        detail = f"{len(missing)} rows have no place in the order, this one first"
        raise DataError([rows.table.cell_fault(name, index, "missing_order", detail, "/split/column")])
    order = np.argsort(values, kind="stable")
    n_validation, n_test = sizes(len(order), config.validation, config.test)
    n_train = len(order) - n_validation - n_test
    return Indices(order[:n_train], order[n_train : n_train + n_validation], order[n_train + n_validation :])


def _group(config: GroupSplit, rows: SplitRows) -> Indices:
    codes = group_codes(config, rows)
    sizes(int(codes.max()) + 1, config.validation, config.test)
    everything = np.arange(len(codes))
    rest, test = cut_groups(everything, codes, config.test, config.seed)
    train, validation = cut_groups(rest, codes, config.validation / (1 - config.test), config.seed)
    return Indices(train, validation, test)


def group_codes(config: GroupSplit, rows: SplitRows) -> Integers:
    """A number for each row's group, [n]."""
    name = config.column or rows.group
    if name is None:
        raise fault("required", "a group split needs split.column or columns.group", pointer="/split/column")
    groups = as_text(rows.column(name, "/split/column"))[rows.kept]
    codes: Integers = np.unique(groups, return_inverse=True)[1]
    return codes


def cut_groups(positions: Integers, codes: Integers, share: float, seed: int) -> tuple[Integers, Integers]:
    """``positions`` without a share of their groups, and the rows of those, at random."""
    if share == 0:
        return positions, positions[:0]
    groups = codes[positions]
    size = part_of(len(np.unique(groups)), share)
    first, second = next(GroupShuffleSplit(1, test_size=size, random_state=seed).split(groups, groups=groups))
    return positions[first], positions[second]


def _column(config: ColumnSplit, rows: SplitRows) -> Indices:
    named = as_text(rows.column(config.column, "/split/column"))[rows.kept]
    train, validation, test = (
        np.flatnonzero(np.isin(named, [str(value) for value in values]))
        for values in (config.train, config.validation, config.test)
    )
    return Indices(train, validation, test)


def as_text(column: Column) -> Array:
    """The cells as text; missing ones are the empty text."""
    if column.values.dtype == object:
        return np.where(column.missing(), "", column.values).astype(str)
    distinct, codes = np.unique(column.values, return_inverse=True)
    texts = ["" if np.isnan(v) else number_text(float(v), integer=column.integer) for v in distinct]
    return np.array(texts, dtype=str)[codes]


SPLITS: dict[str, Callable[[Any, SplitRows], Indices]] = {
    "random": _random,
    "stratified": _stratified,
    "ordered": _ordered,
    "group": _group,
    "column": _column,
}
