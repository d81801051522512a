"""Forecasts of the default network beside earlier values and a linear model, on series of the data folder.

``python benchmarks/forecasts.py --data FOLDER`` prints the RMSE on the test part, the last 15 % of each
series: of the last known value, of the value one season back where a season is plain, of a ridge regression
on the window's last row, and of preset standard's gru, once predicting the target itself
(``change_from: none``) and once what it changes (the default). Mean over the seeds.

Options: --sets, --seeds, --seconds (budget.max_seconds of each training).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gradkeel_worker.data import Table
from gradkeel_worker.engine import train

Json = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """A table of series, what is forecast in it, and how many rows ahead."""

    read: Callable[[Path], pd.DataFrame]
    target: str
    order: str
    group: str | None = None
    horizon: int = 1


def passengers(folder: Path) -> pd.DataFrame:
    return _dated(pd.read_csv(folder / "air_passengers.csv"), "Month")


def transformer(folder: Path) -> pd.DataFrame:
    return _dated(pd.read_csv(folder / "ett_h1.csv"), "date")


def bikes(folder: Path) -> pd.DataFrame:
    """Without the parts of the count, and with the row's number for its order."""
    return pd.read_csv(folder / "bike_sharing_hour.csv").drop(columns=["dteday", "casual", "registered"])


def weather(folder: Path) -> pd.DataFrame:
    """Three stations, the first of two rows of an hour."""
    table = pd.read_csv(folder / "nyc_weather_hourly.csv")
    table["moment"] = pd.to_datetime(table[["year", "month", "day", "hour"]])
    kept = ["origin", "moment", "temp", "dewp", "humid", "wind_speed", "pressure", "hour"]
    return _dated(table.drop_duplicates(["origin", "moment"])[kept], "moment")


def _dated(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """With the column as seconds."""
    seconds = pd.to_datetime(table[column]).to_numpy("datetime64[s]").astype(float)
    return table.assign(**{column: seconds})


SETS: dict[str, Series] = {
    "air_passengers, 1 month ahead": Series(passengers, "Passengers", "Month"),
    "ett_h1, 1 hour": Series(transformer, "OT", "date"),
    "ett_h1, 24 hours": Series(transformer, "OT", "date", horizon=24),
    "nyc_weather, 1 hour": Series(weather, "temp", "moment", "origin"),
    "nyc_weather, 6 hours": Series(weather, "temp", "moment", "origin", horizon=6),
    "bike_sharing_hour, 1 hour": Series(bikes, "cnt", "instant"),
}
COLUMNS = ("naive", "seasonal_naive", "ridge", "gru, none", "gru, default")


def scores(series: Series, folder: Path, change: str, seed: int, seconds: float) -> tuple[Json, str]:
    """RMSE on the test part by name, and what the network predicted the change from."""
    table = series.read(folder)
    cells = {name: _cells(table[name]) for name in table.columns}
    config = {
        "target": series.target,
        "task": "forecast",
        "columns": {"order": series.order, "group": series.group},
        "model": {"kind": "gru", "horizon": series.horizon, "change_from": change},
        "budget": {"max_seconds": seconds},
        "health": {"gradient_check": False},
        "device": "cpu",
        "seed": seed,
    }
    result = train(Table.from_arrays(cells), config)
    found = {name: each["rmse"] for name, each in result.metrics["baselines"].items()}
    own = "gru, none" if change == "none" else "gru, default"
    return found | {own: result.metrics["test"]["rmse"]}, result.config.model.change_from


def _cells(column: pd.Series) -> np.ndarray[Any, Any]:
    return column.astype(str).to_numpy(object) if column.dtype == object else column.to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=120)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'RMSE on the test part':32}" + "".join(f"{name:>16}" for name in COLUMNS) + "   change from")
    for name in given.sets:
        rows: list[Json] = []
        kind = ""
        for seed in range(given.seeds):
            for change in ("none", "auto"):
                found, kind = scores(SETS[name], given.data, change, seed, given.seconds)
                rows.append(found)
        means = {key: np.mean([row[key] for row in rows if key in row] or [np.nan]) for key in COLUMNS}
        shown = "".join(f"{'–' if np.isnan(value) else f'{value:.4g}':>16}" for value in means.values())
        print(f"{name:32}{shown}   {kind}", flush=True)


if __name__ == "__main__":
    main()
