"""Windows over series beside a naive search, what is refused, and that no later row is ever known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import DataError, Prepared, Table, prepare
from gradkeel_worker.data.windows import lead_of, order_cells

WINDOW = 4
BASE: dict[str, Any] = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "gru", "width": 3, "window": WINDOW},
    "columns": {"order": "t", "group": "g"},
    "split": {"kind": "ordered"},
}
FORECAST = {"task": "forecast", "model": {"kind": "gru", "width": 3, "window": WINDOW, "horizon": 3}}


def _table(**changes: Any) -> Table:
    """Three series of 20, 30 and 40 rows, mixed; x tells the row."""
    draw = np.random.default_rng(1)
    groups = np.repeat(["a", "b", "c"], [20, 30, 40]).astype(object)
    moments = np.concatenate([np.arange(n) * 10.0 for n in (20, 30, 40)])
    mixed = draw.permutation(90)
    columns = {"t": moments[mixed], "g": groups[mixed], "x": np.arange(90.0), "y": draw.normal(size=90)}
    table = Table.from_arrays(columns | changes)
    return replace(table, lines=np.arange(2, 92))


def _prepared(table: Table | None = None, **changes: Any) -> Prepared:
    return prepare(table or _table(), resolve(BASE | changes))


def _expected(table: Table, row: int, length: int, lead: int) -> list[int] | None:
    """Rows of the window behind a row, found by looking at every row."""
    g, t = (table.columns[name].values for name in "gt")
    earlier = sorted((i for i in range(len(g)) if g[i] == g[row] and t[i] <= t[row]), key=lambda i: t[i])
    window = earlier[len(earlier) - lead - length : len(earlier) - lead]
    return window if len(earlier) >= lead + length else None


@pytest.mark.parametrize("changes", [{}, FORECAST], ids=["regression", "forecast"])
def test_each_row_has_the_window_that_a_naive_search_finds(changes: dict[str, Any]) -> None:
    table, prepared = _table(), _prepared(**changes)
    lead = lead_of(prepared.config)
    found = 0
    for part in (prepared.train, prepared.validation, prepared.test):
        assert part.windows is not None
        rows = part.windows.rows[part.windows.places()]
        for i, row in enumerate(part.rows):
            assert rows[i].tolist() == _expected(table, int(row), WINDOW, lead)
        found += len(part)
    every = [_expected(table, row, WINDOW, lead) for row in range(90)]
    assert found == sum(window is not None for window in every)
    (note,) = [f for f in prepared.findings if f["code"] == "short_windows"]
    assert note["count"] == 90 - found == 3 * (WINDOW + lead - 1)


def test_what_the_model_is_fed_are_the_rows_of_the_window() -> None:
    part = _prepared().train
    x, c = part.fed(slice(2, 5))
    assert part.windows is not None
    assert x.shape == (3, WINDOW, 1) and c.shape == (3, WINDOW, 0)
    np.testing.assert_array_equal(x[1], part.windows.x[part.windows.places()[3]])
    np.testing.assert_array_equal(x[:, -1], part.x[2:5])


def test_the_rows_are_held_once_for_all_parts_and_windows() -> None:
    prepared = _prepared()
    held = {
        id(part.windows.x) for part in (prepared.train, prepared.validation, prepared.test) if part.windows
    }
    assert len(held) == 1 and prepared.train.windows is not None
    assert prepared.train.windows.x.shape == (90, 1)


def test_a_forecast_reads_the_past_of_its_target_and_none_after_its_origin() -> None:
    prepared = _prepared(**FORECAST)
    assert [one.name for one in prepared.inputs] == ["x", "y"]
    table, part = _table(), prepared.test
    assert part.windows is not None
    t, g = table.columns["t"].values, table.columns["g"].values
    for i, row in enumerate(part.rows):
        window = part.windows.rows[part.windows.places()[i]]
        assert (g[window] == g[row]).all() and t[window].max() == t[row] - 30


@pytest.mark.parametrize(
    "changes",
    [
        FORECAST,
        {},
        {"split": {"kind": "group", "validation": 0.3, "test": 0.3}},
        {"split": {"kind": "column", "column": "part"}} | FORECAST,
    ],
    ids=["forecast", "ordered", "group", "column"],
)
def test_test_rows_change_no_fitted_array_and_no_training_window(changes: dict[str, Any]) -> None:
    part = (
        np.random.default_rng(5).choice(["train", "train", "train", "validation", "test"], 90).astype(object)
    )
    first = _prepared(_table(part=part), **changes)
    table = _table(part=part)
    for name in ("x", "y"):
        table.columns[name].values[first.test.rows] *= 1e3
    second = _prepared(table, **changes)
    assert first.arrays().keys() == second.arrays().keys()
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name])
    for one, other in ((first.train, second.train), (first.validation, second.validation)):
        np.testing.assert_array_equal(one.fed(slice(None))[0], other.fed(slice(None))[0])
        np.testing.assert_array_equal(one.y, other.y)


def test_a_window_that_holds_rows_of_a_later_part_is_left_out_and_counted() -> None:
    part = np.full(90, "train", dtype=object)
    table = _table()
    t, g = table.columns["t"].values, table.columns["g"].values
    part[(g == "c") & (t == 200)] = "test"
    prepared = _prepared(_table(part=part), split={"kind": "column", "column": "part", "validation": []})
    (note,) = [f for f in prepared.findings if f["code"] == "mixed_windows"]
    assert note["count"] == WINDOW - 1
    assert prepared.train.windows is not None
    held = prepared.train.windows.rows[prepared.train.windows.places()]
    assert "test" not in part[held]


def test_rows_without_a_target_are_still_read() -> None:
    table = _table()
    gone = np.flatnonzero((table.columns["g"].values == "c") & (table.columns["t"].values == 100))[0]
    table.columns["y"].values[gone] = np.nan
    prepared = _prepared(table)
    assert gone not in prepared.train.rows
    assert prepared.train.windows is not None
    assert gone in prepared.train.windows.rows[prepared.train.windows.places()]


def test_a_bad_cell_leads_to_its_line_from_whichever_window_holds_it() -> None:
    table = _table()
    row = int(np.flatnonzero((table.columns["g"].values == "c") & (table.columns["t"].values == 50))[0])
    table.columns["x"].values[row] = np.nan
    prepared = _prepared(table, prepare={"missing": {"kind": "propagate"}})
    assert int((~prepared.train.finite_rows()).sum()) == WINDOW
    at = int(np.flatnonzero(~prepared.train.finite_rows())[0])
    i = int(np.flatnonzero(~np.isfinite(prepared.train.x).all(axis=1))[0])
    assert prepared.x_source_cell("train", i, 0) == {"row": row, "line": row + 2, "column": "x"}
    assert np.isnan(prepared.train.fed([at])[0]).any()


@pytest.mark.parametrize(
    ("changes", "columns", "code", "pointer"),
    [
        ({"model": {"kind": "gru", "window": 60}}, {}, "window_too_long", "/model/window"),
        ({"columns": {"order": "t"}}, {}, "duplicate_order", "/columns/order"),
        ({"columns": {"order": "g"}}, {}, "wrong_type", "/columns/order"),
        ({}, {"t": np.r_[np.nan, np.arange(89.0)]}, "missing_order", "/columns/order"),
    ],
)
def test_what_cannot_be_laid_in_windows_is_refused(
    changes: dict[str, Any], columns: dict[str, Any], code: str, pointer: str
) -> None:
    with pytest.raises(DataError) as refused:
        _prepared(_table(**columns), **changes)
    first = refused.value.errors[0]
    assert (first.code, first.pointer) == (code, pointer)


def test_two_rows_at_one_place_are_named_by_their_lines() -> None:
    table = _table()
    a, b = np.flatnonzero(table.columns["g"].values == "a")[:2]
    table.columns["t"].values[b] = table.columns["t"].values[a]
    with pytest.raises(DataError) as refused:
        _prepared(table)
    (fault,) = refused.value.errors
    assert fault.line == b + 2 and f"line {a + 2}" in fault.detail and "keep one row" in fault.detail


def test_gaps_along_the_order_are_told() -> None:
    table = _table()
    late = (table.columns["g"].values == "c") & (table.columns["t"].values > 200)
    table.columns["t"].values[late] += 500
    (note,) = [f for f in _prepared(table).findings if f["code"] == "irregular_order"]
    assert note["count"] == 1 and table.columns["t"].values[note["row"]] == 710


def test_order_cells_are_told_as_people_write_them() -> None:
    moments = np.array(["2024-01-02T03:00:00", "2024-01-02T03:00:00.5"], dtype="datetime64[us]")
    table = Table.from_arrays({"t": moments, "i": np.array([1, 2])})
    assert order_cells(table.columns["t"]).tolist() == ["2024-01-02T03:00:00", "2024-01-02T03:00:00.500000"]
    assert order_cells(table.columns["i"]).tolist() == ["1", "2"]
