"""The commands that need the service, through entry points: up, down, serve, consumer, bootstrap-key."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from gradkeel_service.stack.supervisor import http_command, is_loopback, stop_running
from gradkeel_store.settings import Settings, default_data

DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of everything that is kept. Default: GRADKEEL_DATA, else ~/.local/share/gradkeel.",
)


def _folder(data: Path | None) -> Path:
    return (data or default_data(os.environ)).expanduser().absolute()


@click.command()
@DATA
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: a free port."
)
@click.option("--workers", type=click.IntRange(1, 256), help="Jobs that run at a time.")
@click.option("--detach", is_flag=True, help="Return once the service is ready; 'gradkeel down' stops it.")
def up(data: Path | None, host: str, port: int, workers: int | None, detach: bool) -> None:
    """Start broker, worker, consumer and HTTP server on this machine; Ctrl-C stops all."""
    folder = _folder(data)
    command = [sys.executable, "-m", "gradkeel_service.stack", "--data", str(folder), "--host", host]
    command += ["--port", str(port)]
    if workers is not None:
        command += ["--workers", str(workers)]
    if detach:
        _detach(command, folder)
    else:
        # The supervisor replaces this process, so that what the command line has loaded takes no memory.
        sys.stdout.flush()
        os.execv(command[0], command)


def _detach(command: list[str], folder: Path) -> None:
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = logs / "up.log"
    reader, writer = os.pipe()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--ready-fd", str(writer)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=(writer,),
            start_new_session=True,
        )
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as ready:
        url = ready.read()
    if not url:
        process.wait()
        click.echo(log.read_text(encoding="utf-8").strip(), err=True)
        sys.exit(1)
    click.echo(f"Gradkeel is ready at {url} (docs: {url}/docs). 'gradkeel down --data {folder}' stops it.")


@click.command()
@DATA
def down(data: Path | None) -> None:
    """Stop what `gradkeel up` started."""
    folder = _folder(data)
    if stop_running(folder):
        click.echo(f"Stopped the stack on {folder}.")
    else:
        click.echo(f"Nothing runs on {folder}.")


@click.command()
@DATA
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--threads", default=32, show_default=True, type=click.IntRange(4, 512), help="Requests at a time."
)
def serve(data: Path | None, host: str, port: int, threads: int) -> None:
    """Run the HTTP server alone (for containers); broker and worker are started elsewhere."""
    folder = _folder(data)
    if not is_loopback(host):
        _refuse_without_keys(folder)
    os.environ["GRADKEEL_DATA"] = str(folder)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    command = http_command(address, threads)
    os.execv(command[0], command)


@click.command()
@DATA
def consumer(data: Path | None) -> None:
    """Run the consumer alone (for containers): it takes in jobs from the queue and the lines of batches."""
    os.environ["GRADKEEL_DATA"] = str(_folder(data))
    os.execv(sys.executable, [sys.executable, "-m", "gradkeel_service.consumer"])


def _refuse_without_keys(folder: Path) -> None:
    records, first_key, _ = _open(folder)
    if not first_key.any_key(records):
        raise click.ClickException(
            "refusing to listen beyond this machine while there is no key; run 'gradkeel bootstrap-key' first"
        )
    records.close()


def _open(folder: Path) -> tuple[Any, Any, Settings]:
    # SQLAlchemy is loaded only by the commands that need it: every `gradkeel …` imports this module.
    first_key = importlib.import_module("gradkeel_service.first_key")
    settings = Settings.load(data=folder)
    return first_key.open_records(settings), first_key, settings


@click.command("bootstrap-key")
@DATA
@click.option("--name", default="bootstrap", show_default=True, help="A name for the key.")
@click.option("--if-none", is_flag=True, help="Make and print a key only where there is none yet.")
@click.option(
    "--project", default="default", show_default=True, help="Whose key; a project that is missing is made."
)
def bootstrap_key(data: Path | None, name: str, if_none: bool, project: str) -> None:
    """Make a key with all scopes, from the machine that holds the records, and print it.

    This is also how a project comes to be: nothing of one is seen with a key of another.
    """
    records, first_key, _ = _open(_folder(data))
    for option, text in (("--name", name), ("--project", project)):
        if complaint := first_key.check_name(text):
            raise click.BadParameter(complaint, param_hint=option)
    if not project.strip():
        raise click.BadParameter("a project needs a name", param_hint="--project")
    if if_none and first_key.any_key(records, project):
        click.echo("there is a key already", err=True)
    else:
        click.echo(first_key.new_admin_key(records, name, project))
    records.close()
