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
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.engine.view import StepView
from gradkeel_worker.probes import PROBES

_TIMED_STEPS, _TIMED_EVERY = 64, 64
"""Probes are timed at the first 64 steps and at every 64th after those."""
_MAX_INTERVENTIONS = 1000
"""So many skipped steps are listed one by one; ``Readings.skipped`` has them all."""

_TYPES = {"nonfinite": "q"}
"""Array type codes of numbers that are not float64."""

_CLOCK = float(np.median([-(time.perf_counter() - time.perf_counter()) for _ in range(101)]))
"""What reading the clock adds to every timed call, in seconds."""

Ask = tuple[Callable[[StepView], Any], Callable[[Any], None], str]


def interval(steps: int) -> int:
    """Every how many steps series are taken in a run of ``steps``: 10 times or more, every 10 to 100 steps.

    A side pass costs about a quarter of a step, so that it stays under 1 % of runs that matter. It
    depends on the planned number of steps alone, never on a clock, so that a rerun reports the same.
    """
    return min(100, max(10, steps // 10))


class Monitor:
    """``probes``: names in PROBES, in the order they are asked. ``every``: steps between series."""

    def __init__(
        self, view: StepView, probes: Sequence[str], every: int, clips: Iterable[tuple[str, float]]
    ) -> None:
        self._every = every
        self._clips = tuple(clips)
        self._numbers = {n: array(_TYPES.get(n, "d")) for n in probes if PROBES[n].shape == "number"}
        self._rows: dict[str, list[Any]] = {n: [] for n in probes if PROBES[n].shape == "layers"}
        self._blocks = {name: _Blocks() for name in self._rows}
        self._series: dict[str, tuple[tuple[str, ...], list[int], list[list[float]]]] = {}
        self._steps, self._epochs, self._skipped = array("q"), array("q"), array("b")
        self._coefficients = array("d")
        self._interventions: list[dict[str, Any]] = []
        self._asks = {moment: self._plan(probes, moment) for moment in ("measured", "stepped")}
        self._rare = [name for name in probes if PROBES[name].shape == "series"]
        self._timed = {name: array("d") for name in probes}
        self._readings = Readings(
            layers=tuple(layer.name for layer in view.parameters.layers),
            layer_sizes=tuple(layer.size for layer in view.parameters.layers),
        )
        if "update_ratio" in probes:
            view.updates = view.parameters.track_updates()

    def _plan(self, probes: Sequence[str], moment: str) -> list[Ask]:
        chosen = [n for n in probes if PROBES[n].moment == moment and PROBES[n].shape != "series"]
        columns: dict[str, Any] = {**self._numbers, **self._rows}
        return [(PROBES[name].look, columns[name].append, name) for name in chosen]

    # ------------------------------------------------------------------------------------ during a step

    def measured(self, view: StepView) -> None:
        """After backward, before guards and clips."""
        self._ask("measured", view)
        if self._rare and view.step % self._every == 0:
            self._ask_rare(view)

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

    def _ask_rare(self, view: StepView) -> None:
        for name in self._rare:
            start = time.perf_counter()
            for series, (names, values) in PROBES[name].look(view).items():
                if names:
                    _, steps, rows = self._series.setdefault(series, (names, [], []))
                    steps.append(view.step)
                    rows.append(values)
            self._timed[name].append(time.perf_counter() - start)

    def intervened(self, view: StepView, action: Action) -> dict[str, Any]:
        """Note an action that was carried out; its record comes back."""
        record = {"step": view.step, "action": action.name, "reason": action.reason, "effect": action.effect}
        if len(self._interventions) < _MAX_INTERVENTIONS or not isinstance(action, SkipStep):
            self._interventions.append(record)
        return record

    # ----------------------------------------------------------------------------------- for checkpoints

    def state(self) -> dict[str, Any]:
        """Everything measured so far, as it was measured."""
        layers = len(self._readings.layers)
        return {
            "columns": {name: np.array(column) for name, column in self._columns().items()},
            "layers": {n: blocks.with_rows(self._rows[n], layers) for n, blocks in self._blocks.items()},
            "series": {
                name: {"names": list(names), "steps": steps, "rows": np.asarray(rows, np.float64)}
                for name, (names, steps, rows) in self._series.items()
            },
            "interventions": list(self._interventions),
        }

    def load(self, state: dict[str, Any], view: StepView) -> None:
        """Go on from a ``state``, on a monitor that has measured nothing yet; the weights are in place."""
        for name, column in self._columns().items():
            column.frombytes(state["columns"][name].tobytes())
        for name, blocks in self._blocks.items():
            blocks.load(state["layers"][name])
        self._series = {
            name: (tuple(each["names"]), list(each["steps"]), each["rows"].tolist())
            for name, each in state["series"].items()
        }
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
            setattr(result, name, blocks.with_rows(self._rows[name], len(result.layers)))
        result.sparse = {
            name: (np.asarray(steps, np.int64), np.asarray(rows, np.float32), names)
            for name, (names, steps, rows) in self._series.items()
        }
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
    """Rows of one number per layer, packed to float32 blocks as they come in from ``readings``."""

    def __init__(self) -> None:
        self._packed: list[np.ndarray[Any, np.dtype[np.float32]]] = []

    def load(self, rows: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        """Begin with rows from before."""
        self._packed = [rows.copy()]

    def with_rows(self, rows: list[Any], layers: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """All rows so far, [s, layers]; ``rows`` is emptied."""
        if rows:
            new = torch.stack(rows).cpu().numpy() if isinstance(rows[0], Tensor) else np.asarray(rows)
            with np.errstate(over="ignore"):
                self._packed.append(new.astype(np.float32).reshape(-1, layers))
            rows.clear()
        if not self._packed:
            return np.zeros((0, layers), np.float32)
        self._packed = [np.concatenate(self._packed)]
        return self._packed[0]
