"""Observing changes nothing: every probe there is, on against off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.run import Run
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.probes import PROBES, of_tier
from gradkeel_worker.probes.quiet import quiet

from ..engine.cases import diabetes, prepared

MODELS: list[dict[str, Any]] = [
    {"kind": "mlp", "widths": [16, 8], "dropout": 0.3, "norm": "batch"},
    {"kind": "mlp", "widths": [12], "dropout": 0.1, "activation": "tanh", "norm": "layer"},
    {
        "kind": "sequential",
        "layers": [
            {"kind": "linear", "units": 9},
            {"kind": "batch_norm"},
            {"kind": "sigmoid"},
            {"kind": "dropout"},
        ],
    },
    {"kind": "tabm", "members": 3, "blocks": 2, "width": 8, "dropout": 0.2},
    {"kind": "resnet", "blocks": 1, "width": 8},
]


def _state(run: Run) -> tuple[Any, ...]:
    """Everything that observing could disturb."""
    modes = [module.training for module in run.model.modules()]
    buffers = [buffer.numpy().tobytes() for buffer in run.model.buffers()]
    hooks = [len(module._forward_hooks) for module in run.model.modules()]
    draws, numpy_state = torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
    return run.parameters.values.numpy().tobytes(), modes, buffers, hooks, draws, numpy_state


def _trained(probes: tuple[str, ...], model: dict[str, Any], guards: bool) -> tuple[Any, ...]:
    changes: dict[str, Any] = {} if guards else {"guards": []}
    data = prepared(diabetes(), model=model, budget={"epochs": 3, "batch_size": 32, "patience": 0}, **changes)
    run = build(data, data.config, probes=probes)
    fit(run)
    return _state(run)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", PROBES)
def test_a_probe_leaves_no_trace(name: str, model: dict[str, Any]) -> None:
    assert _trained((name,), model, guards=False) == _trained((), model, guards=False)


@pytest.mark.parametrize("model", MODELS)
def test_tiers_leave_no_trace(model: dict[str, Any]) -> None:
    off = _trained((), model, guards=True)
    assert _trained(of_tier("economy"), model, guards=True) == off
    assert _trained(of_tier("standard"), model, guards=True) == off


def test_quiet_restores_mixed_modes_and_buffers() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    model[0].eval()
    before = [(m.training, [b.clone() for b in m.buffers()]) for m in model]
    draws = torch.get_rng_state()
    for evaluate in (True, False):
        with quiet(model, evaluate=evaluate):
            model(torch.randn(5, 3))
    for module, (training, buffers) in zip(model, before, strict=True):
        assert module.training == training
        assert all(torch.equal(a, b) for a, b in zip(module.buffers(), buffers, strict=True))
    assert torch.equal(torch.get_rng_state(), draws)
