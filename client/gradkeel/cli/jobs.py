"""``gradkeel jobs``."""

from __future__ import annotations

import itertools
from pathlib import Path

import click

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.outcome import show_metrics, table_of
from gradkeel.cli.screen import Screen
from gradkeel.cli.train import follow
from gradkeel.contract.config import target_text
from gradkeel.contract.states import JobState

LISTED = ("id", "state", "verdict", "created_at")


@click.group()
def jobs() -> None:
    """List, watch and steer jobs."""


@jobs.command("list")
@click.option(
    "--state", type=click.Choice([str(state) for state in JobState]), help="Only jobs in this state."
)
@click.option("--label", metavar="KEY=VALUE", help="Only jobs with this label.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first."
)
@json_option
@service_options
def list_jobs(access: Access, state: str | None, label: str | None, limit: int, as_json: bool) -> None:
    """List jobs, newest first."""
    screen = Screen(as_json)
    with access.client() as client:
        page = client.jobs.list(state=state, label=label, limit=min(limit, 100))
        found = [job.raw for job in itertools.islice(page, limit)]
    targets = [target_text(job["config"].get("target")) for job in found]
    rows = [[*row, target] for row, target in zip(table_of(found, LISTED), targets, strict=True)]
    if not as_json:
        screen.table(["job", "state", "verdict", "created", "target"], rows)
    screen.document(found)


@jobs.command()
@click.argument("job_id", metavar="JOB")
@json_option
@service_options
def show(access: Access, job_id: str, as_json: bool) -> None:
    """Show a job."""
    screen = Screen(as_json)
    with access.client() as client:
        job = client.jobs.get(job_id)
    if not as_json:
        told = (
            "id",
            "state",
            "verdict",
            "error",
            "dataset_id",
            "model_id",
            "attempts",
            "created_at",
            "ended_at",
        )
        for key in told:
            if job.raw.get(key) is not None:
                screen.say(f"{key:<11} {job.raw[key]}")
        show_metrics(screen, job.metrics)
    screen.document(job.raw)


@jobs.command()
@click.argument("job_id", metavar="JOB")
@json_option
@service_options
def cancel(access: Access, job_id: str, as_json: bool) -> None:
    """Ask for a job to be cancelled."""
    screen = Screen(as_json)
    with access.client() as client:
        job = client.jobs.get(job_id).cancel()
    screen.say(f"{job.id} is {job.state}." if job.ended else f"{job.id} will be cancelled.")
    screen.document(job.raw)


@jobs.command()
@click.argument("job_id", metavar="JOB")
@json_option
@service_options
def retry(access: Access, job_id: str, as_json: bool) -> None:
    """Run a job once more, as a new job."""
    screen = Screen(as_json)
    with access.client() as client:
        job = client.jobs.get(job_id).retry()
    screen.say(f"Submitted {job.id}. Watch it: gradkeel jobs watch {job.id}")
    screen.document(job.raw)


@jobs.command()
@click.argument("job_id", metavar="JOB")
@service_options
def logs(access: Access, job_id: str) -> None:
    """Print the log of a job that has ended."""
    with access.client() as client:
        click.echo(client.jobs.get(job_id).logs(), nl=False)


@jobs.command()
@click.argument("job_id", metavar="JOB")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for model.gradkeel, report.json, report.html and predictions.csv (of the test part).",
)
@json_option
@service_options
def watch(access: Access, job_id: str, out: Path | None, as_json: bool) -> None:
    """Watch a job to its end; prints what 'gradkeel train' prints."""
    screen = Screen(as_json)
    with access.client() as client:
        raise SystemExit(follow(client, screen, client.jobs.get(job_id), out))
