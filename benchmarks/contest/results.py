"""What a contest found, one JSON line each, and the tables and the chart made of the lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import rankdata
from sklearn import metrics as sk

from contest.sets import REGRESSION, SETS, Set

Array = np.ndarray[Any, Any]
PRIMARY = {"regression": "rmse", "classification": "log_loss"}
SECOND = {"regression": ("mae",), "classification": ("accuracy", "auc")}


@dataclass(frozen=True)
class Line:
    """One contestant on one set and seed. ``error`` in place of metrics where it failed. ``cpu_seconds``: of
    all threads together; they change less than ``seconds`` do when the machine has other work.
    """

    set: str
    seed: int
    dirty: bool
    model: str
    rows: int
    seconds: float
    cpu_seconds: float
    metrics: dict[str, float | None]
    error: str | None = None

    @property
    def key(self) -> tuple[str, int, bool, str]:
        return self.set, self.seed, self.dirty, self.model


def read(path: Path) -> list[Line]:
    """The lines of a file, none where there is no file."""
    if not path.exists():
        return []
    return [Line(**json.loads(text)) for text in path.read_text(encoding="utf-8").splitlines()]


def append(path: Path, line: Line) -> None:
    """Write a line at the end."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(line)) + "\n")


def judged(task: str, actual: Array, answer: Array) -> dict[str, float | None]:
    """rmse and mae, or accuracy, log loss and (macro one-vs-rest) AUC, the same for everyone.

    ``answer``: predictions [n], or probabilities [n, classes] of ``actual`` class numbers [n].
    """
    if task == REGRESSION:
        rmse = float(np.sqrt(sk.mean_squared_error(actual, answer)))
        return {"rmse": rmse, "mae": float(sk.mean_absolute_error(actual, answer))}
    probabilities = np.clip(answer, 1e-15, 1.0)
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    classes = probabilities.shape[1]
    return {
        "accuracy": float(np.mean(probabilities.argmax(axis=1) == actual)),
        "log_loss": float(-np.log(probabilities[np.arange(len(actual)), actual]).mean()),
        "auc": _auc(actual, probabilities, classes),
    }


def _auc(actual: Array, probabilities: Array, classes: int) -> float | None:
    if classes == 2:
        return float(sk.roc_auc_score(actual, probabilities[:, 1]))
    present = [k for k in range(classes) if 0 < int((actual == k).sum()) < len(actual)]
    return float(np.mean([sk.roc_auc_score(actual == k, probabilities[:, k]) for k in present]))


# ------------------------------------------------------------------------------------------------ tables


def tables(lines: Sequence[Line], models: Sequence[str]) -> str:
    """All tables as text: ranks, each set's figures, and what dirt does."""
    lines = common(lines, models)
    clean = [line for line in lines if not line.dirty]
    return "\n\n".join(
        part for part in (_ranks(clean, models), *_by_set(clean, models), _dirt(lines, models)) if part
    )


def common(lines: Sequence[Line], models: Sequence[str]) -> list[Line]:
    """The lines of the splits that every model was tried on: nobody is judged on easier ones."""
    tried: dict[tuple[str, int, bool], set[str]] = {}
    for line in lines:
        tried.setdefault(line.key[:3], set()).add(line.model)
    return [line for line in lines if tried[line.key[:3]] >= set(models)]


def _mean(lines: Iterable[Line], metric: str) -> tuple[float, float, int]:
    values = [v for line in lines if (v := line.metrics.get(metric)) is not None]
    if not values:
        return np.nan, np.nan, 0
    return float(np.mean(values)), float(np.std(values)), len(values)


def _scores(lines: Sequence[Line], one: Set, models: Sequence[str], metric: str) -> Array:
    """Mean of a metric over the seeds, [models]; NaN where a model has none."""
    own = [line for line in lines if line.set == one.name]
    return np.array([_mean((line for line in own if line.model == m), metric)[0] for m in models])


def ranks(lines: Sequence[Line], models: Sequence[str], chosen: Sequence[Set]) -> Array:
    """Mean rank over the sets by the primary metric, 1 is best, [models]; who failed is last."""
    each = []
    for one in chosen:
        scores = _scores(lines, one, models, PRIMARY[one.task])
        if np.isfinite(scores).sum() > 1:
            each.append(rankdata(np.where(np.isfinite(scores), scores, np.inf)))
    return np.mean(each, axis=0) if each else np.full(len(models), np.nan)


def _ranks(lines: Sequence[Line], models: Sequence[str]) -> str:
    groups = {
        "all sets": list(SETS),
        "regression": [one for one in SETS if one.task == REGRESSION],
        "classification": [one for one in SETS if one.task != REGRESSION],
        "untouched": [one for one in SETS if not one.development],
    }
    columns = {name: ranks(lines, models, chosen) for name, chosen in groups.items()}
    seconds = [np.median([line.cpu_seconds for line in lines if line.model == m] or [np.nan]) for m in models]
    head = (
        f"{'mean rank (1 is best)':22}" + "".join(f"{name:>16}" for name in columns) + f"{'median CPU s':>14}"
    )
    rows = [
        f"{model:22}" + "".join(f"{column[i]:16.2f}" for column in columns.values()) + f"{seconds[i]:14.1f}"
        for i, model in enumerate(models)
    ]
    return "\n".join([head, *rows])


def _by_set(lines: Sequence[Line], models: Sequence[str]) -> list[str]:
    return [_one(lines, one, models) for one in SETS if any(line.set == one.name for line in lines)]


def _one(lines: Sequence[Line], one: Set, models: Sequence[str]) -> str:
    own = [line for line in lines if line.set == one.name]
    names = (PRIMARY[one.task], *SECOND[one.task])
    best = np.nanmin(_scores(own, one, models, names[0]))
    half = "development" if one.development else "untouched"
    seeds = len({line.seed for line in own})
    head = f"{one.name}, {own[0].rows} rows, {seeds} seeds, {half}"
    rows = [f"{head:60}" + "".join(f"{name:>20}" for name in names) + f"{'CPU s':>9}"]
    for model in models:
        mine = [line for line in own if line.model == model]
        if mine:
            rows.append(_row(model, mine, names, best))
    return "\n".join(rows)


def _row(model: str, mine: Sequence[Line], names: Sequence[str], best: float) -> str:
    figures = ""
    for name in names:
        mean, spread, count = _mean(mine, name)
        figures += f"{f'{mean:.5g} ± {spread:.2g}' if count else '–':>20}"
    failed = [line.error for line in mine if line.error]
    mark = " *" if _mean(mine, names[0])[0] == best else ""
    tail = f"  failed: {failed[0]}" if failed else ""
    return f"  {model + mark:58}{figures}{np.mean([line.cpu_seconds for line in mine]):9.1f}{tail}"


def _dirt(lines: Sequence[Line], models: Sequence[str]) -> str:
    sets = [
        one
        for one in SETS
        if one.task == REGRESSION and any(line.dirty for line in lines if line.set == one.name)
    ]
    if not sets:
        return ""
    head = f"{'test MAE trained on dirty data ÷ on clean data':48}" + "".join(f"{m:>18}" for m in models)
    rows = []
    for one in sets:
        own = [line for line in lines if line.set == one.name]
        cells = ""
        for model in models:
            both = [
                _mean((line for line in own if line.model == model and line.dirty == dirty), "mae")[0]
                for dirty in (True, False)
            ]
            cells += f"{both[0] / both[1]:18.2f}" if all(map(np.isfinite, both)) else f"{'–':>18}"
        rows.append(f"{one.name:48}{cells}")
    return "\n".join([head, *rows])


# ------------------------------------------------------------------------------------------------- chart


def chart(lines: Sequence[Line], models: Sequence[str], path: Path) -> None:
    """Each model's primary metric as a multiple of the set's best, one row of dots a set, as SVG."""
    clean = [line for line in common(lines, models) if not line.dirty]
    shown = [one for one in SETS if any(line.set == one.name for line in clean)]
    figure = Figure(figsize=(9, 1.2 + 0.3 * len(shown)), layout="constrained")
    axes = figure.subplots()
    colours = (
        "#bbbbbb",
        "#999999",
        "#d8b365",
        "#c07f2c",
        "#8c510a",
        "#543005",
        "#9fd3c7",
        "#35978f",
        "#01665e",
    )
    for i, model in enumerate(models):
        places, values = [], []
        for row, one in enumerate(shown):
            scores = _scores(clean, one, models, PRIMARY[one.task])
            if np.isfinite(scores[i]):
                places.append(row)
                values.append(scores[i] / np.nanmin(scores))
        marker = "D" if model.startswith("Gradkeel") else "o"
        axes.plot(np.minimum(values, 2.0), places, marker, color=colours[i % len(colours)], label=model, ms=6)
    axes.set_yticks(range(len(shown)), [one.name for one in shown])
    axes.invert_yaxis()
    axes.set_xlabel("RMSE or log loss as a multiple of the set's best (cut at 2)")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, metadata={"Date": None})
