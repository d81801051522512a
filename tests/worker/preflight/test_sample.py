"""The rows that a preflight looks at."""

from __future__ import annotations

import numpy as np

from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table
from gradkeel_worker.preflight.sample import KEPT_A_LEVEL, MOST_ORDERED, MOST_ROWS, sampled

CONFIG = resolve({"target": "y", "preset": "custom"})


def table(rows: int, levels: int) -> Table:
    y = np.array([f"c{level}" for level in np.arange(rows) % levels], dtype=object)
    y[-3:] = "rare"
    return Table.from_arrays({"x": np.arange(rows, dtype=float), "y": y})


def test_a_short_table_is_looked_at_as_it_is() -> None:
    whole = table(MOST_ROWS, 3)
    assert sampled(whole, CONFIG) is whole


def test_rows_are_drawn_by_the_seed_in_the_files_order_and_rare_classes_stay() -> None:
    whole = table(4 * MOST_ROWS, 3)
    found = sampled(whole, CONFIG)
    assert MOST_ROWS <= len(found) <= MOST_ROWS + 4 * KEPT_A_LEVEL
    assert (np.diff(found.rows) > 0).all()
    assert (found.columns["x"].values == found.rows).all()
    assert (found.columns["y"].values == "rare").sum() == 3
    assert (sampled(whole, CONFIG).rows == found.rows).all()
    other = sampled(whole, resolve({"target": "y", "preset": "custom", "seed": 1}))
    assert len(np.intersect1d(other.rows, found.rows)) < 0.5 * MOST_ROWS


def test_a_target_of_numbers_is_drawn_from_alone() -> None:
    y = np.random.default_rng(0).normal(size=3 * MOST_ROWS)
    found = sampled(Table.from_arrays({"x": y, "y": y}), CONFIG)
    assert len(found) == MOST_ROWS


def test_a_model_over_windows_gets_rows_that_lie_together() -> None:
    config = resolve({"target": "y", "task": "forecast", "columns": {"order": "x"}, "model": {"kind": "gru"}})
    found = sampled(table(MOST_ORDERED + 100, 3), config)
    assert found.rows.tolist() == list(range(100, MOST_ORDERED + 100))
