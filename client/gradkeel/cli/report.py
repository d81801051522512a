"""``gradkeel report``."""

from __future__ import annotations

from pathlib import Path

import click

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.outcome import show_details, show_metrics, show_report
from gradkeel.cli.preflight import show_preflight
from gradkeel.cli.screen import Screen
from gradkeel.contract.states import JobKind


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option(
    "--html",
    "html_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the report as one self-contained page.",
)
@click.option(
    "--markdown",
    "markdown_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the report as Markdown.",
)
@click.option(
    "--png",
    "png_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Save the report as one picture.",
)
@json_option
@service_options
def report(
    access: Access,
    job_id: str,
    html_file: Path | None,
    markdown_file: Path | None,
    png_file: Path | None,
    as_json: bool,
) -> None:
    """Show the gradient-health report of JOB: verdict, findings with their patches, metrics."""
    screen = Screen(as_json)
    with access.client() as client:
        job = client.jobs.get(job_id)
        found = job.report()
        if html_file is not None:
            html_file.write_text(job.report_html(), "utf-8")
        if markdown_file is not None:
            markdown_file.write_text(job.report_markdown(), "utf-8")
        if png_file is not None:
            png_file.write_bytes(job.report_png())
    if job.kind == JobKind.PREFLIGHT:
        show_preflight(screen, job, found)
    else:
        show_report(screen, found)
        show_metrics(screen, job.metrics)
        show_details(screen, found)
    for written in filter(None, (html_file, markdown_file, png_file)):
        screen.say()
        screen.say(f"Report: {written}")
    screen.document(found.raw)
