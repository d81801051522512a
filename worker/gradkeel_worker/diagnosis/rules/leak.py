"""A column that gives the answer away, or seems to."""

from __future__ import annotations

import numpy as np

from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.single_column import Alone
from gradkeel_worker.diagnosis.words import listed, plural

ALMOST_ALONE = 0.995
_FEWEST_ROWS = 20
_MANY_ROWS = 100


def leak_suspect(case: Case) -> list[Finding]:
    """One column alone explains 99.5 % of the variance of the target's ranks on held-out rows, or takes away
    99.5 % of the errors of always naming the most frequent class.
    """
    if len({one.source for one in case.alone}) < 2:
        return []  # a table of one column is meant to be told by it
    found = [one for one in case.alone if one.score >= ALMOST_ALONE and one.rows >= _FEWEST_ROWS]
    sources = list(dict.fromkeys(one.source for one in found))
    return [_finding(case, found[0], sources)] if found else []


def _finding(case: Case, best: Alone, sources: list[str]) -> Finding:
    others = f" The same holds for {listed(sources[1:])}." if len(sources) > 1 else ""
    return Finding(
        rule="leak_suspect",
        family=Family.DATA,
        severity=Severity.WARNING,
        confidence="medium" if best.rows >= _MANY_ROWS else "low",
        explanation=(
            f"“{best.source}” alone tells “{best.target}” almost completely: {_seen(best)}.{others} If a "
            "value of that column is only known once the target is, the metrics of this model promise what "
            "it cannot keep. A suspect; a legitimate predictor looks the same."
        ),
        remedy=Remedy(
            f"Find out when {listed(sources)} {'become' if len(sources) > 1 else 'becomes'} known; leave out "
            "what comes after the target.",
            remedies.exclude(case, sources),
        ),
        evidence={
            "score": best.score,
            "threshold": ALMOST_ALONE,
            "held_out_rows": best.rows,
            "named_right": best.right,
            "columns": len(sources),
            "target": best.target,
            "input": best.name,
        },
        where={"column": best.source, "phase": "prepare"},
        also_consistent_with=(
            "a legitimate predictor that is very good",
            "the target in another unit, rounded, or under another name",
        ),
    )


def _seen(best: Alone) -> str:
    rows = plural(best.rows, "row")
    if best.right is None:
        return (
            f"on {rows} that took no part in fitting, a curve through it explains {_almost(best.score)} "
            "of the variance of the target's ranks"
        )
    return (
        f"on {rows} that took no part in fitting, naming the most frequent class of each of its values is "
        f"right in {_almost(best.right)}: {_almost(best.score)} of the errors of always naming the most "
        "frequent class are gone"
    )


def _almost(share: float) -> str:
    """A share close to 1, not rounded up to it."""
    return "all" if share == 1 else f"{min(np.floor(1e4 * share) / 100, 99.99):.2f} %"
