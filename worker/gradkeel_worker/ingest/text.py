"""Bytes to UTF-8: finds the encoding and leaves a plain UTF-8 file without byte-order mark."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from gradkeel_worker.ingest.errors import rejected
from gradkeel_worker.ingest.source import BLOCK, head

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UNDEFINED_IN_CP1252 = frozenset(b"\x81\x8d\x8f\x90\x9d")
NAMES = {"utf-8-sig": "utf-8", "iso8859-1": "latin-1"}


def to_utf8(path: Path, work: Path, encoding: str | None) -> tuple[Path, str]:
    """A UTF-8 copy of the file (or the file itself, when it is that already), and the encoding's name.

    Raises:
        Rejected: the text does not decode, or is no text at all.
    """
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding or _marked(path) or _unmarked(path)
    if encoding == "utf-8":
        _refuse_binary(_blocks(path))
        return path, encoding
    target = work / "text.utf8"
    with target.open("wb") as out:
        for block in _decoded(path, encoding):
            out.write(block)
    _refuse_binary(_blocks(target))
    return target, NAMES.get(encoding, encoding)


def _marked(path: Path) -> str | None:
    first = head(path, 4)
    return next((name for mark, name in BYTE_ORDER_MARKS if first.startswith(mark)), None)


def _unmarked(path: Path) -> str:
    wide = _wide(head(path, 4096))
    if wide:
        return wide
    if _is_utf8(path):
        return "utf-8"
    high = frozenset().union(
        *({byte for byte in set(block) if 0x80 <= byte < 0xA0} for block in _blocks(path))
    )
    windows = bool(high) and high.isdisjoint(UNDEFINED_IN_CP1252)
    return "cp1252" if windows else "latin-1"


def _wide(first: bytes) -> str | None:
    """UTF-16 without a mark, told by a zero in nearly every other byte."""
    half = len(first) // 2
    if half < 4:
        return None
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if first[start::2].count(0) > 0.7 * half and first[1 - start :: 2].count(0) == 0:
            return name
    return None


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in _blocks(path):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(path: Path, encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    try:
        for block in _blocks(path):
            text = decoder.decode(block)
            line += text.count("\n")
            yield text.encode()
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as error:
        line += error.object.count(b"\n", 0, error.start)
        detail = f"line {line} cannot be read as {NAMES.get(encoding, encoding)}: {error.reason}"
        raise rejected("bad_encoding", detail, line=line) from error
    except UnicodeError as error:  # a codec that gives no place
        raise rejected("bad_encoding", f"the text is not {encoding}: {str(error)[:200]}") from error


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _refuse_binary(blocks: Iterator[bytes]) -> None:
    line = 1
    for block in blocks:
        place = block.find(0)
        if place >= 0:
            line += block.count(b"\n", 0, place)
            raise rejected("not_text", f"line {line} holds a zero byte, so this is not text", line=line)
        line += block.count(b"\n")
