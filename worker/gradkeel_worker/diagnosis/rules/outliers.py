"""A few outlying rows that make up most of the gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradkeel.contract import config as contract
from gradkeel.contract.patch import combine, replace_block
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import INFLATED, Case
from gradkeel_worker.diagnosis.feed import FAR_OUT, FEW_ROWS, ColumnFeed, robust_z
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.measured import OutlierShare
from gradkeel_worker.diagnosis.words import number, percent, plural

DOMINANT = 0.5
_SOUND = 3.0


def outliers(case: Case) -> list[Finding]:
    """Rows with robust z > 8 whose share of Σ‖gradient of a row‖ is above a half, that set the unit of a
    standardised target, or that alone make a column as fed too large.
    """
    share = case.measured.outliers
    if share is None or share.share_of_rows > FEW_ROWS:
        return []
    if share.share <= DOMINANT and not case.target_stretched and not _swollen(case):
        return []
    prepared = case.evidence.prepared
    assert prepared is not None
    share = _at_the_swollen_column(case, share)
    in_target = share.column < 0
    column = case.config.targets[-1 - share.column] if in_target else prepared.inputs[share.column].source
    part, at = prepared.train, share.position
    row, line = part.place(at) if in_target else part.source(at)
    return [
        Finding(
            rule="outliers",
            family=Family.DATA,
            severity=_severity(case),
            confidence="medium",
            explanation=_text(case, share, column),
            remedy=_remedy(case, share, column),
            evidence={
                "rows": share.rows,
                "share_of_rows": share.share_of_rows,
                "share_of_gradient": share.share,
                "threshold": DOMINANT,
                "largest_robust_z": share.z,
                "share_of_rows_outlying_in_target": share.in_target,
            },
            where={
                "row": row,
                "line": line,
                "column": column,
                "phase": "prepare",
            },
            also_consistent_with=(
                "a heavy tail that belongs to the quantity",
                "rows the model has not yet learnt",
            ),
        )
    ]


def _swollen(case: Case) -> list[ColumnFeed]:
    """Columns whose size as fed is made by outlying cells alone, largest first: the others would suit."""
    columns = case.feed.columns if case.feed is not None else ()
    chosen = [c for c in columns if c.rms > INFLATED and c.core_rms <= _SOUND]
    return sorted(chosen, key=lambda column: -column.rms)


def _at_the_swollen_column(case: Case, share: OutlierShare) -> OutlierShare:
    """The same with the place of the largest cell of the column that is swollen most, if any is."""
    swollen, prepared = _swollen(case), case.evidence.prepared
    if not swollen or prepared is None:
        return share
    column = next(i for i, one in enumerate(prepared.inputs) if one.name == swollen[0].name)
    z = np.abs(robust_z(prepared.train.x[:, column]))
    at = int(z.argmax())
    return replace(share, column=column, position=at, z=float(z[at]))


def _severity(case: Case) -> Severity:
    if case.cause == "outliers":
        return Severity.CRITICAL if case.lost or case.useless else Severity.WARNING
    return Severity.WARNING


def _text(case: Case, share: OutlierShare, column: str) -> str:
    lead = "Most likely cause of what went wrong: outlying rows. " if case.cause == "outliers" else ""
    where = "the target" if share.column < 0 else f"column “{column}”"
    return (
        f"{lead}{plural(share.rows, 'row')} of the training part ({percent(share.share_of_rows)}) hold a "
        "value more than "
        f"{number(FAR_OUT)} robust standard deviations from the median, and make up {percent(share.share)} "
        "of the summed "
        f"gradient sizes of single rows. The one with the largest gradient is {number(share.z)} out in "
        f"{where}.{_unit(case)} They may be "
        "entry errors or a heavy tail: the numbers alone do not tell."
    )


def _unit(case: Case) -> str:
    if not case.target_stretched:
        return ""
    return (
        " The target's standard deviation, the unit it is learnt in, is set by its outliers: all other "
        "targets lie close together in it."
    )


def _remedy(case: Case, share: OutlierShare, column: str) -> Remedy:
    loss = case.config.loss
    if case.target_stretched:
        patch = remedies.stabilise(case, remedies.scale_target(case, "robust"))
        return Remedy("Scale the target by median and MAD, and bound what one row can do.", patch)
    if share.column < 0 or share.in_target > 0.5:
        if isinstance(loss, contract.MSE):
            return Remedy(
                "Use the Huber loss: a far-off row then pulls no harder than a near one.", _huber(case)
            )
        return Remedy("Scale the target by median and MAD.", remedies.scale_target(case, "robust"))
    if not isinstance(case.config.prepare.outliers, contract.Winsorize | contract.Drop):
        return Remedy("Limit the far ends of numeric columns (winsorize).", remedies.winsorize(case))
    return Remedy(f"Compress the tail of “{column}”.", _compressed(case, column))


def _huber(case: Case) -> dict[str, object]:
    return combine(remedies.huber(case), remedies.scale_target(case, "robust"))


def _compressed(case: Case, column: str) -> dict[str, object]:
    path = ("prepare", "per_column", column)
    return replace_block(case.evidence.submitted, path, {"kind": "signed_log1p"})
