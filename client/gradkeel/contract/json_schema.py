"""JSON Schema (draft 2020-12) of the training config, made from the same declarations as its validation.

Served at ``/v1/schemas/config.json`` and used inside the OpenAPI document.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.options import MISSING, Option, about
from gradkeel.contract.resolve import to_json

Json = dict[str, Any]

_PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string"}
_LIMITS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
}


def config_components() -> dict[str, Json]:
    """The config and its blocks as named schemas; they refer to one another by ``#/components/schemas/``."""
    components: dict[str, Json] = {}
    _collect(TrainConfig, components)
    return components


def config_schema() -> Json:
    """The config's schema as one document of its own."""
    components = config_components()
    whole = components.pop("TrainConfig")
    document: Json = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Gradkeel training config",
        **whole,
        "$defs": components,
    }
    document["required"] = ["target"]
    return typing.cast(Json, _with_definitions(document))


def _with_definitions(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _with_definitions(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_definitions(item) for item in node]
    return node.replace("#/components/schemas/", "#/$defs/") if isinstance(node, str) else node


def _collect(cls: type, components: dict[str, Json]) -> Json:
    if cls.__name__ not in components:
        components[cls.__name__] = {}
        hints = typing.get_type_hints(cls)
        components[cls.__name__] = {
            "type": "object",
            "description": (cls.__doc__ or "").strip(),
            "additionalProperties": False,
            "properties": {
                field.name: _property(hints[field.name], field, components)
                for field in dataclasses.fields(cls)
            },
        }
    return {"$ref": f"#/components/schemas/{cls.__name__}"}


def _property(hint: Any, field: "dataclasses.Field[Any]", components: dict[str, Json]) -> Json:
    declared = about(field)
    schema = dict(_type_schema(hint, declared, components))
    if field.name == "kind":
        return {"const": get_args(hint)[0]}
    unit = f" Unit: {declared.unit}." if declared.unit else ""
    schema["description"] = declared.doc + unit
    default = field.default if field.default is not MISSING else None
    if field.default is not MISSING and not dataclasses.is_dataclass(default):
        schema["default"] = to_json(default)
    return schema


def _type_schema(hint: Any, declared: Option, components: dict[str, Json]) -> Json:
    if declared.neutral is not None:
        return {"enum": [to_json(value) for value in declared.neutral]}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        limits = {"minItems": declared.min_items, "maxItems": declared.max_items}
        items = _type_schema(arguments[0], declared, components)
        return {"type": "array", "items": items} | {k: v for k, v in limits.items() if v is not None}
    if origin is get_origin(Mapping[str, str]):
        values = _type_schema(arguments[1], declared, components)
        return {"type": "object", "additionalProperties": values}
    if declared.kinds is not None:
        return _block(declared.kinds, components)
    if origin in (types.UnionType, typing.Union):
        return _union(arguments, declared, components)
    return _plain(hint, declared, components)


def _block(kinds: Mapping[str, type], components: dict[str, Json]) -> Json:
    references = {kind: _collect(cls, components) for kind, cls in kinds.items()}
    return {
        "type": "object",
        "properties": {"kind": {"enum": list(kinds)}},
        "anyOf": list(references.values()),
        "discriminator": {
            "propertyName": "kind",
            "mapping": {kind: reference["$ref"] for kind, reference in references.items()},
        },
    }


def _union(arguments: tuple[Any, ...], declared: Option, components: dict[str, Json]) -> Json:
    solid = [argument for argument in arguments if argument is not types.NoneType]
    schemas = [_type_schema(argument, declared, components) for argument in solid]
    if types.NoneType in arguments:
        schemas.append({"type": "null"})
    return {"anyOf": schemas}


def _plain(hint: Any, declared: Option, components: dict[str, Json]) -> Json:
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if dataclasses.is_dataclass(hint):
        return _collect(typing.cast(type, hint), components)
    schema: Json = {"type": _PLAIN[hint]}
    if hint in (int, float):
        limits = {word: getattr(declared, name) for name, word in _LIMITS.items()}
        schema |= {word: limit for word, limit in limits.items() if limit is not None}
    return schema
