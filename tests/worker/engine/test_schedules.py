"""Schedules against formulas and torch's own."""

from __future__ import annotations

import math

import pytest
import torch

from gradkeel.contract import config as contract
from gradkeel_worker.schedules import SCHEDULES


@pytest.mark.parametrize(
    "config", [contract.ConstantSchedule(warmup_steps=4), contract.Cosine(warmup_steps=4)]
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
