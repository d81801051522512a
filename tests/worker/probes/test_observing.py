"""Observing changes nothing: every probe there is, on against off."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gradkeel_worker.data import Prepared
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.parameters import DeviceParameters
from gradkeel_worker.engine.run import Run
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.probes import PROBES, TIERS, of_tier, sharpness
from gradkeel_worker.probes.quiet import quiet

from ..engine.cases import categories, diabetes, prepared, series

Json = dict[str, Any]

MODELS: dict[str, Json] = {
    "mlp": {"kind": "mlp", "widths": [16, 8], "dropout": 0.3, "norm": "batch"},
    "tanh": {"kind": "mlp", "widths": [12], "dropout": 0.1, "activation": "tanh", "norm": "layer"},
    "sequential": {
        "kind": "sequential",
        "layers": [
            {"kind": "linear", "units": 9},
            {"kind": "batch_norm"},
            {"kind": "sigmoid"},
            {"kind": "dropout"},
        ],
    },
    "tabm": {"kind": "tabm", "members": 3, "blocks": 2, "width": 8, "dropout": 0.2},
    "resnet": {"kind": "resnet", "blocks": 1, "width": 8},
    "gru": {"kind": "gru", "width": 6, "layers": 2, "window": 4, "dropout": 0.2},
}


@cache
def _data(name: str, guards: bool) -> Prepared:
    """Numbers and, of the residual network, categories; of the recurrent one, windows of series."""
    changes: Json = {"model": MODELS[name], "optimizer": {"kind": "adamw", "lr": 0.01}}
    changes |= {} if guards else {"guards": []}
    if name == "gru":
        budget = {"epochs": 2, "batch_size": 32, "patience": 0}
        return prepared(series(), **changes, budget=budget, columns={"order": "t", "group": "g"})
    table = categories() if name == "resnet" else diabetes()
    return prepared(table, **changes, budget={"epochs": 3, "batch_size": 32, "patience": 0})


def _state(run: Run) -> tuple[Any, ...]:
    """Everything that observing could disturb."""
    modes = [module.training for module in run.model.modules()]
    buffers = [buffer.numpy().tobytes() for buffer in run.model.buffers()]
    hooks = [len(module._forward_hooks) for module in run.model.modules()]
    draws, numpy_state = torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
    return run.parameters.values.numpy().tobytes(), modes, buffers, hooks, draws, numpy_state


def _trained(probes: tuple[str, ...], model: str, guards: bool) -> Run:
    data = _data(model, guards)
    run = build(data, data.config, probes=probes)
    fit(run)
    return run


@cache
def _unwatched(model: str, guards: bool) -> tuple[Any, ...]:
    return _state(_trained((), model, guards))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", PROBES)
def test_a_probe_leaves_no_trace(name: str, model: str) -> None:
    run = _trained((name,), model, guards=False)
    assert name in run.readings.seconds_by_probe
    assert run.readings.notes == []
    if PROBES[name].shape == "series":
        assert run.readings.sparse
    assert _state(run) == _unwatched(model, guards=False)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tier", TIERS)
def test_tiers_leave_no_trace(tier: str, model: str) -> None:
    assert _state(_trained(of_tier(tier), model, guards=True)) == _unwatched(model, guards=True)


_WAITING = {"item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__", "__index__", "__array__"}
_WAITING |= {"nonzero", "masked_select", "bincount", "unique", "equal", "allclose", "__contains__"}


class _Waits(TorchFunctionMode):
    """Notes the calls that would wait for a device: reading numbers, and sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        by_mask = name == "__getitem__" and getattr(args[1], "dtype", None) is torch.bool
        if name in _WAITING or by_mask:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


SOLVERS = {name for name, probe in PROBES.items() if probe.look.__module__ == sharpness.__name__}
"""Lanczos decides by numbers when to end; it runs at a few steps of a training."""


@pytest.mark.parametrize("name", [name for name in PROBES if name not in SOLVERS])
def test_a_probe_does_not_wait_for_a_device(name: str) -> None:
    data = _data("resnet", False)
    run = build(data, data.config)
    view, batch = run.view, next(run.batches.epoch(0))
    view.parameters = run.parameters = DeviceParameters(run.model)
    view.begin(0, 0, batch, 0.01)
    loss = run.objective(batch)
    run.precision.backward(loss, run.parameters)
    view.measure(loss)
    if PROBES[name].needs or name == "update_ratio":
        view.updates, view.weight_norms = run.parameters.track_updates(), run.parameters.weight_norms()
    with _Waits() as waits:
        for _ in range(2):
            PROBES[name].look(view)
    assert waits.found == []


def test_what_would_wait_is_noticed() -> None:
    values = torch.arange(3.0)
    with _Waits() as waits:
        values.sum().item(), float(values[0]), bool(values[1]), values[values > 1]
    assert waits.found == ["item", "__float__", "__bool__", "__getitem__"]


def test_a_probe_that_fails_is_noted_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(view: Any) -> Any:
        raise RuntimeError("no second derivative")

    monkeypatch.setitem(PROBES, "input_gradient", replace(PROBES["input_gradient"], look=refuse))
    run = _trained(("loss", "zero_fraction", "input_gradient"), "mlp", guards=False)
    assert run.readings.notes == ["input_gradient was not measured from step 0 on: no second derivative"]
    assert "zero_fraction" in run.readings.sparse
    assert _state(run) == _unwatched("mlp", guards=False)


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
