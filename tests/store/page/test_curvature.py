"""The page's section on curvature."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from gradkeel.contract.curvature import PLAINLY
from gradkeel_store.page import render_markdown
from gradkeel_store.page.sections.curvature import curvature_section
from gradkeel_store.page.sections.studies import not_computed
from gradkeel_store.page.source import View

from .reports import curvature_of

Json = dict[str, Any]


def drawn(curvature: Json | None) -> str:
    section = curvature_section(View({"curvature": curvature}, {}, "a report"))
    return "" if section is None else str(section.html())


def test_both_places_stand_against_their_limit() -> None:
    found = curvature_of()
    html = drawn(found)
    assert PLAINLY in html and found["summary"] in html
    # the start is above its limit, the end below it: one bar of each colour
    bars = re.findall(r'<rect x="[^"]*%"[^>]* width="([^"]*)%"[^>]* class="fill ([a-z0-9]+)"', html)
    assert bars == [(bars[0][0], "broken"), (bars[0][0], "s1")]  # twice and half the limit: equal lengths
    for words in (">40</data> ± 0.020", ">80</data> ± 0.10 (or more: not found to its end)", "0.01250"):
        assert words in html
    assert "308 rows of 3,080" in html
    assert not any("health.curvature" in line for line in not_computed(View({"curvature": found}, {}, "")))


def test_the_curvature_at_which_the_learning_rate_is_too_long_is_marked_where_it_is_near() -> None:
    # 40 / 2 = 20 lies within the start's chart, 40 / 0.5 = 80 within twice the end's width
    assert drawn(curvature_of()).count("Beyond here the learning rate is too long") == 2
    far = curvature_of() | {"lr_over_limit": 0.1}
    assert drawn(far).count("Beyond here the learning rate is too long") == 1
    # An optimizer that divides is bound by another curvature than the one drawn.
    divided = {"preconditioned_lambda_max": {"value": 900.0, "error": 0.5, "converged": True}}
    found = curvature_of() | divided | {"start": curvature_of()["start"] | divided}
    assert "Beyond here" not in drawn(found) and "Largest, as the optimizer divides" in drawn(found)


def test_without_a_limit_there_are_no_bars_but_what_was_measured() -> None:
    bound = {"local_stability_limit": None, "lr_over_limit": None, "squared_loss": None}
    found = curvature_of() | bound
    found["start"] |= bound
    html = drawn(found)
    assert "Times the limit" not in html and "Largest curvature" in html and "curvature-end" in html


@pytest.mark.parametrize("lost", ["start", "end"])
def test_a_place_that_could_not_be_measured_is_left_out(lost: str) -> None:
    found = copy.deepcopy(curvature_of())
    empty = dict.fromkeys(("lambda_max", "gauss_newton_lambda_max", "trace", "density", "lr_over_limit"))
    (found["start"] if lost == "start" else found).update(empty)
    html = drawn(found)
    assert f'id="curvature-{lost}"' not in html and html.count('class="chart"') == 1


def test_none_asked_for_and_nothing_measured() -> None:
    assert drawn(None) == ""
    assert "could not be measured" in drawn({"lambda_max": None, "start": None, "summary": None})


def test_it_is_told_in_markdown_too() -> None:
    found = curvature_of()
    written = render_markdown({"curvature": found}, title="a report")
    assert "## Curvature" in written and found["summary"][:60] in written
    assert "## Curvature" not in render_markdown({"curvature": None}, title="a report")
