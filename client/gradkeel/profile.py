"""Where the service is, which key opens it: arguments, environment, then the profile of ``gradkeel up``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gradkeel.errors import APIConnectionError

URL_VARIABLE = "GRADKEEL_URL"
KEY_VARIABLE = "GRADKEEL_API_KEY"
DATA_VARIABLE = "GRADKEEL_DATA"
DEFAULT_PORTS = {"http": 80, "https": 443}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Profile:
    """What ``gradkeel up`` wrote. The key never shows in a repr."""

    url: str
    api_key: str = field(repr=False)
    path: Path


@dataclass(frozen=True)
class Access:
    """The address to use and the key to send there; ``api_key`` is None where none is known."""

    url: str
    api_key: str | None = field(repr=False)


def profile_paths(env: Mapping[str, str] = os.environ) -> list[Path]:
    """Where a profile may lie: the data folder that the environment names, then the user's settings."""
    home = Path(env.get("HOME") or Path.home())
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    named = [Path(env[DATA_VARIABLE]) / "profile.json"] if env.get(DATA_VARIABLE) else []
    return [*named, config / "gradkeel" / "profile.json"]


def read_profile(env: Mapping[str, str] = os.environ) -> Profile | None:
    """The first profile that is there, else None. A damaged one raises ValueError with its path."""
    for path in profile_paths(env):
        if path.is_file():
            return _parse(path)
    return None


def _parse(path: Path) -> Profile:
    try:
        document = json.loads(path.read_text("utf-8"))
        return Profile(str(document["url"]), str(document["api_key"]), path)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a profile (a JSON object with url and api_key): run 'gradkeel up' again"
        ) from error


def find_access(
    url: str | None = None, api_key: str | None = None, env: Mapping[str, str] = os.environ
) -> Access:
    """Address and key, each by itself from argument, environment, profile.

    A profile's key goes to that profile's address only. Raises ``APIConnectionError`` where none is known.
    """
    url = url or env.get(URL_VARIABLE)
    api_key = api_key or env.get(KEY_VARIABLE)
    profile = None if url and api_key else read_profile(env)
    if profile is None:
        return Access(_required(url), api_key)
    url = url or profile.url
    if api_key is None and origin(url) == origin(profile.url):
        api_key = profile.api_key
    return Access(url, api_key)


def _required(url: str | None) -> str:
    if not url:
        raise APIConnectionError(
            "No service is known: run 'gradkeel up', or name one with --url, Client(url=…) or GRADKEEL_URL"
        )
    return url


def origin(url: str) -> tuple[str, str, int | None, str]:
    """Scheme, host, port and path of an address, so that two spellings of one service compare equal."""
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port, parts.path.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own: no proxy of the environment is used for it."""
    return (urlsplit(url).hostname or "") in LOOPBACK
