"""The training engine: arrays and a config in, a model, a report and a stream of events out. No I/O.

``train`` and ``Result`` are loaded on first use: ``gradkeel_worker.engine.readings`` is also read by
processes
that build a report from persisted readings and never hold torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradkeel_worker.engine.training import Result, train

__all__ = ["Result", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("gradkeel_worker.engine.training"), name)
