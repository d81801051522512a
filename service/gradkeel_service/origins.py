"""Where a request came from: what changes something under a cookie must come from our own pages."""

from urllib.parse import urlsplit

from flask import Flask, request

from gradkeel_service.errors import Refusal
from gradkeel_service.parts import parts

COOKIE = "gradkeel_session"
PAGES = "/ui"
"""Only below this address does the cookie open anything."""

HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_page(path: str) -> bool:
    return path == PAGES or path.startswith(f"{PAGES}/")


def _check_origin() -> None:
    if request.method in HARMLESS:
        return
    if is_page(request.path):
        if not _from_here():
            raise _foreign()
    elif COOKIE in request.cookies and not (_unsaid() or _from_here()):
        raise _foreign()


def _foreign() -> Refusal:
    return Refusal("foreign_origin", "a page's form is accepted from this service's own pages only")


def _unsaid() -> bool:
    return "Origin" not in request.headers and "Sec-Fetch-Site" not in request.headers


def _from_here() -> bool:
    """Whether the browser says that one of our own pages sent the request. Silence is not enough."""
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site") == "same-origin"
    asked = urlsplit(origin)
    own = urlsplit(parts().settings.url)
    if own.netloc and (asked.scheme, asked.netloc) == (own.scheme, own.netloc):
        return True
    return asked.scheme in ("http", "https") and asked.netloc == request.environ.get("HTTP_HOST", "")


def register(app: Flask) -> None:
    app.before_request(_check_origin)
