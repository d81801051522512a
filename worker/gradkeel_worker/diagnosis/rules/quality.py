"""What was noticed about the data itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import listed, number, percent, plural

Json = dict[str, Any]

_MOST = 20
_MANY_DUPLICATES = 0.05


def data_quality(case: Case) -> list[Finding]:
    """Constant, empty and duplicate columns, duplicate rows, few rows per parameter, what preparation
    noticed.
    """
    found = [*_columns(case), *_duplicate_rows(case), *_few_rows(case), *_noticed(case)]
    return found[:_MOST]


def _finding(
    case: Case, issue: str, text: str, remedy: Remedy, *, severity: Severity = Severity.INFO, **evidence: Any
) -> Finding:
    column = evidence.pop("column", None)
    return Finding(
        rule="data_quality",
        family=Family.DATA,
        severity=severity,
        confidence="high",
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
    prepared = case.evidence.prepared
    for note in prepared.findings if prepared is not None else ():
        column = note.get("column")
        yield _finding(
            case,
            str(note.get("code")),
            str(note.get("detail")) or str(note.get("code")),
            Remedy("Nothing has to be done; look at the column.", _same(case)),
            count=note.get("count"),
            column=column,
        )


def _same(case: Case) -> Json:
    """The empty patch: the submitted config as it is."""
    return {}
