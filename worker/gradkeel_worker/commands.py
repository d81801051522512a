"""``gradkeel worker``."""

import os
import sys
from pathlib import Path

import click


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Data folder; default GRADKEEL_DATA.")
def worker(data: Path | None) -> None:
    """Run one worker: it takes jobs and uploads from the records and runs them. Ctrl-C stops it."""
    # A process of its own kind: children import the main module again, and this one is light.
    arguments = ["--data", str(data)] if data else []
    os.execv(sys.executable, [sys.executable, "-m", "gradkeel_worker", *arguments])
