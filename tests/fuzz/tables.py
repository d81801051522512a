"""Fuzzing the reader of uploads: whatever the bytes, a table that keeps its promises or a refusal.

The first byte of an input chooses how the rest is uploaded: plain or compressed, and with which options.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import atheris
import pyarrow as pa
import pyarrow.parquet as pq
from harness import run

with atheris.instrument_imports(include=["gradkeel_worker.ingest", "gradkeel.contract.strict_json"]):
    from gradkeel_worker.ingest import Ingested, Limits, Options, Rejected, ingest

LONGEST = 4096
LIMITS = Limits(unpacked_bytes=1 << 22, record_bytes=1 << 14, columns=64, memory_mb=128, threads=1)

PACKINGS = (bytes, gzip.compress, lambda body: pa.compress(body, codec="zstd", asbytes=True))
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"delimiter": ";", "decimal": ","},
    {"delimiter": "tab", "header": False},
    {"encoding": "utf-16", "header": True},
    {"encoding": "cp1252"},
    {"delimiter": "space"},
)
ARROW_TYPES = {"BIGINT": "int64", "DOUBLE": "double", "VARCHAR": "string"}

TEXTS = (
    b"rooms,zone,price\n3,A,101.5\n4,B,99\n,A,NA\n",
    b"a;b\n1,5;x\n2,5;y\n",
    b'id\tname\n1\t"two\nlines"\n2\t"say ""hi"""\n',
    b'a,b\r\n1,"x\\"y"\r\n\r\n2,z\r\n',
    b"1,2,3\n4,5,6\n\n \n",
    b"when,ok\n2020-01-01,true\n2020-02-30,false\n",
    "naïve,café\n1,é\n2,ü\n".encode("latin-1"),
    "\ufeffa,b\n1,2\n".encode(),
    "a,b\n1,x\n2,y\n".encode("utf-16"),
    b"a|b\r1|2\r3|4\r",
    b'{"a": 1, "b": "x"}\n{"a": 2.5, "b": null}\n\n{"c": true}\n',
    b'{"a": 12345678901234567890}\n{"a": 1e308}\n{"a": "\\u00e9"}\n',
    b"code\n00123\n00456\n",
    b"x\ninf\n-inf\nnan\n1e400\n",
)


def seeds() -> list[bytes]:
    """Small files of every kind that is read, each under several ways of uploading."""
    plain = [bytes([choice]) + text for text in TEXTS for choice in (0, 1, 2)]
    wrapped = [bytes([3 * index]) + text for index in range(1, len(OPTIONS)) for text in TEXTS[:4]]
    tables = [b"\0" + _parquet(**options) for options in ({}, {"compression": "none"}, {"version": "1.0"})]
    packed = [b"\0" + pack(TEXTS[0]) for pack in PACKINGS[1:]]
    return [*plain, *wrapped, *tables, *packed]


def _parquet(**options: Any) -> bytes:
    table = pa.table(
        {
            "a": [1, 2, None],
            "b": ["x", None, "z"],
            "c": [0.5, float("nan"), float("inf")],
            "d": pa.array(["u", "v", "u"]).dictionary_encode(),
            "e": [True, False, None],
        }
    )
    target = io.BytesIO()
    pq.write_table(table, target, store_schema=False, **options)
    return target.getvalue()


def target(data: bytes) -> None:
    choice, body = data[:1], data[1:]
    index = choice[0] if choice else 0
    pack, options = PACKINGS[index % 3], OPTIONS[index // 3 % len(OPTIONS)]
    folder = Path(tempfile.mkdtemp(dir=SCRATCH))
    try:
        read_or_refused(folder, pack(body), Options.from_json(options))
    finally:
        shutil.rmtree(folder)


def read_or_refused(folder: Path, content: bytes, options: Options) -> None:
    source, work = folder / "upload", folder / "work"
    source.write_bytes(content)
    work.mkdir()
    try:
        found = ingest(source, work, options, LIMITS)
    except Rejected as refusal:
        assert refusal.detail and refusal.places
        json.dumps(refusal.to_problem().to_json(), allow_nan=False).encode()
        return
    check(found, work)


def check(found: Ingested, work: Path) -> None:
    """What every accepted table keeps."""
    table = pq.read_table(found.path)
    profile = found.profile
    json.dumps(profile, allow_nan=False).encode()
    assert table.num_rows == found.rows == profile["rows"] > 0
    names = [entry["name"] for entry in profile["columns"]]
    assert len(set(names)) == len(names) <= LIMITS.columns
    assert table.column_names == [*names, "__row__", "__line__"]
    _check_places(table, profile)
    for entry in profile["columns"]:
        column = table.column(entry["name"])
        assert (
            str(column.type) == {"BIGINT": "int64", "DOUBLE": "double", "VARCHAR": "string"}[entry["storage"]]
        )
        assert 0 <= entry["missing"] <= found.rows
    if profile["format"]["kind"] in ("csv", "tsv"):
        _check_cells(table, profile, work)


def _check_places(table: pa.Table, profile: dict[str, Any]) -> None:
    rows = table.column("__row__").to_pylist()
    assert rows == sorted(set(rows)) and rows[0] >= 0
    assert rows[-1] < profile["rows"] + profile["dropped_empty_rows"]
    lines = table.column("__line__").to_pylist()
    if profile["format"]["kind"] == "parquet":
        assert set(lines) == {None}
    else:
        assert lines == sorted(set(lines)) and lines[0] >= 1


def _check_cells(table: pa.Table, profile: dict[str, Any], work: Path) -> None:
    """The cells are those that the csv module of the standard library finds in the same text."""
    text = _text(work, profile)
    if '\\"' in text:
        return  # quotes escaped by a backslash are another dialect
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=profile["format"]["delimiter"])
    records = [record for record in reader if "".join(record).strip()]
    expected = records[1:] if profile["format"]["header"] else records
    names = [entry["name"] for entry in profile["columns"] if entry["storage"] == "VARCHAR"]
    places = [table.column_names.index(name) for name in names]
    columns = [table.column(name).to_pylist() for name in names]
    assert len(expected) == table.num_rows, (len(expected), table.num_rows)
    for row, record in enumerate(expected):
        found, wanted = [column[row] for column in columns], [record[place] for place in places]
        assert found == wanted, (row, found, wanted)


def _text(work: Path, profile: dict[str, Any]) -> str:
    """The text as it was decoded, or as it was uploaded where that was UTF-8 already."""
    copies = (work / "text.utf8", work / "unpacked", work.parent / "upload")
    path = next(path for path in copies if path.exists())
    return path.read_bytes().decode("utf-8")


if __name__ == "__main__":
    SCRATCH = tempfile.mkdtemp(prefix="gkf-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    run(target, seeds(), LONGEST)
