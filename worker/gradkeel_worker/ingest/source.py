"""Which kind of file this is, by its bytes; unpacking with a count of what comes out."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa

from gradkeel_worker.ingest.errors import rejected

BLOCK = 4 << 20
COMPRESSIONS = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}

# magic bytes of what is never read, with the name a reader knows it by
FOREIGN: dict[bytes, str] = {
    b"PK\x03\x04": "a zip archive (xlsx, npz and the like)",
    b"ARROW1": "an Arrow IPC file",
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"\x93NUMPY": "a NumPy array",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\x00": "an xz file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3\x00": "a SQLite database",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
}


def unpack(source: Path, work: Path, limit: int) -> tuple[Path, str | None]:
    """The file itself, or its unpacked copy in the work folder, and the compression's name.

    Raises:
        Rejected: a broken stream, more than `limit` bytes, or an archive inside the archive.
    """
    compression = _compression(head(source))
    if compression is None:
        return source, None
    target = work / "unpacked"
    _copy(source, target, compression, limit)
    if _compression(head(target)) is not None:
        raise rejected("nested_archive", "the file is compressed twice; send it compressed once, or plain")
    return target, compression


def _compression(first: bytes) -> str | None:
    return next((name for name, magic in COMPRESSIONS.items() if first.startswith(magic)), None)


def head(path: Path, size: int = 64) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _copy(source: Path, target: Path, compression: str, limit: int) -> None:
    written = 0
    with source.open("rb") as packed, target.open("wb") as plain:
        for block in UNPACKERS[compression](packed):
            written += len(block)
            if written > limit:
                detail = f"unpacked, the file holds more than {limit} bytes"
                raise rejected("unpacked_too_large", detail, problem="too_large")
            plain.write(block)


def _gunzip(packed: IO[bytes]) -> Iterator[bytes]:
    """Every member of a gzip file, in blocks of bounded size."""
    member = zlib.decompressobj(wbits=31)
    pending = packed.read(BLOCK)
    while pending:
        try:
            block = member.decompress(pending, BLOCK)
        except zlib.error as error:
            raise rejected("bad_compression", f"the gzip stream is broken: {error}") from error
        yield block
        pending = member.unconsumed_tail
        if member.eof:
            pending = (member.unused_data or packed.read(BLOCK)).lstrip(b"\0")
            if pending:
                member = zlib.decompressobj(wbits=31)
        elif not pending:
            pending = packed.read(BLOCK)
    if not member.eof:
        raise rejected("bad_compression", "the gzip stream ends in the middle; the file was cut")


def _unzstd(packed: IO[bytes]) -> Iterator[bytes]:
    try:
        with pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd") as stream:
            while block := stream.read(BLOCK):
                yield block
    except OSError as error:
        raise rejected("bad_compression", f"the zstd stream is broken: {error}") from error


UNPACKERS = {"gzip": _gunzip, "zstd": _unzstd}


def kind_of(path: Path) -> str:
    """ "parquet", "jsonl" or "csv" (any delimited text).

    Raises:
        Rejected: for kinds that are not read.
    """
    first = head(path, 4096)
    if not first:
        raise rejected("empty", "the file is empty")
    if first.startswith(b"PAR1"):
        return "parquet"
    if first.startswith(b"PARE"):
        raise rejected("encrypted_parquet", "the Parquet file is encrypted; send it without encryption")
    for magic, name in FOREIGN.items():
        if first.startswith(magic):
            raise rejected("unsupported_format", f"this is {name}; send CSV, TSV, JSON lines or Parquet")
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        _refuse_json_array(text)
    return "jsonl" if text.startswith(b"{") else "csv"


def _refuse_json_array(text: bytes) -> None:
    if text[1:].lstrip()[:1] in {b"{", b"["}:
        raise rejected("unsupported_format", "this is a JSON array; send JSON lines, one object a line")
