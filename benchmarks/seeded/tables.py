"""The tables that faults are put into, with their split as a column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes

from contest.sets import PART, SETS, Set, load, parts, typed

Table = pd.DataFrame
Json = dict[str, Any]

TARGET, ORDER = "target", "order"
ROWS = 1000
"""Rows of a table at most, drawn by seed."""
REGRESSION, BINARY, FORECAST = "regression", "binary", "forecast"


@dataclass(frozen=True)
class Source:
    """Where a table comes from. ``tuned``: the rules were looked at on it; the others are held out."""

    name: str
    task: str
    tuned: bool
    load: Callable[[Path | None, int], Table]


def _own(data: Any, target: np.ndarray[Any, Any]) -> Table:
    frame = pd.DataFrame(data.data, columns=[str(name) for name in data.feature_names])
    return frame.assign(**{TARGET: target})


def _diabetes(folder: Path | None, seed: int) -> Table:
    data = load_diabetes(scaled=False)
    return with_parts(_own(data, data.target), seed)


def _breast_cancer(folder: Path | None, seed: int) -> Table:
    data = load_breast_cancer()
    return with_parts(_own(data, data.target_names[data.target]), seed)


def with_parts(table: Table, seed: int) -> Table:
    """The table with its column of parts."""
    labels = None if table[TARGET].dtype.kind == "f" else table[TARGET]
    return table.assign(**{PART: parts(labels, len(table), seed)})


def file(name: str) -> Callable[[Path | None, int], Table]:
    """The loader of a file in the folder of data sets."""
    one = next(one for one in SETS if one.name == name)

    def loaded(folder: Path | None, seed: int) -> Table:
        assert folder is not None
        return public(folder, one, ROWS, seed)

    return loaded


def public(folder: Path, one: Set, rows: int, seed: int) -> Table:
    """A public set as numbers and categories, its target under ``TARGET``."""
    table = load(folder, one, rows, seed)
    features, target = typed(table, one)
    return features.assign(**{TARGET: target, PART: table[PART]})


def _waves(folder: Path | None, seed: int) -> Table:
    """A series with two periods, a drift and noise, and the next value as what is to be forecast."""
    random = np.random.default_rng([seed, 7])
    t = np.arange(700)
    values = np.sin(t / 5) + 0.5 * np.sin(t / 17 + seed) + 0.1 * random.normal(size=len(t)) + t / 2000
    return pd.DataFrame({ORDER: t, TARGET: values})


def _hours(folder: Path | None, seed: int) -> Table:
    assert folder is not None
    table = pd.read_csv(folder / "ett_h1.csv")[seed * 900 :][:800]
    return pd.DataFrame({ORDER: np.arange(len(table)), TARGET: table["OT"].to_numpy()})


OWN = (
    Source("diabetes", REGRESSION, True, _diabetes),
    Source("breast_cancer", BINARY, True, _breast_cancer),
    Source("waves", FORECAST, True, _waves),
)
PUBLIC = (
    Source("concrete_strength", REGRESSION, True, file("concrete_strength")),
    Source("abalone", REGRESSION, False, file("abalone")),
    Source("pima_diabetes", BINARY, False, file("pima_diabetes")),
    Source("ett_h1", FORECAST, False, _hours),
)


def sources(folder: Path | None) -> tuple[Source, ...]:
    """What the suite runs on: scikit-learn's own sets and a series, with a folder the public sets too."""
    return OWN if folder is None else (*OWN, *PUBLIC)


def numeric(table: Table) -> list[str]:
    """The feature columns of numbers that take more than two values."""
    features = table.columns.drop([TARGET, ORDER, PART], errors="ignore")
    return [name for name in features if table[name].dtype.kind in "if" and table[name].nunique() > 2]
