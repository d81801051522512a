"""What probes report, against naive computations."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gradkeel_worker.engine import monitor
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.run import Run
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.engine.view import StepView
from gradkeel_worker.probes import PROBES, activity

from ..engine.cases import prepared


def _one_step() -> tuple[Run, torch.nn.Module]:
    data = prepared(
        split={"kind": "random", "validation": 0, "test": 0},
        budget={"epochs": 1, "batch_size": 442},
        clips=[{"kind": "norm", "max_norm": 0.1}],
    )
    run = build(data, data.config)
    return run, copy.deepcopy(run.model)


def test_norms_of_one_step_against_autograd() -> None:
    run, before = _one_step()
    fit(run)
    run.objective.model = before
    run.objective(next(run.batches.epoch(0))).backward()
    after, readings = dict(run.model.named_parameters()), run.readings
    gradients = {name: p.grad.double() for name, p in before.named_parameters() if p.grad is not None}
    total = torch.sqrt(sum((g**2).sum() for g in gradients.values()))
    assert readings.global_norm[0] == pytest.approx(float(total), rel=1e-5)
    assert readings.clipped_norm[0] == pytest.approx(0.1, rel=1e-5)
    assert readings.clip_coefficient[0] == pytest.approx(0.1 / float(total), rel=1e-5)
    for i, layer in enumerate(readings.layers):
        own = [g for name, g in gradients.items() if name.startswith(layer)]
        assert readings.layer_norm[0, i] == pytest.approx(
            float(torch.sqrt(sum((g**2).sum() for g in own))), rel=1e-5
        )
        name = next(n for n in gradients if n.startswith(layer) and n.endswith("weight"))
        weight = after[name].detach().double()
        change = weight - before.get_parameter(name).detach().double()
        assert readings.weight_norm[0, i] == pytest.approx(float(weight.norm()), rel=1e-5)
        assert readings.update_ratio[0, i] == pytest.approx(float(change.norm() / weight.norm()), rel=1e-3)
    assert readings.layer_sizes == (10 * 16 + 16, 16 * 8 + 8, 8 + 1)


def test_dead_relu_units_are_counted() -> None:
    data = prepared(model={"kind": "mlp", "widths": [8, 6], "bias_init": -1000.0})
    run = build(data, data.config)
    fit(run)
    _, values, names = run.readings.sparse["dead_fraction"]
    assert names == ("layers.0", "layers.1")
    np.testing.assert_array_equal(values[0], [1.0, 1.0])
    zero = run.readings.sparse["zero_fraction"]
    assert zero[2] == ("layers.0", "layers.1", "output")
    np.testing.assert_array_equal(zero[1][0][:2], [1.0, 1.0])


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_saturated_units_are_counted(activation: str) -> None:
    wide = {"kind": "mlp", "widths": [8], "activation": activation, "init": {"kind": "normal", "std": 1000.0}}
    narrow = wide | {"init": {"kind": "normal", "std": 0.01}}
    shares = []
    for model in (wide, narrow):
        data = prepared(model=model)
        run = build(data, data.config)
        fit(run)
        shares.append(run.readings.sparse["saturated_fraction"][1][0, 0])
    assert shares[0] > 0.9
    assert shares[1] == 0


def test_activation_moments_skip_what_is_not_finite() -> None:
    values = torch.tensor([[1.0, float("nan")], [3.0, float("inf")]])
    assert tuple(map(float, activity._moments(values))) == (2.0, 1.0)
    assert all(map(math.isnan, activity._moments(torch.tensor([[float("inf")]]))))
    draw = torch.randn(50, 7)
    mean, std = map(float, activity._moments(draw))
    assert (mean, std) == pytest.approx((float(draw.mean()), float(draw.std(correction=0))), rel=1e-5)


def test_what_monitoring_cost_is_told_by_typical_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {3: 5.0}

    def held_up(view: StepView) -> float:
        clock.now += slow.get(view.step, 1e-3)
        return view.loss

    clock = _Clock()
    monkeypatch.setattr(monitor.time, "perf_counter", clock)
    monkeypatch.setattr(monitor, "_CLOCK", 0.0)
    monkeypatch.setitem(PROBES, "loss", replace(PROBES["loss"], look=held_up))
    data = prepared(budget={"epochs": 20, "batch_size": 16})
    run = build(data, data.config, probes=("loss",))
    fit(run)
    steps = len(run.readings.steps)
    assert steps > 200
    assert run.readings.seconds_by_probe["loss"] == pytest.approx(1e-3 * steps)


class _Clock:
    """A clock that stands still but for what a probe adds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
