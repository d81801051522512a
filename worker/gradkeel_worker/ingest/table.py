"""The typed table that jobs read: the cell file with numbers as numbers and the file's own column names."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradkeel.local.cells import MISSING_NUMBER
from gradkeel_worker.ingest.cells import LINE, ROW, Cells

CELLS_AT_ONCE = 4_000_000
ROWS_AT_ONCE = 65_536
MARKERS = pa.array(sorted(MISSING_NUMBER), pa.string())


def write_table(cells: Cells, storages: Sequence[str], table: Path) -> None:
    """Write the table, a bounded number of cells at a time.

    storages: BIGINT, DOUBLE or VARCHAR for each column, as the profile decided on all of its cells.
    """
    names = [f"c{index}" for index in range(len(storages))]
    schema = pa.schema(
        [(name, TYPES[storage]) for name, storage in zip(cells.names, storages, strict=True)]
        + [(ROW, pa.int64()), (LINE, pa.int64())]
    )
    rows = max(1, min(ROWS_AT_ONCE, CELLS_AT_ONCE // len(schema)))
    with pq.ParquetWriter(table, schema, compression="zstd") as writer:
        for batch in cells.file.iter_batches(rows):
            columns = [STORE[kind](batch.column(name)) for name, kind in zip(names, storages, strict=True)]
            columns += [batch.column(ROW), batch.column(LINE)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def _numbers(kind: pa.DataType) -> Callable[[pa.Array], pa.Array]:
    def store(cells: pa.Array) -> pa.Array:
        if not pa.types.is_dictionary(cells.type):
            return cells.cast(kind)
        texts = cells.dictionary
        missing = pc.is_in(pc.utf8_trim_whitespace(texts), value_set=MARKERS)
        return pc.if_else(missing, None, texts).cast(kind).take(cells.indices)

    return store


def _texts(cells: pa.Array) -> pa.Array:
    return cells.cast(pa.string())


TYPES = {"BIGINT": pa.int64(), "DOUBLE": pa.float64(), "VARCHAR": pa.string()}
STORE = {"BIGINT": _numbers(pa.int64()), "DOUBLE": _numbers(pa.float64()), "VARCHAR": _texts}
