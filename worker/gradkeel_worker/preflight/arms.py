"""The scalings that are compared, each as the patch of the submitted config that asks for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradkeel.contract import config as contract
from gradkeel.contract.config import TrainConfig
from gradkeel.contract.errors import ConfigError
from gradkeel.contract.patch import combine, merge_patch, replace_block, set_value
from gradkeel.contract.presets import Shape
from gradkeel.contract.resolve import resolve, to_json
from gradkeel_worker.data import Prepared, Table, prepare
from gradkeel_worker.data.errors import DataError
from gradkeel_worker.diagnosis.examination import sound_rows
from gradkeel_worker.diagnosis.feed import outlying_rows
from gradkeel_worker.engine.pilot import provisional
from gradkeel_worker.engine.precision_choice import with_precision

Json = dict[str, Any]

CONFIGURED, BOTH, ROBUST, INPUTS, NONE = "as configured", "inputs and target", "robust", "inputs", "none"

SCALINGS: dict[str, Mapping[str, str]] = {
    CONFIGURED: {},
    BOTH: {"numeric": "standard", "target": "standard"},
    ROBUST: {"numeric": "robust", "target": "robust"},
    INPUTS: {"numeric": "standard", "target": "none"},
    NONE: {"numeric": "none", "target": "none"},
}
"""Name → kinds of scaling in ``prepare``, in the order in which one is preferred where none does better."""


@dataclass
class Arm:
    """One scaling: its names, the patch that asks for it, the config that this makes, the data so prepared.

    ``notes``: what differs from a training of that config.
    """

    names: list[str]
    patch: Json
    config: TrainConfig
    prepared: Prepared
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Its name; of the config's own scaling also what that comes down to."""
        first, *same = self.names
        return f"{first} ({same[0]})" if same else first

    @property
    def kinds(self) -> Json:
        """The scaling as its blocks of the config."""
        block = to_json(self.config.prepare)
        return {name: block[name] for name in ("numeric", "per_column", "target") if block[name]}


def arms_of(table: Table, submitted: Json, shape: Shape) -> list[Arm]:
    """Every scaling that the config can have and that feeds the model other numbers than those before.

    Raises DataError or ConfigError where the config itself cannot be trained with on these rows.
    """
    configured = _arm(CONFIGURED, {}, table, submitted, shape)
    found = [configured]
    shape = dataclasses.replace(shape, task=configured.prepared.task)
    for arm in _others(configured, table, submitted, shape):
        same = next((one for one in found if _feeds_the_same(one.prepared, arm.prepared)), None)
        if same is None:
            found.append(arm)
        else:
            same.names += arm.names
    return found


def _others(configured: Arm, table: Table, submitted: Json, shape: Shape) -> Iterator[Arm]:
    left_out = {CONFIGURED}
    if configured.prepared.classes is not None:
        left_out.add(BOTH)
    if not len(outlying_rows(configured.prepared).positions):
        left_out.add(ROBUST)
    if isinstance(configured.config.prepare.embedding, contract.PiecewiseLinear):
        left_out.add(INPUTS)  # bins lie between the same rows whatever the scale, so that none shows it
    for name, kinds in SCALINGS.items():
        if name in left_out:
            continue
        try:
            yield _arm(name, patch_for(kinds, submitted, configured.prepared), table, submitted, shape)
        except (ConfigError, DataError):
            continue  # a loss, task or column that does not go with this scaling


def patch_for(kinds: Mapping[str, str], submitted: Json, prepared: Prepared) -> Json:
    """The merge patch for these kinds of scaling; classes have no scale, so their target is left alone."""
    chosen = {key: kind for key, kind in kinds.items() if key != "target" or prepared.classes is None}
    held = submitted.get("prepare") or {}
    own = [set_value(("prepare", "per_column", name), None) for name in held.get("per_column") or ()]
    blocks = [
        replace_block(submitted, ("prepare", key), {"kind": kind}) for key, kind in sorted(chosen.items())
    ]
    return combine(*own, *blocks)


def _arm(name: str, patch: Json, table: Table, submitted: Json, shape: Shape) -> Arm:
    asked = merge_patch(submitted, patch)
    notes: list[str] = []
    config = _trial(resolve(asked, shape), notes)
    prepared = _sound(prepare(table, config), notes)
    decided = _trial(resolve(asked, dataclasses.replace(shape, task=prepared.task)), notes)
    fitted = dataclasses.replace(decided.prepare, target=prepared.config.prepare.target)
    task: Any = config.task if config.task == "forecast" else prepared.task
    config = dataclasses.replace(decided, task=task, prepare=fitted)
    return Arm(
        [name], patch, config, dataclasses.replace(prepared, config=config), list(dict.fromkeys(notes))
    )


def _trial(config: TrainConfig, notes: list[str]) -> TrainConfig:
    """The config without what a look before training does without."""
    if not isinstance(config.prepare.neighbors, contract.NoNeighbors):
        notes.append("without the means over neighbours, which take a training to fit")
    prepare = dataclasses.replace(config.prepare, neighbors=contract.NoNeighbors())
    if isinstance(config.loss, contract.Huber) and config.loss.delta == "auto":
        notes.append("delta of the Huber loss taken as 1, for auto is decided in the training")
    if config.precision == "auto":
        config = with_precision(config, "float32")
    budget = dataclasses.replace(config.budget, ema=None, max_seconds=None)
    config = dataclasses.replace(config, prepare=prepare, budget=budget, guards=())
    return provisional(config)


def _sound(prepared: Prepared, notes: list[str]) -> Prepared:
    """Without the training rows that hold a non-finite number: what they do is no question of scaling."""
    train = prepared.train
    rows = sound_rows(train, len(train))
    if len(rows) == len(train):
        return prepared
    notes.append(f"without {len(train) - len(rows)} of the sampled rows, which hold non-finite numbers")
    return dataclasses.replace(prepared, train=train.take(rows))


def _feeds_the_same(one: Prepared, other: Prepared) -> bool:
    """Whether the model is given the same numbers."""
    return np.array_equal(one.train.x, other.train.x) and np.array_equal(one.train.y, other.train.y)
