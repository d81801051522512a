"""A finding's confidence is its rule's measured precision, where enough warnings measured it."""

from __future__ import annotations

import pytest

from gradkeel.contract.report import RULES
from gradkeel.contract.states import Severity
from gradkeel_worker.diagnosis import confidence


def test_the_table_names_rules_and_shares() -> None:
    assert set(confidence.MEASURED) <= set(RULES) - {"data_quality"}
    assert all(0 <= right <= count for right, count in confidence.MEASURED.values())


@pytest.mark.parametrize(
    ("severity", "word", "expected"),
    [
        (Severity.CRITICAL, "medium", 0.95),
        (Severity.WARNING, "high", 0.95),
        (Severity.WARNING, "low", "low"),
        (Severity.INFO, "medium", "medium"),
    ],
)
def test_warnings_tell_the_precision_unless_the_rule_is_in_doubt(
    monkeypatch: pytest.MonkeyPatch, severity: Severity, word: str, expected: str | float
) -> None:
    monkeypatch.setattr(confidence, "MEASURED", {"spike": (38, 40), "overfit": (29, 29)})
    assert confidence.told("spike", severity, word) == expected
    assert confidence.told("overfit", severity, word) == word  # too few to tell
