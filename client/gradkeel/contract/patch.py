"""JSON merge patches (RFC 7396): how a finding says which change of the config mends it.

A patch is made against the config *as submitted*; merged there, it gives a config that ``POST /jobs``
accepts.
"""

import copy
from collections.abc import Sequence
from typing import Any

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


def _fold(into: Json, patch: Json) -> None:
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _fold(into[key], value)
        else:
            into[key] = copy.deepcopy(value)
