"""The report as one picture (PNG): for a chat, a slide, a ticket. Drawn with Pillow, without a browser."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from gradkeel_store.page.charts.heatmap import LEVELS, HeatMap, heat_map
from gradkeel_store.page.document import stylesheet
from gradkeel_store.page.markup import shorten, showable
from gradkeel_store.page.sampling import kept_indices
from gradkeel_store.page.scales import Scale, fitting, linear
from gradkeel_store.page.sections.result import baseline_name
from gradkeel_store.page.sections.scores import baseline_scores, headline
from gradkeel_store.page.sections.training import clipped_steps, event_steps, per_epoch, steps_axis
from gradkeel_store.page.sections.verdict import figures_of, verdict_of
from gradkeel_store.page.source import Number, Numbers, View, mapping, number, present, text
from gradkeel_store.page.wording import VERDICTS, figure, prose, rule_title

WIDTH, MARGIN = 1200, 48
_FINE = 2
"""Drawn so much larger and reduced: smooth lines."""
_MOST_LAYERS, _LONGEST = 60, 1200
_CHART_HEIGHT = 220
Font = Any
Colour = str


def render_picture(report: dict[str, Any], *, title: str, job: dict[str, Any] | None = None) -> bytes:
    """Verdict, key figures, first finding, loss, gradient norm, layers and the metric that speaks first.

    A PNG, 1200 pixels wide. Arguments as those of ``render_report``.
    """
    view = View(mapping(report), mapping(job), title)
    blocks: list[Callable[[Sheet, int], int]] = [_head, _banner, _figures, _lead, _curves, _layers, _metric]
    height = _laid_out(Sheet(view, 1), blocks)
    sheet = Sheet(view, height)
    _laid_out(sheet, blocks)
    buffer = io.BytesIO()
    sheet.image.reduce(_FINE).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _laid_out(sheet: Sheet, blocks: Sequence[Callable[[Sheet, int], int]]) -> int:
    """Draw block under block; where the last one ends. What lies outside a sheet is not drawn."""
    y = MARGIN
    for block in blocks:
        y = block(sheet, y)
    return y + MARGIN // 2


class Sheet:
    """A white sheet in pixels of the picture: coordinates and sizes are multiplied by ``_FINE`` inside."""

    def __init__(self, view: View, height: int) -> None:
        self.view = view
        self.colours = _palette(verdict_of(view))
        self.image = Image.new("RGB", (WIDTH * _FINE, height * _FINE), self.colours["paper"])
        self._draw = ImageDraw.Draw(self.image)

    def text(
        self, x: float, y: float, words: object, size: int, colour: str = "ink", anchor: str = "la"
    ) -> None:
        font = _font(size * _FINE)
        shown = _drawable(showable(words), font)
        self._draw.text((x * _FINE, y * _FINE), shown, font=font, fill=self.colours[colour], anchor=anchor)

    def wrapped(
        self, x: int, y: int, words: str, size: int, width: int, lines: int, colour: str = "ink"
    ) -> int:
        """Text in at most so many lines; where the next thing may stand."""
        for line in _lines(words, size, width, lines):
            self.text(x, y, line, size, colour)
            y += round(size * 1.5)
        return y

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        corner = ((x + width) * _FINE - 1, (y + height) * _FINE - 1)
        if width > 0 and height > 0:
            self._draw.rectangle(((x * _FINE, y * _FINE), corner), fill=self.colours[colour])

    def line(self, points: Sequence[tuple[float, float]], colour: str, thick: float = 1.5) -> None:
        spots = [(x * _FINE, y * _FINE) for x, y in points]
        self._draw.line(spots, fill=self.colours[colour], width=round(thick * _FINE), joint="curve")


@cache
def _palette(verdict: str) -> dict[str, Colour]:
    """The page's own colours, light, with the verdict's accent and tint."""
    style = stylesheet()
    found = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", style[: style.index("@media")]))
    own = re.search(rf"\.verdict-{verdict} \{{ --accent: (#\w+); --tint: (#\w+)", style)
    return found | ({"accent": own[1], "tint": own[2]} if own else {})


@cache
def _font(size: int) -> Font:
    """DejaVu Sans, which has every letter that reports need, where the system has it; else Pillow's own."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)


_POWER = re.compile("10([⁻⁰¹²³⁴-⁹]+)")
_EXPONENT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_INSTEAD = str.maketrans({"×": "x", "−": "-", "²": "2", "→": "->", "≤": "<=", "\u00a0": " "})


def _drawable(words: str, font: Font) -> str:
    """The words in letters that the font has: others by their plain like, or a question mark."""
    if all(_has(font, letter) for letter in words):
        return words
    plain = _POWER.sub(lambda found: f"10^{found[1].translate(_EXPONENT)}", words).translate(_INSTEAD)
    letters = (c if _has(font, c) else unicodedata.normalize("NFKD", c)[0] for c in plain)
    return "".join(c if _has(font, c) else "?" for c in letters)


def _has(font: Font, letter: str) -> bool:
    return letter == " " or _glyph(font, letter) != _glyph(font, "\uffff")


@cache
def _glyph(font: Font, letter: str) -> bytes:
    return bytes(font.getmask(letter))


def _lines(words: str, size: int, width: int, most: int) -> list[str]:
    """The words broken into lines; the last one ends with … where there were more."""
    font, rest = _font(size * _FINE), showable(words).split()
    lines: list[str] = []
    while rest and len(lines) < most:
        line = rest.pop(0)
        while rest and font.getlength(f"{line} {rest[0]}") <= width * _FINE:
            line += f" {rest.pop(0)}"
        fits = font.getlength(line) <= width * _FINE  # one word may be too long by itself
        lines.append(line if fits else shorten(line, max(8, width // size)))
    if rest and lines:
        lines[-1] = lines[-1].rstrip(",.;: ") + " …"
    return lines


# ------------------------------------------------------------------------------------------------- blocks


def _head(sheet: Sheet, y: int) -> int:
    sheet.text(MARGIN, y, "Gradkeel gradient-health report", 14, "soft")
    sheet.text(MARGIN, y + 24, shorten(sheet.view.title, 60), 30)
    return y + 76


def _banner(sheet: Sheet, y: int) -> int:
    word, meaning = VERDICTS[verdict_of(sheet.view)]
    said = shorten(prose(text(sheet.view.report.get("summary")).strip()), _LONGEST) or meaning
    inner = WIDTH - 2 * MARGIN - 60
    height = 84 + 24 * len(_lines(said, 16, inner, 6))
    sheet.box(MARGIN, y, WIDTH - 2 * MARGIN, height, "tint")
    sheet.box(MARGIN, y, 5, height, "accent")
    sheet.text(MARGIN + 30, y + 18, word, 32, "accent")
    sheet.wrapped(MARGIN + 30, y + 68, said, 16, inner, 6)
    return y + height + 24


def _figures(sheet: Sheet, y: int) -> int:
    shown = figures_of(sheet.view)
    step = (WIDTH - 2 * MARGIN) / max(1, len(shown))
    for i, (term, value, more) in enumerate(shown):
        x = MARGIN + round(i * step)
        sheet.text(x, y, shorten(term, 30), 13, "soft")
        sheet.text(x, y + 20, shorten(value, 20), 24)
        sheet.wrapped(x, y + 54, more, 12, round(step) - 16, 2, "soft")
    return y + (106 if shown else 0)


def _lead(sheet: Sheet, y: int) -> int:
    """The first finding that warns: its name and what to change."""
    warns = [one for one in sheet.view.entries("findings") if one.get("severity") in ("critical", "warning")]
    if not warns:
        return y
    change = shorten(prose(text(mapping(warns[0].get("remedy")).get("text"))), _LONGEST)
    sheet.text(MARGIN, y, f"First finding: {rule_title(warns[0].get('rule'))}", 18)
    return sheet.wrapped(MARGIN, y + 30, change, 15, WIDTH - 2 * MARGIN, 3, "soft") + 14


def _curves(sheet: Sheet, y: int) -> int:
    """Loss and gradient norm, side by side."""
    view = sheet.view
    if not view.steps:
        return y
    at, validation = per_epoch(view, "validation_loss")
    width = (WIDTH - 2 * MARGIN - 48) // 2
    loss = [("each batch", "s1", view.steps, view.series("loss")), ("validation", "s2", at, validation)]
    clipped = bool(clipped_steps(view))
    norm = [("before clipping" if clipped else "norm", "s3", view.steps, view.series("global_norm"))]
    if clipped:
        norm.append(("after clipping", "s1", view.steps, view.series("clipped_norm")))
    _plot(sheet, MARGIN, y, width, "Loss by step", loss)
    _plot(sheet, MARGIN + width + 48, y, width, "Gradient norm by step", norm)
    return y + _CHART_HEIGHT + 96


Curve = tuple[str, str, Sequence[float], Numbers]


def _plot(sheet: Sheet, x: int, y: int, width: int, title: str, curves: Sequence[Curve]) -> None:
    there = [curve for curve in curves if present(curve[3])]
    sheet.text(x, y, title, 16)
    if not there:
        sheet.text(x, y + 40, "No finite number was recorded.", 13, "soft")
        return
    across, up = steps_axis(sheet.view), fitting([value for curve in there for value in curve[3]])
    left, top = x + 62, y + 52
    _grid(sheet, left, top, x + width - left, up)
    _steps_below(sheet, left, top + _CHART_HEIGHT, x + width - left, across)
    key = left
    for name, colour, steps, values in there:
        sheet.line([(key, y + 38), (key + 18, y + 38)], colour, 2.5)
        sheet.text(key + 24, y + 30, name, 12, "soft")
        key += 40 + 8 * len(name)
        for piece in _pieces(steps, values):
            spots = [
                (left + across.at(s) * (x + width - left), top + (1 - up.at(v)) * _CHART_HEIGHT)
                for s, v in piece
            ]
            sheet.line(spots if len(spots) > 1 else [spots[0], (spots[0][0] + 2, spots[0][1])], colour)
    _broken(sheet, left, top, x + width - left, across)
    if up.log:
        sheet.text(x + width, y + 30, "logarithmic", 12, "soft", "ra")


def _broken(sheet: Sheet, x: int, y: int, width: int, across: Scale) -> None:
    """A cross above each stretch of steps that had a number which was not finite."""
    broken = event_steps(sheet.view)[1]
    places = sorted({round(across.at(step) * 100) for step in broken})
    for place in places:
        spot = x + place / 100 * width
        sheet.line([(spot - 3, y - 3), (spot + 3, y + 3)], "critical")
        sheet.line([(spot - 3, y + 3), (spot + 3, y - 3)], "critical")
    if places:
        sheet.text(x + width, y + _CHART_HEIGHT + 24, "x: not a finite number", 12, "critical", "ra")


def _pieces(steps: Sequence[float], values: Numbers) -> list[list[tuple[float, float]]]:
    """The unbroken stretches of a curve, thinned out with its extremes."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for i in kept_indices([values], len(steps), 400):
        value = values[i]
        if value is not None:
            pieces[-1].append((steps[i], value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _grid(sheet: Sheet, x: int, y: int, width: int, up: Scale) -> None:
    for value, label in up.ticks():
        height = y + (1 - up.at(value)) * _CHART_HEIGHT
        sheet.line([(x, height), (x + width, height)], "grid", 1)
        sheet.text(x - 8, height, label, 12, "soft", "rm")


def _steps_below(sheet: Sheet, x: int, y: int, width: int, across: Scale) -> None:
    for value, label in across.ticks(5):
        sheet.text(x + across.at(value) * width, y + 8, label, 12, "soft", "ma")


def _layers(sheet: Sheet, y: int) -> int:
    """Gradient norm by layer (down) and step (across)."""
    view = sheet.view
    names = [layer for layer in view.layers if present(view.layer_series(layer, "norm"))][:_MOST_LAYERS]
    if not names:
        return y
    chart = heat_map(names, view.steps, [view.layer_series(layer, "norm") for layer in names])
    row = max(4, min(20, 240 // len(names)))
    left, width, top = MARGIN + 130, WIDTH - 2 * MARGIN - 130, y + 34
    sheet.text(MARGIN, y, "Gradient norm of each layer by step", 16)
    _cells(sheet, chart, left, top, width, row)
    _steps_below(sheet, left, top + row * len(names), width, steps_axis(view))
    low, high = figure(chart.scale.low, 2), figure(chart.scale.high, 2)
    sheet.text(WIDTH - MARGIN, y + 4, f"dark {low} to light {high}, logarithmic", 12, "soft", "ra")
    return top + row * len(names) + 48


def _cells(sheet: Sheet, chart: HeatMap, x: int, y: int, width: int, row: int) -> None:
    stride = -(-14 // row)
    cell = width / len(chart.starts)
    for i, name in enumerate(chart.names):
        if i % stride == 0:
            sheet.text(x - 10, y + (i + 0.5) * row, shorten(name, 18), 12, "soft", "rm")
        for j, value in enumerate(chart.cells[i]):
            sheet.box(x + j * cell, y + i * row, cell, row, _tone(value, chart.scale))


def _tone(value: Number, scale: Scale) -> str:
    if value is None:
        return "sunk"
    return "critical" if value <= 0 else f"q{min(LEVELS - 1, int(scale.at(value) * LEVELS))}"


def _metric(sheet: Sheet, y: int) -> int:
    """The metric that speaks first, beside the baselines."""
    best = headline(sheet.view)
    if best is None:
        return y
    rows: list[tuple[str, Number, str]] = [("This model", best.model, "accent")]
    for key, parts in baseline_scores(sheet.view).items():
        rows.append((baseline_name(key), number(parts.get(best.part, {}).get(best.metric)), "s3"))
    scale = linear([value for _, value, _ in rows], zero=True, pad=0.0)
    sheet.text(MARGIN, y, f"{best.words} on the {best.part} part", 16)
    left, width, zero = MARGIN + 260, WIDTH - 2 * MARGIN - 370, scale.at(0.0)
    for i, (words, value, colour) in enumerate(rows[:6]):
        top = y + 34 + 26 * i
        sheet.text(MARGIN, top, words, 14)
        end = scale.at(value or 0.0)
        sheet.box(left + min(zero, end) * width, top + 2, abs(end - zero) * width, 14, colour)
        sheet.text(WIDTH - MARGIN, top, figure(value), 14, "ink", "ra")
    return y + 42 + 26 * min(6, len(rows))
