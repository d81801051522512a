"""What can go wrong while an uploaded file is read.

IngestError
└── Rejected        the file itself is at fault; carries the places
"""

from collections.abc import Sequence

from gradkeel.contract.errors import FieldError
from gradkeel.contract.problems import Problem

SHOWN_PLACES = 20
SHOWN_TEXT = 80


class IngestError(Exception):
    """Root of this package's errors."""


class Rejected(IngestError):
    """The uploaded file cannot be used as it is.

    ``problem`` is ``bad_data``, or ``too_large`` where a limit was passed; ``places`` say where.
    """

    def __init__(self, detail: str, places: Sequence[FieldError], *, problem: str = "bad_data") -> None:
        super().__init__(detail)
        self.detail = detail
        self.places = tuple(places[:SHOWN_PLACES])
        self.problem = problem

    def to_problem(self) -> Problem:
        return Problem(self.problem, self.detail, self.places)


def rejected(
    code: str,
    detail: str,
    *,
    column: str | None = None,
    row: int | None = None,
    line: int | None = None,
    problem: str = "bad_data",
) -> Rejected:
    """A refusal with one place."""
    place = FieldError(pointer=None, code=code, detail=detail, column=column, row=row, line=line)
    return Rejected(detail, [place], problem=problem)


def shown(text: str) -> str:
    """A cell or name as a message may quote it: short, and without control characters."""
    return repr(text if len(text) <= SHOWN_TEXT else text[:SHOWN_TEXT] + "…")
