"""Metrics and baselines as the report holds them, by part of the data."""

from __future__ import annotations

from dataclasses import dataclass

from gradkeel_store.page.source import Number, View, mapping, number
from gradkeel_store.page.wording import METRICS

HEADLINES = ("pinball", "scaled_rmse", "rmse", "accuracy", "log_loss")
"""Metrics that speak for a model: of quantiles, of several targets, of one, of classes."""
PARTS = ("train", "validation", "test")
Scores = dict[str, Number]


def model_scores(view: View) -> dict[str, Scores]:
    """The model's metrics by part, in the order train, validation, test."""
    return _by_part(view.part("fit").get("metrics"), "test")


def baseline_scores(view: View) -> dict[str, dict[str, Scores]]:
    """Each baseline's metrics by part; numbers without a part belong to test, else to validation."""
    baselines = mapping(view.part("fit").get("baselines"))
    scored = model_scores(view)
    part = "validation" if "validation" in scored and "test" not in scored else "test"
    return {name: parts for name, given in baselines.items() if (parts := _by_part(given, part))}


def _by_part(given: object, default: str) -> dict[str, Scores]:
    whole = mapping(given)
    nested = {part: _scores(whole[part]) for part in PARTS if isinstance(whole.get(part), dict)}
    flat = _scores(whole)
    found = nested or ({default: flat} if flat else {})
    return {part: scores for part, scores in found.items() if scores}


def _scores(given: object) -> Scores:
    return {key: number(value) for key, value in mapping(given).items() if number(value) is not None}


@dataclass(frozen=True)
class Comparison:
    """The metric that speaks first, on the best part there is: the model beside the constant baseline."""

    metric: str
    part: str
    model: float
    constant: Number

    @property
    def words(self) -> str:
        return METRICS[self.metric][0]

    @property
    def gain(self) -> Number:
        """By which share of the baseline's error the model is better; None where that says nothing."""
        if self.constant is None or not self.constant or METRICS[self.metric][1] != "lower":
            return None
        return 1 - self.model / self.constant


def headline(view: View) -> Comparison | None:
    """The first of HEADLINES on test, else validation. Where a threshold was chosen for something else than
    accuracy, that is no measure to hold against baselines, which are cut at one half."""
    scores = model_scores(view)
    moved = mapping(view.part("fit").get("threshold")).get("applied", "half") != "half"
    for part in ("test", "validation"):
        for metric in (name for name in HEADLINES if not (moved and name == "accuracy")):
            value = scores.get(part, {}).get(metric)
            if value is not None:
                constant = baseline_scores(view).get("constant", {}).get(part, {}).get(metric)
                return Comparison(metric, part, value, constant)
    return None
