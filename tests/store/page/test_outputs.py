"""The page's section on several targets or quantiles."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page import render_report
from gradkeel_store.page.sections.outputs import outputs_section
from gradkeel_store.page.source import View


def _view(metrics: dict[str, Any], **fit: Any) -> View:
    return View({"fit": {"metrics": {"test": metrics}} | fit}, {}, "title", 1)


def test_each_target_and_the_worst() -> None:
    targets = {"load": {"rmse": 1.5, "mae": 1.0, "r2": 0.9}, "<b>": {"rmse": 2.5, "mae": 2.0, "r2": 0.8}}
    view = _view({"rmse": 2.0, "targets": targets}, worst_target="<b>")
    section = outputs_section(view)
    assert section is not None and section.title == "Each target"
    page = section.html()
    assert "Predicted worst" in page and "&lt;b&gt;" in page and "<b><b>" not in page
    assert "0.9" in page and "2.5" in page


def test_each_quantile_beside_what_it_aims_at() -> None:
    levels = {"0.1": {"pinball": 1.25, "coverage": 0.12}, "0.9": {"pinball": 1.5, "coverage": None}}
    section = outputs_section(_view({"pinball": 1.4, "levels": levels}))
    assert section is not None and section.title == "Each quantile"
    page = section.html()
    assert "1.25" in page and "12" in page and "At or below the prediction" in page


def test_one_output_has_no_such_section() -> None:
    assert outputs_section(_view({"rmse": 1.0})) is None
    assert outputs_section(_view({"pinball": 1.0, "levels": "nonsense"})) is None
    assert 'id="outputs"' not in render_report({"fit": {"metrics": {"test": {"rmse": 1.0}}}}, title="t")
