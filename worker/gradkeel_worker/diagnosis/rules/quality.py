"""What was noticed about the data itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gradkeel.contract.patch import combine, set_value
from gradkeel.contract.states import ColumnType, Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.block import strange_block
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Confidence, Finding, Remedy
from gradkeel_worker.diagnosis.gain import ROOTED
from gradkeel_worker.diagnosis.markers import markers_of
from gradkeel_worker.diagnosis.repeats import repeated_rows
from gradkeel_worker.diagnosis.words import METRICS, listed, number, percent, plural

Json = dict[str, Any]

MIXED_TYPES, SENTINEL, BLOCK = "mixed_types", "sentinel", "block_unlike_the_rest"
_MOST = 20
_MANY_DUPLICATES = 0.05
_FEWEST_COPIES = 3
_FEW_ODD_CELLS = 0.05
_LONGEST_MARKER = 199
"""A cell that the profile shows at its full 200 characters may have been cut there."""


def data_quality(case: Case) -> list[Finding]:
    """Constant, empty and duplicate columns, mixed types, numbers that seem to mean a missing cell, duplicate
    rows (a warning where they lie on both sides of the split), few rows per parameter, a stretch of the file
    whose targets are unlike the rest's, what preparation noticed.
    """
    rows = [*_across_the_split(case)] or [*_duplicate_rows(case)]
    found = [*_mixed(case), *_columns(case), *_markers(case), *rows, *_few_rows(case), *_noticed(case)]
    found = [*_strange_block(case), *found]
    return found[:_MOST]


def _finding(
    case: Case,
    issue: str,
    text: str,
    remedy: Remedy,
    *,
    severity: Severity = Severity.INFO,
    confidence: Confidence = "high",
    **evidence: Any,
) -> Finding:
    column = evidence.pop("column", None)
    return Finding(
        rule="data_quality",
        family=Family.DATA,
        severity=severity,
        confidence=confidence,
        explanation=text,
        remedy=remedy,
        evidence={"issue": issue, **evidence},
        where={"column": column, "phase": "prepare"},
    )


def _used(case: Case) -> set[str]:
    """Source columns that entered the model."""
    prepared = case.evidence.prepared
    if prepared is None:
        return set()
    return {one.source for one in prepared.inputs} | {one.name for one in prepared.categories}


def _mixed(case: Case) -> Iterator[Finding]:
    """Columns of numbers that a few cells turn into text."""
    rows = (case.evidence.profile or {}).get("rows") or 0
    for note in _mixed_notes(case):
        column, cells = note["column"], note.get("cells") or []
        first, remedy = (cells[0] if cells else {}), _as_missing(case, note)
        broken = bool(remedy.patch) or note["count"] <= _FEW_ODD_CELLS * rows
        yield Finding(
            rule="data_quality",
            family=Family.DATA,
            severity=Severity.WARNING,
            confidence="high" if broken else "medium",
            explanation=f"Most cells of “{column}” are numbers, but {plural(note['count'], 'cell')} "
            f"{'is' if note['count'] == 1 else 'are'} not, so that {_effect(case, column)}. "
            f"The first is “{first.get('cell')}”{_in_line(first)}.",
            remedy=remedy,
            evidence={"issue": MIXED_TYPES, "cells": note["count"]},
            where={
                "column": column,
                "row": first.get("row"),
                "line": first.get("line"),
                "phase": "prepare",
            },
        )


def _mixed_notes(case: Case) -> list[Json]:
    """What ingest noted, for the columns that the job wants and does not type itself."""
    columns = case.config.columns
    return [
        note
        for note in (case.evidence.profile or {}).get("findings") or ()
        if note.get("code") == MIXED_TYPES
        and note["column"] not in {*columns.exclude, *columns.types, *columns.missing_values}
        and (columns.include is None or note["column"] in {*columns.include, *case.config.targets})
    ]


def _effect(case: Case, column: str) -> str:
    if column in case.config.targets:
        return "the target is read as text, and each of its values as a class"
    if case.evidence.prepared is not None and column not in _used(case):
        return "the whole column is read as text and left out of the features"
    return "the whole column is read as text"


def _in_line(cell: Json) -> str:
    if cell.get("line") is not None:
        return f" in line {cell['line']}"
    return f" in row {cell['row']}" if cell.get("row") is not None else ""


def _as_missing(case: Case, note: Json) -> Remedy:
    """Numbers again, and the odd cells missing; without a patch where not all of them are known."""
    column: str = note["column"]
    texts = sorted({str(cell["cell"]) for cell in note.get("cells") or ()})
    patch = combine(
        set_value(("columns", "types", column), str(ColumnType.NUMERIC)),
        set_value(("columns", "missing_values", column), texts),
    )
    different: int = note.get("texts") or note["count"]
    if different > len(texts) or any(len(text) > _LONGEST_MARKER for text in texts) or not _fits(case, patch):
        return Remedy("Correct the cells in the file; columns.missing_values can name them too.", _same(case))
    cells = "the cell" if note["count"] == 1 else "those cells"
    text = f"Correct the file, or read the column as numbers and count {cells} as missing."
    return Remedy(text, patch)


def _fits(case: Case, patch: Json) -> bool:
    return remedies.is_accepted(case.evidence.submitted, patch)


def _columns(case: Case) -> Iterator[Finding]:
    profile, used = case.evidence.profile or {}, _used(case)
    constant = [name for name in profile.get("constant_columns") or () if name in used]
    if constant:
        yield _finding(
            case,
            "constant_columns",
            f"{listed(constant)} hold the same value in every row and tell the model nothing.",
            Remedy("Leave them out.", remedies.exclude(case, constant)),
            columns=len(constant),
            column=constant[0],
        )
    twins = [pair for pair in profile.get("duplicate_columns") or () if pair[0] in used and pair[1] in used]
    if twins:
        first, second = twins[0]
        yield _finding(
            case,
            "duplicate_columns",
            f"“{second}” is the same as “{first}”"
            + (f", and {len(twins) - 1} more pairs." if len(twins) > 1 else "."),
            Remedy("Leave the copies out.", remedies.exclude(case, [pair[1] for pair in twins])),
            columns=len(twins),
            column=second,
        )


def _duplicate_rows(case: Case) -> Iterator[Finding]:
    profile = case.evidence.profile or {}
    count, rows = profile.get("duplicate_rows") or 0, profile.get("rows") or 0
    if not count or not rows or count < _MANY_DUPLICATES * rows:
        return
    yield _finding(
        case,
        "duplicate_rows",
        f"{plural(count, 'row')} of the file ({percent(count / rows)}) repeat another. Where copies fall "
        "into training and "
        "test part alike, the test metrics flatter the model.",
        Remedy("Remove repeated rows from the file; no change of the config does it.", _same(case)),
        duplicate_rows=count,
        rows=rows,
    )


def _strange_block(case: Case) -> Iterator[Finding]:
    """A stretch of the file whose targets belong to other rows, as it seems."""
    evaluation = case.evidence.evaluation
    answers = evaluation.answers if evaluation is not None else None
    block = strange_block(answers) if answers is not None and not case.useless else None
    if block is None:
        return
    by_line = block.first["line"] is not None and block.last["line"] is not None
    named, unit = ("line", "lines") if by_line else ("row", "records")
    yield replace(
        _finding(
            case,
            BLOCK,
            f"Between {unit} {block.first[named]:,} and {block.last[named]:,} of the file the predictions "
            f"have nothing to do with the target (correlation {number(block.inside)} over "
            f"{plural(block.rows, 'row')}), elsewhere they have (correlation {number(block.outside)}). The "
            "targets of these rows may have been mixed up; rows of another kind look the same.",
            Remedy("Look at these rows; no change of the config mends a target.", _same(case)),
            severity=Severity.WARNING,
            rows=block.rows,
            correlation_inside=block.inside,
            correlation_outside=block.outside,
            chance=block.chance,
        ),
        confidence="medium",
        where={**block.first, "phase": "prepare"},
        also_consistent_with=("rows of another kind, another source or time",),
    )


def _across_the_split(case: Case) -> Iterator[Finding]:
    """Rows of the part that the model is judged on which stand in the training part too."""
    prepared, evaluation = case.evidence.prepared, case.evidence.evaluation
    if prepared is None:
        return
    part = evaluation.part if evaluation is not None else "test"
    repeated = repeated_rows(prepared, part)
    share = float(repeated.mean()) if len(repeated) else 0.0
    if share < _MANY_DUPLICATES or int(repeated.sum()) < _FEWEST_COPIES:
        return
    metrics = _without_copies(case, repeated)
    yield _finding(
        case,
        "duplicate_rows_across_split",
        f"{plural(int(repeated.sum()), 'row')} of the {part} part ({percent(share)}) are the same as a row "
        "of the training part, in every column that is used and in the target. The metrics on them tell "
        f"what was memorised.{_metrics_text(metrics)}",
        Remedy("Remove repeated rows from the file; no change of the config does it.", _same(case)),
        severity=Severity.WARNING,
        duplicate_rows=int(repeated.sum()),
        rows=len(repeated),
        share=share,
        **metrics,
    )


def _without_copies(case: Case, repeated: np.ndarray[Any, np.dtype[np.bool_]]) -> Json:
    """The leading metric over all rows of the part, and over those that are no copies."""
    errors = case.evidence.evaluation.errors if case.evidence.evaluation is not None else {}
    metric = next(iter(errors), None)
    of_model = errors[metric].get("model") if metric is not None else None
    if of_model is None or len(of_model) != len(repeated) or repeated.all():
        return {}
    means = [float(of_model.mean()), float(of_model[~repeated].mean())]
    whole, rest = np.sqrt(means) if metric in ROOTED else means
    return {"metric": metric, "over_all_rows": float(whole), "without_copies": float(rest)}


def _metrics_text(metrics: Json) -> str:
    if not metrics:
        return ""
    words = METRICS.get(metrics["metric"], metrics["metric"])
    return (
        f" Here the {words} is {number(metrics['over_all_rows'])} over all rows of the part and "
        f"{number(metrics['without_copies'])} without them."
    )


def _markers(case: Case) -> Iterator[Finding]:
    """Numbers that seem to stand for a missing cell."""
    prepared, profile = case.evidence.prepared, case.evidence.profile
    for one in markers_of(prepared, profile) if prepared is not None and profile is not None else ():
        patch = set_value(("columns", "missing_values", one.column), [one.text])
        told = one.column in case.config.columns.missing_values or not _fits(case, patch)
        yield _finding(
            case,
            SENTINEL,
            f"{percent(one.share)} of the training cells of “{one.column}” are {one.text}, "
            f"{number(one.gap)} standard deviations away from any other value. That is how files mark a cell "
            "that is missing; it may be a value like others.",
            Remedy("If it is a mark, count it as missing.", _same(case) if told else patch),
            confidence="medium",
            value=one.text,
            share=one.share,
            gap=one.gap,
            column=one.column,
        )


def _few_rows(case: Case) -> Iterator[Finding]:
    prepared, sizes = case.evidence.prepared, case.evidence.readings.layer_sizes
    if prepared is None or not sizes or not len(prepared.train.rows):
        return
    rows, weights = len(prepared.train.rows), sum(sizes)
    if weights < 200 * rows:
        return
    yield _finding(
        case,
        "few_rows_per_parameter",
        f"The model has {plural(weights, 'parameter')} for {plural(rows, 'training row')}, "
        f"{number(weights / rows)} a row: "
        "it can learn the rows by heart.",
        Remedy("A smaller model, or a linear one, has less room to do so.", remedies.linear_model(case)),
        parameters=weights,
        rows=rows,
    )


def _noticed(case: Case) -> Iterator[Finding]:
    prepared, told = case.evidence.prepared, {note["column"] for note in _mixed_notes(case)}
    for note in prepared.findings if prepared is not None else ():
        column = note.get("column")
        if column in told and note.get("code") == "text_left_out":
            continue
        yield _finding(
            case,
            str(note.get("code")),
            _sentence(column, str(note.get("detail") or note.get("code"))),
            Remedy("Nothing has to be changed, if that is as you want it.", _same(case)),
            count=note.get("count"),
            column=column,
        )


def _sentence(column: str | None, detail: str) -> str:
    """A note as a sentence that names its column."""
    said = (
        detail.replace("the column ", f"“{column}” ", 1)
        if column and detail.startswith("the column ")
        else detail
    )
    return said[:1].upper() + said[1:] + ("" if said.endswith(".") else ".")


def _same(case: Case) -> Json:
    """The empty patch: the submitted config as it is."""
    return {}
