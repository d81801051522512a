"""One model, three predictors: |a − b| ≤ 1e-5 · (|b| + std(y)), probabilities 1e-5, from raw rows."""

from typing import Any

import numpy as np


def _torch_says(case: Any) -> Any:
    predictions = case.result.predictions
    return predictions["probabilities"] if case.result.prepared.classes else predictions["prediction"]


def _allowed(case: Any, expected: Any) -> Any:
    if case.result.prepared.classes:
        return np.full(expected.shape, 1e-5)
    y = np.concatenate(
        [getattr(case.result.prepared, part).y_raw for part in ("train", "validation", "test")]
    )
    return 1e-5 * (np.abs(expected) + y.std(axis=0))


def test_local_and_the_onnx_file_alone_agree_with_the_torch_model(
    case_name: str, cases: dict[str, Any], elsewhere: dict[str, Any]
) -> None:
    case, answer = cases[case_name], elsewhere[case_name]
    expected = _torch_says(case)
    if expected.ndim == 1 and case.result.prepared.classes:
        expected = np.stack([1 - expected, expected], axis=1)
    assert len(expected) == len(case.result.prepared.test) > 20
    for source in ("local", "alone"):
        given = answer[source]
        assert given.shape == expected.shape
        assert np.array_equal(np.isnan(given), np.isnan(expected))
        assert np.all(~(np.abs(given - expected) > _allowed(case, expected)))


def test_rows_with_missing_and_unseen_values_are_among_those_compared(cases: dict[str, Any]) -> None:
    case = cases["scaler standard"]
    rows = case.result.prepared.test.rows
    zone = [case.raw.cells["zone"][i] for i in rows]
    assert "never seen" in zone and " ?" in zone and "NA" in zone
    assert any(case.raw.cells["size"][i] in (None, -200.0) for i in rows)
    assert any(case.raw.cells["wide"][i] == np.inf for i in rows)


def test_propagate_gives_nan_where_a_number_is_missing(
    cases: dict[str, Any], elsewhere: dict[str, Any]
) -> None:
    case = cases["missing propagate"]
    missing = [case.raw.cells["size"][i] in (None, -200.0) for i in case.result.prepared.test.rows]
    assert any(missing)
    assert np.isnan(elsewhere["missing propagate"]["alone"][missing]).all()


def test_labels_are_the_more_probable_class(cases: dict[str, Any], elsewhere: dict[str, Any]) -> None:
    for name in ("binary", "multiclass"):
        classes = np.array(cases[name].result.prepared.classes)
        assert np.array_equal(elsewhere[name]["labels"], classes[elsewhere[name]["local"].argmax(axis=1)])


def test_what_the_validation_part_decided_goes_along(
    cases: dict[str, Any], elsewhere: dict[str, Any]
) -> None:
    prepared = cases["binary, decided"].result.prepared
    assert prepared.decision.threshold not in (None, 0.5)
    assert cases["multiclass, tempered"].result.prepared.decision.temperature is not None
    told = elsewhere["binary, decided"]
    positive = told["local"][:, 1] > prepared.decision.threshold
    assert np.array_equal(told["labels"], np.array(prepared.classes)[positive.astype(int)])
    assert np.array_equal(told["labels"], cases["binary, decided"].result.predictions["prediction"])
