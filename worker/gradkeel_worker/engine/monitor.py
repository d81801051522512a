"""Monitor: asks each probe when it is due, keeps the answers, and accounts for what asking costs."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradkeel_worker.engine.actions import Action, SkipStep
from gradkeel_worker.engine.readings import Readings, Sparse
from gradkeel_worker.engine.view import StepView
from gradkeel_worker.probes import PROBES
from gradkeel_worker.probes.work import Due, Work

_TIMED_STEPS, _TIMED_EVERY = 64, 64
"""Probes are timed at the first 64 steps and at every 64th after those."""
_MAX_INTERVENTIONS = 1000
"""So many skipped steps are listed one by one; ``Readings.skipped`` has them all."""

_TYPES = {"nonfinite": "q"}
"""Array type codes of numbers that are not float64."""

_CLOCK = float(np.median([-(time.perf_counter() - time.perf_counter()) for _ in range(101)]))
"""What reading the clock adds to every timed call, in seconds."""

Ask = tuple[Callable[[StepView], Any], Callable[[Any], None], str]


class Monitor:
    """``probes``: names in PROBES, in the order they are asked. ``work``: what the steps at which series are
    taken are planned from, once and for the whole run."""

    def __init__(
        self, view: StepView, probes: Sequence[str], work: Work, clips: Iterable[tuple[str, float]]
    ) -> None:
        layers = len(view.parameters.layers)
        self._clips = tuple(clips)
        self._numbers = {n: array(_TYPES.get(n, "d")) for n in probes if PROBES[n].shape == "number"}
        self._blocks = {
            n: _Blocks(layers if PROBES[n].shape == "layers" else 1)
            for n in probes
            if PROBES[n].shape in ("layers", "scalar")
        }
        self._series: dict[str, _Series] = {}
        self._steps, self._epochs, self._skipped = array("q"), array("q"), array("b")
        self._coefficients = array("d")
        self._interventions: list[dict[str, Any]] = []
        self._asks = {moment: self._plan(probes, moment) for moment in ("measured", "stepped")}
        self._rare = {n: PROBES[n].due(work) for n in probes if PROBES[n].shape == "series"}
        self._notes = [
            f"{name} was not measured: one call would cost too much of so short a training"
            for name, due in self._rare.items()
            if due is None
        ]
        self._timed = {name: array("d") for name in probes}
        self._readings = Readings(
            layers=tuple(layer.name for layer in view.parameters.layers),
            layer_sizes=tuple(layer.size for layer in view.parameters.layers),
        )
        if "update_ratio" in probes:
            view.updates = view.parameters.track_updates()

    def _plan(self, probes: Sequence[str], moment: str) -> list[Ask]:
        chosen = [n for n in probes if PROBES[n].moment == moment and PROBES[n].shape != "series"]
        columns: dict[str, Any] = {**self._numbers, **self._blocks}
        return [(PROBES[name].look, columns[name].append, name) for name in chosen]

    # ------------------------------------------------------------------------------------ during a step

    def measured(self, view: StepView) -> None:
        """After backward, before guards and clips."""
        self._ask("measured", view)
        for name, due in self._rare.items():
            if due is not None and due.at(view.step):
                self._ask_rare(name, view)

    def stepped(self, view: StepView, coefficients: Sequence[float]) -> None:
        """After the optimizer step, or after it was skipped."""
        self._ask("stepped", view)
        self._steps.append(view.step)
        self._epochs.append(view.epoch)
        self._skipped.append(view.skipped)
        self._coefficients.extend(coefficients)

    def _ask(self, moment: str, view: StepView) -> None:
        if view.step < _TIMED_STEPS or view.step % _TIMED_EVERY == 0:
            self._ask_timed(moment, view)
            return
        for look, keep, _ in self._asks[moment]:
            keep(look(view))

    def _ask_timed(self, moment: str, view: StepView) -> None:
        for look, keep, name in self._asks[moment]:
            start = time.perf_counter()
            keep(look(view))
            self._timed[name].append(time.perf_counter() - start)

    def _ask_rare(self, name: str, view: StepView) -> None:
        start = time.perf_counter()
        try:
            found = PROBES[name].look(view)
        except RuntimeError as error:
            # A caller's own layer or loss may have no second derivative, or memory be short: the training
            # goes on without the probe, and the report says so.
            self._rare[name] = None
            self._notes.append(f"{name} was not measured from step {view.step} on: {error}")
            return
        for series, (names, values) in found.items():
            if names:
                self._series.setdefault(series, _Series(names)).append(view.step, values)
        self._timed[name].append(time.perf_counter() - start)

    def intervened(self, view: StepView, action: Action) -> dict[str, Any]:
        """Note an action that was carried out; its record comes back."""
        record = {"step": view.step, "action": action.name, "reason": action.reason, "effect": action.effect}
        if len(self._interventions) < _MAX_INTERVENTIONS or not isinstance(action, SkipStep):
            self._interventions.append(record)
        return record

    def latest(self, probe: str) -> list[float]:
        """What a probe by layer last read, [layers]; empty where it has read nothing."""
        return self._blocks[probe].latest() if probe in self._blocks else []

    # ----------------------------------------------------------------------------------- for checkpoints

    def state(self) -> dict[str, Any]:
        """Everything measured so far, as it was measured."""
        return {
            "columns": {name: np.array(column) for name, column in self._columns().items()},
            "layers": {name: blocks.rows() for name, blocks in self._blocks.items()},
            "series": {name: each.state() for name, each in self._series.items()},
            "schedule": {n: None if due is None else [due.first, due.every] for n, due in self._rare.items()},
            "notes": list(self._notes),
            "interventions": list(self._interventions),
        }

    def load(self, state: dict[str, Any], view: StepView) -> None:
        """Go on from a ``state``, on a monitor that has measured nothing yet; the weights are in place."""
        for name, column in self._columns().items():
            column.frombytes(state["columns"][name].tobytes())
        for name, blocks in self._blocks.items():
            blocks.load(state["layers"][name])
        self._series = {name: _Series.load(each) for name, each in state["series"].items()}
        self._rare = {name: None if due is None else Due(*due) for name, due in state["schedule"].items()}
        self._notes = list(state["notes"])
        self._interventions = list(state["interventions"])
        if view.updates is not None:
            view.updates()  # changes count from the weights as they are now

    def _columns(self) -> dict[str, array[Any]]:
        """What grows by numbers, by a name of its own each."""
        own: dict[str, array[Any]] = {
            "steps": self._steps,
            "epochs": self._epochs,
            "skipped": self._skipped,
            "coefficients": self._coefficients,
        }
        numbers = {f"number/{name}": column for name, column in self._numbers.items()}
        seconds = {f"seconds/{name}": column for name, column in self._timed.items()}
        return {**own, **numbers, **seconds}

    # ------------------------------------------------------------------------------------ between epochs

    def readings(self) -> Readings:
        """Everything measured so far. What lies on a device is fetched here, in one copy a series."""
        result = self._readings
        result.steps, result.epoch = np.array(self._steps), np.array(self._epochs)
        result.skipped = np.array(self._skipped, np.bool_)
        for name, column in self._numbers.items():
            setattr(result, name, np.array(column))
        for name, blocks in self._blocks.items():
            rows = blocks.rows()
            setattr(result, name, rows[:, 0].astype(np.float64) if PROBES[name].shape == "scalar" else rows)
        result.sparse = {name: each.reading() for name, each in self._series.items()}
        result.notes = list(self._notes)
        result.clipping = self._clipping()
        result.interventions = list(self._interventions)
        result.seconds_by_probe = {name: self._seconds(name) for name in self._timed}
        result.seconds_monitoring = math.fsum(result.seconds_by_probe.values())
        result.initial = self._initial(result)
        return result

    def _seconds(self, probe: str) -> float:
        """A typical call's time by the number of calls: one call that the machine held up, the first of its
        kind above all, says nothing about the others."""
        timed = self._timed[probe]
        if not timed:
            return 0.0
        calls = len(timed) if probe in self._rare else len(self._steps)
        return max(0.0, float(np.median(timed)) - _CLOCK) * calls

    def _clipping(self) -> list[dict[str, Any]]:
        table = np.array(self._coefficients).reshape(len(self._steps), len(self._clips))
        return [
            {"kind": kind, "limit": limit, "fired": table[:, i] != 1, "coefficients": table[:, i]}
            for i, (kind, limit) in enumerate(self._clips)
        ]

    def _initial(self, readings: Readings) -> dict[str, Any]:
        initial: dict[str, Any] = {"loss": float(readings.loss[0]) if len(readings.loss) else None}
        if "activation_std" in readings.sparse:
            steps, values, names = readings.sparse["activation_std"]
            if len(steps) and steps[0] == 0:
                initial["activation_std"] = dict(zip(names, values[0].tolist(), strict=True))
        return initial


class _Blocks:
    """Rows of ``width`` numbers, one a step: wherever they lie until ``rows`` packs them to float32."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._packed = [np.zeros((0, width), np.float32)]
        self._new: list[Any] = []
        self.append = self._new.append

    def load(self, rows: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        """Begin with rows from before."""
        self._packed = [rows.copy()]

    def rows(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """All rows so far, [s, width]."""
        if self._new:
            with np.errstate(over="ignore"):
                self._packed.append(_on_host(self._new).astype(np.float32).reshape(-1, self._width))
            self._new.clear()
            self._packed = [np.concatenate(self._packed)]
        return self._packed[0]

    def latest(self) -> list[float]:
        """The row of the latest step; empty before the first."""
        row = _on_host(self._new[-1:]) if self._new else self._packed[-1][-1:]
        return [float(value) for value in np.ravel(row)]


class _Series:
    """What was measured of ``names`` at some steps, float64 [m, names]."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names, self.steps = names, array("q")
        self._packed = [np.zeros((0, len(names)))]
        self._new: list[Tensor] = []

    def append(self, step: int, values: Tensor) -> None:
        self.steps.append(step)
        self._new.append(values)

    def rows(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        if self._new:
            self._packed = [np.concatenate([*self._packed, _on_host(self._new)])]
            self._new.clear()
        return self._packed[0]

    def reading(self) -> Sparse:
        with np.errstate(over="ignore"):
            return np.array(self.steps, np.int64), self.rows().astype(np.float32), self.names

    def state(self) -> dict[str, Any]:
        return {"names": list(self.names), "steps": list(self.steps), "rows": self.rows()}

    @classmethod
    def load(cls, state: dict[str, Any]) -> _Series:
        """One that goes on from a ``state``."""
        series = cls(tuple(state["names"]))
        series.steps.extend(state["steps"])
        series._packed = [state["rows"].copy()]
        return series


def _on_host(rows: list[Any]) -> np.ndarray[Any, Any]:
    """Rows as one array; in one copy where they lie on a device. Numbers may stand among tensors."""
    tensors = [row for row in rows if isinstance(row, Tensor)]
    if not tensors:
        return np.asarray(rows)
    like = tensors[0]
    together = [row if isinstance(row, Tensor) else torch.full_like(like, row) for row in rows]
    return torch.stack(together).detach().cpu().numpy()
