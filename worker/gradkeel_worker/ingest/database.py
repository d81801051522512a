"""A DuckDB connection that can reach the work folder and nothing else."""

from pathlib import Path

import duckdb

from gradkeel_worker.ingest.options import Limits


def connect(work: Path, cells: Path, limits: Limits) -> duckdb.DuckDBPyConnection:
    """An in-memory database that spills into the work folder; locked before it sees any data.

    cells: the cell file, which queries call `cells()`: a macro, for a view of many columns is slow to bind.
    """
    spill = work / "spill"
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "memory_limit": f"{limits.memory_mb}MB",
            "threads": limits.threads,
            "temp_directory": str(spill),
        },
    )
    connection.execute("SET allowed_directories = [?]", [str(work)])
    connection.execute("SET enable_external_access = false")
    connection.execute("SET enable_progress_bar = false")  # it would print to the child's output
    connection.execute("SET lock_configuration = true")
    path = str(cells).replace("'", "''")
    connection.execute(f"CREATE MACRO cells() AS TABLE FROM read_parquet('{path}')")
    return connection
