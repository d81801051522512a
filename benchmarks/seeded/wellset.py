"""Healthy runs: the presets, and configs drawn from what people commonly choose."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from contest.sets import PART, REGRESSION, SETS
from seeded.kinds import ADAMW, SGD, Run, healthy
from seeded.tables import BINARY, OWN, TARGET, Source, Table, public

Json = dict[str, Any]

ROWS = 800
MULTICLASS = "multiclass"
LEARNING_RATES: dict[str, tuple[float, ...]] = {
    "sgd": (0.02, 0.05),
    "adam": (1e-3, 3e-3),
    "adamw": (1e-3, 3e-3),
    "nadam": (1e-3,),
    "radam": (1e-3, 3e-3),
    "rmsprop": (1e-3,),
    "adagrad": (0.01, 0.03),
}

CLIPS: tuple[list[Json], ...] = ([], [{"kind": "norm", "max_norm": 1.0}], [{"kind": "norm", "max_norm": 5.0}])


@lru_cache(maxsize=2)
def loaded(folder: Path | None, name: str, seed: int) -> Table:
    """A set by its name."""
    own = next((one for one in OWN if one.name == name), None)
    if own is not None:
        return own.load(folder, seed)
    assert folder is not None
    return public(folder, next(one for one in SETS if one.name == name), ROWS, seed)


def names(folder: Path | None) -> list[str]:
    """The sets that healthy runs are made on."""
    own = [one.name for one in OWN if one.task != "forecast"]
    return own if folder is None else [*own, *(one.name for one in SETS)]


def source_of(name: str) -> Source:
    """The set as a source, its task told by its target."""
    task = next(one.task for one in (*OWN, *SETS) if one.name == name)
    return Source(name, task, True, lambda folder, seed: loaded(folder, name, seed))


def _task(table: Table, task: str) -> str:
    if task in (REGRESSION, BINARY):
        return task
    return BINARY if table[TARGET].nunique() == 2 else MULTICLASS


def _preset(preset: str, epochs: int | None = None) -> Callable[[Table, str, int], Run]:
    def run(table: Table, task: str, seed: int) -> Run:
        config: Json = {
            "target": TARGET,
            "task": task,
            "preset": preset,
            "split": {"kind": "column", "column": PART},
            "budget": {"max_seconds": None},
            "seed": seed,
            "device": "cpu",
        }
        if epochs is not None:
            config["budget"]["epochs"] = epochs
        return Run(table, config, task, preset, seed)

    return run


def _twin(optimizer: str) -> Callable[[Table, str, int], Run]:
    return lambda table, task, seed: healthy(table, task, optimizer, seed)


def _drawn(offset: int) -> Callable[[Table, str, int], Run]:
    """A config drawn at random, its parts chosen to go together."""

    def run(table: Table, task: str, seed: int) -> Run:
        random = np.random.default_rng([seed, offset])
        config = healthy(table, task, SGD, seed).config | {
            "model": _model(random),
            "optimizer": _optimizer(random),
            "schedule": _one(random, ({"kind": "constant"}, {"kind": "cosine", "warmup_steps": 20})),
            "clips": _one(
                random, ([], [{"kind": "norm", "max_norm": 1.0}], [{"kind": "norm", "max_norm": 5.0}])
            ),
            "budget": {"batch_size": _one(random, (32, 64, 128)), "epochs": 60, "patience": 12},
            "prepare": {"numeric": {"kind": _one(random, ("standard", "robust", "quantile", "power"))}},
        }
        if task == REGRESSION:
            config |= {"loss": {"kind": _one(random, ("huber", "mse", "mae", "log_cosh", "smooth_l1"))}}
        return Run(table, config, task, str(config["optimizer"]["kind"]), seed)

    return run


def _one(random: np.random.Generator, choices: tuple[Any, ...]) -> Any:
    return choices[int(random.integers(len(choices)))]


def _model(random: np.random.Generator) -> Json:
    activation = _one(random, ("relu", "gelu", "silu", "leaky_relu", "elu", "tanh"))
    return {
        "kind": "mlp",
        "widths": [_one(random, (32, 64, 128))] * int(random.integers(1, 4)),
        "activation": activation,
        "init": {"kind": "glorot" if activation == "tanh" else _one(random, ("he", "default"))},
        "norm": _one(random, ("none", "none", "batch", "layer")),
        "dropout": _one(random, (0.0, 0.0, 0.1, 0.2)),
    }


def _optimizer(random: np.random.Generator) -> Json:
    kind = _one(random, tuple(LEARNING_RATES))
    lr = _one(random, LEARNING_RATES[kind])
    if kind == "sgd" and random.integers(2):
        return {"kind": kind, "lr": lr / 5, "momentum": 0.9, "nesterov": bool(random.integers(2))}
    return {"kind": kind, "lr": lr}


SETTINGS: dict[str, Callable[[Table, str, int], Run]] = {
    "healthy: custom, sgd": _twin(SGD),
    "healthy: custom, adamw": _twin(ADAMW),
    "healthy: fast": _preset("fast"),
    **{f"healthy: drawn {i}": _drawn(i) for i in range(8)},
    "healthy: standard": _preset("standard"),
    "healthy: best, 20 epochs": _preset("best", 20),
}
SLOW = ("healthy: standard", "healthy: best, 20 epochs")
"""Settings that are tried with one seed only."""


def well_set(folder: Path | None, name: str, setting: str, seed: int) -> Run:
    """The healthy run of a set in a setting."""
    table = loaded(folder, name, seed)
    return SETTINGS[setting](table, _task(table, source_of(name).task), seed)
