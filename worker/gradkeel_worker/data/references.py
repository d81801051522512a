"""What a forecast is a change from: an earlier value of the target, to which the network's output is added.

A network that predicts levels has to learn the identity first, and beyond the levels that it was trained on
it cannot go: a series with a trend leaves them. One that predicts changes begins at the naive forecast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradkeel.contract.config import TrainConfig, Windowed
from gradkeel.contract.resolve import no_change
from gradkeel_worker.data.errors import fault
from gradkeel_worker.data.preparation import VALUE, Preparation
from gradkeel_worker.data.scalers import TargetTransform
from gradkeel_worker.data.table import Array, Floats
from gradkeel_worker.data.target import FORECAST

if TYPE_CHECKING:
    from gradkeel_worker.data.prepared import Part

NONE, LAST, SEASON, AUTO = "none", "last", "season", "auto"

LONGEST_SEASON = 400
PLAIN = 0.3
"""Autocorrelation of the changes from row to row from which a season counts as plain."""
_CHANCE = 4.0
"""So many standard errors (1 / √rows) are no chance even of the largest of many autocorrelations."""
_NEARLY = 0.9
"""The shortest of the seasons that come so near to the strongest is taken: its multiples are seasons too."""


@dataclass(frozen=True)
class Reference:
    """The target's value ``back`` rows before the last one of a window, as column ``column`` of x has it:
    slope · x + offset is that value in the model's unit, ``drift`` the mean of the training targets' changes
    from it, which an output of 0 stands for. ``spread``: what a change of 1 of the network's
    output is in that unit: the standard deviation of the training targets' changes, unless the unit itself
    was made that (``in_changes``)."""

    column: int
    back: int
    slope: float
    offset: float
    spread: float
    drift: float = 0.0

    def of(self, train: Part) -> Floats:
        """The value and the drift for each training row, [n], in the model's unit."""
        assert train.windows is not None
        past = train.windows.x[train.windows.ends - self.back, self.column].astype(np.float64)
        return np.asarray(self.slope * past + self.offset + self.drift)


def in_changes(reference: Reference, target: TargetTransform) -> tuple[Reference, TargetTransform]:
    """A scaled target scaled so that its changes have a standard deviation of 1: the unit of losses, of
    gradients and of Huber's delta is then that of what the network predicts. Under none nothing is scaled; a
    logarithm has no scale, and the network's output has one instead."""
    if target.kind == "log1p":
        return reference, target
    if target.kind == "none":
        return replace(reference, spread=1.0, drift=0.0), target
    moved = {name: getattr(reference, name) / reference.spread for name in ("slope", "offset", "drift")}
    return replace(reference, spread=1.0, **moved), replace(target, scale=target.scale * reference.spread)


@dataclass(frozen=True)
class Found:
    """What ``model.change_from`` stands for, and why; ``reference`` is None where it is none."""

    kind: str
    reference: Reference | None = None
    reason: str = ""


def find_reference(
    config: TrainConfig, preparation: Preparation, target: TargetTransform, train: Part
) -> Found:
    """By the training part alone. auto: the one whose changes spread least, none where the targets themselves
    spread less. Raises DataError for a season that there is not, or that the window does not hold."""
    model = config.model
    if not isinstance(model, Windowed) or config.task != FORECAST or model.change_from == NONE:
        return Found(NONE)
    column = _past(preparation, config.targets[0])
    complaint = no_change(config)
    if complaint is not None or column is None:
        return Found(NONE, reason=f"auto: {complaint or 'the past of the target is all one value'}")
    back = _backs(model, train)
    if model.change_from == SEASON and SEASON not in back:
        raise _no_season(model, train)
    kinds = {LAST: 0, **back} if model.change_from == AUTO else {LAST: 0, **back}[model.change_from]
    places = kinds if isinstance(kinds, dict) else {model.change_from: kinds}
    found = {kind: _reference(column, rows, preparation, target, train) for kind, rows in places.items()}
    return _least(found, float(np.std(train.y)), chosen=model.change_from == AUTO)


def _least(found: dict[str, Reference], level: float, *, chosen: bool) -> Found:
    """The reference whose changes spread least."""
    kind = min(found, key=lambda each: found[each].spread)
    if not chosen:
        return Found(kind, found[kind])
    shares = {each: one.spread / level for each, one in found.items()}
    told = " and ".join(f"from the {_WORDS[each]} {share:.2g}" for each, share in shares.items())
    reason = f"auto: of the training targets' standard deviation, changes have {told}"
    return Found(kind, found[kind], reason) if found[kind].spread < level else Found(NONE, reason=reason)


_WORDS = {LAST: "last value", SEASON: "value one season back"}


def _past(preparation: Preparation, target: str) -> int | None:
    """The column of x that is the target's past; None where it was left out as constant."""
    values = enumerate(preparation.values)
    return next((i for i, value in values if value.source == target and value.part == VALUE), None)


def _backs(model: Windowed, train: Part) -> dict[str, int]:
    """How far before the end of a window the last step lies that is whole seasons before the one predicted;
    empty without a plain season, or where the window does not reach so far."""
    length = season(train)
    back = None if length is None else seasons_back(length, model.horizon)
    return {} if back is None or back >= model.window else {SEASON: back}


def seasons_back(length: int, lead: int) -> int:
    """Rows before a forecast's origin of the last row known then that lies whole seasons before the one that
    is predicted."""
    return length * -(-lead // length) - lead


def _reference(
    column: int, back: int, preparation: Preparation, target: TargetTransform, train: Part
) -> Reference:
    """x is (v − center) / scale of a value or its logarithm, and the model's unit another of the same."""
    slope = float(preparation.scale[column] / target.scale)
    offset = float((preparation.center[column] - target.center) / target.scale)
    plain = Reference(column, back, slope, offset, 1.0)
    changes = train.y.astype(np.float64) - plain.of(train)
    changes = changes[np.isfinite(changes)]
    spread, drift = float(np.std(changes)), float(np.mean(changes))
    return Reference(column, back, slope, offset, spread if 0 < spread < np.inf else 1.0, drift)


def _no_season(model: Windowed, train: Part) -> Exception:
    length = season(train)
    if length is None:
        detail = "no season is plain in the training targets; use last, or auto"
        return fault("no_season", detail, pointer="/model/change_from")
    needed = seasons_back(length, model.horizon) + 1
    detail = f"a season has {length} rows, and a window of {model.window} does not hold the one before"
    return fault("window_too_short", f"{detail}; use {needed} rows or more", pointer="/model/window")


# ------------------------------------------------------------------------------------------------- seasons


def season(train: Part) -> int | None:
    """Rows of a season of the training targets, by the autocorrelation of their changes from row to row in
    the longest stretch of one series; None where none is plain."""
    changes = np.diff(_longest_stretch(train))
    most = min(LONGEST_SEASON, len(changes) // 3)
    if most < 3 or not changes.std() > 0:
        return None
    found = _autocorrelation(changes, most + 1)
    lags = np.arange(2, most + 1)
    plain = max(PLAIN, _CHANCE / np.sqrt(len(changes)))
    peaks = lags[(found[lags] > found[lags - 1]) & (found[lags] >= found[lags + 1]) & (found[lags] >= plain)]
    if not len(peaks):
        return None
    return int(peaks[found[peaks] >= _NEARLY * found[peaks].max()][0])


def _longest_stretch(train: Part) -> Array:
    """Targets of the most training rows that follow one another in a series."""
    windows = train.windows
    assert windows is not None
    order = np.argsort(windows.ends)
    ends = windows.ends[order]
    cuts = np.flatnonzero((np.diff(ends) != 1) | (np.diff(windows.start[ends]) != 0)) + 1
    return np.asarray(max(np.split(train.y_raw[order], cuts), key=len), np.float64)


def _autocorrelation(values: Array, lags: int) -> Array:
    """Of lags 0 to ``lags``, by way of the spectrum (Wiener-Khinchin), padded so that nothing goes round."""
    centred = values - values.mean()
    size = 1 << (2 * len(centred) - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size)) ** 2
    found = np.fft.irfft(power, size)[: lags + 1]
    return np.asarray(found / found[0])
