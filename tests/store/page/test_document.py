"""Properties of the page's text: complete, self-contained, small, and safe whatever the report holds."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradkeel.contract.report import REPORT_SCHEMA, empty_report
from gradkeel_store.page import content_security_policy, render_report
from gradkeel_store.page.sections.scores import headline
from gradkeel_store.page.source import View
from store.page.reports import REPORTS, job_of, report_named

VOID = {"meta", "link", "br", "hr", "col"}


class Reader(HTMLParser):
    """Elements, attributes and visible text; raises AssertionError where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [str(value) for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def rendered(name: str) -> str:
    return render_report(report_named(name), title="diabetes.csv", job=job_of(name))


def words(html: str) -> str:
    return " ".join(" ".join(read(html).text).split())


@pytest.mark.parametrize("name", ["healthy", "strained", "diverged", "classes", "queued", "preflight"])
def test_the_reports_drawn_here_are_reports(name: str) -> None:
    jsonschema.validate(report_named(name), REPORT_SCHEMA)


@pytest.mark.parametrize("name", REPORTS)
def test_the_page_nests_and_names_each_place_once(name: str) -> None:
    reader = read(rendered(name))
    assert len(reader.ids) == len(set(reader.ids))


@pytest.mark.parametrize("name", REPORTS)
def test_the_page_is_at_most_a_megabyte(name: str) -> None:
    assert len(rendered(name).encode()) <= 1_000_000


def test_a_preflight_is_a_table_a_sentence_and_a_patch() -> None:
    said = words(rendered("preflight"))
    assert "Verdict" not in said and "Training 0 steps" not in said
    assert said.index("Scaled it is 0.04") < said.index("The change of the config to train with")
    assert '"lr": 0.02' in said and "inputs and target (recommended)" in said
    assert "in 80 steps" in said and "not stable, down to 0.02" in said and "−1.3" in said
    assert "The data, as it was fed" in said and "Gradient check" not in said


def test_a_report_of_endless_text_still_fits() -> None:
    report = report_named("extreme")
    for finding in report["findings"]:
        finding["explanation"] = "Ω" * 100_000
        finding["also_consistent_with"] = ["Ω" * 100_000] * 100
        finding["remedy"]["patch"] = {"labels": {"a": "Ω" * 9_000}}
    assert len(render_report(report, title="Ω" * 100_000).encode()) <= 1_000_000


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_points_outside_and_no_style_or_handler_stands_inline(name: str) -> None:
    for tag, attribute, value in read(rendered(name)).attributes:
        assert attribute != "style" and not attribute.startswith("on")
        if attribute in ("src", "href", "action", "xlink:href"):
            assert str(value).startswith("#") or (tag, value) == ("link", "data:,")


def test_the_policy_in_the_page_allows_its_own_script_and_style_only() -> None:
    html = rendered("healthy")
    policy = content_security_policy()
    stated = [
        v for t, a, v in read(html).attributes if t == "meta" and a == "content" and "default-src" in str(v)
    ]
    assert stated == [policy]
    assert "unsafe" not in policy and policy.startswith("default-src 'none'; ")
    script = re.findall(r"<script>(.*?)</script>", html, re.S)
    style = re.findall(r"<style>(.*?)</style>", html, re.S)
    for (body,) in (script, style):
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_the_same_report_gives_the_same_page() -> None:
    assert rendered("healthy") == rendered("healthy")


def test_rendering_leaves_the_report_as_it_was() -> None:
    report = report_named("diverged")
    render_report(report, title="x")
    assert report == report_named("diverged")


def test_the_patch_on_the_page_parses_to_the_patch_of_the_finding() -> None:
    html = rendered("diverged")
    shown = re.search(r'<pre id="patch-0".*?><code>(.*?)</code>', html, re.S)
    assert shown is not None
    plain = read(f"<p>{shown[1]}</p>").text
    assert json.loads("".join(plain)) == report_named("diverged")["findings"][0]["remedy"]["patch"]


def test_a_hostile_patch_still_parses_to_itself() -> None:
    html = rendered("hostile")
    shown = re.search(r'<pre id="patch-0".*?><code>(.*?)</code>', html, re.S)
    assert shown is not None
    patch = json.loads("".join(read(f"<p>{shown[1]}</p>").text))
    assert patch == report_named("hostile")["findings"][0]["remedy"]["patch"]


def test_the_most_likely_cause_comes_first_with_place_evidence_and_patch() -> None:
    said = words(rendered("diverged"))
    assert said.index("Diverged") < said.index("Contents")
    order = ["Most likely cause", "Exploding gradient", "What to change", "Evidence", "Result"]
    main = said[said.index("Six words are enough") :]
    places = [main.index(part) for part in order]
    assert places == sorted(places)
    for part in ("layer layers.0", "step 1", "during training", "a learning rate above the stability limit"):
        assert part in said


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("queued", "No optimizer step was taken, so there is no loss and no gradient to draw."),
        ("queued", "No model was evaluated"),
        ("queued", "Not computed: the run ended before the gradients could be checked."),
        ("queued", "Nothing is known about the data"),
        ("queued", "The cost of monitoring was not measured"),
        ("diverged", "No sample of predictions was kept"),
        ("diverged", "No clip was set"),
        ("healthy", "Curvature (how sharply the loss bends"),
        ("healthy", "No preflight"),
        ("healthy", "The run without its stabilizers, for comparison, was not made"),
        ("healthy", "No repair was tried"),
        ("healthy", "Every recorded number was finite."),
        ("classes", "The cost of monitoring was not measured"),
    ],
)
def test_what_was_not_computed_is_said_in_a_sentence(name: str, sentence: str) -> None:
    report, job = report_named(name), job_of(name)
    if name == "diverged":
        job["config"]["clips"] = []
    assert sentence in words(render_report(report, title="x", job=job))


def test_a_job_that_never_ran_has_no_verdict_and_no_empty_chart() -> None:
    html = rendered("queued")
    assert "No verdict" in words(html)
    assert 'class="plot"' not in html


def test_a_healthy_training_of_a_worthless_model_says_that_these_are_two_things() -> None:
    report = report_named("healthy")
    report["findings"][0] |= {"rule": "no_better_than_baseline", "family": "fit", "severity": "critical"}
    said = words(render_report(report, title="x"))
    assert "The verdict is about the numbers of the training, not about what the model is worth" in said


def test_the_noise_scale_stands_beside_the_batch_size_and_columns_by_their_pull() -> None:
    report, job = report_named("healthy"), job_of("healthy")
    job["config"]["budget"] = {"batch_size": 64}
    scale = report["series"]["gradient_noise"]["noise_scale"][-1]
    said = words(render_report(report, title="x", job=job))
    assert f"{scale:.3g} rows, {scale / 64:.2g} times the batch size" in said
    pulls = said[said.index("The pull of each column on the loss") :]
    places = [pulls.index(f" {name} ") for name in ("s5", "bmi", "bp", "sex")]
    assert places == sorted(places)
    report["series"]["gradient_noise"]["noise_scale"] = [None]
    assert "The gradient noise scale could not be told" in words(render_report(report, title="x", job=job))
    tried = {"rows": 32, "steps": 21, "status": "pass", "covered": 0.512}
    report["fit"]["checks"] = {"one_batch": tried}
    assert "covered 51.2 % of the way" in words(render_report(report, title="x", job=job))
    report["fit"]["checks"] = {"one_batch": tried | {"status": "fail", "covered": None}}
    assert "covered part of the way" in words(render_report(report, title="x", job=job))
    report["fit"]["checks"] = None
    report["series"] |= {"gradient_noise": None, "input_gradient": None}
    assert "full-tier" not in render_report(report, title="x", job=job)


@pytest.mark.parametrize("key", list(empty_report()))
@pytest.mark.parametrize("value", [None, [], {}, "text", 7, [None], {"a": None}, [[1, 2], "x"], True])
def test_any_part_may_be_missing_or_of_another_kind(key: str, value: Any) -> None:
    report = report_named("diverged") | {key: value}
    read(render_report(report, title="x"))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_in_a_report_is_drawn_without_harm(data: st.DataObject) -> None:
    report = report_named("healthy")
    place: Any = report
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = data.draw(ANYTHING)
        break
    page = render_report(report, title=data.draw(st.text(max_size=30)))
    page.encode()
    read(page)


def test_a_run_that_was_cancelled_promises_nothing_that_it_does_not_hold() -> None:
    report = report_named("healthy")
    report["fit"] |= {"metrics": None, "baselines": None, "gain": None, "best_epoch": 1}
    report["fit"]["learning_curve"] = [{"epoch": 1, "step": 3, "train_loss": 1.0, "validation_loss": 1.1}]
    report["provenance"]["reproducible"] = False
    report["data"]["scale_ratio_as_fed"] = None
    said = words(render_report(report, title="x", job=job_of("healthy")))
    assert "Best epoch so far" in said
    assert "whose weights are returned" not in said
    assert "comes out the same" not in said
    assert "The columns were fed" not in said


@pytest.mark.parametrize(
    ("interval", "expected", "absent"),
    [
        ([-4.0, 1.0], "no more than chance may explain", "better choice"),
        ([-4.0, -1.0], "better choice", "chance may"),
    ],
)
def test_the_linear_model_is_the_better_choice_only_where_that_was_measured(
    interval: list[float], expected: str, absent: str
) -> None:
    report = report_named("healthy")
    report["fit"]["metrics"] = {"test": {"rmse": 60.0}}
    report["fit"]["baselines"] = {"ridge": {"test": {"rmse": 58.0}}}
    report["fit"]["gain"] = {"ridge": {"rmse": {"value": -2.0, "low": interval[0], "high": interval[1]}}}
    said = words(render_report(report, title="x", job=job_of("healthy")))
    assert expected in said
    assert absent not in said


@pytest.mark.parametrize(("applied", "metric"), [("half", "accuracy"), ("f1", "log_loss")])
def test_accuracy_at_a_chosen_threshold_is_not_held_against_baselines(applied: str, metric: str) -> None:
    fit = {
        "metrics": {"test": {"accuracy": 0.698, "log_loss": 0.4}},
        "baselines": {"constant": {"accuracy": 0.65, "log_loss": 0.65}},
        "threshold": {"applied": applied},
    }
    found = headline(View({"fit": fit}, {}, "x"))
    assert found is not None and found.metric == metric
