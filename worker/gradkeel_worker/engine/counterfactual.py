"""``health.counterfactual``: the same training with scaling, Huber and clipping left out, one by one and all.

Each arm is the engine's own loop on another config: same seed, first weights and batch order, for a bounded
number of steps. That they are the same is not presumed: each arm's digests are worked out from its own run,
and an arm that differs is told as an error. The job's model is trained before, and knows nothing of it.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gradkeel.contract import config as contract
from gradkeel.contract.config import TrainConfig
from gradkeel.contract.counterfactual import ARMS, headline, told
from gradkeel.contract.errors import ConfigError
from gradkeel.contract.patch import combine, replace_block, set_value
from gradkeel_worker.data import DataError, Prepared, prepare
from gradkeel_worker.data.preparation import CODE
from gradkeel_worker.diagnosis.evaluation import metrics_on
from gradkeel_worker.diagnosis.series import kept_positions, numbers
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.checkpoint import checkpoint_of
from gradkeel_worker.engine.order import Order, Ready
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.engine.run import Hooks, Run
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.interrupts import Interrupted, Released
from gradkeel_worker.probes import of_tier

Json = dict[str, Any]

MOST_STEPS = 500
"""Steps of an arm at most; fewer where fewer are planned."""
TIME_SHARE = 0.1
"""Part of budget.max_seconds that an arm may take, beside what the training took."""
_POINTS = 200
"""Points of an arm's series, about; extremes are kept."""
_PROGRESS_SECONDS = 0.25
_AT_ARMS = 0.1
"""A checkpoint is made after an arm once this part of ``checkpoint_seconds`` has passed since the last."""
_NOTHING = "nothing"
_BOUNDED = ("huber", "smooth_l1", "log_cosh")
"""Losses that turn from quadratic to linear."""
_ENDS = ("steps", "epochs", "max_seconds", "diverged")
"""How an arm ends by itself."""


@dataclass(frozen=True)
class Stabilizer:
    """One that can be left out. ``used``: whether a training has it. ``without``: its config less it.
    ``patch``: the same as a merge patch of a config."""

    used: Callable[[Order, Prepared, TrainConfig], bool]
    without: Callable[[TrainConfig], TrainConfig]
    patch: Callable[[Json], Json]
    absent: str


def _scaled(order: Order, prepared: Prepared, config: TrainConfig) -> bool:
    values = prepared.preparation.values
    columns = any(value.scaler != "none" for value in values if value.part != CODE)
    return columns or (prepared.classes is None and prepared.target.kind != "none")


def _without_scaling(config: TrainConfig) -> TrainConfig:
    unscaled = dataclasses.replace(
        config.prepare, numeric=contract.NoScaling(), per_column={}, target=contract.TargetNone()
    )
    return dataclasses.replace(config, prepare=unscaled)


def _no_scaling(submitted: Json) -> Json:
    none = {"kind": "none"}
    by_column = (submitted.get("prepare") or {}).get("per_column") or {}
    return combine(
        replace_block(submitted, ("prepare", "numeric"), none),
        replace_block(submitted, ("prepare", "target"), none),
        *([set_value(("prepare", "per_column"), dict.fromkeys(by_column))] if by_column else []),
    )


def _robust(order: Order, prepared: Prepared, config: TrainConfig) -> bool:
    return order.loss is None and config.loss.kind in _BOUNDED


def _clipped(order: Order, prepared: Prepared, config: TrainConfig) -> bool:
    return bool(config.clips or config.guards)


STABILIZERS: dict[str, Stabilizer] = {
    "scaling": Stabilizer(
        _scaled,
        _without_scaling,
        _no_scaling,
        "neither a numeric column nor the target is scaled",
    ),
    "huber": Stabilizer(
        _robust,
        lambda config: dataclasses.replace(config, loss=contract.MSE()),
        lambda submitted: replace_block(submitted, ("loss",), {"kind": "mse"}),
        "the loss is not one that turns linear (huber, smooth_l1 or log_cosh)",
    ),
    "clipping": Stabilizer(
        _clipped,
        lambda config: dataclasses.replace(config, clips=(), guards=()),
        lambda submitted: {"clips": [], "guards": []},
        "there are neither clips nor guards",
    ),
}


# ------------------------------------------------------------------------------------------------- the study


def counterfactual(order: Order, ready: Ready, run: Run, initial: nn.Module, hooks: Hooks) -> Json:
    """The report's ``counterfactual``. ``run`` has ended and says why in ``ending``; ``initial`` is its model
    at the first weights.

    Raises:
        Released: ``should_stop`` said so; a checkpoint was made that holds the arms that are through.
    """
    study = Study(order, ready, run, initial, hooks)
    study.make()
    return study.report()


class Study:
    """The arms of one training, made one after the other; those that are through are in ``run.arms``."""

    def __init__(self, order: Order, ready: Ready, run: Run, initial: nn.Module, hooks: Hooks) -> None:
        self._order, self._ready, self._run, self._hooks = order, ready, run, hooks
        self._steps = min(MOST_STEPS, run.planned_steps)
        self._initial = initial
        self._digests = {
            "init_digest": init_digest(initial),
            "batch_order_digest": batch_order_digest(run, self._steps),
        }
        self._rows = getattr(ready.prepared, self._part).rows
        self._saved = run.started
        self._stopped: str | None = None

    def report(self) -> Json:
        """Every arm, in the order of the report."""
        found = {arm["without"]: arm for arm in self._run.arms}
        rest = {name: _arm(name, "stopped", self._why_stopped()) for name in ARMS if name not in found}
        metric = next((name for arm in found.values() if (name := _metric_of(arm))), None)
        record = {
            "steps": self._steps,
            "part": self._part,
            "metric": metric,
            **self._digests,
            "arms": [found.get(name) or rest[name] for name in ARMS],
        }
        return record | {"summary": told(record)}

    def make(self) -> None:
        """Run what is not through yet, until somebody wants the job to end."""
        self._keep()
        for name in ARMS:
            if any(arm["without"] == name for arm in self._run.arms):
                continue
            if self._asked() is not None:
                break
            try:
                arm = self._decided(name) or self._tried(name)
            except Interrupted:
                break
            if arm is None:
                break
            self._run.arms.append(arm)
            self._tell(arm)
            self._keep()
        if self._stopped == "released":
            self._keep(at_once=True)
            raise Released(self._run.step)

    # ------------------------------------------------------------------------------------ what an arm is

    @functools.cached_property
    def _used(self) -> list[str]:
        prepared, config = self._ready.prepared, self._ready.config
        return [name for name, one in STABILIZERS.items() if one.used(self._order, prepared, config)]

    @functools.cached_property
    def _removable(self) -> list[str]:
        return [name for name in self._used if name != "scaling" or self._kept_scaling() is None]

    def _kept_scaling(self) -> str | None:
        """Why scaling cannot be left out, if it cannot."""
        if self._order.kept is not None:
            return "the weights of the earlier model were learnt on values scaled so, and fit no others"
        if isinstance(self._order.data, Prepared):
            return "the data was given already prepared"
        return None

    def _decided(self, name: str) -> Json | None:
        """The record of an arm that needs no run; None of one that does."""
        if name == _NOTHING:
            return None
        if name == "all":
            if len(self._removable) > 1:
                return None
            only = f": the same as without {self._removable[0]}" if self._removable else ""
            return _arm(name, "not_used", f"there are no two stabilizers to leave out{only}")
        if name not in self._used:
            return _arm(name, "not_used", STABILIZERS[name].absent)
        if name not in self._removable:
            return _arm(name, "refused", self._kept_scaling())
        return None

    def _left_out(self, name: str) -> Sequence[str]:
        return {_NOTHING: [], "all": self._removable}.get(name, [name])

    @functools.cached_property
    def _unscaled(self) -> Prepared:
        """The table prepared without scaling; its rows are those of the job's parts."""
        assert not isinstance(self._order.data, Prepared)
        with self._order.interruptible():
            return prepare(self._order.data, _without_scaling(self._ready.config))

    @property
    def _part(self) -> str:
        """The part whose rows the arms are held against one another on."""
        return "validation" if len(self._ready.prepared.validation) else "train"

    # --------------------------------------------------------------------------------------- running one

    def _tried(self, name: str) -> Json | None:
        """An arm's record; None where the job is to end meanwhile."""
        try:
            with torch.random.fork_rng():
                return self._ran(name)
        except (DataError, ConfigError, ValueError, RuntimeError) as error:
            return _arm(name, "failed", f"{type(error).__name__}: {error}")

    def _ran(self, name: str) -> Json | None:
        left_out = self._left_out(name)
        config = arm_config(self._ready.config, left_out)
        prepared = self._unscaled if "scaling" in left_out else self._ready.prepared
        prepared = dataclasses.replace(prepared, config=config)
        run = build(
            prepared,
            config,
            loss=self._order.loss,
            model=self._order.model,
            probes=of_tier("economy"),
        )
        arm = _arm(name, "ran") | {"left_out": list(left_out), "patch": self._patch(left_out)}
        if (refusal := self._other_weights(run.model)) is not None:
            return arm | {"status": "refused", "reason": refusal}
        arm |= {
            "init_digest": init_digest(run.model),
            "batch_order_digest": batch_order_digest(run, self._steps),
        }
        differs = [key for key, digest in self._digests.items() if arm[key] != digest]
        if not np.array_equal(getattr(prepared, self._part).rows, self._rows):
            differs.append(f"{self._part} rows")
        if differs:
            return arm | {"status": "failed", "reason": f"internal error: other {' and '.join(differs)}"}
        self._begin(name)
        run.hooks = self._hooks_of(run, name)
        seconds = config.budget.max_seconds
        run.allowance = None if seconds is None else TIME_SHARE * seconds
        ending = fit(run)
        if ending not in _ENDS:
            self._stopped = ending
            return None
        return arm | self._outcome(run, prepared, ending)

    def _patch(self, left_out: Sequence[str]) -> Json:
        """What the arm leaves out, as a merge patch of the config as submitted."""
        submitted = self._order.asked or {}
        return combine(*(STABILIZERS[name].patch(submitted) for name in left_out))

    def _other_weights(self, model: nn.Module) -> str | None:
        """Why the arm cannot start from the same weights, where its layers are of another size."""
        ours = {name: tuple(each.shape) for name, each in self._initial.named_parameters()}
        theirs = {name: tuple(each.shape) for name, each in model.named_parameters()}
        other = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        if not other:
            return None
        return (
            f"without scaling {other[0]} has another size, so that the training cannot start from the same "
            "weights: single precision cannot tell the unscaled values apart as finely"
        )

    def _outcome(self, run: Run, prepared: Prepared, ending: str) -> Json:
        diverged_at = _diverged_at(run, ending)
        metrics = None
        if diverged_at is None and not torch.isfinite(run.parameters.values).all():
            diverged_at = run.step
        if diverged_at is None:
            metrics = _final_metrics(run, prepared, self._part)
            diverged_at = None if headline(metrics) is not None else run.step
        metrics = metrics if diverged_at is None else None
        readings = run.monitor.readings()
        keep = kept_positions(readings, _POINTS)
        return {
            "steps": run.step,
            "cut_short": ending == "max_seconds",
            "diverged_at": diverged_at,
            "metrics": metrics,
            "loss": _points(readings, "loss", keep),
            "gradient_norm": _points(readings, "global_norm", keep),
            "curve": _curve(run, metrics),
        }

    # ------------------------------------------------------------------------------ events, stopping, keeping

    def _asked(self) -> str | None:
        """Why the job is to end, if it is."""
        if self._stopped is None:
            self._stopped = None if self._hooks.should_stop is None else self._hooks.should_stop()
            if self._hooks.deadline is not None and time.monotonic() >= self._hooks.deadline:
                self._stopped = self._stopped or "deadline"
        return self._stopped

    def _why_stopped(self) -> str:
        reasons = {"cancelled": "the job was cancelled first", "deadline": "the job's time was over first"}
        return reasons.get(self._stopped or "", "the job ended first")

    def _hooks_of(self, run: Run, name: str) -> Hooks:
        """An arm ends after its steps, and of its events nothing but the progress is told."""
        next_told = 0.0

        def stop() -> str | None:
            nonlocal next_told
            if run.step >= self._steps:
                return "steps"
            if (now := time.monotonic()) >= next_told:
                next_told = now + _PROGRESS_SECONDS
                self._progress(name, run.step)
            return self._asked()

        return Hooks(should_stop=stop)

    def _progress(self, name: str, step: int) -> None:
        done = list(ARMS).index(name) + step / self._steps
        place = {"epoch": self._run.view.epoch, "epochs": self._run.budget.epochs}
        counted = {"step": step, "steps": self._steps, "fraction": done / len(ARMS)}
        self._hooks.emit("progress", {"phase": "diagnose", **place, **counted, "eta_seconds": None})

    def _begin(self, name: str) -> None:
        record = {"without": name, "status": "running", "steps": self._steps}
        message = f"counterfactual: {self._steps:,} steps {ARMS[name]}"
        self._hooks.emit("log", {"message": message, "step": 0, "counterfactual": record})

    def _tell(self, arm: Json) -> None:
        series = ("loss", "gradient_norm", "curve")
        record = {key: value for key, value in arm.items() if key not in series}
        data = {"message": _message(arm), "step": arm["steps"] or 0, "counterfactual": record}
        self._hooks.emit("log", data)

    def _keep(self, *, at_once: bool = False) -> None:
        """A checkpoint of the ended training with the arms so far, unless there was one a moment ago."""
        hooks, now = self._run.hooks, time.monotonic()
        if hooks.checkpoint is None:
            return
        if at_once or now - self._saved >= _AT_ARMS * hooks.checkpoint_seconds:
            hooks.checkpoint(checkpoint_of(self._run))
            self._saved = now


def arm_config(config: TrainConfig, left_out: Sequence[str]) -> TrainConfig:
    """The decided config less some stabilizers; an arm ends after its steps and not by patience."""
    for name in left_out:
        config = STABILIZERS[name].without(config)
    return dataclasses.replace(config, budget=dataclasses.replace(config.budget, patience=0))


def _arm(name: str, status: str, reason: str | None = None) -> Json:
    """An arm's record, without what only a run can tell."""
    told = ("steps", "diverged_at", "metrics", "init_digest", "batch_order_digest")
    series: Json = {"loss": [], "gradient_norm": [], "curve": []}
    head: Json = {"without": name, "status": status, "reason": reason, "left_out": [], "patch": None}
    return head | {"cut_short": False} | dict.fromkeys(told) | series


def _message(arm: Json) -> str:
    words = f"counterfactual: {ARMS[arm['without']]}"
    if arm["status"] != "ran":
        return f"{words}: {arm['status'].replace('_', ' ')}, {arm['reason']}"
    if arm["diverged_at"] is not None:
        return f"{words} the training diverged at step {arm['diverged_at']}"
    found = headline(arm["metrics"])
    assert found is not None
    return f"{words} {found[0]} is {found[1]:.6g} after {arm['steps']} steps"


# ------------------------------------------------------------------------------------------------- digests


def init_digest(model: nn.Module) -> str:
    """sha256 of every parameter's name, shape and values, frozen ones too; what was fitted to the data and is
    not learnt, such as the edges of bins, is none of them."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach().cpu().numpy().astype("<f4")
        digest.update(repr((name, values.shape)).encode() + values.tobytes())
    return digest.hexdigest()


def batch_order_digest(run: Run, steps: int) -> str:
    """sha256 of the batches of the first so many steps: the rows of each, as records of the file, in their
    order."""
    digest, left, epoch = hashlib.sha256(), steps, 0
    while left > 0:
        sizes = run.batches.sizes[:left]
        rows = run.rows[run.batches.order(epoch)[: sum(sizes)]]
        digest.update(np.asarray(sizes, "<i8").tobytes() + rows.astype("<i8").tobytes())
        left, epoch = left - len(sizes), epoch + 1
    return digest.hexdigest()


# ------------------------------------------------------------------------------------------------ outcome


def _diverged_at(run: Run, ending: str) -> int | None:
    """The first step whose loss or gradient is not finite, where those ended the arm; else the step at which
    a guard did."""
    if ending != "diverged":
        return None
    event = run.nonfinite_event
    return run.step - 1 if event is None else int(event["step"])


def _final_metrics(run: Run, prepared: Prepared, part: str) -> Json:
    """Of the weights as the steps left them, in target units."""
    with run.judged_weights():
        model = copy.deepcopy(run.model).cpu().eval()
    return metrics_on(model, prepared, getattr(prepared, part))


def _points(readings: Readings, name: str, keep: np.ndarray[Any, Any]) -> list[list[Any]]:
    values = numbers(getattr(readings, name)[keep])
    return [list(pair) for pair in zip(readings.steps[keep].tolist(), values, strict=True)]


def _curve(run: Run, metrics: Json | None) -> list[list[Any]]:
    """[steps taken, metric on the validation rows] after epochs and at the end; null where not finite."""
    name = next((name for name in ("rmse", "pinball", "accuracy") if name in (run.epochs or [{}])[0]), None)
    if name is None:
        return []
    measured = {entry["step"]: entry[name] for entry in run.epochs}
    if metrics is not None and isinstance(metrics.get(name), float):
        measured[run.step] = metrics[name]
    steps = sorted(measured)
    some = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _POINTS)).astype(int))]
    return [
        list(pair) for pair in zip(some, numbers(np.array([measured[step] for step in some])), strict=True)
    ]


def _metric_of(arm: Json) -> str | None:
    found = headline(arm["metrics"])
    return None if found is None else found[0]
