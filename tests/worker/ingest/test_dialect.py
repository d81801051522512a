"""Delimiter, decimal mark, header, names."""

from collections.abc import Callable

import pytest

from gradkeel_worker.ingest import Ingested, Limits, Rejected

from .conftest import cells, column, types

Read = Callable[..., Ingested]
Refuse = Callable[..., Rejected]


@pytest.mark.parametrize(("mark", "kind"), [(",", "csv"), (";", "csv"), ("\t", "tsv"), ("|", "csv")])
def test_the_delimiter_is_found(read: Read, mark: str, kind: str) -> None:
    found = read(f"a{mark}b\n1{mark}2\n3{mark}4\n")
    assert (found.profile["format"]["delimiter"], found.profile["format"]["kind"]) == (mark, kind)
    assert cells(found)["b"] == [2, 4]


@pytest.mark.parametrize("text", ["a;b\n1,5;2,5\n2,5;3,5\n", "1,5;2,5\n2,5;3,5\n"])
def test_decimal_commas_are_found(read: Read, text: str) -> None:
    found = read(text)
    assert found.profile["format"]["decimal"] == ","
    assert found.profile["format"]["delimiter"] == ";"
    assert set(types(found).values()) == {"numeric"}
    first = found.profile["columns"][0]
    assert (first["min"], first["max"], first["storage"], first["decimal"]) == (1.5, 2.5, "VARCHAR", ",")


def test_decimal_commas_within_quotes(read: Read) -> None:
    found = read('price,n\n"1,50",1\n"2,75",2\n')
    assert column(found, "price")["mean"] == 2.125


def test_whole_numbers_beside_decimal_commas(read: Read) -> None:
    found = read("a;b\n1;2,5\n2;3,5\n")
    assert column(found, "a")["storage"] == "BIGINT"
    assert column(found, "b")["decimal"] == ","


def test_a_given_decimal_mark_is_insisted_on(read: Read) -> None:
    assert types(read("a;b\n1,5;2\n2,5;3\n", decimal="."))["a"] == "categorical"


def test_text_with_commas_is_not_split(read: Read) -> None:
    found = read("name;city\nbob;rome, italy\nann;oslo, norway\n")
    assert cells(found)["city"] == ["rome, italy", "oslo, norway"]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("x\n1\n2\n", True),
        ("1\n2\n", False),
        ("1,a\n2,b\n3,c\n", False),
        ("name,city\nbob,rome\njim,oslo\n", True),
        ("bob,rome\njim,oslo\nann,rome\n", False),
        ("day,n\n2020-01-01,1\n2020-01-02,2\n", True),
        ("2020-01-01,1\n2020-01-02,2\n", False),
        ("flag,n\nyes,1\nno,2\n", True),
        (",a\n0,5\n1,6\n", True),
    ],
)
def test_the_header_is_found(read: Read, text: str, header: bool) -> None:
    assert read(text).profile["format"]["header"] is header


def test_a_given_header_wins(read: Read) -> None:
    text = "2019,2020\n1,2\n3,4\n"
    assert list(types(read(text, header="true"))) == ["2019", "2020"]
    assert list(types(read(text, header=False))) == ["column_1", "column_2"]


def test_given_delimiter_by_name(read: Read) -> None:
    assert list(types(read("a;b|c\n1;2|3\n", delimiter="pipe"))) == ["a;b", "c"]


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "\n", "é"])
def test_impossible_delimiters(read: Read, refuse: Refuse, delimiter: str) -> None:
    if delimiter == "":
        assert types(read("a,b\n1,2\n", delimiter=delimiter))
    else:
        assert refuse("a,b\n1,2\n", delimiter=delimiter).places[0].code == "bad_option"


def test_unnamed_columns_are_numbered(read: Read) -> None:
    assert list(types(read(",b,,column_1\n1,2,3,4\n"))) == ["column_1_", "b", "column_3", "column_1"]


def test_names_keep_their_case_and_lose_outer_blanks(read: Read) -> None:
    assert list(types(read(" a,A ,b c\n1,2,3\n"))) == ["a", "A", "b c"]


def test_repeated_names_are_refused(refuse: Refuse) -> None:
    refusal = refuse("a,b,a,c,b\n1,2,3,4,5\n")
    assert [(place.code, place.column) for place in refusal.places] == [
        ("duplicate_column", "a"),
        ("duplicate_column", "b"),
    ]


def test_reserved_names_are_refused(refuse: Refuse) -> None:
    assert refuse("__row__,b\n1,2\n").places[0].code == "reserved_name"


def test_a_header_alone_is_refused(refuse: Refuse) -> None:
    assert refuse("a,b,c\n").places[0].code == "header_only"
    assert refuse("a,b\n,\n,\n").places[0].code == "header_only"


def test_too_many_columns_are_refused_before_they_are_read(refuse: Refuse) -> None:
    wide = ",".join(f"c{n}" for n in range(100_000))
    refusal = refuse(f"{wide}\n{wide}\n")
    assert refusal.places[0].code == "too_many_columns"
    assert refuse("a,b,c\n1,2,3\n", Limits(columns=2)).places[0].code == "too_many_columns"


@pytest.mark.parametrize("content", ["a,b\n1,2\n3,4\n5,6\n", '{"a": 1}\n{"a": 2}\n{"a": 3}\n'])
def test_too_many_rows_are_refused(read: Read, refuse: Refuse, content: str) -> None:
    place = refuse(content, Limits(rows=2)).places[0]
    assert (place.code, place.row) == ("too_many_rows", 2)
    assert "3 rows" in place.detail
    assert read(content, Limits(rows=3)).rows == 3
