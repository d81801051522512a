"""JSON without the liberties that Python's decoder takes.

Refused besides syntax errors: bytes that are not UTF-8, NaN and infinities, numbers that overflow a double,
integers of more than 40 digits, duplicate keys, lone surrogates, and nesting deeper than 100.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from gradkeel.contract.errors import StrictJSONError

MAX_DEPTH = 100
MAX_INTEGER_DIGITS = 40

_TOO_LARGE = 10**MAX_INTEGER_DIGITS
_TOO_MANY_DIGITS = f"an integer of more than {MAX_INTEGER_DIGITS} digits"

# Outside of strings only brackets matter for depth; a string token is skipped whole.
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def loads(document: bytes | str) -> Any:
    """Parse one JSON document.

    Raises:
        StrictJSONError: with a sentence that says what was wrong and where.
    """
    text = _decode(document)
    if not text.strip():
        raise StrictJSONError("the document is empty")
    _check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise StrictJSONError(f"{error.msg} at line {error.lineno}, column {error.colno}") from error
    except ValueError as error:  # what Python's own limit on the digits of an integer raises
        raise StrictJSONError(_TOO_MANY_DIGITS) from error
    _check_value(value)
    return value


def _decode(document: bytes | str) -> str:
    if isinstance(document, bytes):
        try:
            document = document.decode("utf-8")
        except UnicodeDecodeError as error:
            raise StrictJSONError(f"not valid UTF-8 at byte {error.start}") from error
    _check_text(document)
    return document


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _TOKENS.finditer(text):
        mark = token.group()
        if mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise StrictJSONError(f"nested deeper than {MAX_DEPTH} levels at character {token.start()}")
        elif mark in "]}":
            depth -= 1


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise StrictJSONError("a string holds a lone surrogate, which is not a character") from error


def _check_value(value: Any) -> None:
    check = _CHECKS.get(type(value))
    if check is not None:
        check(value)


def _check_list(values: list[Any]) -> None:
    """Long lists of numbers are looked at by built-in functions alone: they are what predictions bring."""
    kinds = set(map(type, values))
    if float in kinds and (math.inf in values or -math.inf in values):
        _check_float(math.inf)
    for kind in kinds & {int, str, list}:
        check = _CHECKS[kind]
        for value in values:
            if type(value) is kind:
                check(value)


def _check_float(value: float) -> None:
    if math.isinf(value):
        raise StrictJSONError("a number is too large for a double")


def _check_integer(value: int) -> None:
    if not -_TOO_LARGE < value < _TOO_LARGE:
        raise StrictJSONError(_TOO_MANY_DIGITS)


_CHECKS: dict[type, Callable[[Any], None]] = {
    str: _check_text,
    list: _check_list,
    float: _check_float,
    int: _check_integer,
}
"""What is looked at in a value, by its type; objects were checked when they were put together."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise StrictJSONError(f"the key {key[:80]!r} stands twice in one object")
        _check_text(key)
        _check_value(value)
        result[key] = value
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise StrictJSONError(f"{name} is not JSON; write null where there is no number")
