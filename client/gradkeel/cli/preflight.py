"""``gradkeel preflight``: which learning rate, and does scaling change it, before any training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.config_files import read_config
from gradkeel.cli.live import send_file
from gradkeel.cli.outcome import problem_of
from gradkeel.cli.screen import Screen
from gradkeel.client import Client
from gradkeel.contract.states import JobState
from gradkeel.errors import GradkeelError
from gradkeel.reports import Report
from gradkeel.resources.jobs import Job
from gradkeel.sansio.configs import overlaid

Json = dict[str, Any]

HEAD = ["scaling", "loss", "gradient norm", "largest curvature", "stable below", "use lr", "dry run"]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--target", help="The column to predict.")
@click.option("--preset", help="What fills the options that are not given: fast, standard, best, custom.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A training config in JSON, YAML or TOML; flags stand over it.",
)
@json_option
@service_options
def preflight(
    access: Access,
    file: Path,
    target: str | None,
    preset: str | None,
    config_file: Path | None,
    as_json: bool,
) -> None:
    """Show gradient sizes and stable learning rates under each scaling of FILE, without training."""
    config = _config(target, preset, config_file)
    screen = Screen(as_json)
    with access.client() as client:
        job = _submitted(client, screen, file, config)
        job.wait(check=False)
        report = job.report()
    show_preflight(screen, job, report)
    screen.document(
        {
            "job": job.raw,
            "preflight": report.preflight,
            "recommended": report.recommended,
            "summary": report.summary,
            "seconds": job.seconds,
        }
    )
    raise SystemExit(0 if job.state == JobState.SUCCEEDED else 1)


def _config(target: str | None, preset: str | None, config_file: Path | None) -> Json:
    try:
        config = {} if config_file is None else read_config(config_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--config") from error
    if target is None and "target" not in config:
        raise click.UsageError("Name the column to predict with --target (or 'target' in --config).")
    return overlaid(config, {"target": target, "preset": preset})


def _submitted(client: Client, screen: Screen, file: Path, config: Json) -> Job:
    """Upload and submit. Where no job comes to be, print the document that says why; the error goes on."""
    try:
        dataset = send_file(client, screen.errors, file)
        screen.warn(f"{file.name}: {dataset.rows} rows, {len(dataset.columns)} columns ({dataset.id})")
        return client.preflights.create(dataset, config=config)
    except GradkeelError as error:
        empty = dict.fromkeys(("job", "recommended", "summary", "seconds"))
        screen.document({**empty, "preflight": [], "error": problem_of(error)})
        raise


def show_preflight(screen: Screen, job: Job, report: Report) -> None:
    """The sentence, the table, and how to train with what is recommended."""
    screen.say(f"Preflight {job.id} {job.state}" + (f" after {job.seconds:.1f} s." if job.seconds else "."))
    screen.say()
    screen.say(report.summary)
    if report.preflight:
        screen.say()
        screen.table(HEAD, [_row(entry) for entry in report.preflight])
        screen.say()
        screen.say(
            "Norms and curvatures under different scalings or losses are not comparable with each other. The "
            "limit is the smaller of the loss's own and that of the squared error, which binds where "
            "residuals are small."
        )
    for note in dict.fromkeys(note for entry in report.preflight for note in entry.get("notes") or ()):
        screen.say(f"note: {note}")
    chosen = report.recommended
    if chosen is not None:
        screen.say()
        screen.say("Train with it: merge this patch into the config of 'gradkeel train --config'.")
        screen.say(f"  patch: {json.dumps(chosen['patch'], ensure_ascii=False)}", style="bold")


def _row(entry: Mapping[str, Any]) -> list[Any]:
    limits = [entry.get(name) for name in ("local_stability_limit", "gauss_newton_limit")]
    known = [float(limit) for limit in limits if limit is not None]
    marked = f"{entry['scaling']} *" if entry.get("recommended") else entry["scaling"]
    return [
        marked,
        entry["loss"],
        entry["gradient_norm"],
        entry["lambda_max"],
        min(known, default=None),
        entry["lr"],
        dry_run_words(entry.get("dry_run")),
    ]


def dry_run_words(run: Mapping[str, Any] | None) -> str | None:
    """How a dry run went; None where there was none."""
    if not run:
        return None
    if not run["stable"]:
        return "not stable"
    return "stable, the loss fell" if run["falls"] else "stable, too small to move the loss"
