"""Schedules against formulas and torch's own."""

from __future__ import annotations

import math

import pytest
import torch

from gradkeel.contract import config as contract
from gradkeel_worker.schedules import SCHEDULES


@pytest.mark.parametrize(
    "config",
    [
        contract.ConstantSchedule(warmup_steps=4),
        contract.Cosine(warmup_steps=4),
        contract.StepSchedule(warmup_steps=4),
        contract.OneCycle(warmup_steps=4, div_factor=1),
    ],
)
def test_warmup_rises_linearly(config: contract.Schedule) -> None:
    schedule = SCHEDULES[config.kind](config, 100)
    assert [schedule.factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_cosine_is_torch_s() -> None:
    schedule = SCHEDULES["cosine"](contract.Cosine(min_factor=0.1), 51)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.1)
    for step in range(51):
        assert schedule.factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        oracle.step()
    assert schedule.factor(50) == pytest.approx(0.1)
    assert SCHEDULES["cosine"](contract.Cosine(), 1).factor(0) == 1.0


def test_plateau_waits_for_its_patience() -> None:
    schedule = SCHEDULES["plateau"](contract.Plateau(factor=0.5, patience=2), 100)
    factors = []
    for loss in (1.0, 0.9, 0.95, 0.91, 0.92, 0.8, math.nan, 0.85):
        schedule.epoch_ended(loss)
        factors.append(schedule.factor(10))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(("steps", "warmup", "rise"), [(50, 0, 0.3), (64, 14, 0.25), (7, 0, 0.5)])
def test_one_cycle_is_torch_s_after_its_warm_up(steps: int, warmup: int, rise: float) -> None:
    config = contract.OneCycle(pct_start=rise, div_factor=10, final_div_factor=100, warmup_steps=warmup)
    schedule = SCHEDULES["one_cycle"](config, steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=1.0,
        total_steps=steps - warmup,
        pct_start=rise,
        div_factor=10,
        final_div_factor=100,
        cycle_momentum=False,
    )
    for step in range(warmup):
        assert schedule.factor(step) == pytest.approx(0.1 * (step + 1) / (warmup + 1))
    for step in range(warmup, steps):
        assert schedule.factor(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        if step + 1 < steps:
            oracle.step()
    assert schedule.factor(steps - 1) == pytest.approx(1e-3)
    assert 0 < SCHEDULES["one_cycle"](config, 1).factor(0) <= 1


def test_step_is_torch_s() -> None:
    schedule = SCHEDULES["step"](contract.StepSchedule(every=3, factor=0.2, warmup_steps=2), 100)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.2)
    assert schedule.factor(0) == pytest.approx(1 / 3)
    for epoch in range(10):
        assert schedule.factor(5 + epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        schedule.epoch_ended(1.0)
        optimizer.step()
        oracle.step()
