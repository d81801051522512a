"""``gradkeel train``: upload, submit, watch, judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.config_files import read_config
from gradkeel.cli.live import send_file, view_on
from gradkeel.cli.outcome import detached, no_job, outcome_of, problem_of, save, show
from gradkeel.cli.preflight import show_preflight
from gradkeel.cli.screen import Screen
from gradkeel.client import Client
from gradkeel.contract.ids import JOB, is_id
from gradkeel.contract.states import JobKind
from gradkeel.errors import GradkeelError
from gradkeel.resources.jobs import Job, ended_or_refused, model_id_of, remedy_of
from gradkeel.sansio.configs import change_lines, overlaid, patched_config

Json = dict[str, Any]
INTERRUPTED = 130


@dataclass(frozen=True)
class Order:
    """What the command line asks for."""

    file: Path | None
    target: str | list[str] | None
    preset: str | None
    config: Json
    apply: str | None
    folds: int | None
    warm_start: str | None


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="The column to predict; given several times, columns that one regression predicts together.",
)
@click.option("--preset", help="What fills the options that are not given: fast, standard, best, custom.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A training config in JSON, YAML or TOML; flags stand over it.",
)
@click.option(
    "--apply",
    "apply_job",
    metavar="JOB",
    help="Run a job again with its report's first patch, that of a warning before that of a note. "
    "FILE and --target default to that job's.",
)
@click.option(
    "--warm-start",
    metavar="JOB|MODEL",
    help="Begin with the weights of an earlier model, and keep its preparation; target and model default to "
    "that one's.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    help="Cross-validate too: scores on rows held out, fold by fold, parted as the config's split says.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for model.gradkeel, report.json, report.html and predictions.csv (of the test part, and "
    "with --folds of all rows).",
)
@click.option("--detach", is_flag=True, help="Submit and leave.")
@json_option
@service_options
def train(
    access: Access,
    file: Path | None,
    targets: tuple[str, ...],
    preset: str | None,
    config_file: Path | None,
    apply_job: str | None,
    folds: int | None,
    warm_start: str | None,
    out: Path | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Train a model on FILE (CSV, TSV, JSON lines, Parquet; plain, gzip or zstd)."""
    order = _order(file, _target(targets), preset, config_file, apply_job, folds, warm_start)
    screen = Screen(as_json)
    with access.client() as client:
        job = _submitted(client, screen, order)
        if detach:
            screen.say(f"Submitted {job.id}. Watch it: gradkeel jobs watch {job.id}")
            screen.document(detached(job))
            return
        raise SystemExit(follow(client, screen, job, out))


def _target(names: tuple[str, ...]) -> str | list[str] | None:
    """What the config holds: one name, a list of several, or nothing."""
    return list(names) if len(names) > 1 else next(iter(names), None)


def _order(
    file: Path | None,
    target: str | list[str] | None,
    preset: str | None,
    config_file: Path | None,
    apply_job: str | None,
    folds: int | None,
    warm_start: str | None,
) -> Order:
    """Check what can be checked before anything is sent."""
    try:
        config = {} if config_file is None else read_config(config_file)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--config") from error
    if file is None and apply_job is None:
        raise click.UsageError("Give a FILE to train on, or --apply JOB to run a job again.")
    if target is None and "target" not in config and apply_job is None and warm_start is None:
        raise click.UsageError("Name the column to predict with --target (or 'target' in --config).")
    return Order(file, target, preset, config, apply_job, folds, warm_start)


def _submitted(client: Client, screen: Screen, order: Order) -> Job:
    """Upload and submit. Where no job comes to be, print the document that says why; the error goes on."""
    try:
        config = _config(client, screen, order)
        if order.file is not None:
            config["dataset_id"] = _upload(client, screen, order.file)
        return client.jobs.create(config=config)
    except GradkeelError as error:
        screen.document(no_job(problem_of(error)))
        raise


def _config(client: Client, screen: Screen, order: Order) -> Json:
    """The config to submit: that of the job to mend, then the file's keys, then the flags."""
    base = {} if order.apply is None else _mended(client, screen, order.apply)
    config = {**base, **order.config}
    if order.folds is not None:
        config["split"] = {**(config.get("split") or {}), "folds": order.folds}
    begun = None if order.warm_start is None else _earlier_model(client, order.warm_start)
    return overlaid(config, {"target": order.target, "preset": order.preset, "model_id": begun})


def _earlier_model(client: Client, name: str) -> str:
    """The id of a model, given as it is or by the id of its job."""
    return model_id_of(client.jobs.get(name).raw) if is_id(name, JOB) else name


def _mended(client: Client, screen: Screen, job_id: str) -> Json:
    """The submitted config of a job with its report's first patch merged in; says what that changes."""
    job = client.jobs.get(job_id)
    ended_or_refused(job.raw)
    remedy = remedy_of(job.raw, job.report())
    screen.say(f"Applying the patch for {remedy.rule}: {remedy.remedy.get('text')}")
    for line in change_lines(job.config, remedy.patch or {}):
        screen.say(f"  {line}")
    return patched_config(job.raw, remedy.patch or {})


def _upload(client: Client, screen: Screen, file: Path) -> str:
    dataset = send_file(client, screen.errors, file)
    screen.warn(f"{file.name}: {dataset.rows} rows, {len(dataset.columns)} columns ({dataset.id})")
    for found in dataset.profile().get("findings") or []:
        if found.get("code") == "mixed_types":
            screen.warn(f"  look at column {found['column']!r}: {found['detail']}")
    return dataset.id


def follow(client: Client, screen: Screen, job: Job, out: Path | None) -> int:
    """Watch a job to its end, say and print what came of it; returns the exit status.

    Ctrl-C leaves the job running and says how to find it again.
    """
    try:
        with view_on(screen.errors) as view:
            job.wait(on_event=view.show, check=False)
    except KeyboardInterrupt:
        screen.warn(f"The job {job.id} goes on.")
        screen.warn(f"  watch it:  gradkeel jobs watch {job.id}")
        screen.warn(f"  stop it:   gradkeel jobs cancel {job.id}")
        return INTERRUPTED
    outcome = outcome_of(client, job)
    if job.kind == JobKind.PREFLIGHT:
        show_preflight(screen, job, outcome.report)
        screen.document(outcome.document())
        return outcome.status
    try:
        if out is not None:
            outcome = save(outcome, out)
    finally:
        show(screen, outcome)
        screen.document(outcome.document())
    return outcome.status
