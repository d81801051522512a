"""The profile: where the service is and with which key, for clients on this machine (mode 0600)."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "profile.json"


def user_profile(env: Mapping[str, str]) -> Path:
    """``${XDG_CONFIG_HOME:-~/.config}/gradkeel/profile.json``."""
    config = env.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "gradkeel" / NAME


def read_key(path: Path) -> str | None:
    """The key in a profile; None where there is no readable one."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    key = document.get("api_key") if isinstance(document, dict) else None
    return key if isinstance(key, str) else None


def write(path: Path, url: str, api_key: str) -> None:
    """Write or replace a profile; no other user can read it at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp makes the file with mode 0600.
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=".profile-")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"url": url, "api_key": api_key}, file, indent=2)
        file.write("\n")
    Path(fresh).replace(path)
