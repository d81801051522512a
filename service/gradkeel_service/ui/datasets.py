"""The list of data sets, and the profile of each."""

from typing import Any

from flask.typing import ResponseReturnValue

from gradkeel.contract.states import DatasetState
from gradkeel_service.auth import project
from gradkeel_service.datasets import find
from gradkeel_service.parts import parts
from gradkeel_service.ui import layout
from gradkeel_service.ui.forms import query_of
from gradkeel_service.ui.layout import heading, link, page, section, state_chip
from gradkeel_store.page.markup import Child, Html, name, shorten, table, tag
from gradkeel_store.page.wording import brief, sentence_case
from gradkeel_store.records import DatasetRow

PATH = "/ui/datasets"
SHOWN = 25
COLUMNS_SHOWN = 500
"""A table of more columns than so many helps nobody; the whole profile is in the API."""


def show_list() -> ResponseReturnValue:
    asked = query_of("after")
    found = parts().records.list_datasets(project(), limit=SHOWN, after=asked["after"] or None)
    rows = [
        [
            [link(name(row.name, 60), f"{PATH}/{row.id}"), tag("span", row.id, cls="sub")],
            state_chip(row.state),
            _amount(row.rows),
            _amount(len(row.columns) if row.columns else None),
            layout.size(row.bytes),
            layout.age(row.created_at),
        ]
        for row in found.rows
    ]
    head = ["Data set", "State", "Rows", "Columns", "Size", "Uploaded"]
    body = table(head, rows, caption="Newest first", cls="list") if rows else None
    none = tag(
        "p", "No data set yet. ", tag("code", "gradkeel datasets upload FILE"), " sends one.", cls="absent"
    )
    return page("Data sets", heading("Data sets"), body or none, layout.pager(PATH, asked, found.next_cursor))


def _amount(value: int | None) -> str:
    return layout.NOTHING if value is None else f"{value:,}"


def show(dataset_id: str) -> ResponseReturnValue:
    row = find(dataset_id)
    return page(
        row.name,
        tag(
            "div",
            tag("h1", name(row.name, 120)),
            layout.facts(
                [
                    ("State", state_chip(row.state)),
                    ("Rows", _amount(row.rows) if row.rows is not None else None),
                    ("Size", layout.size(row.bytes)),
                    ("Data set", row.id),
                    ("SHA-256", tag("code", row.sha256)),
                    ("Uploaded", layout.age(row.created_at)),
                ]
            ),
            tag("p", link("Jobs on this data set", f"/ui/jobs?dataset_id={row.id}"), cls="onward"),
            cls="heading",
        ),
        _problem(row.error),
        _profile(row),
        live=row.state == DatasetState.INGESTING,
    )


def _problem(error: dict[str, Any] | None) -> Html | None:
    if not error:
        return None
    places = [tag("li", shorten(place.get("detail", ""), 400)) for place in error.get("errors") or []]
    return tag(
        "div",
        tag("p", tag("strong", "Rejected."), " ", shorten(error.get("detail", ""), 400)),
        tag("ul", places, cls="places") if places else None,
        cls="notice bad",
    )


def _profile(row: DatasetRow) -> list[Child]:
    profile = row.profile
    if not profile:
        return []
    columns = profile.get("columns") or []
    shown = columns[:COLUMNS_SHOWN]
    head = [
        "Column",
        "Type",
        "Missing",
        "Distinct",
        "Smallest",
        "Median",
        "Largest",
        "Outliers",
        "For example",
    ]
    body = table(head, [_column(column) for column in shown], caption=_caption(len(columns)), cls="profile")
    return [_findings(profile.get("findings") or []), section("Columns", body)]


def _caption(columns: int) -> str:
    if columns > COLUMNS_SHOWN:
        return f"The first {COLUMNS_SHOWN} of {columns:,} columns"
    return "As they are read for training"


def _column(column: dict[str, Any]) -> list[Child]:
    numbers = [column.get(key) for key in ("min", "median", "max")]
    examples = ", ".join(shorten(example, 24) for example in column.get("examples") or [])
    return [
        name(column.get("name"), 60),
        str(column.get("type", "")),
        _amount(column.get("missing")),
        _amount(column.get("distinct")),
        *(brief(value) for value in numbers),
        _amount(column.get("outliers")),
        tag("bdi", examples, cls="sub"),
    ]


def _findings(findings: list[dict[str, Any]]) -> Html | None:
    if not findings:
        return None
    lines = [
        tag(
            "li",
            tag("strong", sentence_case(str(finding.get("code", "")))),
            [" · ", name(finding["column"], 60)] if finding.get("column") else None,
            ": ",
            shorten(finding.get("detail", ""), 400),
        )
        for finding in findings
    ]
    return section("Worth knowing", tag("ul", lines, cls="places"))
