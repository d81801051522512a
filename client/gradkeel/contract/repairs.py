"""What a repair may change: everything of a finding's patch but what ``health.repair_allow`` has to name.

A repair never leaves rows or columns out, nor changes what is estimated, unless it is told that it may.
"""

from collections.abc import Collection, Iterator
from typing import Any

Json = dict[str, Any]

LEAVE: dict[str, str] = {
    "/loss": "loss",
    "/prepare/target": "target",
    "/target": "target",
    "/task": "target",
    "/columns": "columns",
    "/split": "rows",
    "/dataset_id": "rows",
}
"""Part of the config → the name in ``repair_allow`` without which a repair leaves it as it is."""

DROPPING: dict[str, tuple[str, str]] = {
    "/prepare/outliers": ("drop", "rows"),
    "/prepare/missing": ("drop_rows", "rows"),
}
"""Block → the kind that leaves rows out, and the name that allows it."""

AFFINE = frozenset({"none", "standard", "robust"})
"""Scalings of the target that move and stretch it."""

EQUIVARIANT = frozenset({"mse", "mae", "quantile"})
"""Losses whose best answer moves and stretches with the target: the mean, the median, a quantile. Huber's is
between mean and median, by how large delta is beside the target's spread."""

_SAFETY = frozenset({"/clips"})
"""What a finding's change brings along to be safe: no remedy by itself where the change itself is cut."""

_NESTED = ("prepare",)


def cut(patch: Json, allow: Collection[str]) -> tuple[Json, tuple[str, ...]]:
    """The patch without what ``allow`` does not name, and the pointers of what was left out.

    The first is empty where what is left is no remedy: nothing, or a clip beside a change that was cut.
    A loss is brought along too: without it the rest is the remedy that it was.
    """
    kept: Json = {}
    left_out = []
    for pointer, value in _parts(patch):
        if (name := _needed(pointer, value)) is not None and name not in allow:
            left_out.append(pointer)
            continue
        *above, key = pointer.split("/")[1:]
        place = kept
        for step in above:
            place = place.setdefault(step, {})
        place[key] = value
    essential = [pointer for pointer in left_out if pointer != "/loss"]
    if essential and {pointer for pointer, _ in _parts(kept)} <= _SAFETY:
        kept = {}
    return kept, tuple(left_out)


def keeps_estimand(resolved: Json, patch: Json) -> bool:
    """Whether a change of the target's scaling leaves what is estimated as it is, and so needs no leave."""
    after = (patch.get("prepare") or {}).get("target") or {}
    kinds = {resolved["prepare"]["target"]["kind"], after.get("kind")}
    return (
        kinds <= AFFINE and resolved["loss"]["kind"] in EQUIVARIANT and not {"target", "task"} & patch.keys()
    )


def leave_for(pointers: Collection[str], patch: Json) -> tuple[str, ...]:
    """The names that ``repair_allow`` would need for these parts of a patch, each once."""
    needed = [_needed(pointer, value) for pointer, value in _parts(patch) if pointer in pointers]
    return tuple(dict.fromkeys(name for name in needed if name is not None))


def _parts(patch: Json) -> Iterator[tuple[str, Any]]:
    """The blocks of a patch with their pointers; those of ``prepare`` one by one."""
    for key, value in patch.items():
        if key in _NESTED and isinstance(value, dict):
            yield from ((f"/{key}/{inner}", each) for inner, each in value.items())
        else:
            yield f"/{key}", value


def _needed(pointer: str, value: Any) -> str | None:
    if pointer in DROPPING:
        kind, name = DROPPING[pointer]
        return name if isinstance(value, dict) and value.get("kind") == kind else None
    return LEAVE.get(pointer)
