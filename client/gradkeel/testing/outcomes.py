"""What is to become of a job of the fake service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NOTHING_TRAINED = "gradkeel.testing: nothing was trained"

Predict = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class JobOutcome:
    """How a job ends. ``held``: it runs until ``FakeService.release``.

    ``code`` (of ``gradkeel.contract.states.JobErrorCode``) and ``message`` are for failed jobs. ``metrics``
    and ``verdict`` are shown as given; left out, metrics are those of the constant prediction.
    ``predict(row)`` gives a value, or for classes a dict of class → probability. ``bundle`` holds the bytes
    of a model to download. ``findings`` stand in the report, ``preflight`` in that of a preflight.
    """

    state: str = "succeeded"
    code: str = "internal"
    message: str = NOTHING_TRAINED
    where: Mapping[str, Any] | None = None
    verdict: str | None = None
    metrics: Mapping[str, Any] | None = None
    findings: Sequence[Mapping[str, Any]] = ()
    preflight: Sequence[dict[str, Any]] = ()
    epochs: int = 3
    predict: Predict | None = None
    bundle: bytes | None = None
    held: bool = field(default=False)

    def __post_init__(self) -> None:
        if self.state not in ("succeeded", "failed", "cancelled"):
            raise ValueError(f"a job ends as succeeded, failed or cancelled, not as {self.state!r}")

    @property
    def shown_verdict(self) -> str | None:
        """The verdict given, else healthy for a success and diverged for what diverged."""
        if self.verdict is None and self.state == "succeeded":
            return "healthy"
        diverged = self.state == "failed" and self.code == "diverged"
        return "diverged" if self.verdict is None and diverged else self.verdict
