"""What happens around the steps: stopping, progress, validation, early stopping, checkpoints."""

from __future__ import annotations

import math
import time
from typing import Any

from gradkeel_worker.engine.run import Run
from gradkeel_worker.engine.view import StepView

_READING_SECONDS = 0.1
_EPOCH_SECONDS = 0.05
"""Between two epoch events: tiny epochs would flood those who listen. The report has every epoch."""
_SPOOL_SECONDS, _SHORTEST_SPOOL_SECONDS = 2.0, 0.5


class EpochEnds:
    """Keeps the clock of a run and closes its epochs."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._loss_sum, self._losses = 0.0, 0
        self._next_reading = self._next_epoch = self._last_spool = 0.0
        self._should_stop = run.hooks.should_stop
        self._deadline = math.inf if run.hooks.deadline is None else run.hooks.deadline
        self._ends_at = run.ends_at

    # -------------------------------------------------------------------------------------- every step

    def interruption(self) -> str | None:
        """Why the run has to end before the next step, if it has to."""
        now = time.monotonic()
        if now >= self._ends_at and self._run.step:
            return "max_seconds"
        if now >= self._deadline:
            return "deadline"
        return None if self._should_stop is None else self._should_stop()

    def stepped(self, view: StepView) -> None:
        """Count the step's loss; now and then tell the world."""
        if math.isfinite(view.loss):
            self._loss_sum += view.loss
            self._losses += 1
        now = time.monotonic()
        if now >= self._next_reading:
            self._next_reading = now + _READING_SECONDS
            self._tell(view, now)

    def _tell(self, view: StepView, now: float) -> None:
        run = self._run
        names = ("step", "epoch", "loss", "global_norm", "clipped_norm", "lr")
        run.hooks.emit("reading", {name: _json_number(getattr(view, name)) for name in names})
        run.hooks.emit("progress", self._progress(now))
        if now - self._last_spool >= _SPOOL_SECONDS:
            self._spool(now)

    def _progress(self, now: float) -> dict[str, Any]:
        run = self._run
        fraction = run.step / run.planned_steps
        elapsed = now - run.started
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

    # ------------------------------------------------------------------------------------- every epoch

    def epoch(self, epoch: int) -> str | None:
        """Evaluate, offer a checkpoint, report; says why the run ends, if it does."""
        run = self._run
        entry = self._entry(epoch)
        judged = entry["train_loss"] if run.validation is None else entry["validation_loss"]
        judged = math.nan if judged is None else judged
        entry["best"] = run.keeper.offer(epoch, run.step, judged)
        run.schedule.epoch_ended(judged)
        run.epochs.append(entry)
        now = time.monotonic()
        if now >= self._next_epoch or epoch + 1 == run.budget.epochs:
            self._next_epoch = now + _EPOCH_SECONDS
            run.hooks.emit("epoch", {name: _json_number(value) for name, value in entry.items()})
        if now - self._last_spool >= _SHORTEST_SPOOL_SECONDS:
            self._spool(now)
        patience = run.budget.patience
        if run.validation is not None and patience and run.keeper.epochs_since_best >= patience:
            return "patience"
        return None

    def _entry(self, epoch: int) -> dict[str, Any]:
        run = self._run
        train_loss = self._loss_sum / self._losses if self._losses else None
        self._loss_sum, self._losses = 0.0, 0
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
        if ending == "max_seconds" and self._losses:
            self.epoch(run.view.epoch)
        self._spool(time.monotonic())
        run.readings.stopped_by = ending

    def _gather(self) -> None:
        run = self._run
        run.readings = run.monitor.readings()
        run.readings.epochs = run.epochs
        run.readings.nonfinite_event = run.nonfinite_event
        run.readings.best_epoch = None if run.keeper.best is None else run.keeper.best.epoch
        run.readings.seconds_training = time.monotonic() - run.started


def _json_number(value: Any) -> Any:
    """Events are strict JSON: a number that is not finite is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
