"""``gradkeel datasets``."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import click

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.live import send_file
from gradkeel.cli.outcome import table_of
from gradkeel.cli.screen import Screen

LISTED = ("id", "name", "state", "rows", "bytes", "created_at")
PROFILED = ("name", "type", "missing", "distinct", "min", "mean", "max", "std", "outliers")


@click.group()
def datasets() -> None:
    """Upload tables and look at them."""


@datasets.command("list")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first."
)
@json_option
@service_options
def list_datasets(access: Access, limit: int, as_json: bool) -> None:
    """List data sets, newest first."""
    screen = Screen(as_json)
    with access.client() as client:
        page = client.datasets.list(limit=min(limit, 100))
        found = [dataset.raw for dataset in itertools.islice(page, limit)]
    if not as_json:
        screen.table(["data set", "name", "state", "rows", "bytes", "created"], table_of(found, LISTED))
    screen.document(found)


@datasets.command()
@click.argument("dataset_id", metavar="DATASET")
@json_option
@service_options
def show(access: Access, dataset_id: str, as_json: bool) -> None:
    """Show a data set and its columns."""
    screen = Screen(as_json)
    with access.client() as client:
        found = client.datasets.get(dataset_id)
    if not as_json:
        _show(screen, found.raw)
    screen.document(found.raw)


def _show(screen: Screen, document: dict[str, Any]) -> None:
    for key in (*LISTED, "sha256", "error"):
        if document.get(key) is not None:
            screen.say(f"{key:<10} {document[key]}")
    columns = document.get("columns") or []
    if columns:
        screen.say()
        screen.table(["column", "type", "missing"], table_of(columns, ("name", "type", "missing")))


@datasets.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="A name for people [default: the file's].")
@click.option("--delimiter", help="The character between cells, where it is not found by itself.")
@click.option("--decimal", type=click.Choice([".", ","]), help="The decimal mark.")
@click.option("--encoding", help="The text encoding, such as latin-1.")
@click.option("--header/--no-header", default=None, help="Whether the first line names the columns.")
@click.option(
    "--resumable/--in-one-go",
    default=None,
    help="Whether a cut, or Ctrl-C, leaves what was sent for the next try [default: from 64 MiB on].",
)
@json_option
@service_options
def upload(access: Access, file: Path, name: str | None, as_json: bool, **options: Any) -> None:
    """Upload a table and wait until it is read."""
    screen = Screen(as_json)
    with access.client() as client:
        found = send_file(client, screen.errors, file, name=name, **options)
    if not as_json:
        _show(screen, found.raw)
    screen.document(found.raw)


@datasets.command()
@click.argument("dataset_id", metavar="DATASET")
@click.option("--rows", type=click.IntRange(1, 1000), default=10, show_default=True)
@json_option
@service_options
def preview(access: Access, dataset_id: str, rows: int, as_json: bool) -> None:
    """Show the first rows."""
    screen = Screen(as_json)
    with access.client() as client:
        found = client.datasets.get(dataset_id).preview(rows)
    if not as_json:
        screen.table(found["columns"], found["rows"])
    screen.document(found)


@datasets.command()
@click.argument("dataset_id", metavar="DATASET")
@json_option
@service_options
def profile(access: Access, dataset_id: str, as_json: bool) -> None:
    """Show types, missing cells, ranges and outliers of every column, and what stands out."""
    screen = Screen(as_json)
    with access.client() as client:
        found = client.datasets.get(dataset_id).profile()
    if not as_json:
        screen.table(["column", *PROFILED[1:]], table_of(found["columns"], PROFILED))
        for finding in found.get("findings") or []:
            screen.say(f"{finding.get('column') or 'table'}: {finding.get('detail')}")
    screen.document(found)


@datasets.command()
@click.argument("dataset_id", metavar="DATASET")
@service_options
def delete(access: Access, dataset_id: str) -> None:
    """Delete a data set that no unended job uses."""
    with access.client() as client:
        client.datasets.delete(dataset_id)
    click.echo(f"Deleted {dataset_id}.", err=True)
