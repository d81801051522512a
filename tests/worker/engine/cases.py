"""Small tables and configs that the engine's tests train on."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Prepared, Table, prepare

Json = dict[str, Any]

SMALL: Json = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [16, 8]},
    "budget": {"epochs": 4, "batch_size": 64, "patience": 0},
    "device": "cpu",
}


def diabetes(rows: int = 442) -> Table:
    """scikit-learn's diabetes data in raw units."""
    data = load_diabetes(scaled=False)
    columns = {name: data.data[:rows, i] for i, name in enumerate(data.feature_names)}
    return Table.from_arrays({**columns, "y": data.target[:rows]})


def breast_cancer() -> Table:
    """Two classes, 30 numeric columns."""
    data = load_breast_cancer()
    return Table.from_arrays({**{f"x{i}": data.data[:, i] for i in range(30)}, "y": data.target.astype(str)})


def iris() -> Table:
    """Three classes, 4 numeric columns."""
    data = load_iris()
    names = np.asarray(data.target_names)[data.target]
    return Table.from_arrays({**{f"x{i}": data.data[:, i] for i in range(4)}, "y": names})


def categories(rows: int = 300) -> Table:
    """A numeric target that two category columns and a weight column come with."""
    draw = np.random.default_rng(0)
    zone, kind = draw.choice(list("abcd"), rows), draw.choice(["flat", "house"], rows)
    effect = np.array([{"a": 0.0, "b": 1.0, "c": 3.0, "d": -2.0}[level] for level in zone])
    return Table.from_arrays(
        {
            "zone": zone,
            "kind": kind,
            "size": draw.normal(size=rows),
            "w": draw.uniform(0.5, 2, rows),
            "y": effect + 2 * (kind == "house") + 0.1 * draw.normal(size=rows),
        }
    )


def series(groups: int = 4, length: int = 40) -> Table:
    """Several series in no order: y is x of three rows before and a little noise; k is a category."""
    draw = np.random.default_rng(0)
    t, g = np.tile(np.arange(length), groups), np.repeat(np.arange(groups), length)
    x = np.sin(t / 4 + g) + 0.1 * draw.normal(size=len(t))
    y = np.concatenate([np.roll(each, 3) for each in np.split(x, groups)])
    mixed = draw.permutation(len(t))
    return Table.from_arrays(
        {
            "t": t[mixed],
            "g": np.array([f"unit {i}" for i in g])[mixed],
            "x": x[mixed],
            "k": draw.choice(list("ab"), len(t)),
            "y": (y + 0.05 * draw.normal(size=len(t)))[mixed],
        }
    )


def config(**changes: Any) -> TrainConfig:
    """SMALL with some blocks replaced, resolved."""
    return resolve({**SMALL, **changes})


def prepared(table: Table | None = None, **changes: Any) -> Prepared:
    """A prepared table, its config with everything decided."""
    return prepare(diabetes() if table is None else table, config(**changes))
