"""One broken cell in an uploaded file: the report names its record, its line and its column.

The cell is another in every run; ``GRADKEEL_CELL_SEED`` repeats the run that a failure names.
"""

from __future__ import annotations

import io
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table, prepare
from gradkeel_worker.data.read import read_table
from gradkeel_worker.engine import train
from gradkeel_worker.ingest import Options, ingest
from worker.diagnosis.runs import VALIDATOR, found

Json = dict[str, Any]
Columns = dict[str, list[Any]]

SEED = int(os.environ.get("GRADKEEL_CELL_SEED") or random.SystemRandom().randrange(2**32))
ROWS = 160
PROPAGATED: Json = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [8]},
    "prepare": {"missing": {"kind": "propagate"}},
    "split": {"kind": "random", "validation": 0.15, "test": 0.15},
    "budget": {"epochs": 2, "batch_size": 16, "patience": 0},
    "health": {"gradient_check": False},
    "device": "cpu",
}
WINDOWS: Json = PROPAGATED | {"columns": {"order": "t", "group": "g"}, "split": {"kind": "ordered"}}


def _columns() -> Columns:
    """Two series in no order, three numbers, a text with line breaks in some cells, a target."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, 3))
    mixed = draw.permutation(ROWS)
    return {
        "t": [int(i) // 2 for i in mixed],
        "g": ["one" if i % 2 else "two" for i in mixed],
        **{name: x[:, j].tolist() for j, name in enumerate("abc")},
        "note": [["plain", "two\nlines", 'a "quote"\r\nand more\n'][i % 3] for i in range(ROWS)],
        "y": (x @ [1.0, 2.0, -1.0] + 0.1 * draw.normal(size=ROWS)).tolist(),
    }


def _csv(columns: Columns) -> tuple[bytes, list[int | None]]:
    """The file, and the line on which each record begins, counted as it is written."""
    text, lines = ",".join(columns) + "\n", []
    for record in zip(*columns.values(), strict=True):
        lines.append(text.count("\n") + 1)
        text += ",".join('"' + str(cell).replace('"', '""') + '"' for cell in record) + "\n"
    return text.encode(), list(lines)


def _json_lines(columns: Columns) -> tuple[bytes, list[int | None]]:
    """NaN is no JSON: the broken cell is null; an empty line stands after every tenth record."""
    text, lines = "", []
    for i, record in enumerate(zip(*columns.values(), strict=True)):
        lines.append(text.count("\n") + 1)
        cells = [None if isinstance(cell, float) and cell != cell else cell for cell in record]
        text += json.dumps(dict(zip(columns, cells, strict=True))) + ("\n\n" if i % 10 == 9 else "\n")
    return text.encode(), list(lines)


def _parquet(columns: Columns) -> tuple[bytes, list[int | None]]:
    """A file without lines."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, row_group_size=37)
    return buffer.getvalue(), [None] * ROWS


FORMATS = {"csv": _csv, "json lines": _json_lines, "parquet": _parquet}
VALUES = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def _uploaded(content: bytes, config: Json, folder: Path) -> Table:
    """What a job makes of an upload with this content."""
    source, work = folder / "upload", folder / "work"
    source.write_bytes(content)
    work.mkdir()
    read = ingest(source, work, Options.from_json({}), None)
    return read_table(read.path, read.profile, resolve(config))


def _reported(config: Json, form: str, value: str, folder: Path) -> tuple[Json, Json]:
    """The report on a file with one broken cell of the training part, and where that cell is."""
    rng = random.Random(f"{SEED} {form} {value} {config['model']}")
    columns = _columns()
    part = prepare(Table.from_arrays({k: np.array(v) for k, v in columns.items()}), resolve(config)).train
    trained = part.rows if part.windows is None else part.windows.rows[part.windows.places()].ravel()
    row, column = int(rng.choice(sorted(set(trained.tolist())))), rng.choice("abc")
    columns[column][row] = VALUES[value]
    content, lines = FORMATS[form](columns)
    report = train(_uploaded(content, config, folder), config).report
    VALIDATOR.validate(report)
    print(f"GRADKEEL_CELL_SEED={SEED}: {value} in row {row}, column {column}, line {lines[row]}")
    return report, {"row": row, "line": lines[row], "column": column}


def _assert_named(report: Json, cell: Json, value: str) -> None:
    finding = found(report, "non_finite")
    assert {key: finding["where"][key] for key in cell} == cell
    assert finding["evidence"]["most_likely_cause"] == "data_cell"
    assert finding["evidence"]["kind"] == value
    held = {"nan": "no number (NaN)", "inf": "infinity", "-inf": "minus infinity"}[value]
    assert f"“{cell['column']}”" in finding["explanation"] and held in finding["explanation"]


@pytest.mark.parametrize(
    ("form", "value"),
    [("csv", "nan"), ("csv", "inf"), ("json lines", "nan"), ("parquet", "nan"), ("parquet", "-inf")],
)
def test_the_cell_of_the_uploaded_file_is_named(form: str, value: str, tmp_path: Path) -> None:
    report, cell = _reported(PROPAGATED, form, value, tmp_path)
    _assert_named(report, cell, value)


@pytest.mark.parametrize("kind", ["gru", "lstm", "tcn"])
def test_the_record_inside_a_window_is_named(kind: str, tmp_path: Path) -> None:
    config = WINDOWS | {"model": {"kind": kind, "width": 4, "window": 6}}
    report, cell = _reported(config, "csv", "nan", tmp_path)
    _assert_named(report, cell, "nan")


# ------------------------------------------------------------------------------ numbers that the model makes


def _plain(**changed: Any) -> dict[str, Any]:
    return {name: np.array(values) for name, values in _columns().items() if name in "abcy"} | changed


def _trained(columns: dict[str, Any], **changed: Any) -> Json:
    own = {"model": changed.pop("module")} if "module" in changed else {}
    report = train(Table.from_arrays(columns), PROPAGATED | changed, **own).report
    VALIDATOR.validate(report)
    return found(report, "non_finite") | {"verdict": report["verdict"], "first": report["findings"][0]}


class _Log(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(x)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.mine, self.after, self.last = nn.Linear(3, 8), _Log(), nn.ReLU(), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.after(self.mine(self.first(x))))


def test_a_module_that_makes_a_nan_is_named_and_not_those_that_pass_it_on() -> None:
    finding = _trained(_plain(), module=_Net(), health={"gradient_check": True})
    assert str(finding["where"]["layer"]).endswith("mine")
    assert finding["evidence"]["operation"].startswith("log")
    assert finding["evidence"]["most_likely_cause"] == "domain"
    assert finding["where"]["column"] is None


def test_an_overflow_of_half_precision_is_told_by_repeating_the_step() -> None:
    wide = {"kind": "mlp", "widths": [8], "bias_init": 7e4}
    finding = _trained(_plain(), model=wide, precision="fp16")
    assert finding["evidence"]["most_likely_cause"] == "fp16"
    assert "repeated in float32, was finite" in finding["explanation"]
    assert finding["remedy"]["patch"] == {"precision": "bf16"}


def test_before_any_step_the_learning_rate_is_innocent() -> None:
    columns = _plain(y=np.array(_columns()["y"]) * 1e30)
    raw = {"target": {"kind": "none"}, "missing": {"kind": "propagate"}}
    finding = _trained(columns, prepare=raw, loss={"kind": "mse"})
    assert finding["evidence"]["most_likely_cause"] == "loss_overflow"
    assert finding["first"]["rule"] == "target_scale"
    assert "lr" not in finding["first"]["remedy"]["patch"].get("optimizer", {})


def test_the_edge_of_log1p_is_finite() -> None:
    """The largest float below 0 and above −1 has a logarithm near −37: far out, and no broken number."""
    column = np.abs(np.array(_columns()["a"]))
    column[11] = np.nextafter(-1.0, 0.0)
    config = PROPAGATED | {"prepare": {"per_column": {"a": {"kind": "log1p"}}}}
    report = train(Table.from_arrays(_plain(a=column)), config).report
    assert "non_finite" not in [finding["rule"] for finding in report["findings"]]
    assert report["verdict"] in ("healthy", "strained")
