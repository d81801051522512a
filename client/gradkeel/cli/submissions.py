"""``gradkeel submissions``: what became of jobs that were put on the queue."""

from __future__ import annotations

import itertools

import click

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.screen import Screen
from gradkeel.contract.states import SubmissionState


@click.group()
def submissions() -> None:
    """See what became of jobs that came by the queue."""


@submissions.command("list")
@click.option("--state", type=click.Choice([str(state) for state in SubmissionState]), help="Only these.")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1), help="How many, newest first."
)
@json_option
@service_options
def list_submissions(access: Access, state: str | None, limit: int, as_json: bool) -> None:
    """List submissions."""
    screen = Screen(as_json)
    with access.client() as client:
        found = [item.raw for item in itertools.islice(client.submissions.list(state=state), limit)]
    if not as_json:
        rows = [[item["submission_id"], item["state"], item["job_id"], _reason(item)] for item in found]
        screen.table(["submission", "state", "job", "reason"], rows)
    screen.document(found)


@submissions.command()
@click.argument("submission_id", metavar="SUBMISSION")
@json_option
@service_options
def show(access: Access, submission_id: str, as_json: bool) -> None:
    """Show what became of one, with every place that was refused."""
    screen = Screen(as_json)
    with access.client() as client:
        found = client.submissions.get(submission_id).raw
    if not as_json:
        job = f", job {found['job_id']}" if found["job_id"] else ""
        click.echo(f"{found['submission_id']}: {found['state']}{job}")
        for line in _lines(found):
            click.echo(f"  {line}")
    screen.document(found)


def _reason(item: dict[str, object]) -> str:
    error = item["error"]
    return str(error["detail"]) if isinstance(error, dict) else ""


def _lines(item: dict[str, object]) -> list[str]:
    error, warnings = item["error"], item["warnings"]
    lines = []
    if isinstance(error, dict):
        lines.append(f"{error['title']}: {error['detail']}")
        lines += [f"{place.get('pointer') or '/'}: {place['detail']}" for place in error["errors"]]
    if isinstance(warnings, list):
        lines += [f"warning: {warning['detail']}" for warning in warnings]
    return lines
