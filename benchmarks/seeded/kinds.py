"""The faults: what each does to a healthy run, and which finding names its true cause.

``causes`` are the rules that name the cause itself: one of them should stand first. ``effects`` are rules
whose finding is true of such a run too; any other warning is a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from contest.sets import PART
from gradkeel.contract.patch import merge_patch
from seeded.tables import BINARY, FORECAST, ORDER, REGRESSION, TARGET, Table, numeric

Json = dict[str, Any]
Loss = Callable[[Tensor, Tensor], Tensor]

SGD, ADAMW = "sgd", "adamw"
TUNED_SEEDS = (0, 1, 2)
SEEDS = (0, 1, 2, 3, 4)
"""One magnitude a seed; those of the seeds that are not in TUNED_SEEDS are held out."""

OPTIMIZERS: dict[str, tuple[Json, Json]] = {
    SGD: ({"kind": "sgd", "lr": 0.05}, {"kind": "sgd", "lr": 0.01, "momentum": 0.9}),
    ADAMW: ({"kind": "adamw", "lr": 0.001}, {"kind": "adamw", "lr": 0.003}),
}
"""Of even and of odd seeds."""


@dataclass(frozen=True)
class Run:
    """One training: a table, a config, and where the fault sits. ``unit``: factor on the target."""

    table: Table
    config: Json
    task: str
    optimizer: str
    seed: int
    loss: Loss | None = None
    unit: float = 1.0
    row: int | None = None
    column: str | None = None

    @property
    def random(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, 99])

    def configured(self, **blocks: Any) -> Run:
        """With blocks of the config merged in."""
        return replace(self, config=merge_patch(self.config, blocks))

    def prepared(self, **blocks: Any) -> Run:
        return self.configured(prepare=blocks)

    def having(self, **columns: Any) -> Run:
        """With columns replaced."""
        return replace(self, table=self.table.assign(**columns))

    @property
    def squared(self) -> Run:
        """Odd seeds of regressions under the squared error without a clip, others as they were."""
        if self.seed % 2 == 0 or self.task != REGRESSION:
            return self
        return self.configured(loss={"kind": "mse", "delta": None}, clips=[])


@dataclass(frozen=True)
class Fault:
    """``informs``: its finding is an info by design. ``repairable``: a change of the config mends it."""

    put: Callable[[Run, Any], Run]
    magnitudes: tuple[Any, ...]
    causes: tuple[str, ...]
    effects: tuple[str, ...] = ()
    tasks: tuple[str, ...] = (REGRESSION, BINARY)
    optimizers: tuple[str, ...] = (SGD, ADAMW)
    repairable: bool = True
    informs: bool = False
    issue: str | None = None
    """The issue that a finding of data_quality has to name."""
    placed: bool = False
    """The finding has to name the row and column, or the column alone."""
    cause: tuple[str, ...] = ()
    """What the finding has to call the most likely cause in its evidence, where it says one."""


def healthy(table: Table, task: str, optimizer: str, seed: int) -> Run:
    """A run of a config that suits the table."""
    config: Json = {
        "target": TARGET,
        "task": task,
        "preset": "custom",
        "model": {"kind": "mlp", "widths": [64, 64] if seed % 2 else [48, 48, 48]},
        "optimizer": OPTIMIZERS[optimizer][seed % 2],
        "budget": {"batch_size": 64, "epochs": 40},
        "split": {"kind": "column", "column": PART},
        "seed": seed,
        "device": "cpu",
    }
    if task == FORECAST:
        config |= {"columns": {"order": ORDER}, "split": {"kind": "ordered", "column": ORDER}}
        config["model"] = {"kind": "gru" if seed % 2 else "lstm", "width": 16, "window": 24}
        config["budget"] = {"batch_size": 64, "epochs": 40}
    return Run(table, config, task, optimizer, seed)


# ------------------------------------------------------------------------------------------------- scale


def _standard(run: Run) -> dict[str, Any]:
    """The columns of numbers, standardised over the whole file; missing cells stay."""
    columns = {name: run.table[name].astype(float) for name in numeric(run.table)}
    return {name: (values - values.mean()) / values.std() for name, values in columns.items()}


def _unscaled_inputs(run: Run, size: float) -> Run:
    """Columns of a common size and no scaling; with odd seeds they lie that far from 0 instead."""
    columns = {
        name: values + size if run.seed % 2 else values * size for name, values in _standard(run).items()
    }
    return run.having(**columns).prepared(numeric={"kind": "none"}).squared


def _large_column(run: Run, size: float) -> Run:
    name = str(run.random.choice(numeric(run.table)))
    changed = run.having(**_standard(run)) if run.seed % 2 else run
    values = _standard(run)[name]
    changed = replace(changed.having(**{name: values * size}), column=name)
    if run.seed % 2:
        return changed.prepared(numeric={"kind": "none"})
    return changed.prepared(per_column={name: {"kind": "none"}})


def _unscaled_target(run: Run, size: float) -> Run:
    values = run.table[TARGET].astype(float)
    unit = size / values.std()
    return replace(run.having(**{TARGET: values * unit}), unit=unit).prepared(target={"kind": "none"}).squared


# --------------------------------------------------------------------------------------------- optimisation


def _lr(run: Run, factor: float) -> Run:
    return run.configured(optimizer={"lr": run.config["optimizer"]["lr"] * factor})


def _clip(run: Run, limit: float) -> Run:
    return run.configured(clips=[{"kind": "norm", "max_norm": limit}])


def _batch_of_one(run: Run, rows: int) -> Run:
    kept = run.table.sample(rows, random_state=run.seed)
    return replace(run, table=kept).configured(budget={"batch_size": 1, "epochs": 4}, health={"tier": "full"})


# ---------------------------------------------------------------------------------------------------- model


def _deep(activation: str) -> Callable[[Run, int], Run]:
    def put(run: Run, depth: int) -> Run:
        model = {"widths": [32] * depth, "activation": activation, "init": {"kind": "default"}}
        return run.configured(model=model)

    return put


def _tiny_init(run: Run, std: float) -> Run:
    return run.configured(model={"widths": [32] * (6 + 2 * run.seed), "init": {"kind": "normal", "std": std}})


def _wide_init(run: Run, std: float) -> Run:
    activation = "tanh" if run.seed % 2 else "relu"
    return run.configured(model={"init": {"kind": "normal", "std": std}, "activation": activation})


def _constant_init(run: Run, value: float) -> Run:
    return run.configured(model={"init": {"kind": "constant", "value": value}})


def _negative_bias(run: Run, bias: float) -> Run:
    return run.configured(model={"bias_init": bias})


def _frozen(run: Run, layers: int) -> Run:
    return run.configured(model={"freeze": [f"layers.{i}" for i in range(layers)]})


def _recurrent(run: Run, std: float) -> Run:
    model = {"init": {"kind": "normal", "std": std}, "window": 48}
    return run.configured(model=model, clips=[], loss={"kind": "mse", "delta": None})


def _half_precision(run: Run, std: float) -> Run:
    model = {"widths": [64] * 4, "init": {"kind": "normal", "std": std}}
    return run.configured(model=model, precision="fp16", clips=[])


# ----------------------------------------------------------------------------------------------------- data


def _cell(value: float) -> Callable[[Run, int], Run]:
    def put(run: Run, count: int) -> Run:
        """One cell of a training row."""
        name = str(run.random.choice(numeric(run.table)))
        row = int(run.random.choice(np.flatnonzero(run.table[PART] == "train")))
        values = run.table[name].astype(float).to_numpy(copy=True)
        values[row] = value
        guards = [{"kind": "skip_nonfinite"}] if run.seed % 2 == 0 else []
        changed = replace(run.having(**{name: values}), row=row, column=name)
        return changed.configured(guards=guards, prepare={"missing": {"kind": "propagate"}})

    return put


def _outlying_targets(run: Run, size: tuple[float, float]) -> Run:
    """A share of the training and validation targets, far off."""
    share, factor = size
    values = run.table[TARGET].astype(float).to_numpy(copy=True)
    known = np.flatnonzero(run.table[PART] != "test")
    values[run.random.choice(known, max(3, round(share * len(known))), replace=False)] *= factor
    changed = run.having(**{TARGET: values}).prepared(target={"kind": "standard"})
    return changed.configured(loss={"kind": "mse", "delta": None})


def _outlying_cells(run: Run, size: tuple[int, float]) -> Run:
    """A few training rows with a cell far off, under a scaling that outliers do not set."""
    rows, distance = size
    name = str(run.random.choice(numeric(run.table)))
    values = run.table[name].astype(float).to_numpy(copy=True)
    train = np.flatnonzero(run.table[PART] == "train")
    values[run.random.choice(train, rows, replace=False)] += distance * np.nanstd(values)
    return replace(run.having(**{name: values}), column=name).prepared(numeric={"kind": "robust"}).squared


def _mislabelled(run: Run, share: float) -> Run:
    """The targets of a block of lines, shuffled among themselves."""
    values = run.table[TARGET].to_numpy(copy=True)
    start = int(run.random.integers(0, round((1 - share) * len(values))))
    block = slice(start, start + round(share * len(values)))
    values[block] = run.random.permutation(values[block])
    return run.having(**{TARGET: values})


def _shuffled(run: Run, share: float) -> Run:
    return run.having(**{TARGET: run.random.permutation(run.table[TARGET].to_numpy())})


def _leak(run: Run, noise: float) -> Run:
    """A column that is the target, or its class, and a little noise."""
    values = run.table[TARGET]
    numbers = values.astype(float) if run.task == REGRESSION else values.astype("category").cat.codes
    leaked = numbers + noise * float(np.std(numbers)) * run.random.normal(size=len(values))
    return replace(run.having(later=leaked), column="later")


def _copies(run: Run, share: float) -> Run:
    """Rows of the test and validation part replaced by copies of training rows."""
    table, part = run.table.reset_index(drop=True), run.table[PART].to_numpy()
    held, train = np.flatnonzero(part != "train"), np.flatnonzero(part == "train")
    taken = held[: round(share * len(held))]
    copied = table.iloc[run.random.choice(train, len(taken))].assign(**{PART: part[taken]})
    return replace(run, table=_with_rows(table, taken, copied))


def _with_rows(table: Table, rows: Any, values: Table) -> Table:
    """The table with rows replaced."""
    table = table.copy()
    table.iloc[rows] = values.to_numpy()
    return table.infer_objects()


def _few_rows(run: Run, rows: int) -> Run:
    """A net of half a million weights for a few dozen rows."""
    part = run.table[PART].to_numpy()
    train = run.random.choice(np.flatnonzero(part == "train"), rows, replace=False)
    kept = np.sort(np.concatenate([train, np.flatnonzero(part != "train")]))
    changed = replace(run, table=run.table.iloc[kept].reset_index(drop=True))
    return changed.configured(model={"widths": [512, 512, 512]}, budget={"epochs": 60, "patience": 0})


# -------------------------------------------------------------------------------------------- caller's code


class _Scaled(torch.autograd.Function):
    """The identity, with a gradient that is off by a factor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.factor, None


def _wrong_backward(run: Run, factor: float) -> Run:
    plain = functional.huber_loss if run.task == REGRESSION else functional.binary_cross_entropy_with_logits

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return plain(_Scaled.apply(prediction, factor), target)

    return replace(run, loss=loss)


def _edge_of_domain(run: Run, size: float) -> Run:
    """Squared differences of log(1 + size · value): a prediction below −1 / size has no logarithm."""
    values = run.table[TARGET].astype(float)
    shifted = (values - values.min()) / values.std()

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        return torch.square(torch.log1p(size * prediction) - torch.log1p(size * target)).mean()

    changed = replace(run.having(**{TARGET: shifted}), loss=loss)
    return changed.configured(prepare={"target": {"kind": "none"}}, clips=[])


_LOST = ("no_better_than_baseline", "loss_not_decreasing", "biased_predictions")
"""True of a run that came to nothing, whatever the cause."""
_WILD = ("exploding_gradient", "non_finite", "oscillation", "spike", "clipping_dominates", "dead_units")
_WILD = (*_WILD, "saturated_activation", *_LOST)
_STUCK = ("lr_too_low", "dead_units", "saturated_activation", "vanishing_gradient", *_LOST)

FAULTS: Mapping[str, Fault] = {
    "unscaled inputs": Fault(
        _unscaled_inputs, (100, 1000, 30, 300, 3e4), ("feature_scale",), ("lr_too_high", "overfit", *_WILD)
    ),
    "one column × 1e6": Fault(
        _large_column, (1e6, 1e3, 1e4, 1e5, 1e7), ("feature_scale",), ("lr_too_high", *_WILD), placed=True
    ),
    "unscaled target": Fault(
        _unscaled_target, (1e3, 100, 1e5, 30, 1e4), ("target_scale",), ("lr_too_high", *_WILD), (REGRESSION,)
    ),
    "lr × 1000": Fault(_lr, (1e3, 300, 3e3, 600, 1e4), ("lr_too_high",), ("overfit", *_WILD)),
    "lr / 10,000": Fault(_lr, (1e-4, 3e-4, 1e-5, 1e-4, 1e-6), ("lr_too_low",), _STUCK),
    "deep sigmoid net": Fault(_deep("sigmoid"), (10, 12, 14, 11, 18), ("vanishing_gradient",), _STUCK),
    "deep tanh net": Fault(_deep("tanh"), (30, 36, 40, 33, 48), ("vanishing_gradient",), _STUCK),
    "deep relu net, tiny weights": Fault(
        _tiny_init,
        (0.01, 0.005, 0.003, 0.007, 0.001),
        ("vanishing_gradient", "poor_initialisation"),
        _STUCK,
    ),
    "weights too wide": Fault(
        _wide_init,
        (2.0, 1.0, 4.0, 1.5, 8.0),
        ("poor_initialisation", "saturated_activation"),
        ("overfit", "lr_too_high", *_WILD),
    ),
    "constant weights": Fault(
        _constant_init, (0.1, 0.05, 0.5, 0.02, 1.0), ("poor_initialisation",), ("lr_too_high", *_WILD)
    ),
    "dead relu (bias −10)": Fault(
        _negative_bias, (-10.0, -5.0, -20.0, -8.0, -50.0), ("dead_units",), ("poor_initialisation", *_STUCK)
    ),
    "NaN in a cell": Fault(
        _cell(np.nan), (1,) * 5, ("non_finite",), _LOST, placed=True, cause=("data_cell",)
    ),
    "infinity in a cell": Fault(
        _cell(np.inf), (1,) * 5, ("non_finite",), _LOST, placed=True, cause=("data_cell",)
    ),
    "log1p at its domain's edge": Fault(
        _edge_of_domain,
        (5.0, 10.0, 20.0, 7.0, 50.0),
        ("non_finite",),
        _WILD,
        (REGRESSION,),
        repairable=False,
        cause=("domain",),
    ),
    "outlying targets": Fault(
        _outlying_targets,
        ((0.05, 20.0), (0.02, 100.0), (0.01, 1000.0), (0.03, 50.0), (0.005, 300.0)),
        ("outliers",),
        ("overfit", *_WILD),
        (REGRESSION,),
        repairable=False,
    ),
    "outlying cells": Fault(
        _outlying_cells,
        ((5, 300.0), (3, 1000.0), (10, 100.0), (4, 3000.0), (2, 1e4)),
        ("outliers",),
        ("overfit", "lr_too_high", *_WILD),
        placed=True,
    ),
    "mislabelled block": Fault(
        _mislabelled,
        (0.3, 0.4, 0.25, 0.2, 0.35),
        ("data_quality",),
        ("overfit", "no_better_than_baseline"),
        repairable=False,
        issue="block_unlike_the_rest",
    ),
    "exploding recurrent net": Fault(
        _recurrent,
        (3.0, 5.0, 8.0, 4.0, 10.0),
        ("poor_initialisation", "exploding_gradient"),
        ("vanishing_gradient", "overfit", "lr_too_high", *_WILD),
        (FORECAST,),
        cause=("init",),
    ),
    "clip at 1e-4": Fault(
        _clip, (1e-4, 3e-4, 1e-5, 1e-4, 1e-6), ("clipping_dominates",), _STUCK, optimizers=(SGD,)
    ),
    "overflow in fp16": Fault(
        _half_precision,
        (4.0, 6.0, 10.0, 5.0, 20.0),
        ("non_finite", "poor_initialisation"),
        ("lr_too_high", *_WILD),
        cause=("fp16",),
    ),
    "backward × 1.01": Fault(
        _wrong_backward, (1.01, 0.99, 1.05, 1.005, 1.2), ("gradient_mismatch",), repairable=False
    ),
    "backward × −1": Fault(
        _wrong_backward, (-1.0, -0.5, -2.0, -0.1, -1.01), ("gradient_mismatch",), _WILD, repairable=False
    ),
    "frozen first layer": Fault(_frozen, (1, 1, 2, 1, 2), ("vanishing_gradient",), _LOST),
    "label leak": Fault(
        _leak, (0.0, 0.01, 0.03, 0.001, 0.02), ("leak_suspect",), repairable=False, placed=True
    ),
    "copies across the split": Fault(
        _copies,
        (0.5, 0.3, 0.8, 0.4, 0.6),
        ("data_quality",),
        repairable=False,
        informs=True,
        issue="duplicate_rows_across_split",
    ),
    "shuffled target": Fault(
        _shuffled, (1,) * 5, ("no_better_than_baseline",), ("overfit", *_LOST), repairable=False
    ),
    "batch of one": Fault(
        _batch_of_one,
        (300, 250, 200, 275, 225),
        ("noisy_gradient",),
        ("oscillation", "spike"),
        repairable=False,
        informs=True,
    ),
    "huge net, few rows": Fault(
        _few_rows,
        (30, 40, 60, 25, 50),
        ("overfit", "data_quality"),
        ("no_better_than_baseline",),
        repairable=False,
        informs=True,
        issue="few_rows_per_parameter",
    ),
}
