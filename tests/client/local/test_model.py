"""Rows in every form, missing and unseen values, both policies, both kinds of answer."""

import datetime as dt
import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from gradkeel.local import BadValue, LocalModelError, MissingColumn, rows_from_csv


def _one(model, record, **changes):
    return model.predict([record | changes]).values[0]


def test_what_a_model_says_of_itself(model, binary_model):
    assert (model.target, model.task, model.classes) == ("y", "regression", None)
    assert [c.name for c in model.columns] == ["size", "count", "zone", "zip", "when", "flag"]
    assert {c.name for c in model.columns if not c.required} == {"size"}
    assert binary_model.classes == ("9", "10")


def test_every_form_of_rows_gives_the_same(model, record):
    records = [record, record | {"size": None, "zone": "b", "flag": None}]
    columns = {name: [r[name] for r in records] for name in record}
    expected = model.predict(records).values
    for rows in (
        columns,
        pd.DataFrame(records),
        pa.table(columns),
        {k: np.array(v) for k, v in columns.items()},
    ):
        assert np.array_equal(model.predict(rows).values, expected)


def test_columns_beyond_the_models_are_passed_over(model, record):
    assert _one(model, record, unknown=[1, 2]) == _one(model, record)


def test_numbers_may_come_as_text(model, record):
    assert _one(model, record, size="4.5", count=" 3 ") == _one(model, record)


@pytest.mark.parametrize("cell", [None, math.nan, "", "NA", "None", -200, "-200", "-2e2", math.inf, pd.NA])
def test_forms_of_a_missing_number(model, record, cell):
    missing = model.predict([{k: v for k, v in record.items() if k != "size"}]).values[0]
    assert _one(model, record, size=cell) == missing != _one(model, record)


def test_a_numeric_category_may_come_as_number_or_text(model, record):
    assert _one(model, record, zip=11) == _one(model, record, zip=11.0) == _one(model, record, zip="11")
    assert _one(model, record, zip=12) != _one(model, record)


def test_none_the_word_is_a_category_and_none_the_value_is_missing(model, record):
    assert _one(model, record, zone="None") != _one(model, record, zone=None)
    assert (
        _one(model, record, zone=None) == _one(model, record, zone=" ?") == _one(model, record, zone="gone")
    )


def test_forms_of_a_moment(model, record):
    midnight = _one(model, record)
    zoned = dt.datetime(2001, 2, 3, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    seconds = dt.datetime(2001, 2, 3, tzinfo=dt.UTC).timestamp()
    for cell in (dt.date(2001, 2, 3), dt.datetime(2001, 2, 3), zoned, seconds, "2001-02-03T00:00:00Z"):
        assert _one(model, record, when=cell) == midnight
    array = {k: np.array([v]) for k, v in record.items()} | {
        "when": np.array(["2001-02-03"], "datetime64[D]")
    }
    assert model.predict(array).values[0] == midnight


def test_forms_of_truth(model, record):
    yes = _one(model, record)
    assert all(_one(model, record, flag=cell) == yes for cell in (True, "YES", "true", 1, 1.0, " t "))
    assert _one(model, record, flag=False) == _one(model, record, flag="no") != yes


def test_impute_takes_and_warns(model, record):
    given = model.predict([record | {"zone": "never"}, {k: v for k, v in record.items() if k != "count"}])
    assert np.isfinite(given.values).all()
    assert any("'zone'" in w and "'never'" in w for w in given.warnings)
    assert any("'count'" in w for w in given.warnings)


def test_strict_refuses_unseen_categories_and_missing_columns(model, record):
    with pytest.raises(BadValue) as caught:
        model.predict([record, record | {"zone": "never"}], policy="strict")
    assert (caught.value.column, caught.value.row) == ("zone", 1)
    with pytest.raises(MissingColumn, match="'count'"):
        model.predict({k: [v] for k, v in record.items() if k != "count"}, policy="strict")
    assert model.predict([record], policy="strict").warnings == []


@pytest.mark.parametrize("policy", ["strict", "impute"])
@pytest.mark.parametrize(
    ("column", "cell"),
    [("size", "big"), ("size", True), ("when", "soon"), ("count", [1]), ("zone", {"a": 1})],
)
def test_cells_of_the_wrong_kind_are_named_under_both_policies(model, record, column, cell, policy):
    with pytest.raises(BadValue) as caught:
        model.predict([record, record | {column: cell}], policy=policy)
    assert (caught.value.column, caught.value.row) == (column, 1)


def test_ragged_columns_and_unknown_forms(model, record):
    with pytest.raises(BadValue, match="'zone'"):
        model.predict({k: [v] * (2 if k == "zone" else 1) for k, v in record.items()})
    with pytest.raises(LocalModelError, match="list of records"):
        model.predict(7)
    with pytest.raises(LocalModelError, match="policy"):
        model.predict([record], policy="guess")


def test_no_rows_give_no_predictions(model):
    assert len(model.predict({c.name: [] for c in model.columns})) == 0
    assert len(model.predict([])) == 0


def test_rows_beyond_one_chunk_are_predicted_alike(model, record):
    many = model.predict({k: [v] * 40_000 for k, v in record.items()}).values
    assert many.shape == (40_000,) and np.ptp(many) == 0


def test_probabilities_stand_in_the_order_of_the_classes(binary_model, record):
    given = binary_model.predict([record] * 3)
    assert given.probabilities.shape == (3, 2)
    np.testing.assert_allclose(given.probabilities.sum(axis=1), 1)
    assert set(given.values) == {
        binary_model.classes[int(given.probabilities[0, 1] > given.probabilities[0, 0])]
    }


def test_the_domain_of_a_logarithm_is_kept(load_trained, columns):
    data = {"x": np.abs(columns["y"]), "y": columns["y"]}
    model = load_trained(data, prepare={"numeric": {"kind": "log1p"}})
    with pytest.raises(BadValue) as caught:
        model.predict({"x": [3.0, -1.0]})
    assert (caught.value.column, caught.value.row) == ("x", 1)


def test_strict_refuses_missing_cells_where_training_refused_them(load_trained, columns):
    model = load_trained({"x": columns["y"], "y": columns["y"]}, prepare={"missing": {"kind": "refuse"}})
    with pytest.raises(BadValue):
        model.predict({"x": [None]}, policy="strict")
    assert model.predict({"x": [None]}).warnings


def test_a_column_named_like_the_output(load_trained, columns):
    model = load_trained({"prediction": columns["y"], "probabilities": columns["count"], "y": columns["y"]})
    assert np.isfinite(model.predict({"prediction": [99.0], "probabilities": [3]}).values).all()


def _forms(record):
    """One row in every form that is accepted."""
    head, line = ",".join(record), ",".join(map(str, record.values()))
    return {
        "records": lambda model: [record],
        "columns": lambda model: {name: [cell] for name, cell in record.items()},
        "pandas": lambda model: pd.DataFrame([record]),
        "polars": lambda model: pl.DataFrame([record]),
        "arrow": lambda model: pa.Table.from_pylist([record]),
        "csv": lambda model: rows_from_csv(f"{head}\n{line}\n", model.manifest),
    }


@pytest.mark.parametrize("form", ["records", "columns", "pandas", "polars", "arrow", "csv"])
def test_a_mistyped_column_is_warned_of_in_every_form(model, record, form):
    mistyped = {("sizze" if name == "size" else name): cell for name, cell in record.items()}
    given = {**mistyped, "note": "known and not read", "y": 1.0}
    (unknown, missing) = model.predict(_forms(given)[form](model)).warnings
    assert unknown == "column 'sizze' was not in the training table and is not used; did you mean 'size'?"
    assert "'size' is missing" in missing


def test_many_unknown_columns_are_counted(model, record):
    given = [record | {f"extra {i}": 1 for i in range(14)} | {"": 0}]
    warnings = model.predict(given).warnings
    assert len(warnings) == 11
    assert "did you mean" not in " ".join(warnings)
    assert warnings[-1] == "4 more columns were not in the training table"


def test_a_bundle_that_does_not_name_its_columns_warns_of_none(model, record, monkeypatch):
    monkeypatch.setattr(model, "known", None)
    assert model.predict([record | {"sizze": 1}]).warnings == []
