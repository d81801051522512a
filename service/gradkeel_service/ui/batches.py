"""The list of batches, with how far each is."""

from flask.typing import ResponseReturnValue

from gradkeel.contract.states import BatchState, Scope
from gradkeel_service.auth import project
from gradkeel_service.batches import find
from gradkeel_service.parts import parts
from gradkeel_service.ui import layout
from gradkeel_service.ui.forms import query_of
from gradkeel_service.ui.layout import action, heading, link, page, state_chip
from gradkeel_service.ui.signing import see_other
from gradkeel_store.page.markup import Child, table, tag
from gradkeel_store.page.wording import percent
from gradkeel_store.records import BatchRow

PATH = "/ui/batches"
SHOWN = 25


def show_list() -> ResponseReturnValue:
    asked = query_of("after")
    found = parts().records.list_batches(project(), limit=SHOWN, after=asked["after"] or None)
    head = ["Batch", "State", "Done", "Jobs", "Lines refused", "Made", "Do"]
    body = table(head, [_row(row) for row in found.rows], caption="Newest first", cls="list")
    none = tag("p", "No batch yet. ", tag("code", "gradkeel batch submit FILE"), " sends one.", cls="absent")
    return page(
        "Batches",
        heading("Batches"),
        body if found.rows else none,
        layout.pager(PATH, asked, found.next_cursor),
    )


def _row(row: BatchRow) -> list[Child]:
    counts = ", ".join(f"{count:,} {state}" for state, count in row.counted.items() if count)
    error = tag("span", str(row.error.get("detail", ""))[:200], cls="sub") if row.error else None
    stops = row.state != BatchState.ENDED and not row.cancel_requested and layout.may(Scope.SUBMIT)
    return [
        [link(row.id, f"/ui/jobs?batch_id={row.id}"), tag("span", f"{row.lines:,} lines", cls="sub")],
        [state_chip(row.state), error],
        percent(row.fraction),
        counts or layout.NOTHING,
        f"{row.rejected:,}",
        layout.age(row.created_at),
        action("Cancel", f"{PATH}/{row.id}/cancel", cls="danger") if stops else layout.NOTHING,
    ]


def cancel(batch_id: str) -> ResponseReturnValue:
    parts().records.request_cancel_batch(project(), find(batch_id).id)
    return see_other(PATH)
