"""Full tier, every step: whether successive gradients agree."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from gradkeel_worker.engine.view import StepView


def cosine(view: StepView) -> float | Tensor:
    """Cosine of the angle between this step's gradient and that of the step before, both before clips.

    A gradient that is not finite has none and is passed over: the next one is compared with the last that
    was. NaN where there is nothing to compare with.
    """
    size, parameters = view.global_norm, view.parameters
    if not math.isfinite(size) or size == 0:
        return math.nan
    memory = view.memory.get("cosine")
    if memory is None:
        view.memory["cosine"] = {"gradient": parameters.gradient.clone(), "norm": size}
        return math.nan
    product = parameters.product(memory["gradient"], size * memory["norm"])
    memory["gradient"].copy_(parameters.gradient)
    found: float | Tensor = product / size / memory["norm"]
    memory["norm"] = size
    return found
