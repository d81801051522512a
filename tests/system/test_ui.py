"""The pages in a real Chromium, against a real stack: sign in, watch a job live, cancel it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from browsing import running_chromium
from gradkeel import Client
from gradkeel.resources.jobs import Job
from system.conftest import Stack

AXE = Path(__file__).parents[1] / "store" / "page" / "axe.min.js"
FOUND = "axe.run().then(r => r.violations.map(v => [v.id, v.help, v.nodes.slice(0, 4).map(n => n.html)]))"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PATIENCE_MS = 60_000

LONG = {"kind": "mlp", "widths": [64, 64]}


class Visitor:
    """A page of the browser, and what it complained of or fetched from elsewhere."""

    def __init__(self, page: Page, stack: Stack) -> None:
        self.page, self.stack = page, stack
        self.said: list[str] = []
        self.foreign: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))

    def _asked(self, url: str) -> None:
        if not url.startswith(self.stack.url + "/"):
            self.foreign.append(url)

    def sign_in(self) -> None:
        key = json.loads((self.stack.data / "profile.json").read_text())["api_key"]
        self.page.goto(f"{self.stack.url}/ui")
        self.page.get_by_label("Your key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", name="Jobs")).to_be_visible()

    def open(self, path: str) -> None:
        answer = self.page.goto(self.stack.url + path)
        assert answer is not None
        assert answer.status == 200

    def check(self) -> None:
        """No barrier, no sideways scrolling, no complaint, nothing from elsewhere."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        assert self.page.evaluate(FOUND) == []
        assert self.page.evaluate(OVERFLOW) == 0
        assert self.said == []
        assert self.foreign == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_chromium() as chromium:
        yield chromium


@pytest.fixture
def visitor(browser: Browser, stack: Stack) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield Visitor(context.new_page(), stack)
    context.close()


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.url, json.loads((stack.data / "profile.json").read_text())["api_key"]) as client:
        yield client


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chance = random.Random(5)
    rows = [(chance.random(), chance.choice("NESW")) for _ in range(4000)]
    path = tmp_path_factory.mktemp("ui") / "houses.csv"
    lines = [f"{x:.4f},{zone},{3 * x + 'NESW'.index(zone) + chance.gauss(0, 0.1):.4f}" for x, zone in rows]
    path.write_text("\n".join(["size,zone,price", *lines, ""]), encoding="utf-8")
    return path


@pytest.fixture
def running(client: Client, table: Path) -> Iterator[Job]:
    """A job that would run for a long time."""
    data = client.datasets.upload(table)
    job = client.jobs.create(
        data, target="price", preset="fast", model=LONG, budget={"epochs": 10_000, "patience": 10_000}
    )
    yield job
    client.jobs.get(job.id).cancel()


@pytest.fixture(scope="module")
def ended(client: Client, table: Path) -> Job:
    data = client.datasets.upload(table)
    job = client.jobs.create(data, target="price", preset="fast", budget={"epochs": 2})
    job.wait(timeout=120)
    return job


def test_a_job_is_watched_live_and_cancelled(visitor: Visitor, running: Job) -> None:
    page = visitor.page
    visitor.sign_in()
    page.get_by_role("link", name="houses.csv").first.click()
    page.goto(f"{visitor.stack.url}/ui/jobs/{running.id}")
    for title in ("Loss", "Gradient norm"):
        drawn = page.locator("#charts figure", has=page.get_by_role("heading", name=title, exact=True))
        for line in (0, 1):
            path = drawn.locator(f"path[data-line='{line}']")
            expect(path).to_have_attribute("d", _many_points(), timeout=PATIENCE_MS)
    expect(page.locator("#charts .heat path").nth(2)).to_be_attached(timeout=PATIENCE_MS)
    expect(page.get_by_text("0.001, a rule of thumb, not a target")).to_be_visible()
    first = page.locator("#now-step").inner_text()
    expect(page.locator("#now-step")).not_to_have_text(first, timeout=PATIENCE_MS)
    expect(page.locator("#state")).to_have_text("running")
    assert float(page.locator("#now-norm").inner_text()) > 0
    visitor.check()
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator("#state")).to_have_text("cancelled", timeout=PATIENCE_MS)
    expect(page.get_by_role("button", name="Run it again")).to_be_visible()
    visitor.check()


def _many_points() -> re.Pattern[str]:
    return re.compile(r"^M(\S+ \S+L){5}")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_every_page_is_readable(browser: Browser, stack: Stack, ended: Job, scheme: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    visitor = Visitor(context.new_page(), stack)
    visitor.page.goto(f"{stack.url}/ui/sign-in")
    visitor.check()
    visitor.sign_in()
    pages = ["jobs", f"jobs/{ended.id}", "datasets", f"datasets/{ended.dataset_id}"]
    for path in [*pages, "models", "batches", "keys", "usage"]:
        visitor.open(f"/ui/{path}")
        visitor.check()
    context.close()


def test_the_pages_work_without_scripts(browser: Browser, stack: Stack, ended: Job) -> None:
    context = browser.new_context(java_script_enabled=False)
    visitor = Visitor(context.new_page(), stack)
    visitor.sign_in()
    visitor.open(f"/ui/jobs/{ended.id}")
    page = visitor.page
    expect(page.locator("#state")).to_have_text("succeeded")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Predictions of the test part").click()
    assert Path(downloading.value.path()).read_text(encoding="utf-8").startswith("row,")
    page.get_by_role("link", name="The whole gradient-health report").click()
    expect(page.get_by_role("heading", name="houses.csv")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Run it again").click()
    expect(page.get_by_text("Retry of")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert visitor.foreign == []
    context.close()
