"""``gradkeel keys`` (a key with the scope admin is needed)."""

from __future__ import annotations

import click

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.screen import Screen
from gradkeel.contract.states import Scope


@click.group()
def keys() -> None:
    """Make, list and revoke keys."""


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
@json_option
@service_options
def create(access: Access, scopes: tuple[str, ...], name: str, expires_at: str | None, as_json: bool) -> None:
    """Make a key. Standard output holds it, this once."""
    screen = Screen(as_json)
    with access.client() as client:
        key = client.keys.create(scopes, name=name, expires_at=expires_at)
    screen.warn(f"Made {key.id}. The key is shown this once:")
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
        rows = [[key["id"], key.get("name"), " ".join(key["scopes"]), key.get("expires_at")] for key in found]
        screen.table(["key", "name", "scopes", "expires"], rows)
    screen.document(found)


@keys.command()
@click.argument("key_id", metavar="KEY")
@service_options
def revoke(access: Access, key_id: str) -> None:
    """Make a key worthless at once."""
    with access.client() as client:
        client.keys.revoke(key_id)
    click.echo(f"Revoked {key_id}.", err=True)
