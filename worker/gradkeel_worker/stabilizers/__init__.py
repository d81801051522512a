"""Stabilizers. Guards judge and return actions; clips edit gradients. kind → function(config block) → it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradkeel_worker.stabilizers import clips, guards
from gradkeel_worker.stabilizers.clips import Clip
from gradkeel_worker.stabilizers.guards import Guard

CLIPS: dict[str, Callable[[Any], Clip]] = {
    "norm": clips.Norm,
    "value": clips.Value,
    "layer_norm": clips.LayerNorm,
    "adaptive": clips.Adaptive,
    "percentile": clips.Percentile,
    "zscore": clips.ZScore,
    "normalize": clips.Normalize,
}
GUARDS: dict[str, Callable[[Any], Guard]] = {
    "skip_nonfinite": guards.SkipNonfinite,
    "skip_outlier": guards.SkipOutlier,
    "rollback": guards.Rollback,
    "stop_after": guards.StopAfter,
}

__all__ = ["CLIPS", "GUARDS", "Clip", "Guard"]
