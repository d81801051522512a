"""The data sets of the contest, how they are split, and how they are soiled.

The presets were tuned on the validation parts of the sets marked ``development`` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

Table = pd.DataFrame

REGRESSION, CLASSIFICATION = "regression", "classification"
PART = "__part__"
_MISSING = ["", "NA", "?", "NaN", "nan", "N/A"]


@dataclass(frozen=True)
class Set:
    """A file, its target, and the columns nobody is given: ids, free text, leaks, the other target."""

    file: str
    target: str
    task: str
    development: bool
    without: tuple[str, ...] = ()
    separator: str = ","

    @property
    def name(self) -> str:
        return self.file.split(".")[0]


SETS = (
    Set("abalone.csv", "Rings", REGRESSION, True),
    Set("airfoil_self_noise.csv", "Sound_pressure_level_dB", REGRESSION, True),
    Set("ames_housing.csv", "price", REGRESSION, False, ("Order", "PID")),
    Set("auto_mpg.csv", "mpg", REGRESSION, True, ("name",)),
    Set("bike_sharing_hour.csv", "cnt", REGRESSION, False, ("instant", "dteday", "casual", "registered")),
    Set("california_housing.csv", "median_house_value", REGRESSION, True),
    Set("concrete_strength.csv", "strength", REGRESSION, True),
    Set("diamonds.csv", "price", REGRESSION, False),
    Set("energy_efficiency.csv", "Y1", REGRESSION, True, ("Y2",)),
    Set("flights_delay_200k.csv.gz", "delay", REGRESSION, False),
    Set("flights_delay_20k.csv", "delay", REGRESSION, False, ("date",)),
    Set("medical_insurance.csv", "charges", REGRESSION, True),
    Set("power_plant_ccpp.csv", "EP", REGRESSION, False),
    Set("protein_casp.csv.gz", "RMSD", REGRESSION, True),
    Set("wine_quality_red.csv", "quality", REGRESSION, True),
    Set("wine_quality_white.csv", "quality", REGRESSION, False),
    Set("yacht_hydrodynamics.csv", "Residuary_resistance", REGRESSION, False),
    Set("adult_census.csv.gz", "income", CLASSIFICATION, False),
    Set("bank_marketing.csv.gz", "y", CLASSIFICATION, False, ("duration",), ";"),
    Set("covertype_93k.csv.gz", "Cover_Type", CLASSIFICATION, False),
    Set("heart_disease.csv", "HeartDisease", CLASSIFICATION, False, ("id",)),
    Set("horse_colic.csv", "outcome", CLASSIFICATION, False, ("hospital_number",)),
    Set("kddcup99_large.csv.gz", "label", CLASSIFICATION, False),
    Set("pima_diabetes.csv", "Outcome", CLASSIFICATION, True),
    Set("titanic.csv", "Survived", CLASSIFICATION, False, ("PassengerId", "Name", "Ticket", "Cabin")),
)


def load(folder: Path, one: Set, rows: int, seed: int) -> Table:
    """The set as texts, rows with a target only, at most ``rows`` of them (drawn by seed), with its split.

    Column ``__part__``: train 64 %, validation 16 %, test 20 %; classes keep their shares where each has ten
    rows or more.
    """
    table = pd.read_csv(folder / one.file, sep=one.separator, dtype=str, keep_default_na=False)
    table = table.drop(columns=list(one.without))
    table = table[~table[one.target].str.strip().isin(_MISSING)]
    if len(table) > rows:
        table = table.sample(rows, random_state=seed)
    table = table.reset_index(drop=True)
    table[PART] = parts(table[one.target] if one.task == CLASSIFICATION else None, len(table), seed)
    return table


def parts(labels: Any, rows: int, seed: int) -> np.ndarray[Any, Any]:
    """ "train", "validation" or "test" for each row."""
    stratify = labels is not None and labels.value_counts().min() >= 10
    everything = np.arange(rows)

    def halves(index: Any) -> Any:
        classes = labels.iloc[index] if stratify else None
        return train_test_split(index, test_size=0.2, random_state=seed, stratify=classes)

    rest, test = halves(everything)
    _, validation = halves(rest)
    part = np.full(rows, "train", dtype=object)
    part[validation], part[test] = "validation", "test"
    return part


def soiled(table: Table, one: Set, seed: int) -> Table:
    """The table with 5 % of a regression's targets × 20 and 1 % of the numeric feature cells × 1000, in the
    training and the validation part; the test part stays clean.
    """
    random = np.random.default_rng([seed, 20])
    kept = (table[PART] != "test").to_numpy()
    dirty = table.copy()
    for name in table.columns.drop(PART):
        if name == one.target and one.task == CLASSIFICATION:
            continue
        share, factor = (0.05, 20.0) if name == one.target else (0.01, 1000.0)
        numbers = pd.to_numeric(table[name], errors="coerce").to_numpy()
        if name != one.target and np.isfinite(numbers).mean() < 0.5:
            continue
        hit = kept & np.isfinite(numbers) & (random.random(len(table)) < share)
        dirty.loc[hit, name] = [repr(value) for value in numbers[hit] * factor]
    return dirty


def typed(table: Table, one: Set) -> tuple[Table, Any]:
    """Features for the peers: numbers as float64, everything else as categories; and the target."""
    columns = {}
    for name in table.columns.drop([PART, one.target]):
        cells = table[name].str.strip()
        cells = cells.mask(cells.isin(_MISSING))
        numbers = pd.to_numeric(cells, errors="coerce")
        columns[name] = numbers if numbers.notna().sum() == cells.notna().sum() else cells.astype("category")
    target = table[one.target].str.strip()
    return pd.DataFrame(columns), target.astype(float) if one.task == REGRESSION else target
