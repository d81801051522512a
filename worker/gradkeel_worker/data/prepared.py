"""What the engine trains on: three parts of plain arrays, and everything that was fitted to make them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gradkeel.contract.config import QuantileLoss, TrainConfig
from gradkeel_worker.data.decision import Decision
from gradkeel_worker.data.preparation import Category, Input, Preparation
from gradkeel_worker.data.scalers import TargetTransform, TargetTransforms
from gradkeel_worker.data.storage import ROWS_AT_ONCE
from gradkeel_worker.data.table import Array, Floats, Integers, Mask

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """The rows of one part; n may be 0.

    ``x`` [n, d] float32, C order. ``c`` [n, k] int64 codes of embedded categories. ``y`` [n], of several
    targets [n, targets]: float32 in the model's units (binary: 0 or 1), int64 class for multiclass.
    ``weight`` [n], mean 1 over the training part, or None. ``rows``, ``lines`` [n]: where they stood in the
    file. ``y_raw``, of y's shape: float64 in target units, or int64 class.
    """

    x: Singles
    c: Integers
    y: Array
    weight: Singles | None
    rows: Integers
    lines: Integers | None
    y_raw: Array

    def __len__(self) -> int:
        return len(self.rows)

    def finite_rows(self) -> Mask:
        """Rows with finite inputs alone, [n]."""
        found = np.empty(len(self), dtype=bool)
        for chunk in self._chunks():
            found[chunk] = np.isfinite(self.x[chunk]).all(axis=1)
        return found

    def nonfinite_by_column(self) -> Integers:
        """How many cells of each column of x are not finite, [d]."""
        counts = np.zeros(self.x.shape[1], dtype=np.int64)
        for chunk in self._chunks():
            counts += (~np.isfinite(self.x[chunk])).sum(axis=0)
        return counts

    def _chunks(self) -> Iterator[slice]:
        return (slice(start, start + ROWS_AT_ONCE) for start in range(0, len(self), ROWS_AT_ONCE))


@dataclass(frozen=True)
class Prepared:
    """The parts, the layout of their columns, and the fitted preparation.

    ``config`` has task, target scaling and neighbours decided. ``findings``: what was noticed (code, column,
    count, detail). ``neighbors``: why neighbours are looked up so, or not; None where
    none were asked for. ``decision``: what a classifier's answers are made by; its neutral form until a
    trained model was judged on the validation part.
    """

    train: Part
    validation: Part
    test: Part
    inputs: tuple[Input, ...]
    categories: tuple[Category, ...]
    task: str
    classes: tuple[str, ...] | None
    target: TargetTransform | TargetTransforms
    preparation: Preparation
    config: TrainConfig
    findings: list[dict[str, Any]] = field(default_factory=list)
    neighbors: dict[str, Any] | None = None
    decision: Decision = field(default_factory=Decision)
    start: Mapping[str, Array] | None = None
    """Weights of an earlier model that the training begins with, by their names; None: fresh ones."""

    @property
    def outputs(self) -> int:
        """Outputs of the model."""
        if self.task == "multiclass":
            return len(self.classes or ())
        return len(self.output_names or (0,))

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """Names of several predicted numbers: the levels of quantiles, or the targets; None of one alone."""
        if self.levels:
            return tuple(f"{level:.12g}" for level in self.levels)
        return None if isinstance(self.config.target, str) else self.config.target

    @property
    def levels(self) -> tuple[float, ...]:
        """The quantiles that are predicted; none in other tasks."""
        loss = self.config.loss
        return loss.levels if isinstance(loss, QuantileLoss) else ()

    def in_target_units(self, outputs: Array) -> Floats:
        """Outputs [n, outputs] of a model of numbers as predictions: [n], or [n, outputs] where they have
        names. Quantiles are sorted, so that they never cross."""
        if self.output_names is None:
            return self.target.inverse(outputs[:, 0])
        predicted = self.target.inverse(outputs)
        return np.sort(predicted, axis=1) if self.task == "quantile" else predicted

    def target_spread(self) -> Floats:
        """Standard deviation of each target in the training part, [targets]; 1 where it has none."""
        spread = np.atleast_1d(np.std(self.train.y_raw, axis=0))
        return np.where((spread > 0) & np.isfinite(spread), spread, 1.0)

    def arrays(self) -> dict[str, Array]:
        """Every fitted array, target included, by name."""
        target = {f"target.{name}": array for name, array in self.target.arrays().items()}
        return self.preparation.arrays() | target

    def x_source_cell(
        self, part: Part | Literal["train", "validation", "test"], i: int, j: int
    ) -> dict[str, Any]:
        """The cell of the file that x[i, j] of a part (or the part of that name) came from."""
        rows: Part = getattr(self, part) if isinstance(part, str) else part
        line = None if rows.lines is None else int(rows.lines[i])
        return {"row": int(rows.rows[i]), "line": line, "column": self.inputs[j].source}
