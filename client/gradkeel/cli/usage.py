"""``gradkeel usage`` (a key with the scope admin is needed)."""

from __future__ import annotations

import click

from gradkeel.cli.access import Access, json_option, service_options
from gradkeel.cli.screen import Screen
from gradkeel.resources.usage import Usage

NO_LIMIT = "no limit"


@click.command()
@json_option
@service_options
def usage(access: Access, as_json: bool) -> None:
    """Show what the project uses, beside its quotas and limits."""
    screen = Screen(as_json)
    with access.client() as client:
        found = client.usage()
    if not as_json:
        _show(screen, found)
    screen.document(found.raw)


def _show(screen: Screen, found: Usage) -> None:
    screen.say(f"Project {found.project.get('name')}")
    for kind, states in (("jobs", found.jobs), ("datasets", found.datasets)):
        counted = ", ".join(f"{count} {state}" for state, count in states.items() if count)
        screen.say(f"  {kind}: {counted or 'none'}")
    screen.say(f"  models: {found.models}")
    screen.say()
    rows = [[name, quota["used"], _limit(quota["limit"])] for name, quota in found.quotas.items()]
    screen.table(["quota", "used", "limit"], rows)
    screen.say()
    screen.table(["limit", "at most"], [[name, _limit(value)] for name, value in found.limits.items()])


def _limit(value: float | None) -> str:
    return NO_LIMIT if value is None else f"{value:,}"
