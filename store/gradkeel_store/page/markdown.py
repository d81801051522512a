"""The report as Markdown (GitHub's dialect): for a pull request, a ticket, a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from gradkeel_store.page.layout import laid_out
from gradkeel_store.page.markup import shorten, showable
from gradkeel_store.page.sections.findings import MOST
from gradkeel_store.page.sections.preflight import HEAD, cells_of
from gradkeel_store.page.sections.result import baseline_name, metric_words
from gradkeel_store.page.sections.scores import PARTS, baseline_scores, model_scores
from gradkeel_store.page.sections.studies import not_computed
from gradkeel_store.page.sections.verdict import figures_of, verdict_of
from gradkeel_store.page.source import View, items, mapping, number, text
from gradkeel_store.page.wording import PHASES, SEVERITIES, VERDICTS, figure, prose, rule_title, sentence_case

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")
_BULLET = re.compile(r"^(?:([-+])|(\d+)([.)]))(?=\s)")
_PLACES = ("phase", "layer", "parameter", "column", "epoch", "step", "row", "line")


def render_markdown(report: dict[str, Any], *, title: str, job: dict[str, Any] | None = None) -> str:
    """Verdict, findings with their patches, metrics beside the baselines, what was checked and not measured.

    Arguments as those of ``render_report``. Text from the data cannot become markup.
    """
    view = View(mapping(report), mapping(job), title)
    word = VERDICTS[verdict_of(view)][0]
    parts = [
        f"# {plain(title)}",
        f"**{word}.** {plain(prose(text(view.report.get('summary'))))}".strip(),
        _figures(view),
        *(_preflight(view) if view.is_preflight else _training(view)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _training(view: View) -> list[str]:
    return [*_findings(view), *_result(view), *_studies(view), *_checked(view), *_origin(view)]


def _preflight(view: View) -> list[str]:
    entries = view.entries("preflight")[:MOST]
    rows = [[plain(cell) for cell in cells_of(entry)] for entry in entries]
    chosen = next((one for one in entries if one.get("recommended") is True), {})
    patch = _patch(view, mapping(chosen.get("patch")), 0)
    named = f"**Recommended:** {plain(text(chosen.get('scaling')))}" if patch else ""
    return [_table(HEAD, rows) if rows else "Nothing was measured.", named, patch]


def plain(words: object, limit: int = 4000) -> str:
    """Text that stays text: one line, markup escaped."""
    line = " ".join(shorten(showable(words), limit).split())
    return _BULLET.sub(_no_bullet, _SPECIAL.sub(r"\\\1", line))


def _no_bullet(found: re.Match[str]) -> str:
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = [list(head)]
    lines = [cells[0], ["---"] + ["---:"] * (len(cells[0]) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figures(view: View) -> str:
    return "\n".join(
        f"- {plain(term)}: {plain(value)}{f' ({plain(more)})' if more else ''}"
        for term, value, more in figures_of(view)
    )


def _findings(view: View) -> list[str]:
    found = view.entries("findings")
    if not found:
        return ["## Findings", "Nothing was found: no rule fired." if view.steps else "No step was trained."]
    shown = [_finding(view, entry, i) for i, entry in enumerate(found[:MOST])]
    more = len(found) - len(shown)
    return ["## Findings", *shown, f"{more} more: see the report’s JSON." if more else ""]


def _finding(view: View, entry: dict[str, Any], index: int) -> str:
    severity = SEVERITIES.get(text(entry.get("severity")), "Note")
    also = [plain(one, 300) for one in items(entry.get("also_consistent_with"))[:8] if one]
    remedy = mapping(entry.get("remedy"))
    lines = [
        f"### {index + 1}. {plain(rule_title(entry.get('rule')))} ({severity.lower()})",
        _place(mapping(entry.get("where"))),
        plain(prose(text(entry.get("explanation")))),
        f"Also consistent with: {'; '.join(also)}." if also else "",
        f"**What to change:** {plain(prose(text(remedy.get('text'))))}" if remedy.get("text") else "",
        _patch(view, mapping(remedy.get("patch")), index),
    ]
    return "\n\n".join(line for line in lines if line)


def _place(where: dict[str, Any]) -> str:
    """Epochs as people count them, from one."""
    given = {key: where[key] for key in _PLACES if where.get(key) is not None}
    if (epoch := number(given.get("epoch"))) is not None:
        given["epoch"] = int(epoch) + 1
    phase = text(given.pop("phase", None))
    told = [PHASES.get(phase, plain(phase))] if phase else []
    return ", ".join([*told, *(f"{key} {plain(value, 80)}" for key, value in given.items())])


def _patch(view: View, patch: dict[str, Any], index: int) -> str:
    if not patch:
        return ""
    earlier = [mapping(mapping(one.get("remedy")).get("patch")) for one in view.entries("findings")[:index]]
    if patch in earlier:
        return f"The patch is that of finding {earlier.index(patch) + 1}."
    words = laid_out(patch)
    words = words if showable(words) == words else json.dumps(patch, indent=2)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", words)), default=0))
    return f"{fence}json\n{words}\n{fence}"


def _result(view: View) -> list[str]:
    columns = [("This model", model_scores(view))]
    columns += [(baseline_name(key), given) for key, given in baseline_scores(view).items()]
    shown = [(name, part, given[part]) for name, given in columns for part in PARTS if part in given]
    metrics = list(dict.fromkeys(metric for _, _, given in shown for metric in given))
    if not metrics:
        return ["## Result", "No model was evaluated, so there are no metrics of one."]
    head = ["Metric", *(f"{plain(name)}, {part}" for name, part, _ in shown)]
    rows = [[plain(metric_words(one)), *(figure(given.get(one)) for _, _, given in shown)] for one in metrics]
    return ["## Result", _table(head, rows)]


def _studies(view: View) -> list[str]:
    """Repairs, the run without its stabilizers, curvature: each in the sentences that its report has."""
    repairs = [
        f"- Repair {i + 1}, {plain(rule_title(one.get('rule')))}: "
        f"{plain(prose(' '.join(text(one.get(key)) for key in ('text', 'reason'))))}"
        for i, one in enumerate(view.entries("repair")[:20])
    ]
    told = {"Without its stabilizers": "counterfactual", "Curvature": "curvature"}
    found = ["## Repairs tried", "\n".join(repairs)] if repairs else []
    for title, key in told.items():
        said = text(view.part(key).get("summary"))
        found += [f"## {title}", plain(prose(said))] if said else []
    return found


def _checked(view: View) -> list[str]:
    """Clips, and what was not measured."""
    clips = [
        f"- {plain(sentence_case(text(one.get('kind'))))} clip: {figure(one.get('fired_steps'))} steps, "
        f"{plain(text(one.get('role')).replace('_', ' '))}"
        for one in view.entries("clipping")[:20]
    ]
    missing = [f"- {plain(line)}" for line in not_computed(view)]
    return [
        *(["## Clipping", "\n".join(clips)] if clips else []),
        *(["## Not computed", "\n".join(missing)] if missing else []),
    ]


def _origin(view: View) -> list[str]:
    told = view.part("provenance")
    kept = ("status", "seed", "steps", "precision", "device", "attempts", "reproducible")
    lines = [f"- {sentence_case(key)}: {plain(told[key])}" for key in kept if told.get(key) is not None]
    rests = [plain(one, 100) for one in items(told.get("rests_on"))[:10]]
    lines += [f"- Judged by: {', '.join(rests)}"] if rests else []
    return ["## Where this comes from", "\n".join(lines)] if lines else []
