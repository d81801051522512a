"""What can go wrong with a model file or the rows given to it.

LocalModelError
├── BundleError      the file is no bundle, is damaged, or asks for what is not installed
├── MissingColumn    the rows lack a column of the model (policy strict)
├── BadValue         a cell that the model cannot take; says column and row
└── NoInterval       the model has no prediction intervals at the level asked for
"""


class LocalModelError(Exception):
    """Root of this package's errors."""


class BundleError(LocalModelError):
    """A bundle that cannot be used."""


class MissingColumn(LocalModelError):
    """The rows lack a column that the model was trained on."""

    def __init__(self, column: str) -> None:
        self.column = column
        super().__init__(f"column {column!r} is missing")


class BadValue(LocalModelError):
    """A cell that the model cannot take. ``row`` counts the given rows from 0; None: the whole column."""

    def __init__(self, column: str, row: int | None, detail: str) -> None:
        self.column = column
        self.row = row
        self.detail = detail
        place = f"column {column!r}" if row is None else f"column {column!r}, row {row}"
        super().__init__(f"{place}: {detail}")


class NoInterval(LocalModelError):
    """The model has no prediction intervals at the level asked for."""
