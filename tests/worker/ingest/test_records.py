"""Records and physical lines."""

import csv
import io
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradkeel_worker.ingest import Ingested, Limits, Options, Rejected, ingest, records

from .conftest import cells

Read = Callable[..., Ingested]
Refuse = Callable[..., Rejected]


def test_plain_lines(read: Read) -> None:
    found = cells(read("a,b\n1,2\n3,4\n5,6\n"))
    assert found["__row__"] == [0, 1, 2]
    assert found["__line__"] == [2, 3, 4]


def test_without_header_the_first_line_is_the_first_row(read: Read) -> None:
    found = cells(read("1,2\n3,4\n"))
    assert (found["__row__"], found["__line__"]) == ([0, 1], [1, 2])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["", "\n"])
def test_line_ends(read: Read, end: str, last: str) -> None:
    text = end.join(["a,b", "1,x", "3,y"]) + last.replace("\n", end)
    found = cells(read(text))
    assert found["b"] == ["x", "y"]
    assert found["__line__"] == [2, 3]


def test_line_ends_within_quotes_count_as_lines(read: Read) -> None:
    found = cells(read('a,b\n1,"two\nlines"\n2,plain\n3,"x\r\ny\nz"\n4,end\n'))
    assert found["b"] == ["two\nlines", "plain", "x\r\ny\nz", "end"]
    assert found["__line__"] == [2, 4, 5, 8]
    assert found["__row__"] == [0, 1, 2, 3]


@pytest.mark.parametrize("blank", ["\n", "   \n", "\n\n"])
def test_blank_lines_are_left_out_and_counted(read: Read, blank: str) -> None:
    result = read(f"a,b\n1,2\n{blank}3,4\n\n")
    found = cells(result)
    assert found["__row__"] == [0, 1]
    assert found["__line__"] == [2, 3 + blank.count("\n")]
    assert result.profile["dropped_empty_rows"] == blank.count("\n")


def test_empty_rows_are_left_out_and_counted(read: Read) -> None:
    result = read("a,b\n1,2\n,\n3,4\n , \n")
    assert cells(result)["__row__"] == [0, 2]
    assert cells(result)["__line__"] == [2, 4]
    assert (result.profile["dropped_empty_rows"], result.rows) == (2, 2)


def test_quotes_inside_plain_fields_are_kept(read: Read) -> None:
    found = cells(read('size,n\n5" pipe,1\n6" "pipe",2\n'))
    assert found["size"] == ['5" pipe', '6" "pipe"']


def test_doubled_quotes_are_one(read: Read) -> None:
    assert cells(read('a,b\n"say ""hi""",1\n"""",2\n'))["a"] == ['say "hi"', '"']


def test_backslash_escapes_are_understood(read: Read) -> None:
    assert cells(read('a,b\n"say \\"hi\\", you",1\nplain,2\n'))["a"] == ['say "hi", you', "plain"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a,b\n1,2\n3\n4,5\n", [3]),
        ("a,b\n1,2\n3,4,5\n", [3]),
        ('a,b\n"x\ny",2\n3,4,5\n6\n', [4, 5]),
        ("a,b\n\n1,2\n\n3\n", [5]),
        ('a,b\n5" x,2\n3\n', [3]),
        ("a,b,\n1,2\n", [2]),
    ],
)
def test_ragged_rows_are_refused_with_their_lines(refuse: Refuse, text: str, lines: list[int]) -> None:
    refusal = refuse(text)
    assert {place.code for place in refusal.places} == {"ragged_row"}
    assert [place.line for place in refusal.places] == lines


def test_a_ragged_row_late_in_a_long_file(refuse: Refuse) -> None:
    text = "a,b\n" + "1,2\n" * 2_000_000 + "1,2,3\n" + "1,2\n" * 10
    place = refuse(text).places[0]
    assert (place.line, place.row) == (2_000_002, 2_000_000)


def test_an_open_quote_names_the_line_where_its_record_begins(refuse: Refuse) -> None:
    refusal = refuse('a,b\n1,2\n3,"open\n' + "5,6\n" * 100)
    assert (refusal.places[0].code, refusal.places[0].line) == ("bad_quoting", 3)


def test_text_behind_a_closing_quote_is_refused(refuse: Refuse) -> None:
    refusal = refuse('a,b\n1,2\n"x"y,2\n')
    assert (refusal.places[0].code, refusal.places[0].line) == ("bad_quoting", 3)


@pytest.mark.parametrize("cell", ["x" * 300_000, '"' + "x\n" * 150_000 + '"'])
def test_a_giant_cell_is_refused(refuse: Refuse, cell: str) -> None:
    refusal = refuse(f"a,b\n1,2\n3,{cell}\n4,5\n", Limits(record_bytes=100_000))
    assert (refusal.places[0].code, refusal.places[0].line) == ("record_too_long", 3)


def test_records_of_nearly_the_largest_size(read: Read) -> None:
    cell = "x" * 1_900_000
    found = cells(read("a,b\n" + "".join(f"{n},{cell}\n" for n in range(4))))
    assert found["a"] == [0, 1, 2, 3]
    assert {len(text) for text in found["b"]} == {len(cell)}
    long_names = ",".join(f"{n}{'x' * 30_000}" for n in range(50))
    found = cells(read(f"{long_names}\n{',' * 49}\n1{',' * 49}\n"))
    assert found["__row__"] == [1]


def test_a_giant_cell_behind_a_stray_quote_is_refused(refuse: Refuse) -> None:
    refusal = refuse(f'a,b\n5" x,2\n3,{"x" * 9_000_000}\n', Limits(record_bytes=100_000))
    assert (refusal.places[0].code, refusal.places[0].line) == ("record_too_long", 3)


PIECES = ["a", "b", "1", " ", ",", ";", '"', "\n", "\r\n", "\t", "é"]
CELLS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=12),
    end=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_whatever_python_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str, quoting: int
) -> None:
    """Cells, rows and lines against Python's own csv module."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=end, quoting=quoting)
    writer.writerow(["first", "second", "third"])
    writer.writerows(rows)
    folder = tmp_path_factory.mktemp("csv")
    (folder / "upload").write_bytes(buffer.getvalue().encode())
    expected = [(row, number) for number, row in enumerate(rows) if any(cell.strip() for cell in row)]
    options = Options(delimiter=",", header=True)
    if not expected:
        with pytest.raises(Rejected):
            ingest(folder / "upload", folder, options)
        return
    table = cells(ingest(folder / "upload", folder, options))
    assert table["__row__"] == [number for _, number in expected]
    assert table["__line__"] == [
        line for line, row in _lines(buffer.getvalue()) if any(c.strip() for c in row)
    ]
    for index, name in enumerate(["first", "second", "third"]):
        stored = ["" if cell is None else str(cell) for cell in table[name]]
        assert stored == [_as_stored(row[index], stored[i]) for i, (row, _) in enumerate(expected)]


def _as_stored(cell: str, stored: str) -> str:
    """A numeric column keeps no blank cells; everything else is the cell exactly."""
    return "" if stored == "" and not cell.strip() else cell


def _lines(text: str) -> list[tuple[int, list[str]]]:
    """Each record's first physical line, by Python's reader; the header left out."""
    reader = csv.reader(io.StringIO(text, newline=""))
    found, line = [], 1
    for record in reader:
        found.append((line, record))
        line = reader.line_num + 1
    return found[1:]


def test_a_rewritten_text_takes_its_records_many_at_a_time(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of blanks sends the whole file through the csv module; lines stay right, arrays stay few."""
    monkeypatch.setattr(records, "RECORDS_AT_ONCE", 1000)
    appended = []
    append = records.Lines.append
    monkeypatch.setattr(
        records.Lines, "append", lambda self, lines: (appended.append(len(lines)), append(self, lines))
    )
    rows = "".join(f"{i},{i % 7}\n" for i in range(4500))
    found = cells(read(f"a,b\n{rows}   \n1,2\n"))
    assert found["__line__"] == [*range(2, 4502), 4503]
    assert appended == [1000] * 4 + [502]
