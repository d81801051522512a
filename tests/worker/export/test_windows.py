"""Models over windows: the graph and ``gradkeel.local`` beside the network, and what rows it can be given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from gradkeel.local import BadValue, LocalModelError, MissingColumn, Model, load, rows_from_csv
from gradkeel_worker.data import Table
from gradkeel_worker.engine import Result, train
from gradkeel_worker.export import write_bundle
from worker.data.test_references import asked
from worker.data.test_references import table as seasonal
from worker.engine.cases import series

BASE: dict[str, Any] = {
    "target": "y",
    "preset": "custom",
    "columns": {"order": "t", "group": "g"},
    "budget": {"epochs": 2, "batch_size": 32},
    "health": {"gradient_check": False},
}
NUMBERS = {"piecewise_linear": {"kind": "piecewise_linear", "bins": 6, "width": 3}, "none": {"kind": "none"}}
CASES: dict[str, dict[str, Any]] = {
    "gru": {"model": {"kind": "gru", "width": 5, "layers": 2, "window": 6}},
    "lstm, forecast": {
        "task": "forecast",
        "model": {"kind": "lstm", "width": 5, "window": 6, "horizon": 3, "dropout": 0.1},
    },
    "gru, forecast of changes": {
        "task": "forecast",
        "model": {"kind": "gru", "width": 5, "window": 6, "horizon": 2, "change_from": "last"},
        "prepare": {"numeric": {"kind": "minmax"}, "target": {"kind": "robust"}},
    },
    "tcn, forecast of changes, embedded numbers": {
        "task": "forecast",
        "model": {"kind": "tcn", "width": 5, "layers": 2, "window": 6, "change_from": "last"},
        "prepare": {"embedding": NUMBERS["piecewise_linear"]},
    },
    "lstm, classes": {
        "target": "k",
        "task": "binary",
        "loss": {"kind": "bce"},
        "model": {"kind": "lstm", "width": 4, "window": 3},
    },
}


def _cells(table: Table) -> dict[str, list[Any]]:
    return {name: column.values.tolist() for name, column in table.columns.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Result, Model, Path]]:
    found = {}
    for index, (name, config) in enumerate(CASES.items()):
        result = train(series(), BASE | config)
        path = tmp_path_factory.mktemp("windows") / f"{index}.gradkeel"
        about = {"id": "ds_1", "sha256": "00" * 32, "name": "raw.csv", "columns": list("tgxky")}
        write_bundle(
            result,
            path,
            dataset=about,
            job_id="j",
            created_at="2026",
            report_html="",
            onnx=path.with_suffix(".onnx"),
        )
        found[name] = (result, load(path), path)
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_bundle_predicts_what_the_network_did(made: Any, case: str) -> None:
    result, model, _ = made[case]
    found = model.predict(_cells(series()))
    expected = result.predictions
    rows = expected["row"]
    if result.prepared.classes is None:
        spread = np.std(result.prepared.train.y_raw)
        # float32 sums of a recurrence over 6 rows, in two orders
        np.testing.assert_allclose(found.values[rows], expected["prediction"], rtol=0, atol=1e-5 * spread)
    else:
        np.testing.assert_allclose(found.probabilities[rows], expected["probabilities"], rtol=0, atol=1e-5)
        assert found.values[rows].tolist() == expected["prediction"].tolist()


@pytest.mark.parametrize("scaling", ["standard", "log1p"])
def test_changes_over_a_season_are_the_same_everywhere(scaling: str, tmp_path: Path) -> None:
    kinds = {"numeric": {"kind": scaling}, "target": {"kind": scaling}}
    result = train(seasonal("season"), asked(kinds, change_from="season", horizon=2))
    about = {"id": "ds_1", "sha256": "00" * 32, "name": "raw.csv", "columns": list("tgy")}
    path = tmp_path / "model.gradkeel"
    write_bundle(result, path, dataset=about, job_id="j", created_at="2026", report_html="")
    found, expected = load(path).predict(_cells(seasonal("season"))), result.predictions
    # float32 of numbers near 50
    np.testing.assert_allclose(found.values[expected["row"]], expected["prediction"], rtol=1e-5)


def test_the_graph_alone_takes_rows_and_the_windows_among_them(made: Any) -> None:
    result, model, path = made["gru"]
    table, part = series(), result.prepared.test
    session = onnxruntime.InferenceSession(str(path.with_suffix(".onnx")), providers=["CPUExecutionProvider"])
    fed = {name: table.columns[name].values[:, None] for name in "xk"}
    windows = part.windows.rows[part.windows.places()]
    (alone,) = session.run(None, fed | {"windows": windows})
    np.testing.assert_array_equal(alone, model.predict(_cells(table)).values[part.rows])


@pytest.mark.parametrize("case", CASES)
def test_rows_without_a_full_window_have_no_prediction(made: Any, case: str) -> None:
    result, model, _ = made[case]
    table, windows = series(), result.prepared.train.windows
    found = model.predict(_cells(table))
    early = table.columns["t"].values < windows.length - 1 + windows.lead
    none = np.array([value is None or value != value for value in found.values])
    assert none[:160].tolist() == early.tolist() and not none[160:].any()
    assert len(found) == 160 + 4 * windows.lead
    assert any(f"{int(early.sum())} rows have no prediction" in each for each in found.warnings)


def test_a_forecast_goes_on_after_the_end_of_each_series(made: Any) -> None:
    _, model, _ = made["lstm, forecast"]
    cells = _cells(series())
    found = model.predict(cells)
    after = found.places[160:]
    assert {place["group"] for place in after} == {f"unit {i}" for i in range(4)}
    assert [place["step"] for place in after] == [1] * 4 + [2] * 4 + [3] * 4
    assert all(place["row"] is None and place["order"] == 39 for place in after)
    # had the row come, it would be predicted as the first step after the end was
    longer = {
        name: [*values, *([40] if name == "t" else ["unit 0"] if name == "g" else [None])]
        for name, values in cells.items()
    }
    again = model.predict(longer)
    first = next(
        i for i, place in enumerate(found.places) if place["step"] == 1 and place["group"] == "unit 0"
    )
    assert again.values[160] == pytest.approx(found.values[first], abs=1e-6)


@pytest.mark.parametrize("case", ["gru", "lstm, forecast"])
def test_intervals_stand_around_whatever_is_predicted(made: Any, case: str) -> None:
    result, model, _ = made[case]
    found = model.predict(_cells(series()), interval=0.8)
    validation = result.prepared.validation
    errors = np.abs(found.values[validation.rows] - validation.y_raw)
    margin = np.sort(errors)[int(np.ceil((len(errors) + 1) * 0.8)) - 1]
    # predictions of the network and of the graph differ by float32 sums
    spread = np.std(result.prepared.train.y_raw)
    for bound, end in ((found.lower, -margin), (found.upper, margin)):
        np.testing.assert_allclose(bound, found.values + end, rtol=0, atol=1e-4 * spread)


def test_the_order_of_the_given_rows_does_not_matter(made: Any) -> None:
    _, model, _ = made["gru"]
    cells = _cells(series())
    turned = {name: values[::-1] for name, values in cells.items()}
    found, again = model.predict(cells).values, model.predict(turned).values
    np.testing.assert_array_equal(found[:160], again[:160][::-1])


def test_later_rows_change_no_earlier_prediction(made: Any) -> None:
    _, model, _ = made["tcn, forecast of changes, embedded numbers"]
    cells = _cells(series())
    before = model.predict(cells).values
    late = np.array(cells["t"]) >= 30
    moved = cells | {name: np.where(late, 9.0, cells[name]).tolist() for name in ("x", "y")}
    after = model.predict(moved).values
    earlier = np.array(cells["t"]) <= 30
    np.testing.assert_array_equal(before[:160][earlier], after[:160][earlier])


def test_rows_as_csv_bring_order_and_group_along(made: Any) -> None:
    _, model, _ = made["gru"]
    cells = _cells(series())
    lines = [",".join(cells)] + [",".join(map(str, row)) for row in zip(*cells.values(), strict=True)]
    found = model.predict(rows_from_csv("\n".join(lines), model.manifest))
    np.testing.assert_allclose(found.values, model.predict(cells).values, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"t": None}, MissingColumn, "'t'"),
        ({"g": None}, MissingColumn, "'g'"),
        ({"t": [0, 1, None, 3]}, BadValue, "row 2: the row has no place in the order"),
        ({"t": [0, 1, 1, 3]}, BadValue, "same place of its series as row 1"),
        ({}, BadValue, "a prediction needs 6 rows of one series; the longest given has 4"),
    ],
)
def test_rows_that_make_no_window_are_refused(
    made: Any, change: Any, error: type[LocalModelError], words: str
) -> None:
    _, model, _ = made["gru"]
    rows = {"t": [0, 1, 2, 3], "g": ["a"] * 4, "x": [0.0] * 4, "k": ["a"] * 4} | change
    given = {name: cells for name, cells in rows.items() if cells is not None}
    with pytest.raises(error, match=words):
        model.predict(given)
