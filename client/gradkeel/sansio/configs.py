"""Training configs on the client's side: merging what the caller gave, applying a report's patch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gradkeel.contract.errors import unescape_pointer
from gradkeel.contract.patch import changes, dotted, merge_patch

Json = dict[str, Any]


def patched_config(job: Mapping[str, Any], patch: Mapping[str, Any]) -> Json:
    """A job's submitted config with a report's patch merged in.

    A job document without ``submitted`` falls back to its resolved ``config``; there, a block that the patch
    gives another ``kind`` is replaced, since the resolved block holds keys that the patch could not know of.
    """
    submitted = job.get("submitted")
    if submitted is not None:
        merged: Json = merge_patch(dict(submitted), dict(patch))
        return merged
    return _merge_kinds(dict(job["config"]), patch)


def _merge_kinds(document: Json, patch: Mapping[str, Any]) -> Json:
    result = dict(document)
    for key, value in patch.items():
        held = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(held, Mapping) and not _another_kind(held, value):
            result[key] = _merge_kinds(dict(held), value)
        else:
            result[key] = merge_patch({}, value)
    return result


def _another_kind(held: Mapping[str, Any], patch: Mapping[str, Any]) -> bool:
    return "kind" in patch and patch["kind"] != held.get("kind")


def change_lines(config: Mapping[str, Any], patch: Mapping[str, Any]) -> list[str]:
    """What a patch changes of a resolved config, a line an option: ``optimizer.lr: 10 → 0.01``."""
    lines = []
    for pointer, value in changes(dict(patch)).items():
        held: Any = config
        for key in pointer[1:].split("/"):
            held = held.get(unescape_pointer(key)) if isinstance(held, Mapping) else None
        given = {k: v for k, v in value.items() if v is not None} if isinstance(value, Mapping) else value
        after = "as the preset has it" if value is None else json.dumps(given, ensure_ascii=False)
        before = "nothing" if held is None else json.dumps(held, ensure_ascii=False)
        lines.append(f"{dotted(pointer)}: {before} → {after}")
    return lines


def overlaid(config: Mapping[str, Any] | None, given: Mapping[str, Any]) -> Json:
    """A config with the given top-level keys set; those that are None leave it alone."""
    return {**(config or {}), **{key: value for key, value in given.items() if value is not None}}
