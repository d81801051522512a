"""What happens around the steps: stopping, progress, validation, early stopping, checkpoints."""

from __future__ import annotations

import math
import time
from typing import Any

from gradkeel_worker.engine.checkpoint import checkpoint_of
from gradkeel_worker.engine.run import Run
from gradkeel_worker.engine.view import StepView

_READING_SECONDS = 0.1
_EPOCH_SECONDS = 0.05
"""Between two epoch events: tiny epochs would flood those who listen. The report has every epoch."""
_SPOOL_SECONDS, _SHORTEST_SPOOL_SECONDS = 2.0, 0.5
_LAYERS_SECONDS, _TOLD_LAYERS = 2.0, 48
"""So often so many layers, evenly spread, are told of while a job runs; the report has every one."""
_LAYERED = {"norm": "layer_norm", "update_ratio": "update_ratio"}
_AT_EPOCHS = 0.1
"""Checkpoints at ends of epochs may follow one another after this part of ``checkpoint_seconds``."""
_PAUSE = 20.0
"""A checkpoint that took long is followed by a pause of so many times as long."""


class EpochEnds:
    """Keeps the clock of a run and closes its epochs."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._next_reading = self._next_epoch = self._next_layers = self._last_spool = 0.0
        self._should_stop = run.hooks.should_stop
        self._deadline = math.inf if run.hooks.deadline is None else run.hooks.deadline
        self._ends_at = run.ends_at
        self._checkpoint_at = self._epoch_checkpoint_at = 0.0
        begun = (run.folds is not None and run.folds.done) or (run.repairs is not None and run.repairs.begun)
        self._saved_step = -1 if begun else 0  # before it lies nothing
        self._plan_checkpoints(time.monotonic(), 0.0)

    # -------------------------------------------------------------------------------------- every step

    def interruption(self) -> str | None:
        """Why the run has to end before the next step, if it has to."""
        now = time.monotonic()
        if now >= self._ends_at and self._run.step:
            return "max_seconds"
        if now >= self._deadline:
            return "deadline"
        if now >= self._checkpoint_at:
            self._checkpoint()
        reason = None if self._should_stop is None else self._should_stop()
        if reason == "released":
            self._checkpoint()
        return reason

    def stepped(self, view: StepView) -> None:
        """Count the step's loss; now and then tell the world."""
        if math.isfinite(view.loss):
            self._run.loss_sum += view.loss
            self._run.losses += 1
        now = time.monotonic()
        if now >= self._next_reading:
            self._next_reading = now + _READING_SECONDS
            self._tell(view, now)

    def _tell(self, view: StepView, now: float) -> None:
        run = self._run
        names = ("step", "epoch", "loss", "global_norm", "clipped_norm", "lr")
        told: dict[str, Any] = {name: _json_number(getattr(view, name)) for name in names}
        if now >= self._next_layers:
            self._next_layers = now + _LAYERS_SECONDS
            told |= _by_layer(run)
        run.hooks.emit("reading", told)
        run.hooks.emit("progress", self._progress(now))
        if now - self._last_spool >= _SPOOL_SECONDS:
            self._spool(now)

    def _progress(self, now: float) -> dict[str, Any]:
        run = self._run
        fraction = run.step / run.planned_steps
        elapsed = run.seconds
        eta = elapsed / fraction - elapsed if fraction else None
        return {
            "phase": "train",
            "epoch": run.view.epoch,
            "epochs": run.budget.epochs,
            "step": run.step,
            "steps": run.planned_steps,
            "fraction": fraction,
            "eta_seconds": eta if eta is None else min(eta, max(0.0, self._ends_at - now)),
        }

    def _spool(self, now: float) -> None:
        self._last_spool = now
        self._gather()
        if self._run.hooks.spool is not None:
            self._run.hooks.spool(self._run.readings)

    # ------------------------------------------------------------------------------------- checkpoints

    def _checkpoint(self) -> None:
        """Hand out what the run could go on from, unless that was done at this step before."""
        hooks, begun = self._run.hooks, time.monotonic()
        if hooks.checkpoint is None or self._saved_step == self._run.step:
            return
        hooks.checkpoint(checkpoint_of(self._run))
        self._saved_step = self._run.step
        self._plan_checkpoints(time.monotonic(), _PAUSE * (time.monotonic() - begun))

    def _plan_checkpoints(self, now: float, pause: float) -> None:
        hooks = self._run.hooks
        seconds = math.inf if hooks.checkpoint is None else hooks.checkpoint_seconds
        self._checkpoint_at = now + max(seconds, pause)
        self._epoch_checkpoint_at = now + max(_AT_EPOCHS * seconds, pause)

    # ------------------------------------------------------------------------------------- every epoch

    def epoch(self, epoch: int) -> str | None:
        """Evaluate, offer the weights, report, make a checkpoint; says why the run ends, if it does."""
        run = self._run
        self._close(epoch)
        patience = run.budget.patience
        if run.validation is not None and patience and run.keeper.epochs_since_best >= patience:
            run.ending = "patience"
        if run.ending is None and run.watch is not None and self._is_critical(epoch):
            run.ending = "critical"
        if time.monotonic() >= self._epoch_checkpoint_at:
            self._checkpoint()
        return run.ending

    def _is_critical(self, epoch: int) -> bool:
        """Whether the run is to end for a repair; not every epoch asks, for asking reads all readings."""
        run = self._run
        if run.watch is None or epoch + 1 == run.budget.epochs or not is_due(epoch):
            return False
        self._gather()
        return run.watch(run)

    def _close(self, epoch: int) -> None:
        run = self._run
        with run.judged_weights():
            entry = self._entry(epoch)
            judged = entry["train_loss"] if run.validation is None else entry["validation_loss"]
            judged = math.nan if judged is None else judged
            entry["best"] = run.keeper.offer(epoch, run.step, judged)
        if run.last_good is not None:
            run.last_good.offer(judged)
        run.schedule.epoch_ended(judged)
        run.epochs.append(entry)
        now = time.monotonic()
        if now >= self._next_epoch or epoch + 1 == run.budget.epochs:
            self._next_epoch = now + _EPOCH_SECONDS
            run.hooks.emit("epoch", {name: _json_number(value) for name, value in entry.items()})
        if now - self._last_spool >= _SHORTEST_SPOOL_SECONDS:
            self._spool(now)

    def _entry(self, epoch: int) -> dict[str, Any]:
        run = self._run
        train_loss = run.loss_sum / run.losses if run.losses else None
        run.loss_sum, run.losses = 0.0, 0
        entry = {
            "epoch": epoch,
            "step": run.step,
            "train_loss": train_loss,
            "validation_loss": None,
            "global_norm": run.view.global_norm,
            "lr": run.view.lr,
        }
        if run.validation is not None:
            run.model.eval()
            entry["validation_loss"], outputs = run.objective.mean(run.validation, run.usable)
            entry |= run.score(outputs)
        return entry

    def finish(self, ending: str) -> None:
        """Close the run: an epoch cut short by max_seconds still counts; then the last readings."""
        run = self._run
        if ending == "max_seconds" and run.losses:
            self._close(run.view.epoch)
        run.readings.stopped_by = ending
        self._spool(time.monotonic())

    def _gather(self) -> None:
        run = self._run
        run.readings = run.monitor.readings()
        run.readings.epochs = run.epochs
        run.readings.nonfinite_event = run.nonfinite_event
        run.readings.repairs = [] if run.repairs is None else list(run.repairs.entries)
        run.readings.best_epoch = None if run.keeper.best is None else run.keeper.best.epoch
        run.readings.seconds_training = run.seconds


def is_due(epoch: int) -> bool:
    """Whether the readings are judged after this epoch, from 0: after each of the first eight, then four
    times while their number doubles, so that all judging together costs a few times the last."""
    stretch = 1 << max(0, (epoch + 1).bit_length() - 3)
    return (epoch + 1) % stretch == 0


def _by_layer(run: Run) -> dict[str, Any]:
    """The latest gradient norm and update ratio of each layer; nothing where none was read."""
    names = run.readings.layers
    chosen = sorted({round(i * (len(names) - 1) / (_TOLD_LAYERS - 1)) for i in range(_TOLD_LAYERS)})
    latest = {key: run.monitor.latest(probe) for key, probe in _LAYERED.items()}
    told = {key: [_json_number(row[i]) for i in chosen] for key, row in latest.items() if row}
    return {"layers": {"names": [names[i] for i in chosen], **told}} if told else {}


def _json_number(value: Any) -> Any:
    """Events are strict JSON: a number that is not finite is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
