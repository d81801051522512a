"""The page in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from browsing import running_chromium
from gradkeel_store.page import render_report
from store.page.reports import job_of, report_named


@dataclass
class Opened:
    """A page in the browser, and what it said and asked for while it was open."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as chromium:
        yield chromium


@pytest.fixture
def open_report(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Render a named report into a file and open that file; keywords go to the browser's context."""
    contexts = []

    def opened(name: str, *, width: int = 1280, **options: Any) -> Opened:
        file = tmp_path / f"{name}.html"
        html = render_report(report_named(name), title="diabetes.csv", job=job_of(name))
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        result = Opened(context.new_page())
        result.page.on("console", lambda message: result.said.append(message.text))
        result.page.on("pageerror", lambda error: result.said.append(str(error)))
        result.page.on("request", lambda request: result.asked.append(request.url))
        result.page.goto(file.as_uri())
        return result

    yield opened
    for context in contexts:
        context.close()
