"""Networks over windows beside a reference in float64, torch's own layers and a naive convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gradkeel.contract import config as contract
from gradkeel_worker.models import MODELS, Inputs, Network
from gradkeel_worker.models.sequence import FORGET

ROWS, WINDOW, COLUMNS, WIDTH = 5, 7, 3, 4
KINDS: dict[str, contract.Windowed] = {
    "gru": contract.GRU(width=WIDTH, layers=2),
    "lstm": contract.LSTM(width=WIDTH, layers=2),
    "tcn": contract.TCN(width=WIDTH, layers=3, kernel=2),
}
EXACT = {"rtol": 0, "atol": 1e-12}  # float64 sums of a few dozen terms of size 1


def _network(kind: str, **changes: Any) -> Network:
    torch.manual_seed(0)
    block = type(KINDS[kind])(**(vars(KINDS[kind]) | changes))
    return MODELS[kind](block, Inputs(COLUMNS), 2)


def _weights(module: nn.Module) -> dict[str, Any]:
    return {name: each.detach().numpy() for name, each in module.named_parameters()}


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def _gru_step(w: dict[str, Any], x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    of_x = np.split(x @ w["weight_ih_l0"].T + w["bias_ih_l0"], 3, axis=1)
    of_h = np.split(h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 3, axis=1)
    reset, update = _sigmoid(of_x[0] + of_h[0]), _sigmoid(of_x[1] + of_h[1])
    return (1 - update) * np.tanh(of_x[2] + reset * of_h[2]) + update * h, c


def _lstm_step(w: dict[str, Any], x: Any, h: Any, c: Any) -> tuple[Any, Any]:
    both = x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
    enter, forget, cell, leave = np.split(both, 4, axis=1)
    c = _sigmoid(forget) * c + _sigmoid(enter) * np.tanh(cell)
    return _sigmoid(leave) * np.tanh(c), c


STEPS = {"gru": _gru_step, "lstm": _lstm_step}


@pytest.mark.parametrize("kind", STEPS)
def test_a_recurrent_network_is_its_cell_step_by_step(kind: str) -> None:
    network = _network(kind).double()
    x = torch.randn(ROWS, WINDOW, COLUMNS, dtype=torch.float64)
    states = x.numpy()
    for layer in network.layers:
        weights = _weights(getattr(layer, kind))
        h = c = np.zeros((ROWS, WIDTH))
        found = []
        for t in range(WINDOW):
            h, c = STEPS[kind](weights, states[:, t], h, c)
            found.append(h)
        states = np.stack(found, axis=1)
    out = _weights(network.output)
    expected = states[:, -1] @ out["weight"].T + out["bias"]
    np.testing.assert_allclose(network(x).detach().numpy(), expected, **EXACT)


@pytest.mark.parametrize(("kind", "oracle"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_a_recurrent_network_is_torchs_with_equal_weights(kind: str, oracle: type[nn.RNNBase]) -> None:
    network = _network(kind).double()
    theirs = oracle(COLUMNS, WIDTH, num_layers=2, batch_first=True).double()
    for i, layer in enumerate(network.layers):
        for name, value in getattr(layer, kind).named_parameters():
            getattr(theirs, name.replace("l0", f"l{i}")).data.copy_(value)
    x = torch.randn(ROWS, WINDOW, COLUMNS, dtype=torch.float64)
    expected = network.output(theirs(x)[0][:, -1])
    np.testing.assert_allclose(network(x).detach().numpy(), expected.detach().numpy(), **EXACT)


def _convolved(weights: dict[str, Any], name: str, x: Any, dilation: int) -> Any:
    """y[t] = b + Σ_k W[:, :, k] x[t − (K − 1 − k) · dilation], zeros before the first row."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    result = np.tile(bias, (*x.shape[:2], 1)).astype(np.float64)
    for t in range(x.shape[1]):
        for k in range(kernel.shape[2]):
            at = t - (kernel.shape[2] - 1 - k) * dilation
            if at >= 0:
                result[:, t] += x[:, at] @ kernel[:, :, k].T
    return result


def test_a_tcn_is_a_naive_causal_convolution() -> None:
    network = _network("tcn").double()
    x = torch.randn(ROWS, WINDOW, COLUMNS, dtype=torch.float64)
    states = x.numpy()
    for i, layer in enumerate(network.layers):
        weights = _weights(layer.tcn)
        first = np.maximum(_convolved(weights, "first", states, 2**i), 0)
        second = np.maximum(_convolved(weights, "second", first, 2**i), 0)
        around = _convolved(weights, "skip", states, 1) if "skip.weight" in weights else states
        states = np.maximum(second + around, 0)
    out = _weights(network.output)
    expected = states[:, -1] @ out["weight"].T + out["bias"]
    np.testing.assert_allclose(network(x).detach().numpy(), expected, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_row_changes_no_earlier_state(kind: str) -> None:
    network = _network(kind).double()
    x = torch.randn(ROWS, WINDOW, COLUMNS, dtype=torch.float64)
    moved = x.clone()
    moved[:, -1] += 1.0
    states = [network.layers[0](each) for each in (x, moved)]
    assert torch.equal(states[0][:, :-1], states[1][:, :-1])
    assert not torch.equal(states[0][:, -1], states[1][:, -1])


def test_a_tcn_sees_as_far_back_as_its_page_says() -> None:
    network = _network("tcn").double()  # 1 + 2 · (2 − 1) · (2³ − 1) = 15 rows
    x = torch.randn(1, 20, COLUMNS, dtype=torch.float64, requires_grad=True)
    network(x).sum().backward()
    assert x.grad is not None
    reached = x.grad[0].abs().sum(1) > 0
    assert not reached[:5].any()
    assert reached[-8:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_layers_can_be_frozen_by_the_names_of_the_contract(kind: str) -> None:
    network = _network(kind)
    layers = KINDS[kind].layers
    assert network.layer_names() == (*(f"layers.{i}" for i in range(layers)), "output")
    names = [name for name, _ in network.named_parameters()]
    assert {network.layer_of(name) for name in names} == set(network.layer_names())


def test_forget_gates_start_open_and_other_biases_where_the_config_says() -> None:
    layer = _network("lstm", bias_init=0.25).layers[0].lstm
    expected = np.full(4 * WIDTH, 0.25, np.float32)
    expected[WIDTH : 2 * WIDTH] += FORGET
    np.testing.assert_array_equal(layer.bias_ih_l0.detach().numpy(), expected)
    assert not layer.bias_hh_l0.any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_initialisation_reaches_every_matrix(kind: str) -> None:
    network = _network(kind, init=contract.ConstantInit(value=0.125))
    matrices = [each for name, each in network.layers.named_parameters() if each.ndim > 1]
    assert all((each == 0.125).all() for each in matrices)


def test_each_gate_starts_as_a_matrix_of_its_own() -> None:
    layer = _network("gru", init=contract.Orthogonal()).layers[1].gru
    for gate in layer.weight_hh_l0.detach().double().chunk(3):
        # float32 QR of a 4 × 4 matrix
        np.testing.assert_allclose((gate @ gate.T).numpy(), np.eye(WIDTH), atol=1e-6)
