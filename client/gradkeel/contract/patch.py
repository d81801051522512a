"""JSON merge patches (RFC 7396): how a finding says which change of the config mends it.

A patch is made against the config *as submitted*; merged there, it gives a config that ``POST /jobs``
accepts.
"""

import copy
from collections.abc import Sequence
from typing import Any

from gradkeel.contract.errors import escape_pointer, unescape_pointer

Json = dict[str, Any]


def merge_patch(document: Any, patch: Any) -> Any:
    """Apply ``patch`` to ``document`` by RFC 7396 and return the result; neither argument is changed."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def set_value(path: Sequence[str], value: Any) -> Json:
    """A patch that sets the value at ``path``, e.g. ``("optimizer", "lr")``."""
    for key in reversed(path):
        value = {key: value}
    if not isinstance(value, dict):
        raise ValueError("a path of at least one key is needed")
    return value


def replace_block(submitted: Json, path: Sequence[str], block: Json) -> Json:
    """A patch that puts ``block`` (with its ``kind``) at ``path`` and removes what else stood there."""
    held = submitted
    for key in path:
        held = held.get(key, {}) if isinstance(held, dict) else {}
    stale = dict.fromkeys(held, None) if isinstance(held, dict) else {}
    return set_value(path, stale | copy.deepcopy(block))


def combine(*patches: Json) -> Json:
    """One patch with the effect of all, applied in order; removals are kept."""
    result: Json = {}
    for patch in patches:
        _fold(result, patch)
    return result


def difference(before: Any, after: Any) -> Json:
    """The patch that turns ``before`` into ``after``; what is null in both stays as it is.

    An object of ``after`` where ``before`` has none comes without its nulls, as every merge patch has it.
    """
    gone: Json = {key: None for key in before if key not in after}
    changed: Json = {}
    for key, value in after.items():
        held = before.get(key)
        if isinstance(value, dict) and isinstance(held, dict):
            if inner := difference(held, value):
                changed[key] = inner
        elif key not in before or held != value or type(held) is not type(value):
            changed[key] = copy.deepcopy(value)
    return gone | changed


def changes(patch: Json) -> dict[str, Any]:
    """What a patch sets, by JSON pointer: objects without a kind key by key, others whole; null removes."""
    found: dict[str, Any] = {}
    for key, value in patch.items():
        pointer = f"/{escape_pointer(key)}"
        if isinstance(value, dict) and "kind" not in value and value:
            found |= {pointer + below: each for below, each in changes(value).items()}
        else:
            found[pointer] = value
    return found


def dotted(pointer: str) -> str:
    """An option's pointer as people write it: ``optimizer.lr``."""
    return ".".join(unescape_pointer(token) for token in pointer.split("/")[1:])


def _fold(into: Json, patch: Json) -> None:
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _fold(into[key], value)
        else:
            into[key] = copy.deepcopy(value)
