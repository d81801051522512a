"""Types, storage, missing cells and the findings about them."""

from collections.abc import Callable

import numpy as np
import pytest

from gradkeel_worker.ingest import Ingested

from .conftest import cells, column, types

Read = Callable[..., Ingested]


def table(name: str, values: list[str]) -> str:
    """A CSV with one column of interest beside a counter that keeps rows from being empty."""
    return f"n,{name}\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values))


@pytest.mark.parametrize(
    ("values", "type_", "storage"),
    [
        (["1", "2", "3"], "numeric", "BIGINT"),
        (["1", "", "NA"], "numeric", "BIGINT"),
        (["1.5", "2.25"], "numeric", "DOUBLE"),
        (["1.50", "2.25"], "numeric", "VARCHAR"),
        (["1", "2.5"], "numeric", "VARCHAR"),
        ([" 1", "2"], "numeric", "VARCHAR"),
        (["1e5", "-2E-3", "+.5"], "numeric", "VARCHAR"),
        (["99999999999999999999", "1"], "numeric", "VARCHAR"),
        (["inf", "1.0"], "numeric", "DOUBLE"),
        (["None", "3", "?", "-", "N/A", "null", "NaN"], "numeric", "BIGINT"),
        (["true", "false"], "boolean", "VARCHAR"),
        (["TRUE", "FALSE", ""], "boolean", "VARCHAR"),
        (["yes", "no"], "boolean", "VARCHAR"),
        (["t", "f"], "boolean", "VARCHAR"),
        (["yes", "no", "unknown"], "categorical", "VARCHAR"),
        (["0", "1"], "numeric", "BIGINT"),
        (["2020-01-01", "2020-01-02"], "datetime", "VARCHAR"),
        (["2013-01-01T06:00:00Z", "2013-01-01T07:00:00+02:00"], "datetime", "VARCHAR"),
        (["2001/01/01 00:47", "2001/1/2 10:05:30.25"], "datetime", "VARCHAR"),
        (["1949-01", "1949-02"], "datetime", "VARCHAR"),
        (["2020-13-45", "2020-01-01"], "categorical", "VARCHAR"),
        (["00123", "45678"], "categorical", "VARCHAR"),
        (["red", "blue", "red"], "categorical", "VARCHAR"),
        (["", "NA", "?"], "categorical", "VARCHAR"),
        ([f"word {i}" for i in range(30)], "id", "VARCHAR"),
        ([f"word {i}" for i in range(60)] * 1 + ["word 1"], "text", "VARCHAR"),
        (["a long sentence " * 6, "another " * 9] * 4, "text", "VARCHAR"),
    ],
)
def test_types_and_storage(read: Read, values: list[str], type_: str, storage: str) -> None:
    entry = column(read(table("x", values)), "x")
    assert (entry["type"], entry["storage"]) == (type_, storage)


@pytest.mark.parametrize(
    ("name", "type_"), [("id", "id"), ("PassengerId", "id"), ("user_id", "id"), ("paid", "numeric")]
)
def test_counters_named_like_ids(read: Read, name: str, type_: str) -> None:
    counter = [str(i) for i in range(100, 140)]
    assert types(read(table(name, counter)))[name] == type_
    assert types(read(table(name, [*counter[:-1], "999"])))[name] == "numeric"


def test_stored_numbers_are_null_where_missing_and_texts_stay_as_uploaded(read: Read) -> None:
    found = cells(read("a,b,c\n1,x,1.50\nNA,NA,\n3, y ,inf\n"))
    assert found["a"] == [1, None, 3]
    assert found["b"] == ["x", "NA", " y "]
    assert found["c"] == ["1.50", "", "inf"]


def test_infinities_are_counted_and_kept_out_of_statistics(read: Read) -> None:
    found = read(table("x", ["1.5", "-inf", "2.5", "inf"]))
    entry = column(found, "x")
    assert (entry["nonfinite"], entry["min"], entry["max"], entry["mean"]) == (2, 1.5, 2.5, 2.0)
    assert cells(found)["x"][1] == float("-inf")
    assert [f["code"] for f in found.profile["findings"]] == ["nonfinite_cells"]


def test_one_bad_cell_among_thousands_is_named(read: Read) -> None:
    values = [str(i % 700) for i in range(5000)]
    values[3210] = "oops"
    found = read(table("x", values))
    assert types(found)["x"] == "categorical"
    (finding,) = [f for f in found.profile["findings"] if f["code"] == "mixed_types"]
    assert (finding["column"], finding["row"], finding["line"], finding["cell"]) == ("x", 3210, 3212, "oops")
    assert "line 3212" in finding["detail"] and "'oops'" in finding["detail"]


def test_mixed_columns_among_others(read: Read) -> None:
    """Looking a bad cell's line up leaves the next column readable."""
    found = read("a,b,c\n1,x,1\n2,3,oops\nbad,4,5\n4,5,6\n")
    places = {f["column"]: (f["cell"], f["line"]) for f in found.profile["findings"]}
    assert places == {"a": ("bad", 4), "b": ("x", 2), "c": ("oops", 3)}


def test_none_is_a_category_among_words_and_says_so(read: Read) -> None:
    found = read(table("x", ["None", "brick", "None", "stone"]))
    entry = column(found, "x")
    assert (entry["missing"], entry["distinct"], entry["top"][0]) == (0, 3, ["None", 2])
    assert found.profile["findings"][0]["code"] == "none_as_category"
    among_numbers = column(read(table("x", ["None", "1", "2"])), "x")
    assert (among_numbers["missing"], among_numbers["distinct"]) == (1, 2)


def test_leading_zeros_make_codes(read: Read) -> None:
    found = read(table("zip", ["01234", "12345", "01234"]))
    assert found.profile["findings"][0]["code"] == "leading_zeros"
    assert cells(found)["zip"] == ["01234", "12345", "01234"]


def test_statistics_agree_with_numpy(read: Read) -> None:
    values = np.round(np.random.default_rng(3).lognormal(size=4001), 3)
    values[:3] = 1e6
    entry = column(read(table("x", [repr(float(v)) for v in values])), "x")
    centre = np.median(values)
    robust = np.abs(values - centre) / (1.4826 * np.median(np.abs(values - centre)))
    assert entry["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert entry["std"] == pytest.approx(values.std(), rel=1e-12)
    assert entry["skew"] == pytest.approx((((values - values.mean()) / values.std()) ** 3).mean(), rel=1e-9)
    for q, found in entry["quantiles"].items():
        assert found == pytest.approx(np.quantile(values, float(q)), rel=1e-12)
    assert entry["outliers"] == (robust > 8).sum()
    assert entry["distinct"] == len(np.unique(values))


def test_the_table_as_a_whole(read: Read) -> None:
    found = read("a,b,c,d,e\n1,1,x,7,\n2,2,y,7,\n2,2,y,7,\n")
    profile = found.profile
    assert profile["rows"] == 3
    assert profile["duplicate_columns"] == [["a", "b"]]
    assert profile["constant_columns"] == ["d"]
    assert profile["empty_columns"] == ["e"]
    assert profile["duplicate_rows"] == 1
    assert profile["scale_ratio"] == 1.0
    assert found.columns[4] == {"name": "e", "type": "categorical", "missing": 3}


def test_dangerous_names_and_cells_are_data(read: Read) -> None:
    names = ["'; DROP TABLE cells; --", '"; x', "c0", "ünï cödé", "=cmd()", "a" * 300]
    quoted = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    found = read(f"{quoted}\n=cmd(),2,3,4,5,6\n+1,2,3,4,5,7\n")
    assert list(types(found)) == names
    assert cells(found)[names[0]] == ["=cmd()", "+1"]


def test_reading_twice_gives_the_same_bytes(read: Read) -> None:
    text = table("x", [str(i * 0.5) for i in range(3000)])
    assert read(text).path.read_bytes() == read(text).path.read_bytes()
