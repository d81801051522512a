"""What a notebook shows: small tables of HTML that need nothing from outside, every text escaped."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from gradkeel.sansio.flows import Event

MOST_ROWS = 30
LONGEST_TEXT = 300
COLOURS = {
    "succeeded": "#2e7d32",
    "ready": "#2e7d32",
    "healthy": "#2e7d32",
    "failed": "#c62828",
    "rejected": "#c62828",
    "diverged": "#c62828",
    "unstable": "#c62828",
    "critical": "#c62828",
    "strained": "#b26a00",
    "cancelled": "#b26a00",
    "warning": "#b26a00",
}
CELL = "padding:2px 8px;text-align:left;vertical-align:top;border-top:1px solid #8886"

Facts = Sequence[tuple[str, Any]]


def bundle(plain: str, page: str) -> dict[str, str]:
    """The forms of one object for ``_repr_mimebundle_``."""
    return {"text/plain": plain, "text/html": page}


def card(title: str, badges: Iterable[Any], *parts: str) -> str:
    """A titled box: state and verdict beside the title, the parts below."""
    shown = " ".join(badge(str(word)) for word in badges if word)
    body = "".join(parts)
    return (
        '<div class="gradkeel" style="font:13px/1.5 system-ui,sans-serif;max-width:64em">'
        f"<div><strong>{escape(title)}</strong> {shown}</div>{body}</div>"
    )


def badge(word: str) -> str:
    colour = COLOURS.get(word, "#546e7a")
    style = f"background:{colour};color:#fff;border-radius:3px;padding:0 6px"
    return f'<span style="{style}">{escape(word)}</span>'


def facts(pairs: Facts) -> str:
    """A table of names and values; values that are None or empty are left out."""
    rows = [(name, told(value)) for name, value in pairs if value is not None and value != ""]
    return _table(
        [f'<tr><th style="{CELL}">{escape(n)}</th><td style="{CELL}">{v}</td></tr>' for n, v in rows]
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of at most 30 rows; a line says how many more there are."""
    head = "".join(f'<th style="{CELL}">{escape(name)}</th>' for name in heads)
    lines = [f"<tr>{head}</tr>"]
    for row in rows[:MOST_ROWS]:
        lines.append("<tr>" + "".join(f'<td style="{CELL}">{told(cell)}</td>' for cell in row) + "</tr>")
    more = len(rows) - MOST_ROWS
    return _table(lines) + (f"<div>… and {more} more</div>" if more > 0 else "")


def _table(lines: Sequence[str]) -> str:
    return f'<table style="border-collapse:collapse;margin:4px 0">{"".join(lines)}</table>' if lines else ""


def bar(fraction: float) -> str:
    """A bar, so much of it full."""
    percent = 100 * min(1.0, max(0.0, fraction))
    return (
        '<div style="background:#8884;border-radius:3px;width:20em;height:8px;margin:6px 0">'
        f'<div style="background:#1565c0;border-radius:3px;height:8px;width:{percent:.1f}%"></div></div>'
    )


def told(value: Any) -> str:
    """One value as escaped text: numbers short, objects as JSON, long texts cut."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else escape(str(value))
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S %Z")
    text = json.dumps(value, default=str) if isinstance(value, Mapping | list | tuple) else str(value)
    return escape(text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…")


def metrics(parts: Mapping[str, Any]) -> str:
    """Metrics by part, the baselines beside them: one row for each metric."""
    columns = {name: values for name, values in parts.items() if name != "baselines" and values}
    columns |= {f"baseline: {name}": values for name, values in (parts.get("baselines") or {}).items()}
    names = dict.fromkeys(name for values in columns.values() for name in values or {})
    rows = [[name, *((values or {}).get(name) for values in columns.values())] for name in names]
    return table(["", *columns], rows) if rows else ""


class ProgressLine:
    """A line of text that follows a job, in terminals and notebooks: ``job.wait(on_event=ProgressLine())``.

    It needs no widgets: the line is written over itself, and ended when the job ends.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._width = 0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.name == "progress":
            self._show(_progress_text(event.data))
        elif event.name == "end":
            self._show(" ".join(str(word) for word in _end_words(event.data) if word))
            print(file=self._file or sys.stdout, flush=True)

    def _show(self, text: str) -> None:
        file = self._file or sys.stdout
        print("\r" + text.ljust(self._width), end="", file=file, flush=True)
        self._width = len(text)


def _progress_text(data: Mapping[str, Any]) -> str:
    fraction = float(data.get("fraction") or 0.0)
    full = round(20 * fraction)
    epochs = f" epoch {int(data.get('epoch') or 0) + 1}/{data['epochs']}" if data.get("epochs") else ""
    left = data.get("eta_seconds")
    eta = f", about {left:.0f} s left" if left else ""
    return f"[{'#' * full}{'.' * (20 - full)}] {fraction:4.0%} {data.get('phase')}{epochs}{eta}"


def _end_words(data: Mapping[str, Any]) -> tuple[Any, ...]:
    error = data.get("error") or {}
    return (data.get("job_id"), data.get("state"), data.get("verdict"), error.get("message"))
