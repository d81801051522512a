"""The docs page in a real browser, under its strict policy."""

from __future__ import annotations

import pytest

from browsing import running_chromium
from service.conftest import Service, assert_problem


def test_the_page_renders_without_a_complaint(service: Service) -> None:
    complaints: list[str] = []
    foreign: list[str] = []
    with running_chromium() as browser:
        page = browser.new_page()
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("request", lambda request: _note_foreign(request.url, service.url, foreign))
        page.goto(f"{service.url}/docs")
        page.wait_for_selector(".opblock-summary-path")
        shown = page.inner_text("#docs")
    assert "/v1/jobs/{job_id}/report" in shown.replace("\u200b", "")
    assert complaints == []
    assert foreign == []


def _note_foreign(url: str, own: str, foreign: list[str]) -> None:
    if not url.startswith((own, "data:", "blob:")):
        foreign.append(url)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_an_address_where_nothing_is_points_to_the_docs(service: Service) -> None:
    with service.client("") as client:
        for path in ("/", "/v2"):
            assert "/docs" in assert_problem(client.get(path), 404, "not_found")["detail"]
