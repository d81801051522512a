"""Keys and usage, for who holds the scope admin."""

from datetime import UTC, datetime, timedelta
from typing import Any

from flask import g
from flask.typing import ResponseReturnValue

from gradkeel.contract.states import Scope
from gradkeel_service.auth import project
from gradkeel_service.errors import invalid
from gradkeel_service.keys import check_id, make_key
from gradkeel_service.parts import parts
from gradkeel_service.ui import layout
from gradkeel_service.ui.forms import days, field, query_of, read_form
from gradkeel_service.ui.layout import action, chip, heading, page, section
from gradkeel_service.ui.signing import see_other
from gradkeel_service.usage import usage_of
from gradkeel_store.page.markup import Child, Html, name, table, tag
from gradkeel_store.page.wording import duration, figure, sentence_case
from gradkeel_store.records import KeyRow

PATH = "/ui/keys"
SHOWN = 50
OVERLAP = timedelta(days=1)
"""A key that is rotated on the page works for another day."""

MEANINGS = {
    Scope.READ: "look at things, and predict",
    Scope.SUBMIT: "upload data, start and cancel jobs",
    Scope.ADMIN: "make and revoke keys, see usage, delete",
}


def show_list() -> ResponseReturnValue:
    return _page()


def _page(shown_once: str | None = None) -> ResponseReturnValue:
    asked = query_of("after")
    found = parts().records.page_keys(project(), limit=SHOWN, after=asked["after"] or None)
    head = ["Key", "Scopes", "State", "Made", "Last used", "Ends", "Do"]
    return page(
        "Keys",
        heading("Keys", "A key opens this project and nothing else. Its secret is shown once."),
        _secret(shown_once) if shown_once else None,
        table(head, [_row(row) for row in found.rows], caption="Newest first", cls="list"),
        layout.pager(PATH, asked, found.next_cursor),
        section("Make a key", _form()),
    )


def _secret(token: str) -> Html:
    return tag(
        "div",
        tag("p", tag("strong", "The new key, shown this once:")),
        tag("pre", token, tabindex=0, role="region", aria_label="The new key"),
        cls="notice good",
        role="status",
    )


def _row(row: KeyRow) -> list[Child]:
    live = row.is_live(datetime.now(UTC))
    own = " (the one you signed in with)" if row.id == g.key.id else None
    state = chip("live", "good") if live else chip("revoked" if row.revoked_at else "expired", "spent")
    buttons = [
        action("Rotate", f"{PATH}/{row.id}/rotate"),
        action("Revoke", f"{PATH}/{row.id}/revoke", cls="danger"),
    ]
    return [
        [name(row.name, 40) if row.name else "(no name)", tag("span", row.id, own, cls="sub")],
        ", ".join(row.scopes),
        state,
        layout.age(row.created_at),
        layout.age(row.last_used_at) if row.last_used_at else "never",
        layout.moment(row.expires_at) if row.expires_at else "never",
        tag("div", buttons, cls="buttons") if live else layout.NOTHING,
    ]


def _form() -> Html:
    scopes = [
        tag(
            "label",
            tag("input", type="checkbox", name="scope", value=str(scope), checked=scope == Scope.READ),
            f" {scope}: {MEANINGS[scope]}",
            cls="choice",
        )
        for scope in Scope
    ]
    return tag(
        "form",
        tag("label", "Name", tag("input", name="name", maxlength=200)),
        tag("fieldset", tag("legend", "What it may do"), scopes),
        tag("label", "Days until it ends (empty: never)", tag("input", name="days", inputmode="numeric")),
        tag("button", "Make the key", cls="primary"),
        method="post",
        action=PATH,
        cls="make",
    )


def create() -> ResponseReturnValue:
    form = read_form()
    scopes = [value for key, value in form if key == "scope"]
    if not scopes or not set(scopes) <= {str(scope) for scope in Scope}:
        raise invalid("/scope", "scope", "choose at least one scope")
    _, token = make_key(project(), scopes, field(form, "name"), days(field(form, "days")))
    return _page(token)


def rotate(key_id: str) -> ResponseReturnValue:
    _, token = parts().records.rotate_key(project(), check_id(key_id), OVERLAP)
    return _page(token)


def revoke(key_id: str) -> ResponseReturnValue:
    parts().records.revoke_key(project(), check_id(key_id))
    return see_other(PATH)


# -------------------------------------------------------------------------------------------------- usage


def show_usage() -> ResponseReturnValue:
    usage = usage_of(project())
    quotas = [
        [sentence_case(key), _measure(key, value["used"]), _measure(key, value["limit"])]
        for key, value in usage["quotas"].items()
    ]
    limits = [[sentence_case(key), _measure(key, value)] for key, value in usage["limits"].items()]
    counts = [
        [
            sentence_case(kind),
            ", ".join(f"{count:,} {state}" for state, count in usage[kind].items() if count),
        ]
        for kind in ("jobs", "datasets")
    ]
    return page(
        "Usage",
        heading(["Usage of ", name(usage["project"]["name"], 80)]),
        layout.facts(
            [(str(kind), str(words) or "none") for kind, words in counts]
            + [("Models", f"{usage['models']:,}"), ("Trained for", duration(usage["training_seconds"]))]
        ),
        section(
            "Quotas", table(["Quota", "Used", "Limit"], quotas, caption="Of this project", cls="numbers")
        ),
        section(
            "Limits", table(["Limit", "At most"], limits, caption="Of one thing at a time", cls="numbers")
        ),
    )


def _measure(key: str, value: Any) -> str:
    if value is None:
        return "no limit"
    if key.endswith("bytes"):
        return layout.size(value)
    return duration(value) if "seconds" in key else figure(value)
