"""READ FIRST: the training loop, and nothing else of the engine.

The order of a step is written here and nowhere else:

    backward → measure → finite guard → clips in order → measure again → optimizer step

The guard stands before the clips, for clipping a gradient whose norm is infinite makes NaN.
"""

from __future__ import annotations

import math

import numpy as np

from gradkeel_worker.engine.actions import Action, RollBack, StopDiverged
from gradkeel_worker.engine.epochs import EpochEnds
from gradkeel_worker.engine.nonfinite import note_nonfinite
from gradkeel_worker.engine.run import Run
from gradkeel_worker.stabilizers.guards import judge


def fit(run: Run) -> str:
    """Train until the budget is spent or something ends it; says what did.

    epochs, patience and max_seconds are ordinary ends; diverged, cancelled and deadline are not; released
    is none, for the run is to go on elsewhere. The best weights are in ``run.keeper`` and what was measured
    in ``run.readings`` whichever it was.
    """
    ends = EpochEnds(run)
    with np.errstate(all="ignore"):  # overflow is measured, not warned about
        ending = run.ending or _epochs(run, ends)
    ends.finish(ending)
    return ending


def _epochs(run: Run, ends: EpochEnds) -> str:
    first, done = run.position  # a run that goes on after an interruption begins where it was
    for epoch in range(first, run.budget.epochs):
        run.model.train()
        ending = _epoch(run, ends, epoch, done if epoch == first else 0) or ends.epoch(epoch)
        if ending is not None:
            return ending
    return "epochs"


def _epoch(run: Run, ends: EpochEnds, epoch: int, done: int) -> str | None:
    """The hot loop. None when the epoch is through, else why the run ends."""
    view, parameters, monitor, optimizer = run.view, run.parameters, run.monitor, run.optimizer
    for batch in run.batches.epoch(epoch, done):
        if (ending := ends.interruption()) is not None:
            return ending
        view.begin(run.step, epoch, batch, run.lr * run.schedule.factor(run.step))
        parameters.zero_gradient()

        loss = run.objective(batch)
        lowered = run.precision.backward(loss, parameters)
        view.measure(loss)
        monitor.measured(view)
        if not math.isfinite(view.loss + view.global_norm):
            note_nonfinite(run)
        actions = judge(run.guards, view)
        view.skipped = bool(actions)
        coefficients = [1.0 if view.skipped else clip(parameters) for clip in run.clips]
        view.measure_again()
        if not view.skipped:
            optimizer.step(view.lr)
        for action in actions:
            if isinstance(action, RollBack):
                _go_back(run, action)
        monitor.stepped(view, coefficients)

        run.step += 1
        ends.stepped(view)
        for action in (*lowered, *actions):
            run.hooks.emit("intervention", monitor.intervened(view, action))
        if _diverged(view.loss, actions):
            return "diverged"
    return None


def _go_back(run: Run, action: RollBack) -> None:
    assert run.last_good is not None
    run.last_good.restore()
    run.lr *= action.lr_factor
    if run.view.updates is not None:
        run.view.updates()  # changes count from the weights as they are now


def _diverged(loss: float, actions: list[Action]) -> bool:
    """A guard has given up; or the loss is not finite, the weights will not come back, and no guard minds."""
    if actions:
        return any(isinstance(action, StopDiverged) for action in actions)
    return not math.isfinite(loss)
