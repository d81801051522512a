"""What is known of the folds of a cross-validation: it goes into checkpoints and, at the end, the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]
Table = dict[str, NDArray[Any]]

FOLD = "fold"
_PROBABILITIES = "probabilities"


@dataclass
class Folds:
    """The folds that are through, in their order.

    ``done``: what the report says of each. ``tables``: predictions of its held-out rows, by column, [n] each
    (probabilities [n, classes]). ``classes``: of its model. ``seconds``: their training took.
    """

    count: int
    done: list[Json] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    classes: list[list[str] | None] = field(default_factory=list)
    seconds: float = 0.0
    seconds_before: float = 0.0
    """Of ``seconds``, those of earlier attempts."""

    def add(self, entry: Json, table: Table, classes: Sequence[str] | None, seconds: float) -> None:
        """Take in a fold that is through."""
        self.done.append({FOLD: len(self.done) + 1, **entry})
        self.tables.append(table)
        self.classes.append(None if classes is None else list(classes))
        self.seconds += seconds

    def forget(self) -> None:
        """Begin anew."""
        self.done, self.tables, self.classes = [], [], []
        self.seconds = self.seconds_before = 0.0

    def share_of(self, seconds: float | None) -> float | None:
        """Seconds for the next run, out of those for all folds and the job's own model."""
        return None if seconds is None else (seconds - self.seconds) / (self.count + 1 - len(self.done))

    @property
    def cut_short(self) -> bool:
        """Whether time ended the training of some fold."""
        return any(entry["stopped_by"] == "max_seconds" for entry in self.done)

    def state(self) -> Json:
        return {
            "done": self.done,
            "tables": [{name: _coded(column) for name, column in table.items()} for table in self.tables],
            "classes": self.classes,
            "seconds": self.seconds,
        }

    def load(self, state: Json) -> None:
        self.done, self.classes = state["done"], state["classes"]
        self.tables = [{name: _plain(column) for name, column in each.items()} for each in state["tables"]]
        self.seconds = self.seconds_before = state["seconds"]

    def report(self, kind: str, repeats: int) -> Json:
        """Mean and standard deviation (n − 1) of each metric over the folds, and every fold."""
        scored = [entry for entry in self.done if entry["metrics"] is not None]
        baselines = [entry["baselines"] for entry in scored]
        return {
            "kind": kind,
            "folds": self.count // repeats,
            "repeats": repeats,
            "metrics": _spread([entry["metrics"] for entry in scored]),
            "baselines": {
                name: _spread([each[name] for each in baselines]) for name in (baselines or [{}])[0]
            },
            "failed": [entry[FOLD] for entry in self.done if entry["metrics"] is None],
            "per_fold": self.done,
        }

    def predictions(self, own: Table, classes: Sequence[str] | None) -> Table:
        """``own``, of the test part, with fold 0; below it every held-out row with the number of its fold.

        Probabilities stand in the order of ``classes``; a class that a fold's model did not know has 0.
        """
        tables = [own, *self.tables]
        known: list[Sequence[str] | None] = [classes, *self.classes]
        filled = [i for i, table in enumerate(tables) if len(table.get("row", ()))]
        if not filled:
            return own
        joined = {
            name: np.concatenate([tables[i][name] for i in filled])
            for name in tables[filled[0]]
            if name != _PROBABILITIES
        }
        if classes is not None:
            placed = [_placed(tables[i][_PROBABILITIES], known[i] or (), classes) for i in filled]
            joined[_PROBABILITIES] = np.concatenate(placed)
        numbers = [np.full(len(tables[i]["row"]), i, np.int64) for i in filled]
        return joined | {FOLD: np.concatenate(numbers)}


def _spread(metrics: Sequence[Json]) -> Json:
    """Mean and sample standard deviation by name, over the folds where there is such a number."""
    found: Json = {}
    for name in dict.fromkeys(name for each in metrics for name in each):
        values = [each[name] for each in metrics if each.get(name) is not None]
        if values and isinstance(values[0], dict):  # of several targets or quantiles, each
            found[name] = _spread(values)
            continue
        found[name] = {
            "mean": float(np.mean(values)) if values else None,
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }
    return found


def _placed(probabilities: NDArray[Any], known: Sequence[str], classes: Sequence[str]) -> NDArray[Any]:
    places = {name: i for i, name in enumerate(known)}
    nothing = np.zeros(len(probabilities))
    columns = [probabilities[:, places[name]] if name in places else nothing for name in classes]
    return np.stack(columns, axis=1)


def _coded(column: NDArray[Any]) -> Any:
    """A column as a checkpoint can hold it: texts as codes."""
    if column.dtype != object:
        return column
    levels, codes = np.unique(column.astype(str), return_inverse=True)
    return {"levels": levels.tolist(), "codes": codes.astype(np.int64)}


def _plain(column: Any) -> NDArray[Any]:
    if isinstance(column, dict):
        return np.asarray(np.array(column["levels"], dtype=object)[column["codes"]])
    return np.array(column)
