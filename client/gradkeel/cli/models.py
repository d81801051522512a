"""``gradkeel models``."""

from __future__ import annotations

import itertools

import click

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.outcome import show_metrics, table_of
from gradkeel.cli.screen import Screen
from gradkeel.resources.models import SUFFIXES

LISTED = ("id", "target", "task", "verdict", "created_at", "job_id")


@click.group()
def models() -> None:
    """List, download and delete models."""


@models.command("list")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first."
)
@json_option
@service_options
def list_models(access: Access, limit: int, as_json: bool) -> None:
    """List models, newest first."""
    screen = Screen(as_json)
    with access.client() as client:
        found = [model.raw for model in itertools.islice(client.models.list(limit=min(limit, 100)), limit)]
    if not as_json:
        screen.table(["model", "target", "task", "verdict", "created", "job"], table_of(found, LISTED))
    screen.document(found)


@models.command()
@click.argument("model_id", metavar="MODEL")
@json_option
@service_options
def show(access: Access, model_id: str, as_json: bool) -> None:
    """Show a model: what it reads, what it predicts, how well."""
    screen = Screen(as_json)
    with access.client() as client:
        found = client.models.get(model_id)
    if not as_json:
        for key in (*LISTED, "classes"):
            if found.raw.get(key) is not None:
                screen.say(f"{key:<10} {found.raw[key]}")
        screen.say()
        screen.table(["column", "type"], table_of(found.raw["columns"], ("name", "type")))
        show_metrics(screen, found.metrics)
    screen.document(found.raw)


@models.command()
@click.argument("model_id", metavar="MODEL")
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    help="File, or folder; one that ends with / is made [default: model.gradkeel].",
)
@click.option("--format", "form", type=click.Choice(list(SUFFIXES)), default="bundle", show_default=True)
@service_options
def download(access: Access, model_id: str, out: str | None, form: str) -> None:
    """Save a model; its digest is verified."""
    with access.client() as client:
        path = client.models.get(model_id).download(out, format=form)
    click.echo(f"Saved {path}.", err=True)


@models.command()
@click.argument("model_id", metavar="MODEL")
@service_options
def delete(access: Access, model_id: str) -> None:
    """Delete a model."""
    with access.client() as client:
        client.models.delete(model_id)
    click.echo(f"Deleted {model_id}.", err=True)
