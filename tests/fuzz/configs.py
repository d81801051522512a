"""Fuzzing the way of a training config: strict JSON, its preset, the checks against the data, patches.

An input is a config as text; a zero byte may part it from a patch, as findings of reports carry them.
"""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import atheris
from harness import run

with atheris.instrument_imports(include=["gradkeel.contract"]):
    from gradkeel.contract import config as c
    from gradkeel.contract import strict_json
    from gradkeel.contract.errors import ConfigError, FieldError, StrictJSONError
    from gradkeel.contract.patch import merge_patch
    from gradkeel.contract.presets import Shape
    from gradkeel.contract.resolve import check_data, feature_columns, resolve, to_json

LONGEST = 4096
SHAPES = (None, Shape(40, 1, 1), Shape(200_000, 30, 5))
PROFILE: dict[str, Any] = {
    "rows": 2000,
    "columns": [
        {"name": "rooms", "type": "numeric", "missing": 0, "distinct": 7},
        {"name": "zone", "type": "categorical", "missing": 3, "distinct": 2, "top": [["A", 20], ["B", 17]]},
        {"name": "price", "type": "numeric", "missing": 0, "distinct": 2000},
        {"name": "day", "type": "datetime", "missing": 0, "distinct": 2000},
    ],
}

CONFIGS: tuple[dict[str, Any], ...] = (
    {"target": "price"},
    {"target": "zone", "preset": "fast", "task": "binary", "labels": {"a": "b"}},
    {"target": "price", "preset": "custom", "optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.9}},
    {"target": "price", "model": {"kind": "mlp", "widths": [8, 8], "activation": "relu", "norm": "layer"}},
    {
        "target": "price",
        "model": {"kind": "sequential", "layers": [{"kind": "linear", "units": 4}, {"kind": "relu"}]},
    },
    {
        "target": "price",
        "split": {"kind": "ordered", "column": "day", "validation": 0.2, "test": 0.2},
        "columns": {"include": ["rooms", "zone"], "exclude": [], "types": {"rooms": "numeric"}},
    },
    {"target": "price", "split": {"kind": "column", "column": "zone", "train": ["A"], "validation": ["B"]}},
    {
        "target": "price",
        "prepare": {"numeric": {"kind": "robust"}, "missing": {"kind": "constant", "value": 0}},
        "clips": [{"kind": "norm", "max_norm": 1.0}, {"kind": "value", "max_value": 2}],
        "guards": [{"kind": "skip_nonfinite"}],
    },
    {"target": "price", "loss": {"kind": "huber", "delta": 1.5}, "schedule": {"kind": "cosine"}},
    {"target": "price", "budget": {"epochs": 3, "batch_size": 8, "patience": 2}, "seed": 7, "device": "cpu"},
)
PATCHES = (
    b'{"optimizer": {"lr": 0.001}}',
    b'{"clips": null, "loss": {"kind": "mae", "delta": null}}',
    b"[1]",
)

BLOCKS = [cls for cls in vars(c).values() if isinstance(cls, type) and dataclasses.is_dataclass(cls)]
OPTIONS = {field.name for cls in BLOCKS for field in dataclasses.fields(cls)}
KEYS = sorted(OPTIONS | {"kind", "rooms", "zone", "day", "*", "", "é/~"})
KINDS = sorted({str(kind) for cls in BLOCKS if (kind := getattr(cls, "kind", None)) is not None})
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 64, 1e9, 2**53, 2**64, 0.1, 0.5, 0.999, 1.0, -0.0, 1e-300, 1e308),
    *(
        "",
        "price",
        "rooms",
        "zone",
        "day",
        "numeric",
        "categorical",
        "cpu",
        "cuda",
        "auto",
        "relu",
        "１",
        "\n",
    ),
    *({}, [], [8, 8], ["rooms"], [[]], {"a": "b"}, {"*": ["NA"]}, {"rooms": {"kind": "robust"}}),
)


def seeds() -> list[bytes]:
    plain = [json.dumps(config).encode() for config in CONFIGS]
    patched = [plain[index] + b"\0" + patch for index, patch in enumerate(PATCHES)]
    return [
        *plain,
        *patched,
        b'{"target": "a", "target": "b"}',
        b'{"seed": 1e999}',
        b"[[[[]]]]",
        b'"\\ud800"',
    ]


def target(data: bytes) -> None:
    document, _, patch = data.partition(b"\0")
    submitted = read(document)
    shape = SHAPES[len(data) % len(SHAPES)]
    submit(submitted, shape)
    if patch:
        merged = merge_patch(submitted, change := read(patch))
        assert merge_patch(merged, change) == merged or _has_null(change), "a patch changes something twice"
        submit(merged, shape)


def read(document: bytes) -> Any:
    """The JSON value; None for what is refused. What is read can be written, and comes back the same."""
    try:
        value = strict_json.loads(document)
    except StrictJSONError as error:
        assert error.detail
        return None
    assert strict_json.loads(json.dumps(value, allow_nan=False)) == value
    return value


def submit(submitted: Any, shape: Shape | None) -> None:
    try:
        config = resolve(submitted, shape)
    except ConfigError as error:
        check_faults(error.errors)
        return
    text = json.dumps(to_json(config), allow_nan=False)
    assert resolve(strict_json.loads(text), shape) == config, "a resolved config resolves to another"
    on_data(config)


def on_data(config: c.TrainConfig) -> None:
    faults = check_data(config, PROFILE)
    if faults:
        check_faults(faults)
        return
    features = feature_columns(config, PROFILE)
    assert features and config.target not in features, features


def check_faults(errors: Any) -> None:
    """Every fault has a place, a code and words, and a problem document can carry it."""
    assert errors
    for error in errors:
        assert isinstance(error, FieldError) and error.code and error.detail, error
        assert error.pointer is not None and (not error.pointer or error.pointer.startswith("/")), error
        json.dumps(error.to_json(), allow_nan=False, ensure_ascii=False).encode()


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    """Another config: one place of the document changed as JSON, or bytes changed as bytes."""
    dice = random.Random(seed)
    document, _, patch = data.partition(b"\0")
    value = read(document)
    if value is None or dice.random() < 0.3:
        return atheris.Mutate(data, longest)
    for _ in range(dice.randint(1, 3)):
        value = _changed(value, dice)
    if dice.random() < 0.2:
        patch = json.dumps(_changed({}, dice)).encode()
    text = json.dumps(value).encode() + (b"\0" + patch if patch else b"")
    return text if len(text) <= longest else data


def _changed(value: Any, dice: random.Random) -> Any:
    """``value`` with one place of it put in, taken out or replaced."""
    if isinstance(value, dict) and value and dice.random() < 0.8:
        key = dice.choice(list(value))
        return value | {key: _changed(value[key], dice)}
    if isinstance(value, list) and value and dice.random() < 0.8:
        index = dice.randrange(len(value))
        return [*value[:index], _changed(value[index], dice), *value[index + dice.randint(0, 1) :]]
    if isinstance(value, dict):
        left_out = dice.choice(list(value)) if value and dice.random() < 0.3 else None
        kept = {key: item for key, item in value.items() if key != left_out}
        return kept | {dice.choice(KEYS): _any_value(dice)}
    if isinstance(value, list) and dice.random() < 0.7:
        return [*value, _any_value(dice)]
    return _any_value(dice)


def _any_value(dice: random.Random) -> Any:
    if dice.random() < 0.4:
        return {"kind": dice.choice(KINDS)}
    return dice.choice(VALUES)


def _has_null(change: Any) -> bool:
    """Applied twice, a patch does the same, but for a null inside of an object that it makes anew."""
    if isinstance(change, dict):
        return any(value is None or _has_null(value) for value in change.values())
    return False


if __name__ == "__main__":
    run(target, seeds(), LONGEST, mutate)
