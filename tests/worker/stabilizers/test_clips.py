"""Clips edit the gradient in place, guards only judge."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradkeel.contract import config as contract
from gradkeel_worker.engine.actions import SkipStep, StopDiverged
from gradkeel_worker.engine.parameters import DeviceParameters, HostParameters, Parameters
from gradkeel_worker.stabilizers import CLIPS, GUARDS


def _filled(kind: type[Parameters], values: list[float]) -> Parameters:
    parameters = kind(nn.Linear(len(values), 1, bias=False))
    parameters.zero_gradient()
    parameters.gradient.copy_(torch.tensor(values))
    return parameters


@pytest.mark.parametrize("kind", [HostParameters, DeviceParameters])
def test_norm_clip_is_torch_s(kind: type[Parameters]) -> None:
    gradient = _filled(kind, [3.0, -4.0])
    assert CLIPS["norm"](contract.NormClip(max_norm=1.0))(gradient) == pytest.approx(0.2)
    assert gradient.gradient.tolist() == pytest.approx([0.6, -0.8])
    assert gradient.norm() == pytest.approx(1.0)
    assert CLIPS["norm"](contract.NormClip(max_norm=2.0))(gradient) == 1.0


@pytest.mark.parametrize("kind", [HostParameters, DeviceParameters])
def test_value_clip(kind: type[Parameters]) -> None:
    gradient = _filled(kind, [3.0, -4.0, 0.1])
    before = gradient.norm()
    coefficient = CLIPS["value"](contract.ValueClip(max_value=0.5))(gradient)
    assert gradient.gradient.tolist() == pytest.approx([0.5, -0.5, 0.1])
    assert coefficient == pytest.approx(gradient.norm() / before)


@pytest.mark.parametrize("kind", [HostParameters, DeviceParameters])
def test_normalize(kind: type[Parameters]) -> None:
    gradient = _filled(kind, [3e-6, -4e-6])
    assert CLIPS["normalize"](contract.Normalize())(gradient) == pytest.approx(2e5)
    assert gradient.gradient.tolist() == pytest.approx([0.6, -0.8])
    tiny = _filled(kind, [3e-41, 0.0])
    CLIPS["normalize"](contract.Normalize(epsilon=1e-44))(tiny)
    assert tiny.gradient.tolist() == pytest.approx([1.0, 0.0])
    nothing = _filled(kind, [0.0, 0.0])
    assert CLIPS["normalize"](contract.Normalize())(nothing) == 1.0
    assert nothing.gradient.tolist() == [0.0, 0.0]


@given(st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=1, max_size=20), st.floats(1e-6, 1e6))
def test_clips_never_lengthen_and_keep_their_bound(values: list[float], limit: float) -> None:
    for clip, bound in (
        (CLIPS["norm"](contract.NormClip(max_norm=limit)), limit),
        (CLIPS["value"](contract.ValueClip(max_value=limit)), limit * math.sqrt(len(values))),
    ):
        gradient = _filled(HostParameters, values)
        before = gradient.norm()
        clip(gradient)
        assert gradient.norm() <= min(before, bound) * (1 + 1e-5)


class Step(NamedTuple):
    loss: float
    global_norm: float


def test_the_guard_counts_what_comes_in_a_row() -> None:
    guard = GUARDS["skip_nonfinite"](contract.SkipNonfinite(max_consecutive=3))
    good, bad_loss, bad_gradient = Step(1.0, 1.0), Step(np.nan, np.nan), Step(1.0, np.inf)
    answers: list[Any] = [
        [type(action) for action in guard(step)]
        for step in (good, bad_loss, bad_gradient, good, bad_gradient, bad_gradient, bad_loss)
    ]
    skip, stop = [SkipStep], [SkipStep, StopDiverged]
    assert answers == [[], skip, skip, [], skip, skip, stop]
    assert "gradient" in guard(bad_gradient)[0].reason
    assert "loss" in guard(bad_loss)[0].reason


def test_clips_apply_in_order_each_on_what_the_last_one_left() -> None:
    gradient = _filled(HostParameters, [30.0, 0.4])
    value, norm = (
        CLIPS["value"](contract.ValueClip(max_value=1.0)),
        CLIPS["norm"](contract.NormClip(max_norm=1.0)),
    )
    value(gradient)
    assert norm(gradient) == pytest.approx(1 / math.hypot(1.0, 0.4))
