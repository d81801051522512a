"""Uploads that were begun, remembered in the user's cache folder: a later run of the same upload goes on."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OLD_SECONDS = 7 * 86400.0
"""The service forgets an upload sooner than this."""


def bookmarks_folder(env: Mapping[str, str] = os.environ) -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/gradkeel/uploads``."""
    home = Path(env.get("HOME") or Path.home())
    return Path(env.get("XDG_CACHE_HOME") or home / ".cache") / "gradkeel" / "uploads"


@dataclass(frozen=True)
class FileBookmark:
    """One upload's id in a small file that only its owner can read. It holds no key.

    What cannot be read or written counts as not remembered: the upload then begins anew.
    """

    path: Path

    @classmethod
    def of(cls, url: str, sha256: str, name: str, options: Mapping[str, Any]) -> FileBookmark:
        """For these bytes, sent to this service under this name, to be read with these options."""
        said = json.dumps([url, sha256, name, sorted(options.items())])
        return cls(bookmarks_folder() / f"{hashlib.sha256(said.encode()).hexdigest()}.json")

    def read(self) -> str | None:
        try:
            return str(json.loads(self.path.read_text("utf-8"))["upload"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remember(self, upload_id: str) -> None:
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _remove_old(self.path.parent)
            fresh = self.path.with_suffix(f".{secrets.token_hex(8)}")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump({"upload": upload_id}, file)
            fresh.replace(self.path)

    def forget(self, upload_id: str) -> None:
        """Unless it names another upload by now."""
        if self.read() == upload_id:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def _remove_old(folder: Path) -> None:
    limit = time.time() - OLD_SECONDS
    for path in folder.iterdir():
        with suppress(OSError):
            if path.stat().st_mtime < limit:
                path.unlink()
