"""The scores of a cross-validation as an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gradkeel import display
from gradkeel.documents import Document, Field, mapping, text, whole
from gradkeel.errors import GradkeelError

if TYPE_CHECKING:
    from gradkeel.reports import Report
    from gradkeel.resources.jobs import JobData

J = TypeVar("J", bound="JobData")


def _listed(value: Any) -> list[Any]:
    return list(value or ())


class CrossValidation(Document, Generic[J]):
    """How a config does on rows that its models never saw, fold by fold, in the target's own units.

    ``metrics`` and, by name, ``baselines``: metric → ``{"mean", "sd"}`` over the folds. ``per_fold``: the
    metrics of each with its rows and epochs. ``failed``: numbers of folds whose training diverged; they are
    in no mean. ``job``: the job behind it; its model is trained on the split's own training part.
    """

    __slots__ = ("job",)

    kind = Field(text)
    folds = Field(whole)
    repeats = Field(whole)
    metrics = Field(mapping)
    baselines = Field(mapping)
    failed = Field(_listed)
    per_fold = Field(_listed)

    def __init__(self, raw: Mapping[str, Any], job: J) -> None:
        super().__init__(raw)
        self.job = job

    def scores(self, metric: str) -> list[float | None]:
        """A metric of each fold; None where the fold has none."""
        return [(fold["metrics"] or {}).get(metric) for fold in self.per_fold]

    def mean(self, metric: str) -> float | None:
        """The mean of a metric over the folds."""
        found: float | None = self.metrics[metric]["mean"]
        return found

    def _html(self) -> str:
        rows = [(name, spread["mean"], spread["sd"]) for name, spread in self.metrics.items()]
        heads = ["metric", "mean", "standard deviation"]
        return display.card(f"Cross-validation, {len(self.per_fold)} folds", (), display.table(heads, rows))

    def __repr__(self) -> str:
        told = ", ".join(f"{name} {_spread(spread)}" for name, spread in self.metrics.items())
        return f"<CrossValidation of {len(self.per_fold)} folds: {told}>"


def _spread(spread: Mapping[str, float | None]) -> str:
    mean, deviation = spread["mean"], spread["sd"]
    if mean is None:
        return "none"
    return f"{mean:.4g}" if deviation is None else f"{mean:.4g} ± {deviation:.2g}"


def scores_of(report: Report, job: J) -> CrossValidation[J]:
    """The scores in a report. Raises ``GradkeelError`` where the job had no folds."""
    found = (report["fit"] or {}).get("cross_validation")
    if found is None:
        raise GradkeelError(f"The job {job.id} has no folds: give split.folds")
    return CrossValidation(found, job)


def with_folds(
    config: Mapping[str, Any] | None, blocks: Mapping[str, Any], folds: int, repeats: int
) -> dict[str, Any]:
    """The keys of a config with its split cut into folds too."""
    split = blocks.get("split") or (config or {}).get("split") or {}
    again = {} if repeats == 1 else {"repeats": repeats}
    return {**blocks, "split": {**split, "folds": folds, **again}}
