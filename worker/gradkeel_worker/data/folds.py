"""Folds of cross-validation. Every function returns positions among the rows it was given.

The rows outside the test part are parted into folds, by scikit-learn. A fold's rows are held out: they are
the ``test`` part of its indices. From the rest the validation part, which decides when to stop, is cut as the
split would; what remains trains. Rows of the job's own test part are in no part of any fold.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

from gradkeel.contract.config import GroupSplit, OrderedSplit, RandomSplit, StratifiedSplit
from gradkeel_worker.data.errors import DataError, fault, shown
from gradkeel_worker.data.splits import (
    DECILES,
    Indices,
    SplitRows,
    cut,
    cut_groups,
    group_codes,
    part_of,
    split_rows,
)
from gradkeel_worker.data.table import Array, Integers

_POINTER = "/split/folds"
_SEEDS = 2**32

_Pairs = Iterator[tuple[Integers, Integers]]
"""(positions of the other rows, positions of the rows held out) of each fold."""


def fold_rows(config: Any, rows: SplitRows) -> list[Indices]:
    """The parts of every fold, one repeat after the other. Raises DataError where there are too few rows."""
    whole = split_rows(config, rows)
    usable = np.concatenate([whole.train, whole.validation])
    if config.kind != "ordered":
        usable = np.sort(usable)
    share = config.validation / (1 - config.test)
    return [_parts(config, rows, *pair, share) for pair in FOLDS[config.kind](config, rows, usable)]


def _parts(config: Any, rows: SplitRows, others: Integers, held_out: Integers, share: float) -> Indices:
    train, validation = _VALIDATIONS[config.kind](config, rows, others, share)
    if len(train) == 0:
        raise _too_few("a fold leaves no row to train on")
    return Indices(train, validation, held_out)


# ------------------------------------------------------------------------------------------------------ folds


def _random(config: RandomSplit, rows: SplitRows, usable: Integers) -> _Pairs:
    _need(len(usable), config.folds or 0, "rows")
    for seed in _seeds(config):
        yield from _taken(usable, KFold(config.folds, shuffle=True, random_state=seed).split(usable))


def _stratified(config: StratifiedSplit, rows: SplitRows, usable: Integers) -> _Pairs:
    _need(len(usable), config.folds or 0, "rows")
    strata = _strata(rows.strata[usable], config.folds or 0)
    for seed in _seeds(config):
        splitter = StratifiedKFold(config.folds, shuffle=True, random_state=seed)
        yield from _taken(usable, splitter.split(usable, strata))


def _group(config: GroupSplit, rows: SplitRows, usable: Integers) -> _Pairs:
    groups = group_codes(config, rows)[usable]
    _need(len(np.unique(groups)), config.folds or 0, "groups")
    for seed in _seeds(config):
        splitter = GroupKFold(config.folds, shuffle=True, random_state=seed)
        yield from _taken(usable, splitter.split(usable, groups=groups))


def _ordered(config: OrderedSplit, rows: SplitRows, usable: Integers) -> _Pairs:
    _need(len(usable), (config.folds or 0) + 1, "rows")
    yield from _taken(usable, TimeSeriesSplit(config.folds).split(usable))


FOLDS: dict[str, Callable[[Any, SplitRows, Integers], _Pairs]] = {
    "random": _random,
    "stratified": _stratified,
    "group": _group,
    "ordered": _ordered,
}
"""Kind of split → function(its block, rows, positions outside the test part)."""


def _seeds(config: Any) -> list[int]:
    return [(config.seed + repeat) % _SEEDS for repeat in range(config.repeats)]


def _taken(usable: Integers, pairs: Any) -> _Pairs:
    for others, held_out in pairs:
        yield usable[others], usable[held_out]


def _need(found: int, needed: int, what: str) -> None:
    if found < needed:
        raise _too_few(f"{found} {what} outside the test part are too few; {needed} are needed")


def _too_few(detail: str) -> DataError:
    return fault("too_few_rows", detail, pointer=_POINTER)


def _strata(values: Array, folds: int) -> Integers:
    """A number for each row's stratum, [n], each with a row for every fold: classes, or parts of equal size
    of a regression target. Raises DataError for a class that is too rare."""
    if values.dtype.kind == "f":
        edges = np.quantile(values, np.linspace(0, 1, max(1, min(DECILES, len(values) // folds)) + 1)[1:-1])
        return _merged(np.searchsorted(edges, values, side="right"), folds)
    names, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    rarest = int(np.argmin(counts))
    if counts[rarest] < folds:
        detail = (
            f"the class {shown(names[rarest])} has {counts[rarest]} rows outside the test part, fewer than "
            f'the {folds} folds; ask for fewer folds, or for the split kind "random"'
        )
        raise _too_few(detail)
    return np.asarray(codes)


def _merged(codes: Array, least: int) -> Integers:
    """Neighbouring strata joined until each has so many rows; many equal targets make some too small."""
    codes = np.unique(codes, return_inverse=True)[1]
    while len(counts := np.bincount(codes)) > 1 and counts.min() < least:
        small = int(np.argmin(counts))
        neighbour = small - 1 if small else 1
        codes = np.unique(np.where(codes == small, neighbour, codes), return_inverse=True)[1]
    return np.asarray(codes)


# ------------------------------------------------------------------------------------------- validation parts

_Cut = tuple[Integers, Integers]
"""(training positions, validation positions)."""


def _validate_random(config: RandomSplit, rows: SplitRows, others: Integers, share: float) -> _Cut:
    return cut(others, part_of(len(others), share), config.seed, None)


def _validate_stratified(config: StratifiedSplit, rows: SplitRows, others: Integers, share: float) -> _Cut:
    return cut(others, part_of(len(others), share), config.seed, rows.strata)


def _validate_group(config: GroupSplit, rows: SplitRows, others: Integers, share: float) -> _Cut:
    codes = group_codes(config, rows)
    if share and len(np.unique(codes[others])) < 2:
        raise _too_few("a fold leaves one group, which cannot both train and validate")
    return cut_groups(others, codes, share, config.seed)


def _validate_ordered(config: OrderedSplit, rows: SplitRows, others: Integers, share: float) -> _Cut:
    count = len(others) - part_of(len(others), share)
    return others[:count], others[count:]


_VALIDATIONS: dict[str, Callable[[Any, SplitRows, Integers, float], _Cut]] = {
    "random": _validate_random,
    "stratified": _validate_stratified,
    "group": _validate_group,
    "ordered": _validate_ordered,
}
