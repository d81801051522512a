"""How often each rule was right on the runs of ``make bench-faults``, and what its findings say of it."""

from __future__ import annotations

from collections.abc import Mapping

from gradkeel.contract.states import Severity

MEASURED: Mapping[str, tuple[int, int]] = {}
"""Rule → (warnings that were right, warnings), over seeded faults and healthy runs, as ``benchmarks/faults.py
--print --confidence`` prints it. Empty until the whole suite was run on the rules as they are.

data_quality is left out: it speaks of many things, of which the suite has three.
"""

FEWEST = 30
"""Warnings below which a rule's precision is not told as a number."""


def told(rule: str, severity: Severity, word: str) -> str | float:
    """A finding's confidence: the rule's measured precision for a warning or worse, else the rule's own word.

    A rule that calls a finding doubtful ("low") is believed.
    """
    right, count = MEASURED.get(rule, (0, 0))
    if severity is Severity.INFO or word == "low" or count < FEWEST:
        return word
    return round(right / count, 2)
