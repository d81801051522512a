"""Files of rows to predict, cut into requests: which kind a file is, and where a CSV record ends."""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from gradkeel.contract.errors import StrictJSONError
from gradkeel.contract.strict_json import loads
from gradkeel.errors import GradkeelError, MissingExtra

RECORDS_A_PIECE = 20_000
BOM = b"\xef\xbb\xbf"


def file_kind(path: Path) -> str:
    """``csv``, ``jsonl`` or ``parquet``, by the file's own first bytes, then by its name."""
    with open_table(path) as file:
        head = file.read(4)
    if head == b"PAR1":
        return "parquet"
    name = path.name.lower().removesuffix(".gz")
    return "jsonl" if name.endswith((".jsonl", ".ndjson")) else "csv"


def open_table(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked where they are gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path, "rb")) if packed else path.open("rb")


def csv_pieces(file: IO[bytes], records: int = RECORDS_A_PIECE) -> Iterator[bytes]:
    """The table in pieces of so many records, each under the file's header."""
    reader = csv_records(file)
    header = next(reader, b"").removeprefix(BOM)
    piece: list[bytes] = []
    for record in reader:
        piece.append(record)
        if len(piece) == records:
            yield header + b"".join(piece)
            piece = []
    if piece:
        yield header + b"".join(piece)


def csv_records(file: IO[bytes]) -> Iterator[bytes]:
    """The records of a CSV file as they stand in it; blank lines are left out."""
    held = b""
    for line in file:
        held += line
        if held.count(b'"') % 2 == 0:
            if held.strip():
                yield held if held.endswith(b"\n") else held + b"\n"
            held = b""
    if held.strip():
        yield held


def jsonl_pieces(file: IO[bytes], records: int = RECORDS_A_PIECE) -> Iterator[list[Any]]:
    """The objects of a file of JSON lines, so many at a time."""
    piece: list[Any] = []
    for number, line in enumerate(file, 1):
        if line.strip():
            piece.append(_record(line, number))
        if len(piece) == records:
            yield piece
            piece = []
    if piece:
        yield piece


def _record(line: bytes, number: int) -> Any:
    try:
        return loads(line)
    except StrictJSONError as error:
        raise GradkeelError(f"line {number} is not a JSON object: {error}") from error


def parquet_pieces(file: IO[bytes], records: int = RECORDS_A_PIECE) -> Iterator[dict[str, list[Any]]]:
    """The columns of a Parquet file, so many rows at a time. Needs pyarrow."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtra("reading Parquet needs pyarrow: pip install pyarrow") from error
    for batch in parquet.ParquetFile(file).iter_batches(records):
        yield batch.to_pydict()


Pieces = Callable[[IO[bytes], int], Iterator[Any]]
READERS: dict[str, Pieces] = {"csv": csv_pieces, "jsonl": jsonl_pieces, "parquet": parquet_pieces}
