"""Rows of delimited text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkeel.local import LocalModelError, rows_from_csv

HEAD = "size,count,zone,zip,when,flag"
LINE = "4.5,3,a,11,2001-02-03,yes"


def test_a_csv_row_predicts_like_the_record(model, record):
    rows = rows_from_csv(f"{HEAD},note\n{LINE},x\n", model.manifest)
    assert set(rows) == set(record)
    assert model.predict(rows).values[0] == model.predict([record]).values[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_delimiters_and_line_ends(model, delimiter, end):
    text = end.join([HEAD, LINE, "", LINE]).replace(",", delimiter).encode("utf-8-sig")
    assert rows_from_csv(text, model.manifest)["zip"] == ["11", "11"]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8"])
def test_a_file_that_could_be_trained_on_can_be_predicted(model, encoding):
    zone = "Köln Süd" if encoding == "latin-1" else "Köln „Süd“"
    rows = rows_from_csv(f"zone;size\n{zone};1\n".encode(encoding), model.manifest)
    assert rows["zone"] == [zone]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(model, encoding):
    rows = rows_from_csv(f"{HEAD}\n{LINE}\n{LINE}\n".encode(encoding), model.manifest)
    assert rows["size"] == ["4.5", "4.5"]
    big = b"\xfe\xff" + f"{HEAD}\n{LINE}\n".encode("utf-16-be")
    assert rows_from_csv(big, model.manifest)["size"] == ["4.5"]


def test_quotes_and_newlines_in_cells(model):
    rows = rows_from_csv('zone,size\n"a,b\nc",""\n', model.manifest)
    assert rows == {"zone": ["a,b\nc"], "size": [""]}


def test_empty_cells_and_markers_are_missing(model, record):
    rows = rows_from_csv(f"{HEAD}\n,3,a,11,2001-02-03,yes\nNA,3,a,11,2001-02-03,yes\n", model.manifest)
    expected = model.predict([record | {"size": None}]).values[0]
    assert np.array_equal(model.predict(rows).values, [expected, expected])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}\n{LINE}\n1,2\n", "line 3: 2 cells"),
        ("size,size\n1,2\n", "named twice"),
        ('size\n"never closed\n', "line"),
        ("size\n1\n".encode("utf-16-le"), "zero byte"),
        ("size\n1\n".encode("utf-16")[:-1], "no UTF-16"),
    ],
)
def test_text_that_is_no_table(model, text, message):
    with pytest.raises(LocalModelError, match=message):
        rows_from_csv(text, model.manifest)


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60)))
def test_any_text_is_read_or_refused(model, text):
    try:
        rows = rows_from_csv(text, model.manifest)
    except LocalModelError:
        return
    wanted = {column.name for column in model.columns}
    assert not set(rows) & ({"note", "y"} - wanted)
    assert not rows or wanted & set(rows)
