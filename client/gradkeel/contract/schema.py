"""marshmallow schemas made from the config's dataclasses, as strict as the wire needs.

marshmallow's own fields convert: ``Integer`` reads 3.7 as 3 and "１２" as 12, ``Boolean`` takes "yes",
``Float`` takes "1_0" and ``String`` takes NUL. The fields here take a JSON value of the right type or
refuse it.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from marshmallow import RAISE, Schema, ValidationError, fields, post_load

from gradkeel.contract.errors import FieldError, escape_pointer
from gradkeel.contract.options import Option, about

MAX_TEXT = 10_000


class Fault(str):
    """A validation message that also carries the code of a ``FieldError``."""

    code: str

    def __new__(cls, code: str, detail: str) -> "Fault":
        fault = super().__new__(cls, detail)
        fault.code = code
        return fault


def _wrong(expected: str, value: Any) -> ValidationError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    return ValidationError([Fault("wrong_type", f"{expected} is needed, not {shown}")])


class _Strict(fields.Field[Any]):
    """Shared by the strict fields: null is refused with this package's own words."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(error_messages={"null": "null is not allowed here"}, **kwargs)


class StrictInteger(_Strict):
    def __init__(self, declared: Option | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.declared = declared or Option(doc="")

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if type(value) is not int:
            raise _wrong("a whole number", value)
        check_bounds(value, self.declared)
        return value


class StrictFloat(_Strict):
    def __init__(self, declared: Option | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.declared = declared or Option(doc="")

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value):
            raise _wrong("a number", value)
        check_bounds(value, self.declared)
        return float(value)


class StrictBoolean(_Strict):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if type(value) is not bool:
            raise _wrong("true or false", value)
        return value


class StrictString(_Strict):
    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if type(value) is not str:
            raise _wrong("a string", value)
        if "\x00" in value:
            raise ValidationError([Fault("bad_text", "a string must not hold a NUL character")])
        if len(value) > MAX_TEXT:
            raise ValidationError([Fault("too_long", f"at most {MAX_TEXT} characters are read")])
        return value


class Choice(_Strict):
    """One of a few values; ``planned`` ones are refused with the word that they do not exist yet."""

    def __init__(self, choices: tuple[Any, ...], planned: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.choices, self.planned = choices, planned

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if type(value) is str and value in self.choices:
            return value
        raise ValidationError([unknown_name(value, self.choices, self.planned)])


class Neutral(_Strict):
    """An option whose feature is not built yet: its neutral value passes, everything else is refused."""

    def __init__(self, accepted: Any, **kwargs: Any) -> None:
        super().__init__(allow_none=True, **kwargs)
        self.accepted = accepted

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        plain = list(self.accepted) if isinstance(self.accepted, tuple) else self.accepted
        if type(value) is type(plain) and value == plain:
            return self.accepted
        raise ValidationError(
            [Fault("not_built", f"this feature is not built yet; only {json.dumps(plain)} is accepted")]
        )


class Block(_Strict):
    """A block whose ``kind`` decides which options it has."""

    def __init__(self, kinds: Mapping[str, type], planned: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kinds, self.planned = kinds, planned

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, dict):
            raise _wrong("an object with a kind", value)
        if "kind" not in value:
            raise ValidationError({"kind": [Fault("required", f"a kind is needed: {_listed(self.kinds)}")]})
        kind = value["kind"]
        if not isinstance(kind, str) or kind not in self.kinds:
            raise ValidationError({"kind": [unknown_name(kind, self.kinds, self.planned)]})
        return loader_for(self.kinds[kind]).load(value)


class Items(_Strict):
    """A list, read as a tuple."""

    def __init__(self, item: fields.Field[Any], declared: Option, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.item, self.declared = item, declared

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong("a list", value)
        least, most = self.declared.min_items or 0, self.declared.max_items or 100_000
        if not least <= len(value) <= most:
            raise ValidationError(
                [Fault("out_of_range", f"{least} to {most} items are needed, not {len(value)}")]
            )
        return tuple(_each(self.item, enumerate(value)).values())


class Named(_Strict):
    """An object from names of the user's choice to values of one type."""

    def __init__(self, item: fields.Field[Any], declared: Option, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.item, self.declared = item, declared

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong("an object", value)
        if len(value) > (self.declared.max_items or 100_000):
            raise ValidationError(
                [Fault("out_of_range", f"at most {self.declared.max_items} entries, not {len(value)}")]
            )
        for key in value:
            StrictString().deserialize(key)
        return _each(self.item, value.items())


class Either(_Strict):
    """A value that one of several fields accepts; of a list the complaint of the field that takes lists is
    shown, else the last one's."""

    def __init__(self, options: tuple[fields.Field[Any], ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options = options

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        for field in self.options[:-1]:
            try:
                return field.deserialize(value)
            except ValidationError:
                if isinstance(value, list) and field is self._of_lists():
                    raise
        return self.options[-1].deserialize(value)

    def _of_lists(self) -> fields.Field[Any] | None:
        """The last option that takes lists."""
        return next((field for field in reversed(self.options) if isinstance(field, Items)), None)


def _each(field: fields.Field[Any], entries: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    loaded: dict[Any, Any] = {}
    faults: dict[Any, Any] = {}
    for key, value in entries:
        try:
            loaded[key] = field.deserialize(value)
        except ValidationError as error:
            faults[key] = error.messages
    if faults:
        raise ValidationError(faults)
    return loaded


def check_bounds(value: float, declared: Option) -> None:
    """Raise a ``ValidationError`` that names the whole range when the value lies outside."""
    inside = (
        (declared.minimum is None or value >= declared.minimum)
        and (declared.maximum is None or value <= declared.maximum)
        and (declared.above is None or value > declared.above)
        and (declared.below is None or value < declared.below)
    )
    if not inside:
        shown = repr(value) if len(repr(value)) <= 40 else f"{float(value):.3g}"
        raise ValidationError([Fault("out_of_range", f"must be {bounds(declared)}, not {shown}")])


def bounds(declared: Option) -> str:
    """The range in words, e.g. ``at least 1 and at most 8192``; empty where there is none."""
    words = {
        "at least": declared.minimum,
        "greater than": declared.above,
        "at most": declared.maximum,
        "less than": declared.below,
    }
    return " and ".join(f"{word} {_number(limit)}" for word, limit in words.items() if limit is not None)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e12 else f"{value:g}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def unknown_name(given: Any, valid: Iterable[str], planned: tuple[str, ...] = ()) -> Fault:
    """The complaint about a name outside a table: what is valid, and what was perhaps meant."""
    names = list(valid)
    shown = str(given)[:60]
    if given in planned:
        return Fault("not_built", f"{shown!r} is not built yet; valid now: {_listed(names)}")
    near = difflib.get_close_matches(shown, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return Fault(
        "unknown_kind", f"{shown!r} is not known{hint} Valid: {_listed(names)}".replace("known V", "known. V")
    )


class _DataclassSchema(Schema):
    """Loads into the dataclass it was made from."""

    class Meta:
        unknown = RAISE

    made_from: type

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **kwargs: Any) -> None:
        if not isinstance(data, dict) or not isinstance(error.messages, dict):
            raise ValidationError([Fault("wrong_type", "an object is needed")])
        for key in set(data) - set(self.fields):
            error.messages[key] = [_unknown_field(key, self.fields)]
        raise error

    @post_load
    def build(self, data: dict[str, Any], **kwargs: Any) -> Any:
        return self.made_from(**data)


def _unknown_field(key: str, known: Iterable[str]) -> Fault:
    names = list(known)
    near = difflib.get_close_matches(str(key), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return Fault("unknown_field", f"there is no such option here; {hint}Valid: {_listed(names)}")


@cache
def schema_for(cls: type) -> type[Schema]:
    """The strict marshmallow schema of a config dataclass; loading gives an instance of it.

    Options that are not given take the dataclass's defaults.
    """
    hints = typing.get_type_hints(cls)
    members: dict[str, Any] = {
        field.name: _field_for(hints[field.name], about(field)) for field in dataclasses.fields(cls)
    }
    members["made_from"] = cls
    return type(f"{cls.__name__}Schema", (_DataclassSchema,), members)


@cache
def loader_for(cls: type) -> Schema:
    """One instance of ``schema_for(cls)`` for all: making one costs more than loading with it."""
    return schema_for(cls)()


def _field_for(hint: Any, declared: Option) -> fields.Field[Any]:
    if declared.neutral is not None:
        return Neutral(declared.neutral[0])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return Items(_item_field(arguments[0], declared), declared)
    if origin in (dict, Mapping) or hint is dict or origin is typing.get_origin(Mapping[str, str]):
        return Named(_item_field(arguments[1], declared), declared)
    if declared.kinds is not None:
        return Block(declared.kinds, declared.planned)
    if origin in (types.UnionType, typing.Union):
        return _union_field(arguments, declared)
    return _plain_field(hint, declared)


def _item_field(hint: Any, declared: Option) -> fields.Field[Any]:
    without_length = dataclasses.replace(declared, min_items=None, max_items=None)
    return _field_for(hint, without_length)


def _union_field(arguments: tuple[Any, ...], declared: Option) -> fields.Field[Any]:
    solid = [argument for argument in arguments if argument is not types.NoneType]
    field = (
        _field_for(solid[0], declared)
        if len(solid) == 1
        else Either(tuple(_field_for(argument, declared) for argument in solid))
    )
    field.allow_none = types.NoneType in arguments
    return field


def _plain_field(hint: Any, declared: Option) -> fields.Field[Any]:
    if get_origin(hint) is Literal:
        return Choice(get_args(hint), declared.planned)
    if dataclasses.is_dataclass(hint):
        return fields.Nested(loader_for(typing.cast(type, hint)))
    plain = {int: StrictInteger, float: StrictFloat}
    if hint in plain:
        return plain[hint](declared)
    return {bool: StrictBoolean, str: StrictString}[hint]()


def field_errors(messages: Any, pointer: str = "") -> Iterator[FieldError]:
    """marshmallow's nested messages as a flat list with JSON pointers."""
    if isinstance(messages, dict):
        for key, below in messages.items():
            step = "" if key == "_schema" else "/" + escape_pointer(str(key))
            yield from field_errors(below, pointer + step)
    else:
        for message in messages if isinstance(messages, list) else [messages]:
            if isinstance(message, dict):
                yield from field_errors(message, pointer)
            else:
                yield FieldError(pointer, getattr(message, "code", "invalid"), str(message))
