"""The list of jobs, and a job: live while it runs, with its files once it has ended."""

import re
import secrets
from collections.abc import Callable
from typing import Any

from flask import Response, request
from flask.typing import ResponseReturnValue

from gradkeel.contract.config import target_text
from gradkeel.contract.states import TERMINAL, JobKind, JobState, Scope
from gradkeel_service import sse
from gradkeel_service.auth import project
from gradkeel_service.conditional import json_response, object_response
from gradkeel_service.errors import Refusal, invalid
from gradkeel_service.jobs import ended, find, label_of, last_event_id
from gradkeel_service.outcomes import (
    CSV,
    JSON_LINES,
    PARQUET,
    read_report,
    report_markdown,
    report_page,
    report_picture,
)
from gradkeel_service.parts import parts
from gradkeel_service.ui import layout
from gradkeel_service.ui.forms import field, query_of, read_form
from gradkeel_service.ui.layout import action, heading, link, page, section, state_chip, verdict_chip
from gradkeel_service.ui.models import files_of
from gradkeel_service.ui.signing import see_other
from gradkeel_store.errors import NotFound
from gradkeel_store.page.layout import laid_out
from gradkeel_store.page.markup import Child, Html, details, escape, name, table, tag
from gradkeel_store.page.wording import METRICS, duration, figure, percent
from gradkeel_store.queue import ring_train
from gradkeel_store.records import JobFilter, JobRow

PATH = "/ui/jobs"
SHOWN = 25

_ONCE = re.compile(r"[\w-]{16,64}", re.ASCII)
"""The mark of one form, by which it counts once."""

HEADLINE = ("pinball", "scaled_rmse", "rmse", "accuracy", "log_loss", "auc", "mae", "r2")
"""The metric that a list shows: the first of these that there is."""

FILES: dict[str, tuple[str, str, str]] = {
    "series.parquet": ("series_digest", PARQUET, "Every step (Parquet)"),
    "predictions.csv": ("predictions_digest", CSV, "Predictions of the test part (CSV)"),
    "log.jsonl": ("logs_digest", JSON_LINES, "Log (JSON lines)"),
}
"""File of an ended job → the field that names its bytes, media type, words."""

REPORTS: dict[str, tuple[Callable[[JobRow], Response], str]] = {
    "report.json": (lambda row: json_response(read_report(row)), "Report (JSON)"),
    "report.md": (report_markdown, "Report (Markdown)"),
    "report.png": (report_picture, "Report (picture)"),
}
"""Forms of the report to take along."""


# -------------------------------------------------------------------------------------------------- list


def show_list() -> ResponseReturnValue:
    asked = query_of("state", "label", "dataset_id", "batch_id", "after")
    wanted = JobFilter(
        state=asked["state"] or None,
        label=label_of(asked["label"] or None),
        dataset_id=asked["dataset_id"] or None,
        batch_id=asked["batch_id"] or None,
    )
    found = parts().records.list_jobs(project(), wanted, limit=SHOWN, after=asked["after"] or None)
    names = parts().records.dataset_names(project(), {row.dataset_id for row in found.rows})
    filtered = any(asked[key] for key in asked if key != "after")
    body = _table(list(found.rows), names) if found.rows else _nothing(filtered)
    return page("Jobs", heading("Jobs"), _filters(asked), body, layout.pager(PATH, asked, found.next_cursor))


def _filters(asked: dict[str, str]) -> Html:
    options = [
        tag("option", word, value=value, selected=value == asked["state"])
        for value, word in [("", "any state"), *((str(state), str(state)) for state in JobState)]
    ]
    return tag(
        "form",
        tag("label", "State", tag("select", options, name="state")),
        tag(
            "label",
            "Label",
            tag("input", name="label", value=asked["label"], placeholder="team or team=a", maxlength=200),
        ),
        [
            tag("input", type="hidden", name=key, value=asked[key])
            for key in ("dataset_id", "batch_id")
            if asked[key]
        ],
        tag("button", "Show"),
        cls="filters",
    )


def _nothing(filtered: bool) -> Html:
    if filtered:
        return tag("p", "No job fits. ", link("Show all", PATH), cls="absent")
    return tag(
        "p", "No job yet. ", tag("code", "gradkeel train FILE --target COLUMN"), " starts one.", cls="absent"
    )


def _table(rows: list[JobRow], names: dict[str, str]) -> Html:
    head = ["Job", "State", "Verdict", "Result on test data", "Took", "Made"]
    return table(head, [_row(row, names) for row in rows], caption="Newest first", cls="list")


def _row(row: JobRow, names: dict[str, str]) -> list[Child]:
    labels = [tag("span", f"{key}={value}", cls="label") for key, value in sorted(row.labels.items())]
    if row.kind != JobKind.TRAIN:
        labels.insert(0, tag("span", row.kind, cls="label"))
    title = [
        name(names.get(row.dataset_id, row.dataset_id), 40),
        ": ",
        name(target_text(row.config.get("target")), 40),
    ]
    return [
        [link(title, f"{PATH}/{row.id}"), tag("span", row.id, labels, cls="sub")],
        [state_chip(row.state), _doing(row)],
        verdict_chip(row.verdict),
        _headline(row) or layout.NOTHING,
        layout.lasted(row.started_at, row.ended_at) or layout.NOTHING,
        layout.age(row.created_at),
    ]


def _doing(row: JobRow) -> Child:
    if row.state == JobState.RUNNING:
        return tag("span", percent((row.progress or {}).get("fraction")), cls="sub")
    return tag("span", row.error.get("code"), cls="sub") if row.error else None


def _headline(row: JobRow) -> str | None:
    test = (row.metrics or {}).get("test") or {}
    metric = next((key for key in HEADLINE if isinstance(test.get(key), int | float)), None)
    return None if metric is None else f"{METRICS[metric][0]} {figure(test[metric])}"


# --------------------------------------------------------------------------------------------------- job


def show(job_id: str) -> ResponseReturnValue:
    row = find(job_id)
    alive = row.state not in TERMINAL
    return page(
        f"Job {row.id}",
        _heading(row),
        _live(row) if alive else _result(row),
        None if alive else _files(row),
        section("Config", _config(row)),
        live=alive,
    )


def _config(row: JobRow) -> Html:
    whole = tag("pre", laid_out(row.config), tabindex=0, role="region", aria_label="Config")
    sent = tag("pre", laid_out(row.submitted), tabindex=0, role="region", aria_label="Config as it was sent")
    return escape([sent, details("With every option that the preset filled in", whole)])


def _heading(row: JobRow) -> Html:
    dataset = parts().records.dataset_names(project(), {row.dataset_id}).get(row.dataset_id)
    source = link(name(dataset, 80), f"/ui/datasets/{row.dataset_id}") if dataset else row.dataset_id
    title = [name(dataset or row.dataset_id, 60), ": ", name(target_text(row.config.get("target")), 60)]
    return tag(
        "div",
        tag("h1", title),
        layout.facts(
            [
                ("State", tag("span", state_chip(row.state), id="state")),
                ("Verdict", verdict_chip(row.verdict) if row.verdict else None),
                ("Job", row.id),
                ("Kind", row.kind if row.kind != JobKind.TRAIN else None),
                ("Data set", source),
                ("Made", layout.age(row.created_at)),
                ("Took" if row.ended_at else "Running for", layout.lasted(row.started_at, row.ended_at)),
                ("Attempts", str(row.attempt) if row.attempt > 1 else None),
                ("Retry of", link(row.retry_of, f"{PATH}/{row.retry_of}") if row.retry_of else None),
                ("Labels", ", ".join(f"{key}={value}" for key, value in sorted(row.labels.items()))),
            ]
        ),
        _actions(row),
        cls="heading",
    )


def _actions(row: JobRow) -> Html | None:
    if not layout.may(Scope.SUBMIT):
        return None
    if row.state in TERMINAL:
        return action("Run it again", f"{PATH}/{row.id}/retry", once=secrets.token_urlsafe(16))
    if row.cancel_requested:
        return layout.notice("It was asked to stop, and keeps its last good model if it has one.")
    return action("Cancel the job", f"{PATH}/{row.id}/cancel", cls="danger")


def _live(row: JobRow) -> Html:
    """What the script fills from the event stream; without it, the last that the record says."""
    progress = row.progress or {}
    done = progress.get("fraction") or 0.0
    return section(
        "Progress",
        tag(
            "div",
            tag("label", "Done", for_="done", cls="unseen"),
            tag("progress", percent(done), id="done", max=1, value=done),
            tag("dl", [_reading(*one) for one in _readings(row, progress)], cls="readings"),
            tag("div", id="charts", cls="charts"),
            tag("p", id="remark", cls="sub", role="status"),
            id="live",
            data_events=f"{PATH}/{row.id}/events",
        ),
        tag("noscript", tag("p", "This page loads itself again every five seconds.", cls="sub")),
    )


def _readings(row: JobRow, progress: dict[str, Any]) -> list[tuple[str, str, Any]]:
    epoch, epochs = progress.get("epoch"), progress.get("epochs")
    of = f"{epoch + 1} of {epochs}" if isinstance(epoch, int) and epochs else None
    return [
        ("phase", "Phase", progress.get("phase") or row.state),
        ("epoch", "Epoch", of),
        ("step", "Step", progress.get("step")),
        ("loss", "Training loss", None),
        ("validation", "Validation loss", None),
        ("norm", "Gradient norm", None),
        ("rate", "Learning rate", None),
        ("left", "Left, about", _left(progress.get("eta_seconds"))),
    ]


def _reading(key: str, words: str, value: Any) -> Html:
    shown = layout.NOTHING if value is None else value
    return tag("div", tag("dt", words), tag("dd", tag("output", shown, id=f"now-{key}")))


def _left(seconds: Any) -> str | None:
    return duration(seconds) if isinstance(seconds, int | float) else None


def _result(row: JobRow) -> list[Child]:
    summary = read_report(row).get("summary")
    return [
        _error(row),
        section(
            "Result",
            tag("p", summary, cls="result") if isinstance(summary, str) else None,
            _metrics(row),
            tag("p", link("The whole gradient-health report", f"{PATH}/{row.id}/report"), cls="onward"),
        ),
    ]


def _error(row: JobRow) -> Html | None:
    if not row.error:
        return None
    where = row.error.get("where")
    return tag(
        "div",
        tag("p", tag("strong", str(row.error.get("code", ""))), " ", str(row.error.get("message", ""))),
        tag("pre", laid_out(where), tabindex=0, role="region", aria_label="Where") if where else None,
        cls="notice bad",
    )


def _metrics(row: JobRow) -> Html | None:
    parts_of = {key: value for key, value in (row.metrics or {}).items() if isinstance(value, dict)}
    baselines = parts_of.pop("baselines", {})
    columns = parts_of | {f"{key} baseline": value for key, value in baselines.items()}
    columns = {key: value for key, value in columns.items() if isinstance(value, dict) and value}
    names = dict.fromkeys(metric for values in columns.values() for metric in values if metric in METRICS)
    if not names:
        return None
    rows = [
        [METRICS[metric][0], *(figure(values.get(metric)) for values in columns.values())] for metric in names
    ]
    return table(["Metric", *columns], rows, caption="On data the model was not trained on", cls="numbers")


def _files(row: JobRow) -> Html:
    links = [tag("li", link(words, f"{PATH}/{row.id}/files/{file}")) for file, (_, words) in REPORTS.items()]
    links += [
        tag("li", link(words, f"{PATH}/{row.id}/files/{file}"))
        for file, (field, _, words) in FILES.items()
        if getattr(row, field) is not None
    ]
    model: list[Child] = []
    if row.model_id is not None:
        try:
            model = [tag("h3", "Model"), files_of(parts().records.get_model(row.project, row.model_id))]
        except NotFound:
            model = [tag("p", "Its model was deleted.", cls="sub")]
    return section("Files", model, tag("h3", "Run"), tag("ul", links, cls="files"))


# ---------------------------------------------------------------------------------------------- the rest


def report(job_id: str) -> ResponseReturnValue:
    response = report_page(ended(job_id))
    response.headers["Cache-Control"] = "no-store"
    return response


def file(job_id: str, file: str) -> ResponseReturnValue:
    row = ended(job_id)
    if file in REPORTS:
        response = REPORTS[file][0](row)
        response.headers["Content-Disposition"] = f'attachment; filename="{row.id}-{file}"'
        return response
    field, media_type, _ = FILES.get(file, ("", "", ""))
    digest = getattr(row, field) if field else None
    if digest is None:
        raise Refusal("not_found", "the job has no such file")
    return object_response(digest, media_type, f"{row.id}-{file}")


def events(job_id: str) -> ResponseReturnValue:
    """The event stream of the live view."""
    row = find(job_id)
    return sse.stream(row.id, last_event_id(request.args.get("after")))


def cancel(job_id: str) -> ResponseReturnValue:
    row = parts().records.request_cancel(project(), find(job_id).id)
    return see_other(f"{PATH}/{row.id}")


def retry(job_id: str) -> ResponseReturnValue:
    """Run an ended job again; a form that is posted twice makes one job."""
    row, once = find(job_id), field(read_form(), "once")
    if not _ONCE.fullmatch(once):
        raise invalid("/once", "invalid", "the form lacks its mark; load the page again")
    parts().admission.check_quota(project())
    again = parts().records.retry_job(project(), row.id, idempotency_key=f"page-{once}")
    ring_train(parts().celery, again.id)
    return see_other(f"{PATH}/{again.id}")
