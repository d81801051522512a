"""A DuckDB connection that can reach the work folder and nothing else."""

from pathlib import Path

import duckdb

from gradkeel_worker.ingest.options import Limits


def connect(work: Path, limits: Limits) -> duckdb.DuckDBPyConnection:
    """An in-memory database that spills into the work folder; locked before it sees any data."""
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
    connection.execute("SET lock_configuration = true")
    return connection
