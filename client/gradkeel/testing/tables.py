"""Uploads as the fake service reads them: columns of cells, or where they cannot be read."""

from __future__ import annotations

import csv
import importlib
import io
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from gradkeel.contract.errors import FieldError, StrictJSONError
from gradkeel.contract.strict_json import loads

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "?", "-", "None"})

Columns = dict[str, list[Any]]


class BadTable(Exception):
    """The bytes are no table. ``error`` names the place."""

    def __init__(self, error: FieldError) -> None:
        super().__init__(error.detail)
        self.error = error


@dataclass(frozen=True)
class Constant:
    """What a target column suggests without any training: task, value, and the share of each class."""

    task: str
    value: Any
    shares: dict[str, float]
    metrics: dict[str, float]


def read_table(data: bytes) -> Columns:
    """Column name → cells (numbers, text, None for missing). Raises ``BadTable``."""
    if data[:4] == b"PAR1":
        return _from_parquet(data)
    if data.lstrip()[:1] == b"{":
        return _from_json_lines(data)
    return _from_csv(data)


def _from_csv(data: bytes) -> Columns:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadTable(FieldError("", "encoding", f"the bytes are not UTF-8: {error}")) from error
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    if not header:
        raise BadTable(FieldError("", "empty", "the file holds no header"))
    rows: list[list[str]] = []
    for row in reader:
        if row and len(row) != len(header):
            detail = f"line {reader.line_num} has {len(row)} cells, the header {len(header)}"
            raise BadTable(FieldError("", "ragged", detail, row=len(rows), line=reader.line_num))
        if row:
            rows.append(row)
    return {name: _typed([row[index] for row in rows]) for index, name in enumerate(header)}


def _from_json_lines(data: bytes) -> Columns:
    records: list[dict[str, Any]] = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            record = loads(line) if line.strip() else {}
        except StrictJSONError as error:
            place = FieldError("", "bad_json", f"line {number}: {error}", row=len(records), line=number)
            raise BadTable(place) from error
        records.append(record)
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _from_parquet(data: bytes) -> Columns:
    parquet = importlib.import_module("pyarrow.parquet")
    found: Columns = parquet.read_table(io.BytesIO(data)).to_pydict()
    return found


def _typed(cells: list[str]) -> list[Any]:
    """Numbers where every cell that is not missing is one."""
    plain = [None if cell.strip() in MISSING else cell for cell in cells]
    try:
        return [None if cell is None else float(cell) for cell in plain]
    except ValueError:
        return plain


def column_documents(columns: Columns) -> list[dict[str, Any]]:
    """Name, type and missing cells of each column."""
    return [
        {"name": name, "type": _type(cells), "missing": sum(_absent(cell) for cell in cells)}
        for name, cells in columns.items()
    ]


def _type(cells: list[Any]) -> str:
    present = [cell for cell in cells if not _absent(cell)]
    if present and all(isinstance(cell, bool) for cell in present):
        return "boolean"
    if all(isinstance(cell, int | float) for cell in present):
        return "numeric"
    return "datetime" if all(hasattr(cell, "isoformat") for cell in present) else "categorical"


def _absent(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def targets_of(config: dict[str, Any]) -> list[str]:
    """The target columns of a resolved config."""
    target = config["target"]
    return [target] if isinstance(target, str) else list(target)


def best_constant(columns: Columns, config: dict[str, Any]) -> Constant:
    """The best constant for the config's target; of several targets and of quantiles a dict by name."""
    each = {name: columns[name] for name in targets_of(config)}
    if len(each) > 1:
        found = {name: constant(cells, "regression") for name, cells in each.items()}
        means = {name: one.value for name, one in found.items()}
        return Constant("regression", means, {}, next(iter(found.values())).metrics)
    (cells,) = each.values()
    if config["loss"]["kind"] != "quantile":
        return constant(cells, config["task"])
    ordered = sorted(cell for cell in cells if not _absent(cell))
    levels = config["loss"]["levels"]
    return Constant("quantile", {f"{x:.12g}": ordered[int(x * len(ordered))] for x in levels}, {}, {})


def constant(cells: list[Any], task: str) -> Constant:
    """The best constant prediction of a column, and how good it is on that very column."""
    present = [cell for cell in cells if not _absent(cell)]
    distinct = Counter(_class_name(cell) for cell in present)
    if task == "auto":
        numeric = _type(present) == "numeric"
        task = "binary" if len(distinct) == 2 else "regression" if numeric else "multiclass"
    if task == "regression":
        return _mean(present)
    shares = {name: distinct[name] / len(present) for name in sorted(distinct)}
    likeliest = max(shares, key=lambda name: shares[name])
    entropy = -sum(share * math.log(share) for share in shares.values())
    return Constant(task, likeliest, shares, {"accuracy": shares[likeliest], "log_loss": entropy, "auc": 0.5})


def _mean(values: list[Any]) -> Constant:
    mean = sum(values) / len(values)
    offs = [abs(value - mean) for value in values]
    rmse = math.sqrt(sum(off * off for off in offs) / len(offs))
    return Constant("regression", mean, {}, {"rmse": rmse, "mae": sum(offs) / len(offs), "r2": 0.0})


def _class_name(cell: Any) -> str:
    if isinstance(cell, bool):
        return str(cell).lower()
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
