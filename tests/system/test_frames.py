"""Tables in memory through a real stack: uploaded with their types, predicted by service and bundle alike."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from gradkeel import Client
from gradkeel.frames import parquet_bytes
from gradkeel.local import load

ROWS = 60
TYPES = {
    "x": ("numeric", 0),
    "single": ("numeric", 0),
    "zone": ("categorical", 0),
    "level": ("numeric", 0),
    "zoned": ("datetime", 0),
    "day": ("datetime", 0),
    "whole": ("numeric", 9),
    "maybe": ("boolean", 12),
    "flag": ("boolean", 0),
    "text": ("categorical", 10),
    "y": ("numeric", 0),
}
CONFIG: dict[str, Any] = {"preset": "fast", "budget": {"epochs": 2}, "health": {"gradient_check": False}}


def own_frame() -> pd.DataFrame:
    """A column of every kind, with missing cells, in data that no other test uploads."""
    x = np.random.default_rng().normal(size=ROWS)
    first = dt.date(2024, 1, 1)
    return pd.DataFrame(
        {
            "x": x,
            "single": x.astype("float32"),
            "zone": pd.Categorical(np.where(x > 0, "B", "A")),
            "level": pd.Categorical(np.where(x > 0, 3, 7)),
            "zoned": pd.date_range("2024-03-30", periods=ROWS, freq="h", tz="Europe/Berlin"),
            "day": [first + dt.timedelta(days=index) for index in range(ROWS)],
            "whole": pd.array([None if i % 7 == 0 else i for i in range(ROWS)], dtype="Int64"),
            "maybe": pd.array([None if i % 5 == 0 else i % 2 == 1 for i in range(ROWS)], dtype="boolean"),
            "flag": x > 0.3,
            "text": pd.array([None if i % 6 == 0 else "pq"[i % 2] for i in range(ROWS)], dtype="string"),
            "y": 2 * x,
        }
    )


FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda frame: frame,
    "polars": lambda frame: pl.from_arrow(pa.Table.from_pandas(frame, preserve_index=False)),
    "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
    "dict": lambda frame: {name: frame[name] for name in frame.columns},
    "bytes": parquet_bytes,
    "file": lambda frame: io.BytesIO(parquet_bytes(frame)),
}


@pytest.fixture
def client(stack: Any) -> Iterator[Client]:
    profile = json.loads((stack.data / "profile.json").read_text())
    with Client(profile["url"], profile["api_key"]) as made:
        yield made


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_keeps_its_types(client: Client, form: str) -> None:
    data = client.datasets.upload(FORMS[form](own_frame()))
    assert {column.name: (column.type, column.missing) for column in data.columns} == TYPES
    assert data.rows == ROWS


def test_every_form_is_predicted_alike_by_service_and_bundle(client: Client, tmp_path: Path) -> None:
    frame = own_frame()
    model = client.jobs.create(client.datasets.upload(frame), target="y", config=CONFIG).wait().model()
    expected = model.predict(frame)
    assert len(expected) == ROWS
    assert expected.warnings == ()
    local = load(model.download(tmp_path / "m.gradkeel"))
    for form in ("pandas", "polars", "arrow"):
        table = FORMS[form](frame)
        assert model.predict(table).values == pytest.approx(expected.values)
        assert local.predict(table).values == pytest.approx(np.array(expected.values), rel=1e-6)


def test_arrays_are_uploaded_under_names(client: Client) -> None:
    values = np.random.default_rng().normal(size=(ROWS, 2))
    data = client.datasets.upload(values, columns=["x", "y"])
    assert [column.name for column in data.columns] == ["x", "y"]
    assert client.datasets.upload(values, columns=["x", "y"]).id == data.id
