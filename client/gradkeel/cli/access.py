"""Options that every command that talks to the service takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click

from gradkeel.client import Client

MAX_RETRIES = 3  # someone sits before the screen; waiting for a job is more patient by itself


@dataclass(frozen=True)
class Access:
    """Address and key as given on the command line; None where not given."""

    url: str | None = None
    api_key: str | None = field(default=None, repr=False)

    def client(self) -> Client:
        """A client for them, completed from the environment and the profile."""
        return Client(self.url, self.api_key, max_retries=MAX_RETRIES)


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--url`` and ``--api-key``, also after the command's name; the command is handed ``access``."""

    @click.option("--url", help="Address of the service.")
    @click.option("--api-key", help="Key to send there.")
    @click.pass_context
    def with_access(ctx: click.Context, /, url: str | None, api_key: str | None, **kwargs: Any) -> Any:
        outer = ctx.find_object(Access) or Access()
        access = Access(url or outer.url, api_key or outer.api_key)
        return ctx.invoke(command, access=access, **kwargs)

    with_access.__name__ = command.__name__
    with_access.__doc__ = command.__doc__
    params = getattr(command, "__click_params__", [])
    with_access.__click_params__ = [*with_access.__click_params__, *params]  # type: ignore[attr-defined]
    return with_access


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``: one document on standard output, everything else on standard error."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)
