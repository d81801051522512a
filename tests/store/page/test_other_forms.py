"""The report as Markdown and as a picture: whole, whatever the report holds, and nothing in it is markup."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from gradkeel.contract.report import empty_report
from gradkeel_store.page import picture
from gradkeel_store.page.markdown import plain, render_markdown
from gradkeel_store.page.wording import VERDICTS
from store.page.reports import REPORTS, job_of, report_named


def _markdown(name: str) -> str:
    return render_markdown(report_named(name), title="diabetes.csv", job=job_of(name))


def _image(report: dict, title: str = "diabetes.csv") -> Image.Image:
    return Image.open(io.BytesIO(picture.render_picture(report, title=title)))


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_has_both_forms(name: str) -> None:
    words, image = _markdown(name), _image(report_named(name))
    verdict = report_named(name)["verdict"]
    told = "Preflight" if name == "preflight" else VERDICTS[verdict if verdict in VERDICTS else "none"][0]
    assert words.startswith("# diabetes.csv\n")
    assert f"**{told}.**" in words or name == "hostile"
    assert image.width == 1200 and 200 < image.height < 4000


def test_the_patch_in_the_markdown_parses_to_the_patch_of_the_finding() -> None:
    blocks = re.findall(r"```json\n(.*?)\n```", _markdown("diverged"), re.S)
    assert json.loads(blocks[0]) == report_named("diverged")["findings"][0]["remedy"]["patch"]
    patches = [finding["remedy"]["patch"] for finding in report_named("diverged")["findings"]]
    different = {json.dumps(patch, sort_keys=True) for patch in patches if patch}
    assert len(blocks) == len(different)


def test_metrics_stand_beside_the_baselines() -> None:
    rows = [line for line in _markdown("healthy").splitlines() if line.startswith("|")]
    assert rows[0].startswith("| Metric | This model")
    assert {row.count(" | ") for row in rows} == {rows[0].count(" | ")}


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("a_b *c* `d` <img src=x> [e](f)", r"a\_b \*c\* \`d\` \<img src=x\> \[e\](f)"),
        ("1. not a list", r"1\. not a list"),
        ("- not a list", r"\- not a list"),
        ("70.06 is a number, −1 too", "70.06 is a number, −1 too"),
        ("two\nlines | a pipe", r"two lines \| a pipe"),
    ],
)
def test_text_stays_text(given_text: str, shown: str) -> None:
    assert plain(given_text) == shown


def test_hostile_text_makes_no_markup() -> None:
    words = _markdown("hostile")
    outside = re.sub(r"`{3,}json\n.*?\n`{3,}", "", words, flags=re.S)
    assert not re.search(r"(?<!\\)<", outside)


def test_studies_are_told_in_their_own_sentences() -> None:
    report = report_named("healthy") | {
        "repair": [
            {"rule": "feature_scale", "text": "Scale the columns.", "reason": "Kept: RMSE 2 after 5."}
        ],
        "counterfactual": {"summary": "Without scaling the training diverged at step 5."},
        "curvature": {"summary": "The loss bends most by 6.3e-06."},
    }
    words = render_markdown(report, title="x")
    assert "- Repair 1, Columns on an unsuitable scale: Scale the columns. Kept: RMSE 2 after 5." in words
    assert "## Without its stabilizers\n\nWithout scaling the training diverged at step 5." in words
    assert "bends most by 6.3×10⁻⁶." in words


def test_an_empty_report_has_both_forms() -> None:
    report = empty_report(summary="The job was cancelled before its first step.")
    assert "**No verdict.** The job was cancelled" in render_markdown(report, title="x")
    assert _image(report).height < 400


def test_the_picture_shows_its_verdict_in_the_colour_of_the_page() -> None:
    colours = {
        name: _image(report_named(name)).convert("RGB").getpixel((50, 130))
        for name in ("healthy", "diverged")
    }
    assert colours == {"healthy": (0x1D, 0x6B, 0x4E), "diverged": (0xA3, 0x24, 0x3B)}


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=80))
def test_any_letters_can_be_drawn(words: str) -> None:
    font = ImageFont.load_default(12)  # the poorest one there may be
    shown = picture._drawable(words, font)
    assert all(letter == " " or picture._has(font, letter) for letter in shown)


def test_powers_stay_powers_where_the_font_has_no_superscripts() -> None:
    assert picture._drawable("2.1×10¹⁴ −3", ImageFont.load_default(12)) == "2.1x10^14 -3"
