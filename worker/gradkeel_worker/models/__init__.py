"""Model families: kind → function(config block, inputs, outputs) → network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradkeel_worker.models.ensemble import Ensemble
from gradkeel_worker.models.linear import linear
from gradkeel_worker.models.mlp import mlp
from gradkeel_worker.models.network import Inputs, Network
from gradkeel_worker.models.numeric import NUMERIC_EMBEDDINGS
from gradkeel_worker.models.resnet import resnet
from gradkeel_worker.models.sequence import gru, lstm, tcn
from gradkeel_worker.models.sequential import sequential
from gradkeel_worker.models.tabm import tabm

MODELS: dict[str, Callable[[Any, Inputs, int], Network]] = {
    "linear": linear,
    "mlp": mlp,
    "resnet": resnet,
    "tabm": tabm,
    "sequential": sequential,
    "gru": gru,
    "lstm": lstm,
    "tcn": tcn,
}

__all__ = ["MODELS", "NUMERIC_EMBEDDINGS", "Ensemble", "Inputs", "Network"]
