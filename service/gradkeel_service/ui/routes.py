"""Every page's address in one table, what stands before each, and what becomes of errors."""

from collections.abc import Callable
from functools import cache
from importlib import resources

from flask import Blueprint, Response, g, request
from flask.typing import ResponseReturnValue

from gradkeel.contract.errors import ConfigError
from gradkeel.contract.problems import PROBLEMS
from gradkeel.contract.states import Scope
from gradkeel_service import auth, problems
from gradkeel_service.conditional import body_response
from gradkeel_service.errors import Refusal
from gradkeel_service.ui import batches, datasets, jobs, keys, models, signing
from gradkeel_service.ui.layout import heading, page
from gradkeel_store.errors import StoreError
from gradkeel_store.page import stylesheet
from gradkeel_store.page.markup import tag

View = Callable[..., ResponseReturnValue]

ASSETS = {
    "ui.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def _home() -> ResponseReturnValue:
    return signing.see_other(signing.HOME)


def _asset(name: str) -> ResponseReturnValue:
    if name == "report.css":
        return body_response(stylesheet().encode(), "text/css; charset=utf-8")
    if name not in ASSETS:
        raise Refusal("not_found", "there is no such file")
    return body_response(_read(name), ASSETS[name])


@cache
def _read(name: str) -> bytes:
    return resources.files("gradkeel_service").joinpath("static", "ui", name).read_bytes()


OPEN: tuple[tuple[str, str, View], ...] = (
    ("GET", "/sign-in", signing.show_sign_in),
    ("POST", "/sign-in", signing.sign_in),
    ("GET", "/assets/<name>", _asset),
)
"""What needs no session."""

PAGES: tuple[tuple[str, str, View, Scope | None], ...] = (
    ("GET", "", _home, None),
    ("POST", "/sign-out", signing.sign_out, None),
    ("GET", "/jobs", jobs.show_list, Scope.READ),
    ("GET", "/jobs/<job_id>", jobs.show, Scope.READ),
    ("GET", "/jobs/<job_id>/events", jobs.events, Scope.READ),
    ("GET", "/jobs/<job_id>/report", jobs.report, Scope.READ),
    ("GET", "/jobs/<job_id>/files/<file>", jobs.file, Scope.READ),
    ("POST", "/jobs/<job_id>/cancel", jobs.cancel, Scope.SUBMIT),
    ("POST", "/jobs/<job_id>/retry", jobs.retry, Scope.SUBMIT),
    ("GET", "/datasets", datasets.show_list, Scope.READ),
    ("GET", "/datasets/<dataset_id>", datasets.show, Scope.READ),
    ("GET", "/models", models.show_list, Scope.READ),
    ("GET", "/models/<model_id>/files/<form>", models.file, Scope.READ),
    ("GET", "/batches", batches.show_list, Scope.READ),
    ("POST", "/batches/<batch_id>/cancel", batches.cancel, Scope.SUBMIT),
    ("GET", "/keys", keys.show_list, Scope.ADMIN),
    ("POST", "/keys", keys.create, Scope.ADMIN),
    ("POST", "/keys/<key_id>/rotate", keys.rotate, Scope.ADMIN),
    ("POST", "/keys/<key_id>/revoke", keys.revoke, Scope.ADMIN),
    ("GET", "/usage", keys.show_usage, Scope.ADMIN),
)
"""What a session opens, and the scope that its key needs."""


def behind_session(view: View, scope: Scope | None) -> View:
    """``view``, once a session stands and its key has the scope."""

    def guarded(**places: str) -> ResponseReturnValue:
        turned_away = signing.require_session()
        if turned_away is not None:
            return turned_away
        if scope is not None:
            auth.require_scope(g.key, scope)
        return view(**places)

    return guarded


def _endpoint(method: str, rule: str) -> str:
    return f"{method.lower()}{rule.replace('/', ' ').replace('<', '').replace('>', '')}".replace(" ", "_")


def _on_error(error: Exception) -> ResponseReturnValue:
    """A page for people; a problem document for whatever does not ask for pages, and for foreign forms."""
    refusal = problems.refusal_of(error)
    wants_page = request.accept_mimetypes.best_match(["application/problem+json", "text/html"]) == "text/html"
    if refusal is None or refusal.code == "foreign_origin" or not wants_page:
        return problems.on_known(error)
    title = PROBLEMS[refusal.code].title
    response: Response = page(
        title,
        heading(title, f"{refusal.detail[:1].upper()}{refusal.detail[1:]}."),
        tag("p", f"Request {g.get('request_id')}", cls="sub"),
        status=PROBLEMS[refusal.code].status,
    )
    response.headers.update(problems.headers_of(refusal))
    return response


def _make() -> Blueprint:
    made = Blueprint("ui", __name__, url_prefix="/ui")
    for method, rule, view in OPEN:
        made.add_url_rule(rule, _endpoint(method, rule), view, methods=[method])
    for method, rule, view, scope in PAGES:
        made.add_url_rule(rule, _endpoint(method, rule), behind_session(view, scope), methods=[method])
    for kind in (Refusal, StoreError, ConfigError):
        made.register_error_handler(kind, _on_error)
    return made


blueprint = _make()
