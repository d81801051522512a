"""What the engine trains on: three parts of plain arrays, and everything that was fitted to make them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from gradkeel.contract.config import QuantileLoss, TrainConfig
from gradkeel_worker.data.decision import Decision
from gradkeel_worker.data.preparation import Category, Input, Preparation, Source
from gradkeel_worker.data.references import Reference
from gradkeel_worker.data.scalers import TargetTransform, TargetTransforms
from gradkeel_worker.data.storage import ROWS_AT_ONCE
from gradkeel_worker.data.table import Array, Floats, Integers, Mask
from gradkeel_worker.data.windows import Windows

Singles = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Part:
    """The rows of one part; n may be 0.

    ``x`` [n, d] float32, C order. ``c`` [n, k] int64 codes of embedded categories. ``y`` [n], of several
    targets [n, targets]: float32 in the model's units (binary: 0 or 1), int64 class for multiclass.
    ``weight`` [n], mean 1 over the training part, or None. ``rows``, ``lines`` [n]: where they stood in the
    file. ``y_raw``, of y's shape: float64 in target units, or int64 class. ``windows``: where a model reads
    windows of rows; x and c then hold the last row of each, and rows, lines, y and y_raw belong to the row
    that is predicted.
    """

    x: Singles
    c: Integers
    y: Array
    weight: Singles | None
    rows: Integers
    lines: Integers | None
    y_raw: Array
    windows: Windows | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def finite_rows(self) -> Mask:
        """Rows with finite numbers alone in what the model is given for them, [n]."""
        if self.windows is not None:
            return self.windows.whole(~_finite(self.windows.x))
        return _finite(self.x)

    def nonfinite_by_column(self) -> Integers:
        """How many cells of each column of x are not finite, [d]."""
        counts = np.zeros(self.x.shape[1], dtype=np.int64)
        for chunk in _chunks(len(self)):
            counts += (~np.isfinite(self.x[chunk])).sum(axis=0)
        return counts

    @property
    def length(self) -> int:
        """Rows that the model reads for one prediction."""
        return 1 if self.windows is None else self.windows.length

    def take(self, chosen: Any) -> Self:
        """Some rows, by position, mask or slice."""
        return replace(
            self,
            x=self.x[chosen],
            c=self.c[chosen],
            y=self.y[chosen],
            weight=None if self.weight is None else self.weight[chosen],
            rows=self.rows[chosen],
            lines=None if self.lines is None else self.lines[chosen],
            y_raw=self.y_raw[chosen],
            windows=None if self.windows is None else self.windows.take(chosen),
        )

    def fed(self, chosen: Any) -> tuple[Array, Array]:
        """What the model is given for some rows: x [n, d] and c [n, k], or of windows [n, length, d] and
        [n, length, k]."""
        if self.windows is None:
            return np.ascontiguousarray(self.x[chosen]), np.ascontiguousarray(self.c[chosen])
        places = self.windows.places(chosen)
        return self.windows.x[places], self.windows.c[places]

    def place(self, i: int) -> tuple[int, int | None]:
        """Row and line in the file that y[i] came from."""
        return int(self.rows[i]), None if self.lines is None else int(self.lines[i])

    def source(self, i: int) -> tuple[int, int | None]:
        """Row and line in the file that x[i] came from."""
        if self.windows is None:
            return self.place(i)
        return self.windows.place(int(self.windows.ends[i]))


def _finite(x: Array) -> Mask:
    """Which rows of x [n, d] are finite, [n]."""
    found = np.empty(len(x), dtype=bool)
    for chunk in _chunks(len(x)):
        found[chunk] = np.isfinite(x[chunk]).all(axis=1)
    return found


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, rows, ROWS_AT_ONCE))


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
    reference: Reference | None = None
    """What a forecast's network predicts the change from."""
    series: dict[str, Source] = field(default_factory=dict)
    """Where the model reads windows, the columns that make series of rows: order, group if there is one."""

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

    def aims(self) -> Array:
        """What is left to the network to predict of each training row, in the model's unit: y, or its change
        from the reference. [n], or [n, targets]."""
        y = self.train.y
        return y if self.reference is None else y.astype(np.float64) - self.reference.of(self.train)

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
        row, line = rows.source(i)
        return {"row": row, "line": line, "column": self.inputs[j].source}
