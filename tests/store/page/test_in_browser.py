"""The report page as a reader meets it: by eye, keyboard, screen reader, phone, printer, without script."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.page.reports import REPORTS, report_named

Open = Callable[..., Any]

AXE = Path(__file__).with_name("axe.min.js").read_text(encoding="utf-8")
FOUND = "axe.run().then(r => r.violations.map(v => [v.id, v.help, v.nodes.slice(0, 4).map(n => n.html)]))"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_is_fetched_and_nothing_is_complained_of(open_report: Open, name: str) -> None:
    opened = open_report(name)
    assert opened.said == []
    assert [url.split(":")[0] for url in opened.asked if not url.startswith("data:")] == ["file"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [name for name in REPORTS if name != "extreme"])
def test_axe_finds_no_barrier(open_report: Open, name: str, scheme: str) -> None:
    page = open_report(name, color_scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    page.evaluate(AXE)
    assert page.evaluate(FOUND) == []


@pytest.mark.parametrize("width", [360, 390, 820])
@pytest.mark.parametrize("name", REPORTS)
def test_the_page_never_scrolls_sideways(open_report: Open, name: str, width: int) -> None:
    page = open_report(name, width=width).page
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    assert page.evaluate(OVERFLOW) == 0


def test_the_patch_is_copied_by_keyboard_alone(open_report: Open) -> None:
    page = open_report("diverged", permissions=["clipboard-read", "clipboard-write"]).page
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.copy") == "patch-0":
            break
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('[role=status]').textContent === 'Copied'")
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied == report_named("diverged")["findings"][0]["remedy"]["patch"]


def test_a_refused_clipboard_leaves_the_patch_selected(open_report: Open) -> None:
    page = open_report("diverged").page
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')) }")
    page.get_by_role("button", name="Copy patch").first.click()
    page.wait_for_function("document.querySelector('[role=status]').textContent !== ''")
    selected = page.evaluate("getSelection().toString()")
    assert json.loads(selected) == report_named("diverged")["findings"][0]["remedy"]["patch"]


def test_arrow_keys_read_every_chart_by_step_together(open_report: Open) -> None:
    page = open_report("healthy").page
    slider = page.get_by_role("slider", name="Read values by step: Loss")
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuenow") == "0"
    said = str(slider.get_attribute("aria-valuetext"))
    assert said.startswith("step 0: Training loss of each batch ")
    read = float(said.removeprefix("step 0: Training loss of each batch ").split(",")[0])
    assert abs(read - report_named("healthy")["series"]["loss"][0]) < 1e-3
    norm = page.get_by_role("slider", name="Read values by step: Gradient norm", exact=True)
    assert norm.get_attribute("aria-valuenow") == "0"
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuenow") == "1"


def test_the_heat_map_is_read_by_layer_with_up_and_down(open_report: Open) -> None:
    page = open_report("healthy").page
    slider = page.get_by_role("slider", name="Read values by step: Gradient norm of each layer, step by step")
    slider.focus()
    page.keyboard.press("ArrowDown")
    assert "layers.1" in str(slider.get_attribute("aria-valuetext"))


def test_a_pointer_reads_the_values_under_it(open_report: Open) -> None:
    page = open_report("healthy").page
    value = page.locator("#loss .legend .value").first
    resting = value.inner_text()
    page.locator("#loss .scrub").hover(position={"x": 5, "y": 50})
    assert value.inner_text() != resting
    page.mouse.move(0, 0)
    assert value.inner_text() == resting


def test_without_script_all_is_there_but_the_conveniences(open_report: Open) -> None:
    page = open_report("diverged", java_script_enabled=False).page
    assert page.locator("#loss .marks").is_visible()
    assert page.get_by_role("region", name="Config patch 1").is_visible()
    assert page.get_by_role("button").count() == 0


def test_printing_unfolds_what_is_folded(open_report: Open) -> None:
    page = open_report("healthy").page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").locator("visible=true").count() == 0
    assert not page.get_by_role("navigation").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_dark_paper_is_dark_and_print_is_white(open_report: Open) -> None:
    page = open_report("healthy", color_scheme="dark").page
    paper = "getComputedStyle(document.body).backgroundColor"
    red = int(page.evaluate(paper).split("(")[1].split(",")[0])
    assert red < 60
    page.emulate_media(media="print")
    assert page.evaluate(paper) == "rgb(255, 255, 255)"


def test_hostile_text_is_shown_and_never_run(open_report: Open) -> None:
    page = open_report("hostile").page
    assert page.evaluate("window.pwned") is None
    assert page.locator("img, iframe, object, embed, form, base").count() == 0
    assert page.locator("script").count() == 2
    handlers = "e => [...e.attributes].some(a => a.name.startsWith('on'))"
    assert page.evaluate(f"[...document.querySelectorAll('*')].some({handlers})") is False
    assert "window.pwned=1" in page.locator("main").inner_text()


def test_an_inline_script_that_slipped_in_would_not_run(open_report: Open) -> None:
    opened = open_report("healthy")
    opened.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.pwned = 1'}))"
    )
    assert opened.page.evaluate("window.pwned") is None
    assert any("Content Security Policy" in said for said in opened.said)


def test_every_link_within_the_page_leads_somewhere(open_report: Open) -> None:
    for name in ("healthy", "diverged", "queued"):
        dead = open_report(name).page.evaluate(
            "[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"
            ".filter(h => h[0] !== '#' || !document.getElementById(h.slice(1)))"
        )
        assert dead == []
