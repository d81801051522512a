"""Standard tier, every step: norms by layer, fused over the flat buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from gradkeel_worker.engine.parameters import Values
    from gradkeel_worker.engine.view import StepView


def layer_norm(view: StepView) -> Values:
    """Gradient norm of each layer before clips."""
    return view.parameters.layer_norms()


def weight_norm(view: StepView) -> Values:
    """Norm of each layer's weight matrices after the step."""
    view.weight_norms = view.parameters.weight_norms()
    return view.weight_norms


def update_ratio(view: StepView) -> Values:
    """‖change of the weight matrices‖ / ‖weight matrices‖; 0 where the weights are 0. Biases are left out."""
    if view.updates is None:
        return ()
    changes, norms = view.updates(), view.weight_norms
    if isinstance(changes, Tensor) and isinstance(norms, Tensor):
        return changes / norms.where(norms > 0, float("inf"))
    return [change / size if size else 0.0 for change, size in zip(changes, norms, strict=True)]
