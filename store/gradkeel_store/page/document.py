"""The whole file: head with its policy, header, contents, sections, script."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from gradkeel_store.page.charts.readings import data_block
from gradkeel_store.page.markup import Html, details, shorten, tag
from gradkeel_store.page.sections import all_sections
from gradkeel_store.page.sections.section import Section
from gradkeel_store.page.sections.verdict import header, verdict_of
from gradkeel_store.page.source import View, mapping

# An empty icon keeps browsers from asking the server for /favicon.ico.
_ICON = "data:,"
MAX_BYTES = 1_000_000
_FIRST = {False: "findings", True: "preflight"}  # what a reader is after; also its anchor
_THRIFT = (1, 4, 16, 64)  # a page that came out too large is drawn again with fewer rows and findings


def render_report(report: dict[str, Any], *, title: str, job: dict[str, Any] | None = None) -> str:
    """The report as one self-contained HTML file of at most a megabyte.

    `report` is the report's JSON (what is missing is said in words), `title` names the data set or job, and
    `job`, where given, is the job's document: its config, state and times are shown. Nothing is fetched: the
    content security policy inside allows only the page's own script and style.
    """
    page = ""
    for thrift in _THRIFT:
        page = _page(View(mapping(report), mapping(job), title, thrift))
        if len(page.encode()) <= MAX_BYTES:
            break
    return page


def _page(view: View) -> str:
    sections, readings = all_sections(view)
    body = [
        tag(
            "a", f"Skip to the {_FIRST[view.is_preflight]}", href=f"#{_FIRST[view.is_preflight]}", cls="skip"
        ),
        tag(
            "div",
            header(view),
            contents(sections),
            tag("main", _primer(), [section.html() for section in sections]),
            _footer(),
            cls="page",
        ),
        data_block(readings),
        Html(f"<script>{_asset('page.js')}</script>"),
    ]
    page = tag("html", _head(view), tag("body", *body, cls=f"verdict-{verdict_of(view)}"), lang="en")
    return f"<!doctype html>\n{page}\n"


@cache
def content_security_policy() -> str:
    """The policy that stands in the page; a server that sends the page may send it as a header too."""
    script, style = (_digest(_asset(name)) for name in ("page.js", "page.css"))
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; base-uri "
        "'none'; form-action 'none'"
    )


def stylesheet() -> str:
    """The page's style, for other pages that are to look like it."""
    return _asset("page.css")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return resources.files("gradkeel_store.page").joinpath("assets", name).read_text(encoding="utf-8")


def _head(view: View) -> Html:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=content_security_policy()),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{shorten(view.title, 120)} · gradient-health report"),
        tag("link", rel="icon", href=_ICON),
        Html(f"<style>{_asset('page.css')}</style>"),
    )


def contents(sections: list[Section]) -> Html:
    """Links to the sections."""
    links = [tag("li", tag("a", section.title, href=f"#{section.anchor}")) for section in sections]
    return tag(
        "nav", tag("p", "Contents", cls="eyebrow"), tag("ol", links), aria_label="Contents", cls="contents"
    )


def _primer() -> Html:
    terms = [
        ("Weight", "one of the numbers inside the model. Training means finding good ones."),
        ("Loss", "one number that says how wrong the model is on a batch of rows. Smaller is better."),
        (
            "Gradient",
            (
                "for every weight, how the loss would change if that weight grew a little: the "
                "direction uphill. A step goes the other way."
            ),
        ),
        (
            "Gradient norm",
            (
                "the length of that arrow: how hard a batch pulls. Far too long, and a step throws "
                "the weights away; far too short, and nothing is learnt."
            ),
        ),
        ("Learning rate", "how far one step follows the gradient."),
        ("Epoch", "one pass over all training rows, batch by batch; each batch is one step."),
    ]
    return details(
        "New to this? Six words are enough",
        tag("dl", [[tag("dt", word), tag("dd", meaning)] for word, meaning in terms], cls="terms"),
        cls="more primer",
    )


def _footer() -> Html:
    return tag(
        "footer",
        tag(
            "p",
            (
                "Made by Gradkeel from the report’s JSON. This file is complete in itself: it loads "
                "nothing and sends nothing."
            ),
        ),
    )
