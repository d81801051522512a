"""What is known of a job's repairs: it goes into checkpoints and, at the end, the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]

APPLIED, REVERTED, REFUSED = "applied", "reverted", "refused"


@dataclass(frozen=True)
class Validated:
    """Predictions for the validation part, in target units or as probabilities.

    ``rows`` [n] are record indexes of the uploaded file, ``predicted`` [n] or [n, outputs] is NaN where an
    input was.
    """

    rows: NDArray[np.int64]
    predicted: NDArray[np.float64]

    def sound(self) -> dict[int, int]:
        """Rows with a finite prediction, and where it stands."""
        finite = np.isfinite(self.predicted.reshape(len(self.rows), -1)).all(axis=1)
        return {int(self.rows[place]): int(place) for place in np.flatnonzero(finite)}

    def of(self, rows: Sequence[int]) -> NDArray[np.float64]:
        """Predictions of some of the sound rows, in that order."""
        places = self.sound()
        return np.asarray(self.predicted[[places[row] for row in rows]])


@dataclass(frozen=True)
class Kept:
    """A training that was through: what the next attempt is compared with, and gone back to.

    ``asked`` is its config as if it had been submitted, ``checkpoint`` its last one. ``findings`` are those
    of its report that a repair may go by, ``validated`` is None where it had no usable model. It ended before
    ``step``.
    """

    asked: Json
    reasons: Mapping[str, str]
    checkpoint: NDArray[np.uint8]
    findings: list[Json]
    validated: Validated | None
    step: int
    ending: str
    told: str
    """What went wrong, in a sentence."""


@dataclass
class Repairs:
    """The attempts of a job, in their order; the first training is none.

    ``entries``: what the report says of each try, refused ones too. ``kept``: the training that the present
    attempt is to better; None in the first training. ``start``: where the present attempt goes on from.
    """

    most: int
    first: Json
    """The job's config as it was submitted."""
    asked: Json
    """The config of the present attempt, as if it had been submitted."""
    entries: list[Json] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    """What the repairs up to the present one have changed, and why, by JSON pointer."""
    kept: Kept | None = None
    start: Json | None = None
    """weights by name, epoch, step and loss of earlier ones, and the epochs up to them; None: the
    beginning."""
    tried: list[Json] = field(default_factory=list)
    """Patches that were tried or refused."""
    reached: float = 0.0
    """Share of the job's progress that the trainings before the present one made."""
    shown: float = 0.0
    """The largest share that was told: progress never goes back."""
    seconds: float = 0.0
    """Of training, in all attempts before the present one."""
    seconds_before: float = 0.0
    """Of ``seconds``, those before the process was interrupted."""

    @property
    def attempts(self) -> int:
        """How many trainings there were after the first, the present one among them."""
        return sum(entry["status"] != REFUSED for entry in self.entries)

    @property
    def begun(self) -> bool:
        """Whether the first training is over."""
        return self.kept is not None

    def state(self) -> Json:
        kept = None if self.kept is None else {**vars(self.kept), "validated": None}
        if kept is not None and self.kept is not None and self.kept.validated is not None:
            kept["validated"] = dict(vars(self.kept.validated))
        return {**vars(self), "kept": kept, "shown": 0.0, "seconds_before": 0.0}

    def load(self, state: Json) -> None:
        for name in ("most", "asked", "entries", "reasons", "start", "tried", "reached", "seconds"):
            setattr(self, name, state[name])
        self.seconds_before = self.seconds
        kept = state["kept"]
        self.kept = None
        if kept is not None:
            held = kept["validated"]
            validated = None if held is None else Validated(held["rows"].copy(), held["predicted"].copy())
            checkpoint = kept["checkpoint"].copy()
            self.kept = Kept(**(kept | {"validated": validated, "checkpoint": checkpoint}))
        if self.start is not None:
            weights = {name: array.copy() for name, array in self.start["weights"].items()}
            self.start = self.start | {"weights": weights}
