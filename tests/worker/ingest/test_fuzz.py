"""Whatever the bytes, an upload is read or refused, with nothing in between."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradkeel_worker.ingest import Limits, Options, Rejected, ingest

SMALL = Limits(unpacked_bytes=1 << 22, record_bytes=1 << 16)
PIECES = [
    b"a",
    b"1",
    b"-2.5",
    b",",
    b";",
    b"\t",
    b"|",
    b'"',
    b"\n",
    b"\r",
    b"\r\n",
    b" ",
    b"\xef\xbb\xbf",
    b"\xff",
]
WORDS = [
    b"NA",
    b"true",
    b"2020-01-01",
    b"{",
    b"}",
    b":",
    b"[",
    b"\\",
    b"'",
    b"=",
    b"\xc3\xa9",
    b"1e999",
    b"\0",
]
TEXTISH = st.lists(st.sampled_from([*PIECES, *WORDS]), max_size=60).map(b"".join)
fuzz = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_or_refused(folder: Path, content: bytes) -> None:
    (folder / "upload").write_bytes(content)
    try:
        found = ingest(folder / "upload", folder, Options(), SMALL)
    except Rejected as refusal:
        assert refusal.places and refusal.detail
        return
    table = pq.read_table(found.path)
    assert table.num_rows == found.rows == found.profile["rows"] > 0
    assert table.column_names == [*(c["name"] for c in found.profile["columns"]), "__row__", "__line__"]
    rows = table.column("__row__").to_pylist()
    assert rows == sorted(set(rows))


@fuzz
@given(TEXTISH)
def test_text(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    read_or_refused(tmp_path_factory.mktemp("fuzz"), content)


@fuzz
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x1f\x8b\x08\0\0\0\0\0\0\3", b"\x28\xb5\x2f\xfd", b"PAR1"]),
)
def test_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, magic: bytes) -> None:
    read_or_refused(tmp_path_factory.mktemp("fuzz"), magic + content)


@fuzz
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_parquet(tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    pq.write_table(pa.table({"a": [1, 2, 3] * 30, "b": ["x", None, "z"] * 30}), folder / "whole")
    content = bytearray((folder / "whole").read_bytes())
    for place, byte in damage:
        content[place % len(content)] = byte
    read_or_refused(folder, bytes(content))
