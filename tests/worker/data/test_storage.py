"""Long arrays in files: the same to the bit as in memory, gone with the process, and refused in time."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradkeel_worker.data import Prepared, prepare, read_table, storage
from gradkeel_worker.data.read import bytes_in_memory
from gradkeel_worker.data.shelf import shelf
from gradkeel_worker.data.storage import MEMORY, MIB, NoRoom, Scratch, check_room, is_mapped
from gradkeel_worker.data.table import Column

from .conftest import Configure

ROWS = 40_000
"""Enough that every array is worth a place in a file."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A table of ingest's form with holes, infinities, markers, long integers, dates and texts."""
    draw = np.random.default_rng(3)
    x = draw.normal(size=ROWS)
    holes = np.where(draw.random(ROWS) < 0.1, np.nan, x)
    holes[17], holes[18] = np.inf, -99.0
    when = pa.array(["2024-05-17", None, "2020-01-01T12:00:00"] * (ROWS // 3) + [None] * (ROWS % 3))
    columns = {
        "x": pa.array(x),
        "holes": pa.array(holes, from_pandas=True),
        "whole": pa.array(draw.integers(0, 50, ROWS)),
        "when": when,
        "zone": pa.array(draw.choice(np.array(["a", "b", "c", None], dtype=object), ROWS)),
        "shop": pa.array([f"shop {i}" for i in draw.integers(0, 300, ROWS)]),
        "flag": pa.array(draw.choice(np.array(["yes", "no"], dtype=object), ROWS)),
        "y": pa.array(
            np.where(draw.random(ROWS) < 0.01, np.nan, x + draw.normal(size=ROWS)), from_pandas=True
        ),
        "__row__": pa.array(np.arange(ROWS) + (np.arange(ROWS) > 5)),
        "__line__": pa.array(np.arange(ROWS) + 2),
    }
    path = tmp_path_factory.mktemp("stored") / "table.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=7_000)
    types = {"when": "datetime", "zone": "categorical", "shop": "categorical", "flag": "boolean"}
    described = [
        {"name": name, "type": types.get(name, "numeric"), "decimal": ".", "distinct": 300}
        for name in columns
        if not name.startswith("__")
    ]
    return path, {"rows": ROWS, "columns": described}


POLICIES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "one-hot, markers": {
        "prepare": {"categorical": {"kind": "onehot"}},
        "columns": {"missing_values": {"holes": [-99]}},
    },
    "quantiles, ordered split, weights": {
        "prepare": {"numeric": {"kind": "quantile"}, "categorical": {"kind": "ordinal"}},
        "split": {"kind": "ordered", "column": "whole"},
        "columns": {"weight": "whole"},
    },
    "rows dropped": {"prepare": {"missing": {"kind": "drop_rows"}, "outliers": {"kind": "drop"}}},
    "classes": {"target": "zone", "split": {"kind": "stratified"}},
    "neighbours": {
        "prepare": {"neighbors": {"kind": "means", "k": [3], "rows": 300}},
        "columns": {"include": ["x", "zone"]},
    },
    "numbers as categories": {"columns": {"types": {"whole": "categorical"}}},
}


def same(one: Prepared, other: Prepared) -> None:
    for name in ("train", "validation", "test"):
        left, right = getattr(one, name), getattr(other, name)
        for field in ("x", "c", "y", "weight", "rows", "lines", "y_raw"):
            a, b = getattr(left, field), getattr(right, field)
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype == b.dtype and a.flags.c_contiguous and b.flags.c_contiguous
                assert a.tobytes() == b.tobytes(), (name, field)
    fitted = other.arrays()
    assert {key: value.tobytes() for key, value in one.arrays().items()} == {
        key: value.tobytes() for key, value in fitted.items()
    }
    assert one.findings == other.findings and one.categories == other.categories


@pytest.mark.parametrize("policy", POLICIES.values(), ids=list(POLICIES))
def test_prepared_in_files_is_the_same_to_the_bit(
    policy: dict[str, Any], stored: Any, configure: Configure, tmp_path: Path
) -> None:
    config = configure(**policy)
    kept = prepare(read_table(*stored, config, Scratch(tmp_path)), config)
    same(prepare(read_table(*stored, config), config), kept)
    assert is_mapped(kept.train.x) and is_mapped(kept.train.y_raw)
    assert not any(tmp_path.iterdir())  # the files have no name


def test_the_estimate_counts_cells_and_inputs(stored: Any, configure: Configure) -> None:
    profile = stored[1]
    config = configure(columns={"include": ["x", "shop"]})
    assert bytes_in_memory(profile, config) == ROWS * 3 * (8 + 2 * 4)
    onehot = configure(columns={"include": ["x", "shop"]}, prepare={"categorical": {"kind": "onehot"}})
    assert bytes_in_memory(profile, onehot) == ROWS * (2 * (8 + 2 * 4) + 8 + 50 * 4)


def test_arrays_share_files_and_are_apart(tmp_path: Path) -> None:
    place = Scratch(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    arrays = [place.empty(MIB // 8, np.float64) for _ in range(40)]
    for i, array in enumerate(arrays):
        array[:] = i
    assert [set(array) for array in arrays] == [{float(i)} for i in range(40)]
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert not is_mapped(place.empty(10, np.float64)) and not is_mapped(MEMORY.empty(MIB, np.float64))
    kept = place.keep(arrays[0])
    assert kept is arrays[0]


def test_a_matrix_written_by_columns_is_read_by_rows(tmp_path: Path) -> None:
    place = Scratch(tmp_path)
    matrix = place.matrix(storage.ROWS_AT_ONCE + 3, 5, np.float32)
    for j in range(5):
        matrix[:, j] = np.arange(len(matrix)) * 10 + j
    rows = place.by_rows(matrix)
    assert rows.flags.c_contiguous and is_mapped(rows) and rows.tobytes() == matrix.tobytes("C")


def test_columns_of_text_come_back_as_they_were(tmp_path: Path) -> None:
    columns = shelf(Scratch(tmp_path))
    texts = np.array(["b", None, "a", "b", ""], dtype=object)
    columns["t"] = Column("t", "categorical", texts)
    columns["n"] = Column("n", "numeric", np.arange(5.0))
    assert columns["t"].values.tolist() == texts.tolist() and list(columns) == ["t", "n"]
    columns["t"] = Column("t", "numeric", np.arange(5.0))
    assert columns["t"].values.tolist() == [0, 1, 2, 3, 4]
    del columns["t"]
    assert list(columns) == ["n"] and len(columns) == 1


def test_a_full_disk_is_refused_with_the_number(tmp_path: Path) -> None:
    with pytest.raises(NoRoom, match=r"needed, .* MiB left: make room"):
        check_room(tmp_path, 1 << 60)
    check_room(tmp_path, 1)
    with pytest.raises(NoRoom):
        Scratch(tmp_path).empty(1 << 55, np.uint8)
    assert not any(tmp_path.iterdir())


def test_memory_of_a_long_table_stays_small(tmp_path: Path) -> None:
    """In a process of its own: 200,000 rows of 40 numbers would take 64 MB as columns and 32 as inputs."""
    script = f"""
import pathlib, numpy as np, pyarrow as pa, pyarrow.parquet as pq
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import prepare, read_table
from gradkeel_worker.data.storage import Scratch

def anonymous():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

rows, folder = 200_000, pathlib.Path({str(tmp_path)!r})
names = [f"x{{i}}" for i in range(40)] + ["y"]
path = folder / "t.parquet"
schema = pa.schema([(name, pa.float32()) for name in names])
draw = np.random.default_rng(0)
with pq.ParquetWriter(path, schema, use_dictionary=False, compression="none") as writer:
    for start in range(0, rows, 50_000):
        columns = [draw.standard_normal(50_000, dtype=np.float32) for _ in names]
        writer.write_batch(pa.RecordBatch.from_arrays([pa.array(c) for c in columns], schema=schema))
profile = {{"rows": rows, "columns": [{{"name": n, "type": "numeric", "decimal": "."}} for n in names]}}
config = resolve({{"preset": "custom", "target": "y"}})
before = anonymous()
found = prepare(read_table(path, profile, config, Scratch(folder)), config)
print(anonymous() - before, len(found.train))
"""
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    grown, rows = printed.split()
    assert int(rows) == 140_000
    assert float(grown) < 40
