"""The page's section on repairs that were tried."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page import render_report
from gradkeel_store.page.sections.repairs import repairs_section
from gradkeel_store.page.source import View

from .reports import HOSTILE

Json = dict[str, Any]

APPLIED: Json = {
    "attempt": 1,
    "rule": "lr_too_high",
    "text": "Lower the learning rate to 0.01.",
    "patch": {"optimizer": {"lr": 0.01}, "model": {"kind": "linear", "widths": None}},
    "from": "last_good",
    "step": 40,
    "stopped_at": 95,
    "failed": "Most likely cause: a learning rate of 10, too high here.",
    "metric": "rmse",
    "before": {"mae": 90.0, "rmse": 128.4},
    "after": {"mae": 48.0, "rmse": 60.9},
    "gained": 67.5,
    "steps": 110,
    "status": "applied",
    "reason": "Kept. On the validation part its RMSE is 60.9; 128 before.",
}
REFUSED = APPLIED | {
    "attempt": 2,
    "rule": "target_scale",
    "status": "refused",
    "before": None,
    "after": None,
    "reason": "health.repair_allow does not name target.",
}


def page(*entries: Json) -> str:
    section = repairs_section(View({"repair": list(entries)}, {}, "title"))
    assert section is not None and section.title == "Repairs tried"
    return section.html()


def test_a_repair_is_told_from_what_went_wrong_to_what_came_of_it() -> None:
    html = page(APPLIED)
    parts = [
        "Repair 1: Learning rate too high",
        "kept",
        "What had gone wrong: </b>Most likely cause: a learning rate of 10",
        "What was changed: </b>Lower the learning rate",
        "optimizer.lr",
        ">0.01<",
        "Re-run with this change from the good weights of step 40 (same seed, 110 steps).",
        "Before",
        "RMSE",
        "128.4",
        "60.90",
        "lower",
        "Mean absolute error",
        "What came of it: </b>Kept.",
    ]
    places = [html.index(part) for part in parts]
    assert places == sorted(places)
    assert "widths" not in html  # what is only taken away is none of the settings


def test_what_was_refused_says_why() -> None:
    html = page(APPLIED, REFUSED)
    assert "not tried" in html and "Why not: </b>health.repair_allow does not name target." in html
    assert html.count("Re-run with this change") == 1


def test_it_stands_in_the_page_only_where_there_was_one() -> None:
    whole = render_report({"repair": [APPLIED]}, title="t")
    assert 'id="repairs"' in whole and "No repair was tried" not in whole
    none = render_report({"repair": []}, title="t")
    assert 'id="repairs"' not in none and "No repair was tried" in none


def test_whatever_the_entry_holds_is_shown_as_text() -> None:
    hostile = dict.fromkeys(APPLIED, HOSTILE) | {"patch": {HOSTILE: {HOSTILE: HOSTILE}}}
    for entry in (hostile, {}, dict.fromkeys(APPLIED), {key: [1] for key in APPLIED}):
        assert HOSTILE not in page(entry)
