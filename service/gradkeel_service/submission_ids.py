"""How producers may name their submissions."""

from typing import Any, TypeGuard

LONGEST_ID = 200


def is_submission_id(value: Any) -> TypeGuard[str]:
    """Whether a value may name a submission: text of 1 to 200 printable characters."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.isprintable()
