"""The flat buffers: views, norms where float32 gives up, and the device's way of measuring on the CPU."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gradkeel_worker.engine.parameters import DeviceParameters, HostParameters, norm


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_norm_is_right_over_the_whole_range_of_float32(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    exact = math.hypot(*vector.astype(np.float64))
    with np.errstate(over="ignore"):  # as in a fit: overflow is measured, not warned about
        measured = norm(vector)
    assert measured == pytest.approx(exact, rel=1e-5, abs=1e-44)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_norm_is_not_finite_exactly_where_an_entry_is(bad: float) -> None:
    vector = np.full(1000, 1e38, np.float32)
    with np.errstate(over="ignore"):
        assert math.isfinite(norm(vector))
        vector[500] = bad
        assert not math.isfinite(norm(vector))


def test_parameters_and_gradients_are_views() -> None:
    network = model()
    before = copy.deepcopy(network)
    parameters = HostParameters(network)
    assert [layer.name for layer in parameters.layers] == ["0", "1", "2"]
    assert [layer.size for layer in parameters.layers] == [16, 8, 8]
    assert [layer.weights_stop - layer.start for layer in parameters.layers] == [12, 8, 8]
    for ours, theirs in zip(network.parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    network(torch.ones(5, 3)).sum().backward()
    before(torch.ones(5, 3)).sum().backward()
    for ours, theirs in zip(network.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    parameters.values.zero_()
    assert all(not p.any() for p in network.parameters())
    parameters.release()
    parameters.values.fill_(7)
    assert all(not p.any() and p.grad is None for p in network.parameters())


def test_zeroing_forgets_the_norm() -> None:
    parameters = HostParameters(model())
    parameters.gradient.fill_(1)
    assert parameters.measure(torch.tensor(2.5)) == 2.5
    assert parameters.norm() == pytest.approx(math.sqrt(32))
    parameters.zero_gradient()
    assert parameters.norm() == 0


def test_a_device_measures_what_the_host_does() -> None:
    first, second = model(), model()
    host, device = HostParameters(first), DeviceParameters(second)
    torch.manual_seed(1)
    host.gradient.normal_()
    device.gradient.copy_(host.gradient)
    host_updates, device_updates = host.track_updates(), device.track_updates()
    assert device.measure(torch.tensor(0.5)) == host.measure(torch.tensor(0.5)) == 0.5
    assert device.norm() == pytest.approx(host.norm(), rel=1e-6)
    for parameters in (host, device):
        parameters.scale(0.25)
        parameters.values.add_(parameters.gradient)
    assert device.norm() == pytest.approx(host.norm(), rel=1e-6)
    for parameters in (host, device):
        parameters.clamp(0.01)
    assert device.norm() == pytest.approx(host.norm(), rel=1e-6)
    for theirs, ours in (
        (device.layer_norms(), host.layer_norms()),
        (device.weight_norms(), host.weight_norms()),
        (device_updates(), host_updates()),
    ):
        np.testing.assert_allclose(np.asarray(theirs), np.asarray(ours), rtol=1e-5)
    device.gradient[3] = math.inf
    device.measure(torch.tensor(0.0))
    assert device.nonfinite() == 1


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ValueError, match="no trainable parameter"):
        HostParameters(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="float32"):
        HostParameters(nn.Linear(2, 2).double())
