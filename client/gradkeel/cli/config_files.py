"""Training configs in files: JSON, YAML or TOML."""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from gradkeel.contract.errors import StrictJSONError
from gradkeel.contract.strict_json import loads

Json = dict[str, Any]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with the scalars of version 1.2: ``1e-3`` is a number; ``yes``, ``off`` and dates are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (yaml's own way to declare them)
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if not tag.endswith((":bool", ":float", ":timestamp"))
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names = [key.value for key, _ in node.value]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {min(twice)!r} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


_NUMBER = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), ["t", "f"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def _toml(text: str) -> Any:
    return _texted(tomllib.loads(text))


def _texted(value: Any) -> Any:
    """The value with its dates and times as ISO 8601 text: JSON has none of its own."""
    if isinstance(value, dict):
        return {key: _texted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texted(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value


READERS: dict[str, Callable[[str], Any]] = {
    ".json": loads,
    ".yaml": _yaml,
    ".yml": _yaml,
    ".toml": _toml,
}


def read_config(path: Path) -> Json:
    """The config in a file, by its ending. Raises ValueError saying what is wrong and where."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: the ending must be one of {', '.join(READERS)}")
    try:
        document = reader(path.read_text("utf-8"))
    except (StrictJSONError, yaml.YAMLError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path}: a config is an object of keys and values")
    return document
