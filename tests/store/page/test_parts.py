"""The small parts: numbers as people read them, axes, thinning, histograms, escaping."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gradkeel_store.page.charts.heatmap import colour_runs, heat_map
from gradkeel_store.page.charts.histogram import histogram
from gradkeel_store.page.charts.readings import data_block
from gradkeel_store.page.layout import laid_out
from gradkeel_store.page.markup import Html, escape, shorten, tag
from gradkeel_store.page.sampling import evenly, kept_indices
from gradkeel_store.page.scales import fitting, linear, logarithmic
from gradkeel_store.page.sections.result import gains
from gradkeel_store.page.wording import brief, duration, figure, percent, prose

FINITE = st.floats(-1e307, 1e307)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.99999999, "1.000"),
        (53.051, "53.05"),
        (-0.00079, "−0.0007900"),
        (1234567, "1,234,567"),
        (1.9389e303, "1.94×10³⁰³"),
        (1e-5, "10⁻⁵"),
        (None, "–"),
        (float("nan"), "–"),
        (True, "–"),
        (10**400, "–"),
    ],
)
def test_figures(value: object, shown: str) -> None:
    assert figure(value) == shown


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("grew 2.1e+14 times", "grew 2.1×10¹⁴ times"),
        ("below 6.3e-06, gain -2.06 (-5.26 to 1.4)", "below 6.3×10⁻⁶, gain −2.06 (−5.26 to 1.4)"),
        ("h = 1e-1 … 1e-9.", "h = 10⁻¹ … 10⁻⁹."),
        ("column “a1e5”, x-3, 2026-11-21, e-7, v1.2e3.4, 1e99999", None),
    ],
)
def test_numbers_in_sentences(written: str, read: str | None) -> None:
    assert prose(written) == (read or written)


def number_read(shown: str) -> float:
    """The number that a figure shows."""
    plain = shown.replace("−", "-").replace(",", "")
    power = re.fullmatch("(-?[0-9.]+)×10([⁻⁰-⁹¹²³]+)|(-?)10([⁻⁰-⁹¹²³]+)", plain)
    if power is None:
        return float(plain)
    exponent = (power[2] or power[4]).translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))
    return float(f"{power[1] or power[3] + '1'}e{exponent}")


@given(FINITE)
def test_a_figure_is_close_to_its_number(value: float) -> None:
    assert math.isclose(number_read(figure(value)), value, rel_tol=6e-3, abs_tol=1e-320)


def test_short_forms() -> None:
    assert [brief(0.01), brief(0.5), brief(100.0)] == ["0.01", "0.5", "100"]
    assert [percent(0.082), percent(0.5)] == ["8.2\u00a0%", "50\u00a0%"]
    assert percent(0.0001) == "less than 0.1\u00a0%"
    assert [duration(0.02), duration(84), duration(3700)] == ["20 ms", "84 s", "1 h 1 min"]


@given(st.lists(FINITE | st.none(), max_size=30))
@example([0.0, 5e-324])
def test_every_value_lies_on_its_axis_and_so_does_every_tick(values: list[float | None]) -> None:
    for scale in (linear(values), logarithmic(values), fitting(values), linear(values, zero=True)):
        places = [scale.at(value) for value in values if value is not None]
        assert all(0 <= place <= 1 for place in places)
        assert len(scale.ticks()) <= 22
        ticks = [value for value, _ in scale.ticks() if value > 0]
        # a tick may lie a thousandth outside: it is drawn on the edge
        assert all(scale.low <= tick * 1.002 + 1e-300 for tick in ticks)


def test_a_log_axis_of_many_decades_has_round_ticks() -> None:
    labels = [label for _, label in logarithmic([1e-3, 1e303]).ticks()]
    assert labels == ["1", "10¹⁰⁰", "10²⁰⁰", "10³⁰⁰"]


@given(st.lists(FINITE | st.none(), min_size=1, max_size=600))
def test_thinning_keeps_both_ends_and_the_extremes(values: list[float | None]) -> None:
    kept = kept_indices([values], len(values), 40)
    assert kept == sorted(set(kept)) and len(kept) <= max(82, 40)
    there = [value for value in values if value is not None]
    shown = [values[i] for i in kept]
    assert kept[0] == 0 and kept[-1] == len(values) - 1
    assert not there or (min(there) in shown and max(there) in shown)


@given(st.integers(0, 500), st.integers(2, 40))
def test_even_spreading_keeps_both_ends(length: int, most: int) -> None:
    chosen = evenly(length, most)
    assert len(chosen) <= max(most, 0) and (not length or (chosen[0] == 0 and chosen[-1] == length - 1))


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=200))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    chart = histogram(values)
    assert sum(chart.counts) + chart.below + chart.above == len(values)


def test_a_heat_map_paints_each_cell_once() -> None:
    values: list[list[float | None]] = [[1e-3, 0.0, None, 1e3], [1.0, 1.0, 1.0, 1.0]]
    chart = heat_map(["a", "b"], [0.0, 1.0, 2.0, 3.0], values)
    paths = colour_runs(chart)
    widths = [int(run.split('"')[0].split("h")[1]) for path in paths for run in path.split("M")[1:]]
    assert sum(widths) == 8
    assert {cls for cls in ("zero", "missing", "q0", "q15") if f'class="{cls}"' in "".join(paths)} == {
        "zero",
        "missing",
        "q0",
        "q15",
    }


def test_gains_by_baseline_and_metric() -> None:
    given = {"ridge": {"rmse": {"value": -5.0, "low": -10.0, "high": 0.5, "rows": 67}}}
    (gain,) = gains(given)
    assert "Gain over the linear model in RMSE: −5 (95\u00a0% bootstrap interval −10 to 0.5)" in gain.sentence
    assert "may be chance" in gain.sentence


@given(st.text())
def test_text_cannot_become_markup(text: str) -> None:
    inner = tag("p", text, title=text)
    assert inner.count("<") == 2 and inner.count('"') == 2
    inner.encode()


def test_markup_stays_markup() -> None:
    assert escape([Html("<b>"), "<b>", None, 3]) == "<b>&lt;b&gt;3"
    assert tag("p", "a", cls="x", hidden=True, title=None, for_="y") == '<p class="x" hidden for="y">a</p>'


def test_a_long_name_keeps_both_its_ends() -> None:
    cut = shorten("begin" + "x" * 500 + "end", 40)
    assert cut.startswith("begin") and cut.endswith("end") and len(cut) == 40


def test_a_data_block_cannot_be_left() -> None:
    block = data_block({"rows": ["</script><!--\u2028"]})
    inner = block.removeprefix('<script type="application/json" id="readings">').removesuffix("</script>")
    assert "<" not in inner and json.loads(inner) == {"rows": ["</script><!--\u2028"]}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_json_laid_out_for_reading_is_the_same_json(value: object) -> None:
    assert json.loads(laid_out(value)) == value
