"""What can be wrong with the data of a job.

DataError    the data cannot be used; carries every place found, with column, row, line and the cell
"""

from collections.abc import Sequence

from gradkeel.contract.errors import FieldError

_TOLD = 3


class DataError(Exception):
    """The data cannot be used as the config asks. ``errors`` holds each fault with its place."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__(_said(self.errors))


def _said(errors: Sequence[FieldError]) -> str:
    """The first fault of each of a few columns, and whether there are more."""
    first = {(error.column, error.code, error.pointer): error for error in reversed(errors)}
    told = [error for error in errors if first[error.column, error.code, error.pointer] is error][:_TOLD]
    more = ["and more"] if len(errors) > len(told) else []
    return "; ".join([*map(_sentence, told), *more])


def _sentence(error: FieldError) -> str:
    places = (
        f"column {error.column!r}" if error.column is not None else None,
        f"line {error.line}" if error.line is not None else None,
        f"row {error.row}" if error.row is not None and error.line is None else None,
    )
    where = ", ".join(place for place in places if place)
    return f"{where}: {error.detail}" if where else error.detail


def fault(code: str, detail: str, *, pointer: str | None = None, column: str | None = None) -> DataError:
    """A DataError with one fault that concerns no single row."""
    return DataError([FieldError(pointer, code, detail, column=column)])


def shown(text: object) -> str:
    """A cell for a message: quoted and cut."""
    whole = str(text)
    return repr(whole if len(whole) <= 80 else whole[:77] + "...")
