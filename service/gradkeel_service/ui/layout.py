"""What all pages share: the frame, and how states, times and sizes are shown. Whatever is data is escaped."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from flask import Response, g

from gradkeel.contract.states import Scope
from gradkeel_store.page.markup import Child, Html, escape, tag
from gradkeel_store.page.wording import VERDICTS, duration
from gradkeel_store.records import KeyRow

POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    # Browsers say where a form comes from only under a policy that lets them.
    "Referrer-Policy": "same-origin",
}

PLACES: tuple[tuple[str, str, Scope], ...] = (
    ("Jobs", "/ui/jobs", Scope.READ),
    ("Data sets", "/ui/datasets", Scope.READ),
    ("Models", "/ui/models", Scope.READ),
    ("Batches", "/ui/batches", Scope.READ),
    ("Keys", "/ui/keys", Scope.ADMIN),
    ("Usage", "/ui/usage", Scope.ADMIN),
)
"""What the navigation offers → the scope that it needs."""

NOTHING = "–"


def page(title: str, *body: Child, status: int = 200, live: bool = False) -> Response:
    """A whole page. ``live`` adds the script of the live view, and a reload where scripts do not run."""
    document = tag("html", _head(title, live), tag("body", _top(), tag("main", *body, id="main")), lang="en")
    response = Response(
        f"<!doctype html>\n{document}\n", status=status, content_type="text/html; charset=utf-8"
    )
    response.headers.update(HEADERS)
    return response


def _head(title: str, live: bool) -> Html:
    reload = tag("noscript", tag("meta", http_equiv="refresh", content="5")) if live else None
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        reload,
        tag("title", f"{title} · Gradkeel"),
        tag("link", rel="icon", href="/ui/assets/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href="/ui/assets/report.css"),
        tag("link", rel="stylesheet", href="/ui/assets/ui.css"),
        tag("script", src="/ui/assets/live.js", defer=True) if live else None,
    )


def _top() -> Html:
    key: KeyRow | None = g.get("key")
    inner: list[Child] = [tag("a", "Gradkeel", href="/ui", cls="brand")]
    if key is not None:
        here = str(g.get("place", ""))
        links = [
            tag("li", tag("a", name, href=href, aria_current="page" if href == here else None))
            for name, href, scope in PLACES
            if scope in key.scopes
        ]
        inner += [tag("nav", tag("ul", links), aria_label="Pages"), _who(key)]
    skip = tag("a", "Skip to the content", href="#main", cls="skip")
    return escape([skip, tag("div", *inner, cls="top", role="banner")])


def _who(key: KeyRow) -> Html:
    return tag(
        "form",
        tag("span", key.name or key.id, cls="who", title=f"{key.id}: {', '.join(key.scopes)}"),
        tag("button", "Sign out"),
        method="post",
        action="/ui/sign-out",
    )


def may(scope: Scope) -> bool:
    """Whether the key that is signed in has the scope."""
    return scope in g.key.scopes


def heading(title: Child, *lead: Child) -> Html:
    return tag("div", tag("h1", title), [tag("p", line, cls="lead") for line in lead if line], cls="heading")


def section(title: str, *body: Child) -> Html:
    return tag("section", tag("h2", title), *body)


def chip(word: str, kind: str) -> Html:
    """A word in a pill; ``kind`` chooses the colour."""
    return tag("span", word, cls=f"chip {kind}")


def state_chip(state: str) -> Html:
    return chip(state, f"state-{state}")


def verdict_chip(verdict: str | None) -> Child:
    if not verdict:
        return NOTHING
    words, _ = VERDICTS.get(verdict, (verdict, ""))
    return chip(words, f"verdict-{verdict}")


def link(text: Child, href: str) -> Html:
    return tag("a", text, href=href)


def facts(pairs: Iterable[tuple[str, Child]]) -> Html:
    """Terms and what stands for each; those without anything are left out."""
    shown = [(term, value) for term, value in pairs if value not in (None, "")]
    return tag("dl", [tag("div", tag("dt", term), tag("dd", value)) for term, value in shown], cls="facts")


def moment(when: datetime | None) -> Child:
    """A time with its date, to the second in UTC."""
    if when is None:
        return NOTHING
    exact = when.astimezone(UTC)
    return tag("time", exact.strftime("%Y-%m-%d %H:%M:%S UTC"), datetime=exact.isoformat())


def age(when: datetime | None) -> Child:
    """How long ago, the time itself as its title."""
    if when is None:
        return NOTHING
    exact = when.astimezone(UTC)
    seconds = (datetime.now(UTC) - exact).total_seconds()
    title = exact.strftime("%Y-%m-%d %H:%M:%S UTC")
    return tag("time", f"{_rough(max(0.0, seconds))} ago", datetime=exact.isoformat(), title=title)


def _rough(seconds: float) -> str:
    for length, word in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second")):
        if seconds >= length:
            amount = int(seconds // length)
            return f"{amount} {word}{'' if amount == 1 else 's'}"
    return "a moment"


def lasted(start: datetime | None, end: datetime | None) -> str | None:
    """The time between the two, or until now."""
    if start is None:
        return None
    return duration(((end or datetime.now(UTC)) - start).total_seconds())


def size(amount: int) -> str:
    """Bytes as people say them."""
    amount_left = float(amount)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount_left < 1000 or unit == "GB":
            return f"{amount:,} {unit}" if unit == "bytes" else f"{amount_left:.1f} {unit}"
        amount_left /= 1000
    raise AssertionError("the last unit takes whatever is left")


def action(label: str, href: str, cls: str = "", **hidden: str) -> Html:
    """A button that posts."""
    fields = [tag("input", type="hidden", name=name, value=value) for name, value in hidden.items()]
    return tag("form", fields, tag("button", label, cls=cls or None), method="post", action=href)


def notice(text: Child, kind: str = "info") -> Html:
    return tag("p", text, cls=f"notice {kind}", role="status" if kind == "info" else "alert")


def pager(path: str, params: dict[str, Any], next_cursor: str | None) -> Html | None:
    """Links to the first page, where this is another, and to the next, where there is one."""
    rest = {name: value for name, value in params.items() if value and name != "after"}
    links = []
    if params.get("after"):
        links.append(link("First page", _with_query(path, rest)))
    if next_cursor:
        links.append(link("Next page", _with_query(path, rest | {"after": next_cursor})))
    return tag("nav", links, cls="pager", aria_label="More") if links else None


def _with_query(path: str, params: dict[str, Any]) -> str:
    return f"{path}?{urlencode(params)}" if params else path
