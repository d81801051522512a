"""The first rows of a stored Parquet table, as JSON."""

import importlib
import math
import tempfile
from pathlib import Path
from typing import Any

from gradkeel_store.objects import Objects

OWN_COLUMNS = frozenset({"__row__", "__line__"})


def read_preview(objects: Objects, digest: str, rows: int) -> dict[str, Any]:
    """``{"columns": [name], "rows": [[cell]], "lines": [line | null]}``, of at most ``rows`` rows."""
    path = objects.local_path(digest)
    if path is not None:
        return _read(path, rows)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "table.parquet"
        objects.fetch(digest, copy)
        return _read(copy, rows)


def _read(path: Path, rows: int) -> dict[str, Any]:
    # pyarrow is loaded on first use only: it would cost every process 40 MB.
    parquet = importlib.import_module("pyarrow.parquet")
    with parquet.ParquetFile(path) as file:
        batch = next(file.iter_batches(batch_size=rows), None)
        names = [name for name in file.schema_arrow.names if name not in OWN_COLUMNS]
    table = batch.to_pydict() if batch is not None else {name: [] for name in names}
    cells = [[_plain(cell) for cell in table[name]] for name in names]
    return {
        "columns": names,
        "rows": [list(row) for row in zip(*cells, strict=True)],
        "lines": table.get("__line__", []),
    }


def _plain(cell: Any) -> Any:
    """Infinities, which JSON has no word for, as text."""
    if isinstance(cell, float) and not math.isfinite(cell):
        return str(cell)
    return cell
