"""The list of models, and their files."""

from flask.typing import ResponseReturnValue

from gradkeel_service.auth import project
from gradkeel_service.conditional import object_response
from gradkeel_service.errors import Refusal
from gradkeel_service.models import FORMS, digest_of, find
from gradkeel_service.parts import parts
from gradkeel_service.ui import layout
from gradkeel_service.ui.forms import query_of
from gradkeel_service.ui.layout import heading, link, page, verdict_chip
from gradkeel_store.page.markup import Html, name, table, tag
from gradkeel_store.records import ModelRow

PATH = "/ui/models"
SHOWN = 25

WORDS = {
    "bundle": "Bundle: weights, preparation, report, model card",
    "onnx": "ONNX graph",
    "safetensors": "Weights (safetensors)",
}


def show_list() -> ResponseReturnValue:
    asked = query_of("after")
    found = parts().records.list_models(project(), limit=SHOWN, after=asked["after"] or None)
    rows = [
        [
            [name(row.target, 60), tag("span", row.id, cls="sub")],
            row.task.replace("_", " "),
            verdict_chip(row.verdict),
            link("Job", f"/ui/jobs/{row.job_id}"),
            files_of(row),
            layout.age(row.created_at),
        ]
        for row in found.rows
    ]
    head = ["Target", "Task", "Verdict", "From", "Files", "Made"]
    body = table(head, rows, caption="Newest first", cls="list") if rows else None
    none = tag("p", "No model yet: a job that succeeds leaves one.", cls="absent")
    return page("Models", heading("Models"), body or none, layout.pager(PATH, asked, found.next_cursor))


def files_of(row: ModelRow) -> Html:
    """Links to the model's files."""
    links = [
        tag("li", link(words, f"{PATH}/{row.id}/files/{form}"))
        for form, words in WORDS.items()
        if form in row.digests
    ]
    return tag("ul", links, cls="files")


def file(model_id: str, form: str) -> ResponseReturnValue:
    if form not in FORMS:
        raise Refusal("not_found", "a model has no such file")
    media_type, filename = FORMS[form]
    return object_response(digest_of(find(model_id), form), media_type, filename)
