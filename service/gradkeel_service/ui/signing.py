"""Signing in with a key, the session that stands for it, and signing out."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from flask import Response, g, redirect, request
from flask.typing import ResponseReturnValue

from gradkeel.contract.problems import PROBLEMS
from gradkeel_service import auth, problems
from gradkeel_service.errors import Refusal
from gradkeel_service.origins import COOKIE, PAGES
from gradkeel_service.parts import parts
from gradkeel_service.ui.forms import field, read_form
from gradkeel_service.ui.layout import heading, notice, page
from gradkeel_store.page.markup import tag

SESSION = timedelta(hours=12)
HOME = f"{PAGES}/jobs"
SIGN_IN = f"{PAGES}/sign-in"

_WITHIN = re.compile(r"/ui/[\w/-]*(\?[\w=&%.+-]*)?", re.ASCII)
"""Where a sign-in may lead to: our own pages, nothing else."""


def require_session() -> Response | None:
    """Before every page but the sign-in: the key behind the session's cookie, or the way to the sign-in."""
    key = parts().records.key_of_session(request.cookies.get(COOKIE, ""))
    if key is None:
        return _to_sign_in()
    g.key = key
    g.place = "/".join(request.path.split("/")[:3])
    auth.limit_rate(key)
    parts().uses.note(key)
    return None


def _to_sign_in() -> Response:
    target = request.full_path.rstrip("?") if request.method == "GET" else HOME
    query = f"?{urlencode({'next': target})}" if target != HOME and _WITHIN.fullmatch(target) else ""
    return see_other(SIGN_IN + query)


def see_other(address: str) -> Response:
    """Go there and GET it. ``address`` is one of ours, never one that a request named."""
    response = redirect(address, 303, Response)
    assert isinstance(response, Response)
    return response


def show_sign_in() -> ResponseReturnValue:
    return _form(_next(request.args.get("next", "")))


def _form(target: str, complaint: str | None = None, status: int = 200) -> Response:
    return page(
        "Sign in",
        heading("Sign in", "Gradkeel trains models on tables and says how sound the training was."),
        notice(complaint, "bad") if complaint else None,
        tag(
            "form",
            # Password managers keep a key beside a name.
            tag(
                "input", name="user", value="gradkeel", autocomplete="username", readonly=True, hidden=True
            ),
            tag("label", "Your key", for_="key"),
            tag(
                "input", id="key", name="key", type="password", required=True,
                autocomplete="current-password", spellcheck="false", maxlength=200,
                aria_describedby="key-hint",
            ),
            tag(
                "p",
                "It begins with key_. The file profile.json in the data folder of ",
                tag("code", "gradkeel up"), " holds one; ", tag("code", "gradkeel keys create"),
                " makes more.",
                id="key-hint", cls="hint",
            ),
            tag("input", type="hidden", name="next", value=target),
            tag("button", "Sign in", cls="primary"),
            method="post", action=SIGN_IN, cls="sign-in",
        ),
        status=status,
    )  # fmt: skip


def _next(text: str) -> str:
    return text if _WITHIN.fullmatch(text) else HOME


def sign_in() -> ResponseReturnValue:
    form = read_form()
    target = _next(field(form, "next"))
    try:
        key = auth.key_of(field(form, "key"))
    except Refusal as refusal:
        complaint = f"{refusal.detail[:1].upper()}{refusal.detail[1:]}."
        answer = _form(target, complaint, PROBLEMS[refusal.code].status)
        answer.headers.update(problems.headers_of(refusal))
        return answer
    ends = datetime.now(UTC) + SESSION
    expires = min(ends, key.expires_at) if key.expires_at else ends
    response = see_other(target)
    _set_cookie(response, parts().records.open_session(key, expires), int(SESSION.total_seconds()))
    return response


def sign_out() -> ResponseReturnValue:
    parts().records.close_session(request.cookies.get(COOKIE, ""))
    response = see_other(SIGN_IN)
    _set_cookie(response, "", 0)
    return response


def _set_cookie(response: Response, value: str, seconds: int) -> None:
    secure = request.is_secure or parts().settings.url.startswith("https://")
    response.set_cookie(
        COOKIE, value, max_age=seconds, path=PAGES, secure=secure, httponly=True, samesite="Strict"
    )
