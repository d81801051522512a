"""The distribution's Chromium, for tests that open pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from servers import missing

ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """A browser; where none is installed the test is skipped (a failure when CI is set)."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if binary is None:
        missing("Chromium is not installed: looked for chromium, chromium-browser and google-chrome")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=binary, args=ARGUMENTS)
        try:
            yield chromium
        finally:
            chromium.close()
