"""What a job may ask for beside a training; each study has a section of its own."""

from __future__ import annotations

from gradkeel_store.page.source import View


def not_computed(view: View) -> list[str]:
    """One sentence for each study that was not made."""
    reasons = {
        "curvature": (
            "Curvature (how sharply the loss bends, and the learning rate that allows) was not "
            "measured: health.curvature was off."
        ),
        "preflight": "No preflight (a trial of learning rates before training) belongs to this report.",
        "counterfactual": (
            "The run without its stabilizers, for comparison, was not made: health.counterfactual was off."
        ),
        "repair": "No repair was tried: health.repair was 0, or nothing called for one.",
    }
    return [sentence for key, sentence in reasons.items() if not view.report.get(key)]
