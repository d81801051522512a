"""The root command: this package's commands, those of service and worker, and what becomes of errors."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

import click

from gradkeel.cli.access import Access
from gradkeel.cli.batch import batch
from gradkeel.cli.datasets import datasets
from gradkeel.cli.doctor import doctor
from gradkeel.cli.jobs import jobs
from gradkeel.cli.keys import keys
from gradkeel.cli.models import models
from gradkeel.cli.predict import predict
from gradkeel.cli.preflight import preflight
from gradkeel.cli.report import report
from gradkeel.cli.submissions import submissions
from gradkeel.cli.train import train
from gradkeel.cli.usage import usage
from gradkeel.errors import APIConnectionError, GradkeelError

ENTRY_POINTS = "gradkeel.commands"
DONE, FAILED, WRONG_USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130

COMMANDS: dict[str, click.Command] = {
    "train": train,
    "preflight": preflight,
    "predict": predict,
    "report": report,
    "jobs": jobs,
    "batch": batch,
    "datasets": datasets,
    "models": models,
    "submissions": submissions,
    "keys": keys,
    "usage": usage,
    "doctor": doctor,
}

SERVICE, WORKER = ("flask", "celery"), ("torch", "celery")

# What service and worker bring, and the packages that must be there; the texts stand here so that
# `gradkeel --help` need not import them.
SERVER_COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "up": ("Start broker, worker, consumer and HTTP server on this machine.", SERVICE + WORKER),
    "down": ("Stop what 'gradkeel up' started.", SERVICE),
    "serve": ("Run the HTTP server alone.", SERVICE),
    "consumer": ("Run the consumer of the queue and of batches alone.", SERVICE),
    "worker": ("Run a worker alone.", WORKER),
    "bootstrap-key": ("Make a first key beside the database (no service needed).", SERVICE),
}


class Commands(click.Group):
    """This package's commands and those of the entry points ``gradkeel.commands``, imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *SERVER_COMMANDS, *_server_entries()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            return COMMANDS[cmd_name]
        missing = _missing_package(cmd_name)
        if missing is not None:
            return _absent(cmd_name, missing)
        entry = _server_entries().get(cmd_name)
        return None if entry is None else _load(entry)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _short_help(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _server_entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def _missing_package(name: str) -> str | None:
    """The first package that a server command lacks here. Imports nothing."""
    _, needed = SERVER_COMMANDS.get(name, ("", ()))
    return next((package for package in needed if importlib.util.find_spec(package) is None), None)


def _load(entry: EntryPoint) -> click.Command:
    command = entry.load()
    assert isinstance(command, click.Command), f"{entry.value} is not a click command"
    return command


def _short_help(name: str) -> str:
    return (
        COMMANDS[name].get_short_help_str(90) if name in COMMANDS else SERVER_COMMANDS.get(name, ("", ()))[0]
    )


def _absent(name: str, missing: str) -> click.Command:
    """A command that says which extra brings it."""

    @click.command(name, context_settings={"ignore_unknown_options": True, "help_option_names": []})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        raise click.UsageError(
            f"'gradkeel {name}' needs {missing}, which is not installed: pip install 'gradkeel[server]'"
        )

    return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", help="Address of the service [default: GRADKEEL_URL, then the profile].")
@click.option("--api-key", help="Key to send there [default: GRADKEEL_API_KEY, then the profile].")
@click.version_option(package_name="gradkeel")
@click.pass_context
def app(ctx: click.Context, url: str | None, api_key: str | None) -> None:
    """Train models on tables over HTTP, on an even keel, with a gradient-health report.

    Exit status: 0 done, 1 the job failed or was cancelled, or the service refused, 2 wrong usage, 3 the
    service cannot be reached.
    """
    ctx.obj = Access(url, api_key)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        status = app.main(args=arguments, prog_name="gradkeel", standalone_mode=False)
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (GradkeelError, OSError, ValueError) as error:
        click.echo(f"gradkeel: {error}", err=True)
        _say_more(error)
        return UNREACHABLE if isinstance(error, APIConnectionError) else FAILED
    return status if isinstance(status, int) else DONE


def _say_more(error: Exception) -> None:
    if isinstance(error, APIConnectionError) and "gradkeel up" not in str(error):
        click.echo(
            "  'gradkeel up' starts a service here; 'gradkeel doctor' looks for what is wrong.", err=True
        )
    request_id = getattr(error, "request_id", None)
    if request_id:
        click.echo(f"  request id: {request_id}", err=True)


if __name__ == "__main__":
    sys.exit(main())
