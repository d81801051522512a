"""For every rule of the diagnosis: a job on which it speaks, one that just does not go far enough, on small
tables, with sgd and with adamw. A healthy job serves all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradkeel.contract.patch import merge_patch

Json = dict[str, Any]
Columns = dict[str, Any]

OPTIMIZERS: dict[str, Json] = {
    "sgd": {"kind": "sgd", "lr": 0.02, "momentum": 0.9},
    "adamw": {"kind": "adamw", "lr": 0.01},
}
BASE: Json = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [16]},
    "budget": {"epochs": 24, "batch_size": 32, "patience": 0},
    "split": {"kind": "random", "validation": 0.2, "test": 0.2},
    "health": {"gradient_check": False},
    "device": "cpu",
}


@dataclass(frozen=True)
class Job:
    """A table by its name in TABLES, and what differs from BASE; ``by``: more of it for one optimizer."""

    table: str = "plain"
    patch: Json = field(default_factory=dict)
    by: Mapping[str, Json] = field(default_factory=dict)

    def config(self, optimizer: str) -> Json:
        given = merge_patch(BASE, {"optimizer": OPTIMIZERS[optimizer]})
        return merge_patch(merge_patch(given, self.patch), self.by.get(optimizer, {}))


@dataclass(frozen=True)
class Case:
    """``fires``: the rule speaks; None where no config and no table can bring that about. ``near``: the same
    to a lesser degree, and it does not.
    """

    fires: Job | None
    near: Job


def each(sgd: Json, adamw: Json) -> dict[str, Json]:
    return {"sgd": sgd, "adamw": adamw}


# ------------------------------------------------------------------------------------------------- the tables


def plain(rows: int = 300, seed: int = 0, noise: float = 0.15) -> Columns:
    """Three columns and a smooth, bent target that no line tells."""
    rng = np.random.default_rng(seed)
    a, b, c = (rng.uniform(-1.7, 1.7, rows) for _ in range(3))
    return {"a": a, "b": b, "c": c, "y": a * b + 0.5 * a**2 + 0.3 * c + noise * rng.normal(size=rows)}


def sloped() -> Columns:
    rng = np.random.default_rng(5)
    a, b, c = rng.normal(size=(3, 300))
    return {"a": a, "b": b, "c": c, "y": 2 * a - b + c + 0.5 * rng.normal(size=300)}


def with_hole() -> Columns:
    """Four cells are empty, of training rows among others."""
    columns = plain()
    return columns | {"a": [None if i in (3, 40, 90, 200) else v for i, v in enumerate(columns["a"])]}


def with_(name: str, change: Callable[[Any, np.random.Generator], Any], **more: Any) -> Columns:
    columns = plain(**more)
    return columns | {name: change(columns[name], np.random.default_rng(1))}


def far_off(values: Any, rng: np.random.Generator, factor: float) -> Any:
    changed = values.copy()
    changed[rng.choice(len(changed), 6, replace=False)] *= factor
    return changed


def leaked(noise: float) -> Columns:
    columns = plain()
    spread = np.random.default_rng(2).normal(size=len(columns["y"]))
    return columns | {"told": 3 * columns["y"] + 7 + noise * spread}


def inflated(zeros: float) -> Columns:
    """Targets of which a share is 0, the others with a tail to the right; or a symmetric target."""
    columns, rng = plain(), np.random.default_rng(3)
    if not zeros:
        return columns
    tail = np.exp(0.4 * columns["y"] + 0.2 * rng.normal(size=len(columns["y"])))
    return columns | {"y": np.where(rng.random(len(tail)) < zeros, 0.0, tail)}


def wide(rows: int) -> Columns:
    """Twenty columns of noise beside the three."""
    columns, rng = plain(rows, noise=0.5), np.random.default_rng(4)
    return columns | {f"n{i}": rng.normal(size=rows) for i in range(20)}


def one_odd_target(size: float) -> Columns:
    columns = plain(900)
    columns["y"][1] = size
    return columns


def repeated(rows: int) -> Columns:
    columns = plain()
    return {name: np.concatenate([v, v[:rows]]) for name, v in columns.items()}


TABLES: dict[str, Callable[[], Columns]] = {
    "plain": plain,
    "with_hole": with_hole,
    "a × 1000": lambda: with_("a", lambda v, rng: 1000 * v),
    "a × 5": lambda: with_("a", lambda v, rng: 5 * v),
    "y × 1000": lambda: with_("y", lambda v, rng: 1000 * v + 3000),
    "y × 3": lambda: with_("y", lambda v, rng: 3 * v),
    "far off": lambda: with_("a", lambda v, rng: far_off(v, rng, 1000)),
    "a little off": lambda: with_("a", lambda v, rng: far_off(v, rng, 2)),
    "sloped": sloped,
    "shuffled": lambda: with_("y", lambda v, rng: rng.permutation(v)),
    "weak": lambda: plain(noise=0.9),
    "told": lambda: leaked(0.0),
    "hinted": lambda: leaked(1.0),
    "mostly 0": lambda: inflated(0.6),
    "small": lambda: wide(90),
    "odd target": lambda: one_odd_target(60.0),
    "odder": lambda: one_odd_target(1.5),
    "repeated": lambda: repeated(80),
    "repeated once": lambda: repeated(4),
    "constant": lambda: plain() | {"k": np.ones(300)},
    "nearly constant": lambda: plain() | {"k": np.r_[np.ones(270), np.full(30, 2.0)]},
}

# -------------------------------------------------------------------------------------------------- the cases

RAW = {"prepare": {"numeric": {"kind": "none"}}, "clips": [], "loss": {"kind": "mse"}}
NO_TARGET = {"prepare": {"target": {"kind": "none"}}}
OPEN = {"clips": [], "loss": {"kind": "mse"}}
DEEP = {"widths": [16] * 10, "activation": "sigmoid"}
FULL = {"health": {"tier": "full"}}
WHOLE = {**OPEN, "model": {"kind": "linear", "widths": None}, "budget": {"batch_size": 180, "epochs": 48}}
"""A line through all rows at once: what swings, swings by the optimizer alone."""

HEALTHY = Job()
CASES: dict[str, Case] = {
    "non_finite": Case(
        fires=Job("with_hole", {"prepare": {"missing": {"kind": "propagate"}}}),
        near=Job("with_hole"),
    ),
    "exploding_gradient": Case(
        fires=Job("a × 1000", RAW, each({}, {"optimizer": {"lr": 10.0}})),
        near=Job("a × 5", RAW, each({"optimizer": {"lr": 0.002}}, {})),
    ),
    "vanishing_gradient": Case(
        fires=Job(patch={"model": DEEP}),
        near=Job(patch={"model": {"widths": [16] * 3, "activation": "sigmoid"}}),
    ),
    "dead_units": Case(
        fires=Job(patch={"model": {"bias_init": -10.0}}),
        near=Job(patch={"model": {"bias_init": -0.5}}),
    ),
    "saturated_activation": Case(
        fires=Job(patch={"model": {"activation": "tanh", "init": {"kind": "normal", "std": 20.0}}}),
        near=Job(patch={"model": {"activation": "tanh", "init": {"kind": "normal", "std": 1.0}}}),
    ),
    "clipping_dominates": Case(
        fires=Job(patch={"clips": [{"kind": "norm", "max_norm": 1e-3}]}),
        near=Job(patch={"clips": [{"kind": "percentile", "p": 85.0}]}),
    ),
    "lr_too_high": Case(
        fires=Job(patch={}, by=each({"optimizer": {"lr": 5.0}}, {"optimizer": {"lr": 5.0}})),
        near=Job(patch={}, by=each({"optimizer": {"lr": 0.1}}, {"optimizer": {"lr": 0.05}})),
    ),
    "lr_too_low": Case(
        fires=Job(patch={"optimizer": {"lr": 1e-7}}),
        near=Job(patch={"optimizer": {"lr": 1e-3}}),
    ),
    "gradient_mismatch": Case(
        fires=None,
        near=Job(patch={"health": {"gradient_check": True}}),
    ),
    "poor_initialisation": Case(
        fires=Job(patch={"model": {"init": {"kind": "normal", "std": 5.0}}}),
        near=Job(patch={"model": {"init": {"kind": "normal", "std": 0.5}}}),
    ),
    "spike": Case(
        fires=Job("odd target", {**OPEN, "budget": {"batch_size": 4, "epochs": 2}}),
        near=Job("odder", {**OPEN, "budget": {"batch_size": 4, "epochs": 2}}),
    ),
    "noisy_gradient": Case(
        fires=Job("shuffled", {**FULL, "budget": {"batch_size": 8}}),
        near=Job(patch={**FULL, "budget": {"batch_size": 180}}),
    ),
    "feature_scale": Case(
        fires=Job("a × 1000", RAW),
        near=Job("a × 5", RAW, each({"optimizer": {"lr": 0.002}}, {})),
    ),
    "target_scale": Case(
        fires=Job("y × 1000", NO_TARGET),
        near=Job("y × 3", NO_TARGET),
    ),
    "outliers": Case(
        fires=Job("far off", {"prepare": {"numeric": {"kind": "robust"}}}),
        near=Job("a little off", {"prepare": {"numeric": {"kind": "robust"}}}),
    ),
    "leak_suspect": Case(fires=Job("told"), near=Job("hinted")),
    "data_quality": Case(fires=Job("constant"), near=Job("nearly constant")),
    "no_better_than_baseline": Case(fires=Job("shuffled"), near=Job("weak")),
    "biased_predictions": Case(
        fires=Job("mostly 0", {"loss": {"kind": "mae"}}),
        near=Job(patch={"loss": {"kind": "mae"}}),
    ),
    "overfit": Case(
        fires=Job("small", {"model": {"widths": [128, 128]}, "budget": {"batch_size": 8}}),
        near=Job(patch={"model": {"widths": [128, 128]}, "budget": {"batch_size": 8, "epochs": 6}}),
    ),
    "loss_not_decreasing": Case(
        fires=Job(patch={"optimizer": {"lr": 1e-7}}),
        near=Job(patch={"optimizer": {"lr": 1e-3}}),
    ),
    "oscillation": Case(
        fires=Job(
            "sloped",
            WHOLE,
            each(
                {"optimizer": {"lr": 0.3, "momentum": 0.99}}, {"optimizer": {"lr": 2.0, "betas": [0.5, 0.5]}}
            ),
        ),
        near=Job(
            "sloped",
            WHOLE,
            each({"optimizer": {"momentum": 0.5}}, {"optimizer": {"lr": 0.1, "betas": [0.5, 0.5]}}),
        ),
    ),
}
