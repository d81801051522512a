"""What is to be trained, and how data and config become what a run is built from."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gradkeel.contract.config import TrainConfig, Windowed
from gradkeel.contract.presets import Shape
from gradkeel.contract.resolve import because, resolve, shape_of
from gradkeel_worker.data import Prepared, Table, prepare
from gradkeel_worker.data.kept import Kept
from gradkeel_worker.data.scalers import AUTO_REASONS
from gradkeel_worker.data.target import FORECAST
from gradkeel_worker.engine.build import build, choose_device
from gradkeel_worker.engine.checkpoint import chosen_precision
from gradkeel_worker.engine.pilot import provisional, with_delta
from gradkeel_worker.engine.precision import native
from gradkeel_worker.engine.precision_choice import choose_precision, with_precision
from gradkeel_worker.engine.range_test import Found, find_lr, with_lr
from gradkeel_worker.engine.run import Hooks, Run

Json = dict[str, Any]

CHANGE_FROM = "/model/change_from"


@dataclass(frozen=True)
class Ready:
    """Prepared data, the config with everything decided, and how its learning rate was found."""

    prepared: Prepared
    config: TrainConfig
    found: Found | None
    chosen: Json | None
    """How "auto" became a precision."""


@dataclass(frozen=True)
class Order:
    """The arguments of ``train`` that say what is trained. ``asked``: the config as submitted, if known."""

    data: Table | Prepared
    config: TrainConfig | Json
    asked: Json | None
    profile: Json | None
    loss: Callable[..., Tensor] | None
    model: nn.Module | None
    interruptible: Callable[[], AbstractContextManager[None]]
    kept: Kept | None = None
    """What an earlier model had fitted and learnt, where the training goes on from that."""
    chosen: Json | None = None
    """What a precision of "auto" stands for, once that is known: it is measured once a job."""
    repaired: Mapping[str, str] = field(default_factory=dict)
    """What repairs have changed, and why, by JSON pointer."""

    def ready(self, hooks: Hooks, resume: bytes | bytearray | None = None, fold: int | None = None) -> Ready:
        """Prepare, and decide what rests on the data.

        ``fold``: on the parts of that fold, from 0. A training that goes on keeps to the precision that it
        had chosen.
        """
        with self.interruptible():
            prepared = self._prepared(fold)
        config = self._decided(prepared)
        _tell_neighbors(prepared, hooks)
        chosen = self._chosen_precision(prepared, config, hooks, resume)
        if chosen is not None:
            config = because(with_precision(config, chosen["chosen"]), "/precision", chosen["message"])
        with torch.random.fork_rng():
            found = self._found_lr(prepared, config, hooks)
        if found is not None:
            config = because(with_lr(config, found.lr), "/optimizer/lr", found.message)
        if self.loss is None:
            stop, deadline = hooks.should_stop, hooks.deadline
            config = with_delta(prepared, config, model=self.model, should_stop=stop, deadline=deadline)
        for pointer, reason in self.repaired.items():
            config = because(config, pointer, reason)
        return Ready(dataclasses.replace(prepared, config=config), config, found, chosen)

    def run(self, ready: Ready, hooks: Hooks) -> Run:
        """A run at its first step."""
        run = build(ready.prepared, ready.config, loss=self.loss, model=self.model, hooks=hooks)
        run.chosen_precision = ready.chosen
        return run

    def _prepared(self, fold: int | None) -> Prepared:
        if isinstance(self.data, Prepared):
            if fold is not None:
                raise ValueError("folds are cut from a table, and this data is already prepared")
            return self.data
        config = self.config if self.asked is None else resolve(self.asked, self._shape())
        assert isinstance(config, TrainConfig)
        return prepare(self.data, config, fold, self.kept)

    def _decided(self, prepared: Prepared) -> TrainConfig:
        """The config with what depends on the data decided: task, scaling, neighbours, sizes by preset."""
        config = self.config
        if self.asked is not None:
            config = resolve(self.asked, dataclasses.replace(self._shape(), task=prepared.task))
        assert isinstance(config, TrainConfig)
        fitted = prepared.config.prepare
        decided = dataclasses.replace(config.prepare, target=fitted.target, neighbors=fitted.neighbors)
        if config.prepare.target.kind == "auto":
            config = because(config, "/prepare/target", AUTO_REASONS[decided.target.kind])
        if prepared.neighbors is not None and getattr(config.prepare.neighbors, "columns", None) == "auto":
            config = because(config, "/prepare/neighbors", prepared.neighbors["message"])
        if (reason := prepared.config.chosen.get(CHANGE_FROM)) is not None:
            config = because(config, CHANGE_FROM, reason)
        task: Any = config.task if config.task == FORECAST else prepared.task
        return dataclasses.replace(config, task=task, prepare=decided, model=_decided_model(config, prepared))

    def _shape(self) -> Shape:
        """Size of the data for the presets, from the profile where there is one, as the service saw it."""
        if self.profile is not None and self.asked is not None:
            return shape_of(resolve(self.asked), self.profile)
        data = self.data
        if isinstance(data, Prepared):
            rows = sum(len(part) for part in (data.train, data.validation, data.test))
            return Shape(
                rows=rows, numeric=len(data.inputs), categorical=len(data.categories), task=data.task
            )
        numeric = sum(column.type == "numeric" for column in data.columns.values())
        return Shape(rows=len(data), numeric=numeric, categorical=len(data.columns) - numeric)

    def _chosen_precision(
        self,
        prepared: Prepared,
        config: TrainConfig,
        hooks: Hooks,
        resume: bytes | bytearray | None,
    ) -> Json | None:
        """What "auto" stands for, told in a log event; None where the precision is given."""
        if config.precision != "auto":
            _warn_if_emulated(config, hooks)
            return None
        if self.chosen is not None:
            return self.chosen
        chosen = None if resume is None else chosen_precision(resume)
        if chosen is None:
            trial = provisional(with_lr(with_precision(config, "float32"), 0.0))
            with torch.random.fork_rng():
                run = build(prepared, trial, loss=self.loss, model=self.model, probes=())
                chosen = choose_precision(run, lambda: _stopped(hooks))
        hooks.emit("log", {"message": chosen["message"], "step": 0, "precision": chosen["chosen"]})
        return chosen

    def _found_lr(self, prepared: Prepared, config: TrainConfig, hooks: Hooks) -> Found | None:
        """The learning rate that "auto" stands for, told in a log event; None where it is a number."""
        if config.optimizer.lr != "auto":  # type: ignore[comparison-overlap]
            return None

        def built(tried: TrainConfig) -> Run:
            return build(prepared, provisional(tried), loss=self.loss, model=self.model, probes=())

        found = find_lr(config, built, lambda: _stopped(hooks))
        told = {"step": 0, "lr": found.lr, "lr_range_test": found.record}
        hooks.emit("log", {"message": found.message} | told)
        return found


def _decided_model(config: TrainConfig, prepared: Prepared) -> Any:
    """The model's block, with what a forecast is the change from."""
    fitted = prepared.config.model
    if not isinstance(config.model, Windowed) or not isinstance(fitted, Windowed):
        return config.model
    return dataclasses.replace(config.model, change_from=fitted.change_from)


def _tell_neighbors(prepared: Prepared, hooks: Hooks) -> None:
    """Tell what was decided about neighbours, where they were asked for."""
    if prepared.neighbors is not None:
        record = {name: value for name, value in prepared.neighbors.items() if name != "message"}
        hooks.emit("log", {"message": prepared.neighbors["message"], "step": 0, "neighbors": record})


def _warn_if_emulated(config: TrainConfig, hooks: Hooks) -> None:
    device = choose_device(config.device)
    if not native(config.precision, device):
        message = f"this {device.type} emulates {config.precision}: steps take longer than in float32"
        hooks.emit("log", {"message": message, "step": 0, "precision": config.precision})


def _stopped(hooks: Hooks) -> bool:
    """Whether the training is to end before it has begun."""
    asked = None if hooks.should_stop is None else hooks.should_stop()
    return asked is not None or (hooks.deadline is not None and time.monotonic() >= hooks.deadline)
