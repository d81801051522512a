"""JSON lines as they come: cut into lines, counted, with a bound on what is held of each."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_LINE_BYTES = 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Line:
    """A line that is not blank. ``number`` counts from 1, ``end`` is the byte behind it and its line break.

    ``text`` is None where the line has more than ``MAX_LINE_BYTES``.
    """

    number: int
    end: int
    text: bytes | None


class LineCount:
    """Counts the lines that are not blank, of pieces that end anywhere."""

    def __init__(self) -> None:
        self.lines = 0
        self._begun = False

    def add(self, piece: bytes) -> None:
        *whole, rest = piece.split(b"\n")
        for part in whole:
            self.lines += not self._begun and bool(part.strip())
            self._begun = False
        if rest.strip() and not self._begun:
            self._begun = True
            self.lines += 1


def lines_of(pieces: Iterable[bytes], number: int = 0, offset: int = 0) -> Iterator[Line]:
    """The lines of a file whose ``pieces`` begin at byte ``offset``, behind line ``number``."""
    held = _Held()
    for piece in pieces:
        *whole, rest = piece.split(b"\n")
        for part in whole:
            held.add(part)
            number, offset = number + 1, offset + held.size + 1
            if line := held.line(number, offset):
                yield line
            held = _Held()
        held.add(rest)
    if line := held.line(number + 1, offset + held.size):
        yield line


class _Held:
    """The line that is being put together."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size > MAX_LINE_BYTES:
            self._parts = []
        elif part:
            self._parts.append(part)

    def line(self, number: int, end: int) -> Line | None:
        """The line, or None for a blank one."""
        if self.size > MAX_LINE_BYTES:
            return Line(number, end, None)
        text = b"".join(self._parts)
        if number == 1:
            text = text.removeprefix(BYTE_ORDER_MARK)
        return Line(number, end, text) if text.strip() else None
