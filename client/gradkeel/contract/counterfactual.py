"""The counterfactual of a report: its arms, their record, and the paragraph that tells what came of them.

An arm is the same training, for a bounded number of steps, with one stabilizer left out.
"""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

ARMS = {
    "nothing": "with everything",
    "scaling": "without scaling",
    "huber": "with the squared loss in place of Huber",
    "clipping": "without clips and guards",
    "all": "without any of these",
}
"""What an arm leaves out → how it is told, in the order of the report."""

STATUSES = ("ran", "not_used", "refused", "stopped", "failed")
"""ran: to its last step or to where it diverged. not_used: the config has nothing of the kind. refused: it
cannot be left out here, for the reason given. stopped: the job ended first. failed: by an error, told."""

METRICS = {
    "scaled_rmse": "scaled RMSE",
    "rmse": "RMSE",
    "pinball": "pinball loss",
    "accuracy": "accuracy",
}
"""The metric that arms are held against one another by: the first of these that there is → its words."""

NOT_COMPARABLE = (
    "Losses and gradient norms under another scaling or loss are not comparable with one another; the metric "
    "is in the target's own units, and is."
)


def headline(metrics: Mapping[str, Any] | None) -> tuple[str, float] | None:
    """Name and value of the metric that an arm is told by; None where it has none."""
    for name in METRICS:
        if isinstance(value := (metrics or {}).get(name), int | float):
            return name, float(value)
    return None


def told(counterfactual: Mapping[str, Any] | None) -> str | None:
    """The counterfactual as one paragraph; None where there is none, or no arm was run."""
    arms = [arm for arm in (counterfactual or {}).get("arms") or () if arm.get("status") == "ran"]
    whole = next((arm for arm in arms if arm.get("without") == "nothing"), None)
    if counterfactual is None or whole is None:
        return None
    others = [_arm_words(arm) for arm in arms if arm is not whole]
    part = {"validation": "validation", "train": "training"}.get(str(counterfactual.get("part")), "same")
    begun = (
        f"The first {counterfactual.get('steps'):,} steps were run again from the same weights and in the "
        "same batch order."
    )
    listed = "; ".join([*others, f"{_arm_words(whole)} on the {part} rows"])
    return " ".join([begun, f"{listed[:1].upper()}{listed[1:]}.", *_others(counterfactual)])


def _arm_words(arm: Mapping[str, Any]) -> str:
    """An arm's end in words, such as "without scaling the training diverged at step 3"."""
    left_out = ARMS.get(str(arm.get("without")), f"without {arm.get('without')}")
    if arm.get("diverged_at") is not None:
        return f"{left_out} the training diverged at step {arm['diverged_at']:,}"
    found = headline(arm.get("metrics"))
    if found is None:
        return f"{left_out} it ended without a finite metric"
    name, value = found
    cut = f", its time over after step {arm['steps']:,}" if arm.get("cut_short") else ""
    return f"{left_out} it reached {METRICS[name]} {value:.4g}{cut}"


def _others(counterfactual: Mapping[str, Any]) -> list[str]:
    """A sentence for each arm that was to be run and was not."""
    missing = [
        arm for arm in counterfactual.get("arms") or () if arm.get("status") not in ("ran", "not_used")
    ]
    return [f"Not run {ARMS.get(str(arm.get('without')))}: {arm.get('reason')}." for arm in missing]
