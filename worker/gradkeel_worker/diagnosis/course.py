"""The course of a run, read off its readings: where it blew up, how large its steps were. numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gradkeel_worker.engine.readings import Readings

Array = np.ndarray[Any, Any]

EARLY_STEPS = 10
EARLY_FACTOR = 100.0
"""Growth of loss or norm within the first EARLY_STEPS that is never normal."""
MEDIAN_FACTOR = 10.0
LEAP = 0.3
"""Update ratio beyond which a step hardly depends on the weights it starts from."""
_BLOCK = 32
_ROWS_IN_A_ROW = 24
"""Rows that large norms in a row have to come from: those of a few rows may all be odd ones."""
CHECKS = (60, 20, 10)
"""Into so many stretches a run is cut when the loss is watched for doubling."""
DOUBLINGS = 5
DEPTH_RATIO = 1e4


@dataclass(frozen=True)
class Explosion:
    """Where and how a run blew up. ``index`` is a position in the readings, ``factor`` the growth seen."""

    index: int
    sign: str
    factor: float


def finite_median(values: Array) -> float | None:
    """Median of the finite values; None where there are none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _normalised(readings: Readings, steps: int) -> Array:
    norms = np.asarray(readings.layer_norm[:steps], np.float64)
    sizes = np.asarray(readings.layer_sizes or np.ones(norms.shape[1]), np.float64)
    return norms / np.sqrt(np.maximum(sizes, 1)) if norms.size else norms


@dataclass(frozen=True)
class Course:
    """Readings with what follows from them. ``best_constant`` is the training loss of the best constant."""

    readings: Readings
    warmup: int = 0
    best_constant: float | None = None
    batch_size: int = 64

    @property
    def length(self) -> int:
        return len(self.readings.loss)

    @cached_property
    def bad(self) -> Array:
        """True at steps whose loss or gradient held a NaN or an infinity, [s]."""
        r = self.readings
        return ~np.isfinite(r.loss) | ~np.isfinite(r.global_norm) | (r.nonfinite > 0)

    @cached_property
    def first_bad(self) -> int | None:
        hits = np.flatnonzero(self.bad)
        return int(hits[0]) if len(hits) else None

    @property
    def sound(self) -> int:
        """Number of steps before the first non-finite one."""
        return self.length if self.first_bad is None else self.first_bad

    @property
    def settled(self) -> int:
        """First step after warm-up: the schedule's, and at least a twentieth of the run."""
        return min(max(self.warmup, self.sound // 20), max(self.sound - 1, 0))

    @cached_property
    def norms(self) -> Array:
        return np.asarray(self.readings.global_norm[: self.sound])

    @cached_property
    def losses(self) -> Array:
        return np.asarray(self.readings.loss[: self.sound])

    @cached_property
    def explosion(self) -> Explosion | None:
        """The earliest sign of an explosion, None where the run kept its scale."""
        signs = (self._early(), self._above_median(), self._doubling())
        found = [one for one in signs if one is not None]
        return min(found, key=lambda one: one.index) if found else None

    def _early(self) -> Explosion | None:
        """Loss or norm × EARLY_FACTOR, and the loss above what the best constant has: a first batch of few
        rows may happen to fit.
        """
        if self.best_constant is not None and not self._early_loss_is_high(self.best_constant):
            return None
        best: Explosion | None = None
        for sign, values in (("loss", self.losses), ("norm", self.norms)):
            early = values[:EARLY_STEPS]
            if len(early) < 2 or early[0] <= 0:
                continue
            grown = np.flatnonzero(early / early[0] >= EARLY_FACTOR)
            if len(grown) and (best is None or grown[0] < best.index):
                best = Explosion(int(grown[0]), f"early_{sign}", float(early.max() / early[0]))
        return best

    def _early_loss_is_high(self, constant: float) -> bool:
        """Whether three early losses in a row, or the last before the run was lost, rose beyond 3 × the best
        constant's.
        """
        high = self.losses[:EARLY_STEPS] > 3 * abs(constant)
        lasting = bool((high[:-2] & high[1:-1] & high[2:]).any()) if len(high) > 2 else bool(high.any())
        return lasting or (self.sound <= EARLY_STEPS and bool(high[-1:].any()))

    def _above_median(self) -> Explosion | None:
        """Norm beyond 10 × its running median three times in a row (more often for batches of few rows),
        growing to more than any norm that the median is of (near a perfect fit most norms are tiny and a few
        are not), with the loss risen too, and to a size that matters.
        """
        norms, losses = self.norms, self.losses
        stretch = max(3, -(-_ROWS_IN_A_ROW // self.batch_size))
        for start in range(_BLOCK, len(norms) - stretch + 1, _BLOCK):
            before = slice(max(0, start - 2 * _BLOCK), start)
            median, loss = float(np.median(norms[before])), float(np.median(losses[before]))
            window = norms[start : start + _BLOCK + stretch - 1]
            high = sliding_window_view(window > MEDIAN_FACTOR * median, stretch).all(axis=1)
            last = window[stretch - 1 :]
            growing = (last >= window[: len(last)]) & (last > norms[before].max())
            hits = np.flatnonzero(high & growing)
            if not (median > 0 and len(hits)):
                continue
            risen = float(np.median(losses[start + hits[0] :][:stretch]))
            if risen > max(2 * abs(loss), self._negligible):
                return Explosion(int(start + hits[0]), "running_median", float(window.max() / median))
        return None

    @property
    def _negligible(self) -> float:
        """A loss so far below that of the best constant that its ups and downs are those of a good fit."""
        return 0.0 if self.best_constant is None else 0.1 * abs(self.best_constant)

    def _doubling(self) -> Explosion | None:
        """The loss's excess over the best constant doubles on DOUBLINGS checks in a row, at any of CHECKS."""
        found = (self._doubling_at(checks) for checks in CHECKS)
        return next((one for one in found if one is not None), None)

    def _doubling_at(self, checks: int) -> Explosion | None:
        if self.best_constant is None or len(self.losses) < 2 * DOUBLINGS:
            return None
        starts, blocks = self.blocks(self.losses, checks)
        excess = blocks - self.best_constant
        doubled = (excess[1:] >= 2 * excess[:-1]) & (excess[:-1] > 0.1 * abs(self.best_constant))
        run = 0
        for i, hit in enumerate(doubled):
            run = run + 1 if hit else 0
            if run == DOUBLINGS:
                first = i - DOUBLINGS + 1
                return Explosion(int(starts[first]), "doubling", float(excess[i + 1] / excess[first]))
        return None

    def blocks(self, values: Array, count: int = 60) -> tuple[Array, Array]:
        """Medians over ``count`` equal stretches of the run at most: (their starts, their medians)."""
        edges = np.unique(np.linspace(0, len(values), min(count, len(values)) + 1).astype(int))
        medians = [float(np.median(values[a:b])) for a, b in pairwise(edges)]
        return edges[:-1], np.array(medians)

    @cached_property
    def ratios(self) -> Array:
        """Update ratios before the first non-finite step, [sound, L], NaN where weights or steps were
        zero.
        """
        ratios = np.asarray(self.readings.update_ratio[: self.sound], np.float64)
        if not ratios.size:
            return np.zeros((0, len(self.readings.layers)))
        held = np.asarray(self.readings.weight_norm[: self.sound], np.float64) > 0
        return np.where(held & np.isfinite(ratios), ratios, np.nan)

    def typical_ratio(self, start: int | None = None) -> float | None:
        """Median over steps of the median over layers of the update ratio; None in the economy tier."""
        chosen = self.ratios[self.settled if start is None else start :]
        return finite_median(chosen) if chosen.size else None

    @property
    def first_ratio(self) -> float | None:
        """Largest update ratio of a layer in the first step: before anything had time to blow up."""
        first = self.ratios[:1]
        finite = first[np.isfinite(first)]
        return float(finite.max()) if len(finite) else None

    @property
    def leapt(self) -> bool:
        """Whether one of the first steps changed a layer's weights by more than LEAP."""
        first = self.ratios[:EARLY_STEPS]
        return bool((first > LEAP).any())  # not where it is NaN

    @property
    def leaps(self) -> bool:
        """Whether the first steps, by their median, changed a layer's weights by more than LEAP."""
        first = self.ratios[:EARLY_STEPS]
        if not first.size:
            return False
        largest = np.max(np.where(np.isfinite(first), first, 0.0), axis=1)
        return float(np.median(largest)) > LEAP

    @cached_property
    def layer_ratio(self) -> tuple[float, int, int] | None:
        """Size-normalised gradient norm of the first layer over that of the last, median over settled steps.

        Returns (ratio, index of the first, index of the last layer); None below two layers.
        """
        ratio = finite_median(self.layer_ratios[self.settled : self.sound])
        inner = self._inner
        return None if ratio is None else (ratio, inner[0], inner[-1])

    @property
    def _inner(self) -> list[int]:
        """The layers that follow one another: all but embeddings."""
        return [i for i, name in enumerate(self.readings.layers) if not name.startswith("embeddings")]

    @cached_property
    def layer_ratios(self) -> Array:
        """Size-normalised gradient norm of the first layer over that of the last at every step, [s]; NaN
        where it cannot be told.
        """
        norms = _normalised(self.readings, self.length)
        if len(self._inner) < 2 or not norms.size:
            return np.full(self.length, np.nan)
        first, last = norms[:, self._inner[0]], norms[:, self._inner[-1]]
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(np.divide(first, last, out=np.full(len(last), np.nan), where=last > 0))

    @cached_property
    def normalised_norms(self) -> Array:
        """Layer gradient norms over the square root of the layers' sizes, [sound, L]."""
        return _normalised(self.readings, self.sound)

    @property
    def shrinking(self) -> bool:
        """Whether the gradient norm of the last quarter is below 0.7 × that of the first."""
        quarter = max(1, len(self.norms) // 4)
        first, last = finite_median(self.norms[:quarter]), finite_median(self.norms[-quarter:])
        return first is not None and last is not None and last < 0.7 * first

    @property
    def rising(self) -> bool:
        """Whether the loss of the last tenth stands above 1.3 × the lowest stretch of the run."""
        if len(self.losses) < 10:
            return len(self.losses) > 1 and bool(self.losses[-1] > 1.3 * abs(self.losses[0]))
        _, blocks = self.blocks(self.losses)
        tail = float(np.median(blocks[-max(1, len(blocks) // 10) :]))
        return tail > 1.3 * abs(float(blocks.min()))
