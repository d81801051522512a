"""``gradkeel batch``."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.live import upload_bar
from gradkeel.cli.screen import Screen
from gradkeel.client import Client
from gradkeel.resources.batches import Batch, BatchData

INTERRUPTED = 130
STANDARD_INPUT = "-"
LINES_A_RUN = 10


@click.group()
def batch() -> None:
    """Submit many jobs at once, and fetch what became of them."""


@batch.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "--priority",
    type=click.IntRange(-100, 100),
    help="Among the jobs of the project; higher runs first [default: -10; single jobs have 0].",
)
@click.option("--wait", is_flag=True, help="Wait for the end; exit status 1 unless every line succeeded.")
@json_option
@service_options
def submit(access: Access, file: Path, priority: int | None, wait: bool, as_json: bool) -> None:
    """Submit FILE, JSON lines of {"custom_id": …, "config": {…}} ('-': standard input)."""
    screen = Screen(as_json)
    with access.client() as client:
        made = _submitted(client, screen, file, priority)
        if not wait:
            screen.say(f"Submitted {made.id} with {made.lines} lines. See: gradkeel batch show {made.id}")
            screen.document(made.raw)
            return
        raise SystemExit(_follow(screen, made))


def _submitted(client: Client, screen: Screen, file: Path, priority: int | None) -> Batch:
    source: Any = sys.stdin.buffer if str(file) == STANDARD_INPUT else file
    with upload_bar(screen.errors, file.name) as bar:
        task = bar.task_ids[0]
        return client.batches.submit_file(
            source,
            priority=priority,
            progress=lambda sent, total: bar.update(task, completed=sent, total=total),
        )


def _follow(screen: Screen, made: Batch) -> int:
    """Watch a batch to its end; the exit status. Ctrl-C leaves it running and says how to find it again."""
    screen.warn(f"Submitted {made.id} with {made.lines} lines.")
    try:
        with _View(screen.errors) as view:
            made.wait(on_progress=view.show)
    except KeyboardInterrupt:
        screen.warn(f"The batch {made.id} goes on.")
        screen.warn(f"  look at it:  gradkeel batch show {made.id}")
        screen.warn(f"  stop it:     gradkeel batch cancel {made.id}")
        return INTERRUPTED
    _tell(screen, made)
    screen.document(made.raw)
    return 0 if made.succeeded else 1


class _View:
    """A bar that stays in its line; about ten lines where there is no terminal."""

    def __init__(self, console: Console) -> None:
        columns = [
            SpinnerColumn(),
            BarColumn(24),
            TextColumn("{task.percentage:>3.0f} %  {task.description}"),
        ]
        live = console.is_terminal
        self._console = console
        self._progress = Progress(*columns, console=console, transient=True, disable=not live)
        self._task = self._progress.add_task("", total=1.0)
        self._tenth = 0

    def __enter__(self) -> _View:
        self._progress.start()
        return self

    def __exit__(self, *ended: Any) -> None:
        self._progress.stop()

    def show(self, seen: BatchData) -> None:
        """Take in how the batch stands."""
        self._progress.update(self._task, completed=seen.fraction, description=words_of(seen))
        tenth = int(LINES_A_RUN * seen.fraction)
        if not self._console.is_terminal and tenth > self._tenth:
            self._tenth = tenth
            self._console.print(f"  {words_of(seen)}", markup=False, soft_wrap=True)


def words_of(seen: BatchData) -> str:
    """How many jobs stand in each state, in words."""
    numbers = {**seen.counts, "rejected": seen.rejected, "unread": max(0, seen.lines - seen.read)}
    return ", ".join(f"{count} {state}" for state, count in numbers.items() if count)


def _tell(screen: Screen, seen: BatchData) -> None:
    screen.say(f"{seen.id} has ended: {words_of(seen)}." if seen.ended else f"{seen.id}: {words_of(seen)}.")
    if seen.error is not None:
        screen.say(str(seen.error.get("detail")))
    if seen.ended and not seen.succeeded:
        screen.say(f"What became of each line: gradkeel batch results {seen.id}")


@batch.command("list")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first."
)
@json_option
@service_options
def list_batches(access: Access, limit: int, as_json: bool) -> None:
    """List batches, newest first."""
    screen = Screen(as_json)
    with access.client() as client:
        found = list(itertools.islice(client.batches.list(limit=min(limit, 100)), limit))
    if not as_json:
        rows = [
            [seen.id, str(seen.state), seen.lines, words_of(seen), seen.raw["created_at"]] for seen in found
        ]
        screen.table(["batch", "state", "lines", "of these", "created"], rows)
    screen.document([seen.raw for seen in found])


@batch.command()
@click.argument("batch_id", metavar="BATCH")
@json_option
@service_options
def show(access: Access, batch_id: str, as_json: bool) -> None:
    """Show a batch."""
    screen = Screen(as_json)
    with access.client() as client:
        seen = client.batches.get(batch_id)
    _tell(screen, seen)
    screen.document(seen.raw)


@batch.command()
@click.argument("batch_id", metavar="BATCH")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file for the JSON lines [default: standard output].",
)
@service_options
def results(access: Access, batch_id: str, output: Path | None) -> None:
    """Print what became of each line, as JSON lines; before the end, of those read so far."""
    with access.client() as client:
        seen = client.batches.get(batch_id)
        if output is not None:
            click.echo(f"Wrote {seen.save_results(output)}.", err=True)
            return
        for result in seen.results():
            click.echo(json.dumps(result.raw, ensure_ascii=False))


@batch.command()
@click.argument("batch_id", metavar="BATCH")
@json_option
@service_options
def cancel(access: Access, batch_id: str, as_json: bool) -> None:
    """Stop a batch: what is queued ends at once, what runs is asked to."""
    screen = Screen(as_json)
    with access.client() as client:
        seen = client.batches.get(batch_id).cancel()
    screen.say(f"{seen.id} has ended." if seen.ended else f"{seen.id} will stop.")
    screen.document(seen.raw)
