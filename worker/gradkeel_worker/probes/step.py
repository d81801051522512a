"""Economy tier, every step: what the step itself already knows, as plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradkeel_worker.engine.view import StepView


def loss(view: StepView) -> float:
    """Loss of the batch before the step."""
    return view.loss


def lr(view: StepView) -> float:
    """Learning rate of the step, schedule included."""
    return view.lr


def global_norm(view: StepView) -> float:
    """Gradient norm before clips."""
    return view.global_norm


def nonfinite(view: StepView) -> int:
    """NaN or infinite entries of the gradient before clips."""
    return view.parameters.nonfinite()


def clipped_norm(view: StepView) -> float:
    """Gradient norm after clips; that before them where the step was skipped."""
    return view.clipped_norm


def clip_coefficient(view: StepView) -> float:
    """clipped_norm / global_norm; 1 where no clip changed anything or the step was skipped."""
    if view.clipped_norm == view.global_norm or view.skipped:
        return 1.0
    return view.clipped_norm / view.global_norm if view.global_norm else 1.0
