"""The target column: which task it makes, which rows have it, and its values."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradkeel.contract.config import TrainConfig
from gradkeel.local.cells import number_text
from gradkeel_worker.data.categories import level_order
from gradkeel_worker.data.errors import fault
from gradkeel_worker.data.table import BOOLEAN, DATETIME, NUMERIC, Array, Column, Integers, Table

Task = Literal["regression", "binary", "multiclass"]
REGRESSION: Task = "regression"
BINARY: Task = "binary"
MULTICLASS: Task = "multiclass"
_LOOKED_AT = 4096


@dataclass(frozen=True)
class Target:
    """``kept`` [n]: positions in the table of rows with a target. ``values`` [n]: float64, or class names."""

    task: Task
    kept: Integers
    values: Array
    findings: tuple[dict[str, Any], ...]

    def strata(self) -> Array:
        """What a stratified split goes by, [n]."""
        return self.values if self.task == REGRESSION else self.values.astype(str)


def read_target(table: Table, config: TrainConfig) -> Target:
    """Decide the task and drop rows without target. Raises DataError where there is nothing to learn."""
    column = table.need(config.target, "/target")
    present = ~column.missing()
    if column.values.dtype != object:
        present &= np.isfinite(column.values)
    kept = np.flatnonzero(present)
    if len(kept) == 0:
        raise fault("target_missing", "no row has a target", pointer="/target", column=column.name)
    task = _task(column, kept, config.task)
    values = column.values[kept] if task == REGRESSION else class_names(column)[kept]
    return Target(task, kept, values, _dropped(column, len(table) - len(kept)))


def class_names(column: Column) -> Array:
    """Each cell as the name of a class: the file's text, [n]."""
    if column.values.dtype == object:
        return column.values
    distinct, codes = np.unique(column.values, return_inverse=True)
    names = [None if np.isnan(v) else number_text(float(v), integer=column.integer) for v in distinct]
    return np.array(names, dtype=object)[codes]


def class_order(names: Array, task: str, column: str) -> tuple[str, ...]:
    """The classes of the training part: numbers by value, text by code point. Raises DataError."""
    distinct = sorted(set(names.tolist()))
    if len(distinct) < 2:
        detail = f"every training row is of the one class {distinct[0]!r}"
        raise fault("one_class", detail, pointer="/target", column=column)
    if task == BINARY and len(distinct) > 2:
        detail = f"a binary target has two classes, this one has {len(distinct)}"
        raise fault("not_binary", detail, pointer="/task", column=column)
    return tuple(sorted(distinct, key=level_order(distinct)))


def _task(column: Column, kept: Integers, asked: Literal["auto"] | Task) -> Task:
    numeric = column.type == NUMERIC
    if asked == REGRESSION and not numeric:
        detail = f"regression needs a numeric target; {column.name!r} is {column.type}"
        raise fault("wrong_type", detail, pointer="/target", column=column.name)
    if column.type == DATETIME:
        detail = "a date cannot be a target"
        raise fault("wrong_type", detail, pointer="/target", column=column.name)
    if asked != "auto":
        return asked
    if column.type == BOOLEAN or _two_valued(column.values[kept]):
        return BINARY
    return REGRESSION if numeric else MULTICLASS


def _two_valued(values: Array) -> bool:
    """Whether there are two different values; most columns show soon that they have more."""
    seen: set[Any] = set()
    for start in range(0, len(values), _LOOKED_AT):
        seen.update(values[start : start + _LOOKED_AT].tolist())
        if len(seen) > 2:
            return False
    return len(seen) == 2


def _dropped(column: Column, count: int) -> tuple[dict[str, Any], ...]:
    if not count:
        return ()
    detail = f"{count} rows have no target and are left out"
    return ({"code": "target_missing", "column": column.name, "count": count, "detail": detail},)
