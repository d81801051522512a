"""What notebooks show of the SDK's objects: whole, escaped, self-contained; and the line of progress."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from typing import Any

import pytest
from playwright.sync_api import Browser

from gradkeel import Client, Event, ProgressLine
from gradkeel.resources.jobs import JobData
from gradkeel.resources.keys import Key
from gradkeel.testing import FakeService
from store.page.conftest import browser as browser_of_the_pages

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
FINDING: dict[str, Any] = {
    "rule": "lr_too_high",
    "severity": "critical",
    "where": {"layer": EVIL, "step": 3},
    "explanation": f"The steps are too large. {EVIL}",
    "remedy": {"text": "", "patch": {"optimizer": {"lr": 0.001}}},
}


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """One of each object, with names that try to be more than text."""
    service = FakeService()
    service.next_job(state="failed", code="diverged", message=EVIL, findings=[FINDING])
    service.next_job(held=True)
    client = Client(transport=service)
    data = client.datasets.upload({EVIL: [1.0, 2.0, 3.0], "y": ["a", "b", "b"]}, name=EVIL)
    failed = client.jobs.create(data, target="y").wait(check=False)
    running = client.jobs.create(data, target="y").refresh()
    job = client.jobs.create(data, target="y", labels={"a": EVIL}).wait()
    return {
        "failed": failed,
        "running": running,
        "job": job,
        "data": data,
        "model": job.model(),
        "report": failed.report(),
        "key": Key({"id": "key_1", "name": EVIL, "scopes": ["read"], "key": "key_1.secret"}),
    }


chromium = browser_of_the_pages


def test_a_browser_shows_them_as_text_only(chromium: Browser, shown: dict[str, Any]) -> None:
    asked: list[str] = []
    page = chromium.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.set_content("<title>mine</title>" + "".join(thing._repr_html_() for thing in shown.values()))
    text = page.inner_text("body")
    assert page.title() == "mine"
    assert page.locator("script, img").count() == 0
    assert asked == []
    for words in ("diverged", "lr_too_high", '{"optimizer": {"lr": 0.001}}', "baseline: constant", "epoch"):
        assert words in text
    assert EVIL in text
    assert "secret" not in text


class Balanced(HTMLParser):
    """Fails where an element is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_each_form_is_whole_and_small(shown: dict[str, Any]) -> None:
    for thing in shown.values():
        forms = thing._repr_mimebundle_()
        assert forms["text/plain"] == repr(thing)
        parser = Balanced()
        parser.feed(forms["text/html"])
        assert parser.open == []
        assert len(forms["text/html"]) < 10_000


def test_long_tables_are_cut() -> None:
    client = Client(transport=FakeService())
    wide = client.datasets.upload({f"c{index}": [1.0, 2.0] for index in range(100)})
    assert "… and 70 more" in wide._repr_html_()


def test_a_job_says_how_far_it_is() -> None:
    progress = {"phase": "train", "epoch": 3, "epochs": 12, "fraction": 0.25}
    html = JobData({"id": "job_1", "state": "running", "progress": progress})._repr_html_()
    assert "width:25.0%" in html
    assert "3 of 12" in html


def test_the_line_of_progress_is_written_over_itself() -> None:
    out = io.StringIO()
    line = ProgressLine(out)
    line(Event(1, "state", {"state": "running"}))
    line(
        Event(
            2, "progress", {"phase": "train", "epoch": 0, "epochs": 4, "fraction": 0.25, "eta_seconds": 3.2}
        )
    )
    line(Event(3, "end", {"job_id": "job_1", "state": "failed", "verdict": None, "error": {"message": "no"}}))
    assert out.getvalue().count("\n") == 1
    _, first, last = out.getvalue().split("\r")
    assert first == "[#####...............]  25% train epoch 1/4, about 3 s left"
    assert last.strip() == "job_1 failed no"
