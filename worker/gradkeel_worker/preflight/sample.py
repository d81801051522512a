"""The rows that a preflight looks at."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from gradkeel.contract import config as contract
from gradkeel.contract.config import TrainConfig
from gradkeel_worker.data import Table
from gradkeel_worker.data.table import Integers

MOST_ROWS = 6000
"""Rows of the table at most; a model over windows needs neighbours in time, and gets more."""
MOST_ORDERED = 20_000
KEPT_A_LEVEL = 10
"""Rows of every value of a target of classes that are kept: a rare class must not drop out of the sample."""
_MOST_LEVELS = 100


def sampled(table: Table, config: TrainConfig) -> Table:
    """The table, or of a long one rows drawn from the config's seed, in the file's order."""
    if isinstance(config.model, contract.Windowed):
        return _rows_of(table, np.arange(max(0, len(table) - MOST_ORDERED), len(table)))
    if len(table) <= MOST_ROWS:
        return table
    drawn = np.random.default_rng((config.seed, MOST_ROWS)).permutation(len(table))[:MOST_ROWS]
    rare = [_rare_rows(table, name) for name in config.targets if name in table.columns]
    return _rows_of(table, np.unique(np.concatenate([drawn, *rare])))


def _rare_rows(table: Table, name: str) -> Integers:
    """The first rows of every value of a column with few different ones."""
    seen: Counter[object] = Counter()
    kept: list[int] = []
    for position, value in enumerate(table.columns[name].values.tolist()):
        if value is None or value != value or seen[value] >= KEPT_A_LEVEL:
            continue
        seen[value] += 1
        kept.append(position)
        if len(seen) > _MOST_LEVELS:
            return np.zeros(0, np.int64)
    return np.array(kept, np.int64)


def _rows_of(table: Table, positions: Integers) -> Table:
    if len(positions) == len(table):
        return table
    columns = {name: replace(one, values=one.values[positions]) for name, one in table.columns.items()}
    lines = None if table.lines is None else table.lines[positions]
    return replace(table, columns=columns, rows=table.rows[positions], lines=lines)
