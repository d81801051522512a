"""JSON lines and Parquet: typed cells, strict readers, no belief in footers."""

import datetime
import io
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradkeel_worker.ingest import Ingested, Limits, Rejected

from .conftest import cells, column, types

Read = Callable[..., Ingested]
Refuse = Callable[..., Rejected]


def test_json_lines(read: Read) -> None:
    found = read('{"a": 1, "b": "x", "c": true}\n\n{"b": "y", "a": 2.5, "d": null}\n{"c": false, "d": "z"}\n')
    table = cells(found)
    assert found.profile["format"]["kind"] == "jsonl"
    assert list(types(found)) == ["a", "b", "c", "d"]
    assert types(found)["a"] == "numeric" and types(found)["c"] == "boolean"
    assert table["a"] == ["1", "2.5", None]
    assert table["c"] == ["true", None, "false"]
    assert (table["__row__"], table["__line__"]) == ([0, 1, 2], [1, 3, 4])


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ('{"a": NaN}', "bad_json"),
        ('{"a": 1, "a": 2}', "bad_json"),
        ('{"a": 1e999}', "bad_json"),
        ('{"a": 1', "bad_json"),
        ("[1, 2]", "bad_json"),
        ('{"a": [1]}', "nested_column"),
        ('{"a": {"b": 1}}', "nested_column"),
        ('{"a": "' + "x" * 3_000_000 + '"}', "record_too_long"),
    ],
)
def test_bad_json_lines_name_their_line(refuse: Refuse, line: str, code: str) -> None:
    refusal = refuse('{"a": 0}\n\n' + line + "\n")
    place = refusal.places[0]
    assert (place.code, place.row, place.line) == (code, 1, 3)


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def test_parquet_types(read: Read) -> None:
    moment = datetime.datetime(2020, 1, 2, 3, 4, 5)
    found = read(
        parquet(
            pa.table(
                {
                    "whole": pa.array([1, None, 3], pa.int32()),
                    "real": pa.array([1.5, float("nan"), float("inf")]),
                    "flag": [True, False, None],
                    "day": [datetime.date(2020, 1, 1), None, datetime.date(2020, 1, 3)],
                    "moment": pa.array([moment, moment, None], pa.timestamp("ns", "UTC")),
                    "word": ["00", "b", None],
                    "level": pa.array(["x", "y", "x"]).dictionary_encode(),
                    "money": pa.array([1, 2, 3]).cast(pa.decimal128(21, 2)),
                    "big": pa.array([2**64 - 1, 1, 2], pa.uint64()),
                }
            )
        )
    )
    table = cells(found)
    assert table["whole"] == [1, None, 3]
    assert table["real"] == [1.5, None, float("inf")]
    assert table["flag"] == ["true", "false", None]
    assert table["day"] == ["2020-01-01", None, "2020-01-03"]
    assert table["moment"][0] == "2020-01-02T03:04:05+00:00"
    assert table["level"] == ["x", "y", "x"]
    assert table["money"] == [1.0, 2.0, 3.0]
    assert (table["__row__"], table["__line__"]) == ([0, 1, 2], [None, None, None])
    assert types(found) == {
        "whole": "numeric",
        "real": "numeric",
        "flag": "boolean",
        "day": "datetime",
        "moment": "datetime",
        "word": "categorical",
        "level": "categorical",
        "money": "numeric",
        "big": "numeric",
    }
    assert column(found, "real")["nonfinite"] == 1


@pytest.mark.parametrize(
    "values",
    [pa.array([[1, 2], [3]]), pa.array([{"a": 1}, None]), pa.array([b"x", b"y"])],
    ids=["list", "struct", "binary"],
)
def test_nested_and_binary_columns_are_refused_by_name(refuse: Refuse, values: pa.Array) -> None:
    refusal = refuse(parquet(pa.table({"fine": [1, 2], "odd": values})))
    assert (refusal.places[0].code, refusal.places[0].column) == ("nested_column", "odd")


def test_repeated_parquet_names_are_refused(refuse: Refuse) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert refuse(parquet(table)).places[0].code == "duplicate_column"


def test_empty_parquet_is_refused(refuse: Refuse) -> None:
    assert refuse(parquet(pa.table({"a": pa.array([], pa.int64())}))).places[0].code == "header_only"


@pytest.mark.parametrize("damage", ["cut", "page", "footer", "magic"])
def test_damaged_parquet_is_refused(refuse: Refuse, damage: str) -> None:
    whole = bytearray(parquet(pa.table({"a": list(range(5000))}), compression="snappy"))
    if damage == "cut":
        del whole[len(whole) // 2 :]
    elif damage == "page":
        whole[4:400] = bytes(396)
    elif damage == "footer":
        footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        whole[footer : footer + 10] = b"\xff" * 10
    else:
        whole[-4:] = b"XXXX"
    assert refuse(bytes(whole)).places[0].code in {"unreadable_parquet", "forged_parquet"}


def test_a_forged_row_count_is_found_out(refuse: Refuse) -> None:
    """The count in the file's footer is changed; the pages stay as they are."""
    true, forged = 77, 99  # each one byte as a zigzag varint pair of the same length
    whole = parquet(pa.table({"a": list(range(true))}))
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    changed = whole[:footer] + whole[footer:].replace(_varint(true), _varint(forged))
    assert changed != whole
    assert refuse(changed).places[0].code in {"forged_parquet", "unreadable_parquet"}


def _varint(number: int) -> bytes:
    zigzag = number << 1
    return bytes([0x16, (zigzag & 0x7F) | 0x80, zigzag >> 7])


def test_encrypted_parquet_is_refused(refuse: Refuse) -> None:
    assert refuse(b"PARE" + bytes(100) + b"PARE").places[0].code == "encrypted_parquet"


def test_a_parquet_bomb_is_counted_while_it_unpacks(refuse: Refuse) -> None:
    bomb = parquet(pa.table({"a": pa.array(["x" * 1000] * 200_000)}), compression="zstd")
    assert len(bomb) < 1 << 20
    refusal = refuse(bomb, Limits(unpacked_bytes=20 << 20))
    assert (refusal.places[0].code, refusal.problem) == ("unpacked_too_large", "too_large")


def test_a_dictionary_counts_as_often_as_it_is_used(refuse: Refuse) -> None:
    """A few kilobytes of codes for one long text: what counts is what they stand for."""
    text = pa.array(["x" * 100_000])
    codes = pa.array([0] * 20_000, pa.int32())
    bomb = parquet(pa.table({"a": pa.DictionaryArray.from_arrays(codes, text)}))
    assert len(bomb) < 1 << 20
    refusal = refuse(bomb, Limits(unpacked_bytes=50 << 20))
    assert (refusal.places[0].code, refusal.problem) == ("unpacked_too_large", "too_large")
