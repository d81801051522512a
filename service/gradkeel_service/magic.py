"""What kind of file begins with these bytes: tables are let in, everything else is named and refused."""

import importlib
import io
import zlib

from gradkeel_service.errors import Refusal

HEAD_BYTES = 64 * 1024
"""How much of a file is looked at."""

REFUSED = (
    (b"ARROW1", "an Arrow IPC file"),
    (b"FEA1", "a Feather file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK\x03\x04", "a zip archive (or an Office document)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x1f\x9d", "a compress (.Z) file"),
    (b"\x04\x22\x4d\x18", "an LZ4 file"),
    (b"PARE", "an encrypted Parquet file"),
)
PICKLE = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
GZIP, ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of UTF-16, the one text encoding in which NUL bytes are in order."""


def check(head: bytes, whole: bool) -> None:
    """Refuse (415) a file that is no table by its first bytes; 422 for an empty one.

    ``head`` holds the first ``HEAD_BYTES`` of the file, or all of it when ``whole``.
    """
    if not head:
        raise Refusal("invalid", "the file is empty: zero bytes")
    if head.startswith(GZIP):
        _check_inside(_gunzip(head), "gzip")
    elif head.startswith(ZSTD):
        _check_inside(_unzstd(head, whole), "zstd")
    else:
        _check_plain(head, "the file")


def _check_inside(inside: bytes, packing: str) -> None:
    if inside.startswith((GZIP, ZSTD)):
        raise _unsupported(f"the {packing} file holds another compressed file")
    if inside[257:262] == b"ustar":
        raise _unsupported(f"the {packing} file holds a tar archive")
    _check_plain(inside, f"what the {packing} file holds")


def _check_plain(head: bytes, what: str) -> None:
    for mark, name in REFUSED:
        if head.startswith(mark):
            raise _unsupported(f"{what} is {name}")
    if head.startswith(PICKLE):
        raise _unsupported(f"{what} is a Python pickle")
    if head[257:262] == b"ustar":
        raise _unsupported(f"{what} is a tar archive")
    if head.startswith(PARQUET) or head.startswith(WIDE_MARKS):
        return
    if b"\0" in head:
        raise _unsupported(f"{what} is binary, in no form that is read here")


def _unsupported(detail: str) -> Refusal:
    return Refusal(
        "unsupported_media_type",
        f"{detail}; send CSV, TSV, JSON lines or Parquet, plain or as gzip or zstd",
    )


def _gunzip(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
    except zlib.error as error:
        raise _unsupported("the gzip file is damaged") from error


def _unzstd(head: bytes, whole: bool) -> bytes:
    # pyarrow is loaded only for zstd uploads: it would cost every process 40 MB.
    pyarrow = importlib.import_module("pyarrow")
    try:
        with pyarrow.CompressedInputStream(io.BytesIO(head), "zstd") as stream:
            inside: bytes = stream.read(1024)
    except OSError as error:
        if not whole:
            return b""
        raise _unsupported("the zstd file is damaged") from error
    return inside
