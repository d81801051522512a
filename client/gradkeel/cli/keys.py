"""``gradkeel keys`` (a key with the scope admin is needed)."""

from __future__ import annotations

from typing import Any

import click

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.screen import Screen
from gradkeel.contract.states import Scope
from gradkeel.resources.keys import Key

SECONDS_OF_DAY = 86_400


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke keys."""


@keys.command()
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([str(scope) for scope in Scope]),
    help="What the key may do; may be given several times.",
)
@click.option("--name", default="", help="A name for people.")
@click.option(
    "--expires", "expires_at", metavar="TIME", help="When it ends, as 2030-01-31T00:00:00Z [default: never]."
)
@click.option("--days", type=click.IntRange(1, 36_500), help="It ends after so many days.")
@json_option
@service_options
def create(
    access: Access,
    scopes: tuple[str, ...],
    name: str,
    expires_at: str | None,
    days: int | None,
    as_json: bool,
) -> None:
    """Make a key. Standard output holds it, this once."""
    if days and expires_at:
        raise click.UsageError("give --expires or --days, not both")
    expires_in = days * SECONDS_OF_DAY if days else None
    with access.client() as client:
        key = client.keys.create(scopes, name=name, expires_at=expires_at, expires_in=expires_in)
    _show_once(Screen(as_json), key, f"Made {key.id}.", as_json)


def _show_once(screen: Screen, key: Key, done: str, as_json: bool) -> None:
    screen.warn(f"{done} The key is shown this once:")
    if not as_json:
        click.echo(key.secret)
    screen.document(key.raw)


@keys.command("list")
@json_option
@service_options
def list_keys(access: Access, as_json: bool) -> None:
    """List keys, without their secrets."""
    screen = Screen(as_json)
    with access.client() as client:
        found = [key.raw for key in client.keys.list()]
    if not as_json:
        screen.table(["key", "name", "scopes", "last used", "ends"], [_row(key) for key in found])
    screen.document(found)


def _row(key: dict[str, Any]) -> list[Any]:
    ends = f"revoked {key['revoked_at']}" if key.get("revoked_at") else key.get("expires_at") or "never"
    used = key.get("last_used_at") or "never"
    return [key["id"], key.get("name"), " ".join(key["scopes"]), used, ends]


@keys.command()
@click.argument("key_id", metavar="KEY")
@click.option(
    "--overlap",
    "hours",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 8784),
    metavar="HOURS",
    help="How long the old key works beside the new one.",
)
@json_option
@service_options
def rotate(access: Access, key_id: str, hours: float, as_json: bool) -> None:
    """Replace a key by a new one with the same name, scopes and lifetime. Standard output holds it."""
    with access.client() as client:
        key = client.keys.rotate(key_id, overlap_seconds=round(hours * 3600))
    ends = f"ends in {hours:g} hours" if hours else "has ended"
    _show_once(Screen(as_json), key, f"Made {key.id}; {key_id} {ends}.", as_json)


@keys.command()
@click.argument("key_id", metavar="KEY")
@service_options
def revoke(access: Access, key_id: str) -> None:
    """Make a key worthless at once."""
    with access.client() as client:
        client.keys.revoke(key_id)
    click.echo(f"Revoked {key_id}.", err=True)
