"""How an option of the config is declared: once, beside its name, with meaning, unit, default and range.

From these declarations come the marshmallow schemas, the OpenAPI document and docs/config.md.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MISSING = dataclasses.MISSING


@dataclass(frozen=True)
class Option:
    """What is said of one option besides its type and default.

    ``above``/``below`` are exclusive bounds, ``minimum``/``maximum`` inclusive ones; for tuples they bound
    each item and ``min_items``/``max_items`` the length. ``kinds`` is the table of a polymorphic block;
    ``planned`` names kinds or choices that do not exist yet. ``neutral`` marks a feature that is
    not built yet: the only value that is accepted.
    """

    doc: str
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[Any, ...] | None = None
    min_items: int | None = None
    max_items: int | None = None
    kinds: Mapping[str, type] | None = None
    planned: tuple[str, ...] = ()
    neutral: tuple[Any, ...] | None = None


def option(default: Any = MISSING, *, factory: Any = MISSING, **about: Any) -> Any:
    """Declare a field of a config dataclass. Keywords are the fields of ``Option``."""
    metadata = {"option": Option(**about)}
    if factory is not MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def about(field: "dataclasses.Field[Any]") -> Option:
    """The declaration of a config dataclass's field; ``kind`` fields have none of their own."""
    declared = field.metadata.get("option")
    return declared if isinstance(declared, Option) else Option(doc="Names the kind of this block.")
