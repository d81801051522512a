"""What the engine trains on: three parts of plain arrays, and everything that was fitted to make them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gradkeel.contract.config import TrainConfig
from gradkeel_worker.data.decision import Decision
from gradkeel_worker.data.preparation import Category, Input, Preparation
from gradkeel_worker.data.scalers import TargetTransform
from gradkeel_worker.data.storage import ROWS_AT_ONCE
from gradkeel_worker.data.table import Array, Integers, Mask

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """The rows of one part; n may be 0.

    ``x`` [n, d] float32, C order. ``c`` [n, k] int64 codes of embedded categories. ``y`` [n]: float32 in
    the model's units (binary: 0 or 1), int64 class for multiclass. ``weight`` [n], mean 1 over the training
    part, or None. ``rows``, ``lines`` [n]: where they stood in the file. ``y_raw`` [n]: float64 in target
    units, or int64 class.
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
    target: TargetTransform
    preparation: Preparation
    config: TrainConfig
    findings: list[dict[str, Any]] = field(default_factory=list)
    neighbors: dict[str, Any] | None = None
    decision: Decision = field(default_factory=Decision)
    start: Mapping[str, Array] | None = None
    """Weights of an earlier model that the training begins with, by their names; None: fresh ones."""

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
