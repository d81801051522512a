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
from gradkeel_worker.models import MODELS, Inputs
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


# ------------------------------------------------------------------- clips of layers and units


def _network(kind: type[Parameters], seed: int, spread: float = 1.0) -> tuple[nn.Module, Parameters]:
    """Two hidden layers and an output with a gradient of wide spread; the first layer's vectors are 0."""
    torch.manual_seed(seed)
    model = MODELS["mlp"](contract.MLP(widths=(7, 5), norm="layer"), Inputs(4), 2)
    parameters = kind(model)
    parameters.gradient.copy_(torch.randn_like(parameters.gradient) * spread)
    parameters.gradient.mul_(torch.logspace(-3, 1, len(parameters.gradient)))
    parameters.scale(1.0)  # its norm is measured anew
    return model, parameters


def _gradients(model: nn.Module) -> dict[str, Any]:
    return {
        name: parameter.grad.double().numpy().copy()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("kind", [HostParameters, DeviceParameters])
@pytest.mark.parametrize("limit", [1e-3, 0.5, 1e3])
def test_layer_norm_clip_layer_by_layer(kind: type[Parameters], limit: float) -> None:
    model, parameters = _network(kind, seed=1)
    expected = _gradients(model)
    whole = math.sqrt(sum((each**2).sum() for each in expected.values()))
    for layer in ("layers.0", "layers.1", "output"):
        names = [name for name in expected if name.startswith(layer)]
        size = math.sqrt(sum((expected[name] ** 2).sum() for name in names))
        for name in names:
            expected[name] *= min(1.0, limit / size)
    left = math.sqrt(sum((each**2).sum() for each in expected.values()))
    coefficient = CLIPS["layer_norm"](contract.LayerNormClip(max_norm=limit))(parameters)
    assert coefficient == pytest.approx(left / whole, rel=1e-5)
    assert (coefficient == 1) == (limit == 1e3)
    for name, found in _gradients(model).items():  # float32 products and sums
        np.testing.assert_allclose(found, expected[name], rtol=1e-5)


def _adaptive(weight: Any, gradient: Any, factor: float, floor: float) -> Any:
    """arXiv:2102.06171, equation 3, unit by unit, as its authors' code has it for vectors."""
    rows = weight if weight.ndim > 1 else weight[None]
    result = gradient.copy()
    for row, own in zip(result if weight.ndim > 1 else result[None], rows, strict=True):
        size, limit = np.linalg.norm(row), factor * max(np.linalg.norm(own), floor)
        if size > limit:
            row *= limit / size
    return result


@pytest.mark.parametrize("kind", [HostParameters, DeviceParameters])
@pytest.mark.parametrize(("factor", "spread"), [(0.01, 1.0), (0.3, 0.1), (1e4, 1e-6), (0.01, 1e30)])
def test_adaptive_clip_unit_by_unit(kind: type[Parameters], factor: float, spread: float) -> None:
    model, parameters = _network(kind, seed=2, spread=spread)
    before, coefficient_of = _gradients(model), CLIPS["adaptive"](contract.AdaptiveClip(factor=factor))
    weights = {name: parameter.detach().double().numpy() for name, parameter in model.named_parameters()}
    expected = {
        name: each if name.startswith("output") else _adaptive(weights[name], each, factor, 1e-3)
        for name, each in before.items()
    }
    with np.errstate(over="ignore"):  # as in the training loop
        coefficient = coefficient_of(parameters)
    sizes = [math.sqrt(sum((each**2).sum() for each in some.values())) for some in (before, expected)]
    assert coefficient == pytest.approx(sizes[1] / sizes[0], rel=1e-5)
    assert (coefficient == 1) == (factor == 1e4)
    for name, found in _gradients(model).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-5, err_msg=name)


def test_of_a_foreign_model_the_last_module_is_the_output_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    weights, gradients = HostParameters(model).unit_norms()
    assert len(weights) == len(gradients) == 4 + 1  # four rows, one vector of biases
    single = _filled(HostParameters, [3.0, -4.0])
    assert CLIPS["adaptive"](contract.AdaptiveClip())(single) == 1.0
    assert single.gradient.tolist() == [3.0, -4.0]


def test_a_clipped_layer_shows_even_where_the_norm_rounds_to_what_it_was() -> None:
    _, parameters = _network(HostParameters, seed=3)
    parameters.gradient.fill_(0.0)
    parameters.gradient[-1], parameters.gradient[0] = 1e10, 1e-2
    parameters.scale(1.0)
    assert 0.999 < CLIPS["adaptive"](contract.AdaptiveClip(factor=1e-4))(parameters) < 1


# ------------------------------------------------------------------ clips that remember earlier norms


def _sizes(clip: Any, norms: list[float]) -> list[float]:
    """Norms after the clip, of gradients of these norms one after another."""
    found = []
    for norm in norms:
        gradient = _filled(HostParameters, [0.6 * norm, -0.8 * norm])
        coefficient = clip(gradient)
        found.append(gradient.norm())
        if math.isfinite(norm) and norm:
            assert coefficient == pytest.approx(found[-1] / norm, rel=1e-5)
    return found


def _course(count: int) -> list[float]:
    draw = np.random.default_rng(7)
    norms = draw.lognormal(0.0, 0.3, count)
    norms[::17] *= 20
    return [float(norm) for norm in norms]


@pytest.mark.parametrize(("p", "window"), [(90.0, 1000), (50.0, 7), (10.0, 30), (100.0, 5), (0.0, 5)])
def test_percentile_clip_is_numpy_s_percentile(p: float, window: int) -> None:
    norms = _course(120)
    clip = CLIPS["percentile"](contract.PercentileClip(p=p, window=window))
    limits = [np.percentile(norms[max(0, i + 1 - window) : i + 1], p) for i in range(len(norms))]
    expected = [min(norm, limit) for norm, limit in zip(norms, limits, strict=True)]
    np.testing.assert_allclose(_sizes(clip, norms), expected, rtol=1e-5)  # float32 gradients


def test_zscore_clip_is_the_papers() -> None:
    alpha, z, warmup = 0.9, 2.0, 12
    norms = _course(150)
    expected, mean, variance = list(norms[:warmup]), np.mean(norms[:warmup]), np.var(norms[:warmup])
    for norm in norms[warmup:]:
        score = (norm - mean) / math.sqrt(variance)
        clipped = mean + z**2 / score * math.sqrt(variance) if score > z else norm
        mean = alpha * mean + (1 - alpha) * clipped
        variance = alpha * variance + (1 - alpha) * (clipped - mean) ** 2
        expected.append(clipped)
    found = _sizes(CLIPS["zscore"](contract.ZScoreClip(alpha=alpha, z=z, warmup=warmup)), norms)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert sum(a < b for a, b in zip(expected, norms, strict=True)) > 5


REMEMBERING: list[Any] = [
    contract.PercentileClip(p=70, window=9),
    contract.ZScoreClip(z=0.7, warmup=4, alpha=0.8),
]


@pytest.mark.parametrize("config", REMEMBERING)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_never_enters_the_statistics(config: Any, bad: float) -> None:
    norms = _course(40)
    with_bad = [each for norm in norms for each in (bad, norm)]
    assert _sizes(CLIPS[config.kind](config), with_bad)[1::2] == _sizes(CLIPS[config.kind](config), norms)


@pytest.mark.parametrize("config", REMEMBERING)
def test_norms_of_one_size_are_not_clipped(config: Any) -> None:
    assert _sizes(CLIPS[config.kind](config), [2.0] * 60) == _sizes(lambda _: 1.0, [2.0] * 60)
    assert _sizes(CLIPS[config.kind](config), [0.0] * 60) == [0.0] * 60


@pytest.mark.parametrize("config", REMEMBERING)
@pytest.mark.parametrize("cut", [2, 30])
def test_a_clip_goes_on_from_its_state(config: Any, cut: int) -> None:
    norms = _course(60)
    first, second = CLIPS[config.kind](config), CLIPS[config.kind](config)
    _sizes(first, norms[:cut])
    second.load(first.state())
    assert _sizes(second, norms[cut:]) == _sizes(first, norms[cut:])
