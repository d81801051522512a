"""Preflight: which scaling allows which learning rate, before any training."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.markup import Child, Html, shorten, table, tag
from gradkeel_store.page.sections.findings import patch_block
from gradkeel_store.page.sections.section import Section, absent
from gradkeel_store.page.source import Number, View, items, mapping, number, text
from gradkeel_store.page.wording import NOTHING, figure

LEAD = (
    "Measured on a sample of the rows and with fresh weights, which were thrown away. Above the limit, steps "
    "swing farther each time; half of it was then tried in real steps, and less where that was too much. "
    "Gradient norms and curvatures under different scalings or losses are not comparable with one another."
)
HEAD = (
    "Scaling",
    "Loss",
    "Gradient norm",
    "Curvature of the loss",
    "of the squared error",
    "Stable below",
    "Learning rate",
    "Dry run",
)
_MOST = 24


def preflight_section(view: View) -> Section:
    """The table, one row a scaling and loss, and the patch of the one that is recommended."""
    entries = view.entries("preflight")[:_MOST]
    title = "Preflight: which scaling allows which learning rate"
    if not entries:
        return Section(
            "preflight", title, LEAD, absent("Nothing was measured: the preflight ended before that.")
        )
    rows = [_row(entry) for entry in entries]
    found = table(HEAD, rows, caption="By scaling and loss, at the first weights", cls="numbers")
    return Section("preflight", title, LEAD, [_chosen(entries), found, _notes(entries)])


def _row(entry: dict[str, Any]) -> list[Child]:
    scaling, *others = cells_of(entry)
    marked = [tag("strong", scaling), " (recommended)"] if entry.get("recommended") is True else scaling
    return [marked, *others]


def cells_of(entry: dict[str, Any]) -> list[str]:
    """An entry as words, in the order of HEAD."""
    error = number(entry.get("lambda_max_error"))
    bar = f" ± {figure(error, 2)}" if error is not None and entry.get("converged") is not True else ""
    return [
        shorten(text(entry.get("scaling")) or NOTHING, 60),
        shorten(text(entry.get("loss")) or NOTHING, 40),
        figure(entry.get("gradient_norm"), 3),
        f"{figure(entry.get('lambda_max'), 3)}{bar}",
        figure(entry.get("gauss_newton_lambda_max"), 3),
        figure(limit_of(entry), 2),
        figure(entry.get("lr"), 2),
        _run(mapping(entry.get("dry_run"))),
    ]


def limit_of(entry: dict[str, Any]) -> Number:
    """The smaller one of the two limits."""
    limits = [number(entry.get(key)) for key in ("local_stability_limit", "gauss_newton_limit")]
    return min([limit for limit in limits if limit is not None], default=None)


def _run(run: dict[str, Any]) -> str:
    if not run:
        return "not tried"
    if run.get("stable") is not True:
        return "not stable, down to " + figure(run.get("lr"), 2)
    if run.get("falls") is not True:
        return "stable, but the loss did not move"
    steps = figure(run.get("steps"))
    return f"loss {figure(run.get('loss_before'), 3)} → {figure(run.get('loss_after'), 3)} in {steps} steps"


def _chosen(entries: list[dict[str, Any]]) -> Html:
    best = next((entry for entry in entries if entry.get("recommended") is True), None)
    patch = mapping(best.get("patch")) if best else {}
    if not patch:
        return absent("No scaling is recommended: the loss fell in no dry run.")
    heading = tag("h3", "The change of the config to train with", id="preflight-patch")
    return tag("div", heading, patch_block(patch, 0, by="preflight-patch"))


def _notes(entries: list[dict[str, Any]]) -> Html | None:
    said = dict.fromkeys(
        shorten(note, 300) for entry in entries for note in items(entry.get("notes")) if isinstance(note, str)
    )
    return tag("ul", [tag("li", line) for line in said], cls="notes") if said else None
