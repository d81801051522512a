"""Configs and tables for the tests of the data package."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table

Configure = Callable[..., TrainConfig]


@pytest.fixture
def configure() -> Configure:
    """A resolved config from keywords: blocks merge into the custom preset."""

    def make(target: str = "y", **blocks: Any) -> TrainConfig:
        return resolve({"preset": "custom", "target": target, **blocks})

    return make


@pytest.fixture
def table() -> Table:
    """200 rows: numbers with holes, an outlier, categories, dates, truth values and a numeric target."""
    rng = np.random.default_rng(7)
    n = 200
    holes = rng.normal(5, 2, n)
    holes[rng.random(n) < 0.15] = np.nan
    spiky = rng.normal(0, 1, n)
    spiky[3] = 1e4
    zone = rng.choice(np.array(["a", "b", "c", None], dtype=object), n)
    when = np.datetime64("2024-01-01T00:00") + rng.integers(0, 9000, n).astype("timedelta64[h]")
    flag = rng.choice(np.array(["yes", "no"], dtype=object), n)
    columns = {"holes": holes, "spiky": spiky, "zone": zone, "when": when, "flag": flag}
    return Table.from_arrays(
        columns | {"y": 3 * spiky.clip(-3, 3) + rng.normal(100, 5, n)}, {"flag": "boolean"}
    )
