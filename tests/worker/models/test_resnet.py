"""The residual network against the authors' package."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import rtdl_revisiting_models as rtdl
import torch

from gradkeel.contract import config as contract
from gradkeel.contract.resolve import layer_names, parameter_count
from gradkeel_worker.diagnosis.gradient_check import check_gradients
from gradkeel_worker.losses import LOSSES
from gradkeel_worker.models import MODELS, Inputs, Network


def made(outputs: int = 1, **options: Any) -> Network:
    torch.manual_seed(0)
    config = contract.ResNet(**{"blocks": 2, "width": 8, "hidden_factor": 1.6, "dropout": 0.0, **options})
    return MODELS["resnet"](config, Inputs(5), outputs)


def theirs(network: Network, outputs: int) -> rtdl.ResNet:
    """The authors' model with the weights and running statistics of ours."""
    other = rtdl.ResNet(
        d_in=5, d_out=outputs, n_blocks=2, d_block=8, d_hidden_multiplier=1.6, dropout1=0.0, dropout2=0.0
    )
    parts = {"norm": "normalization", "first": "linear1", "second": "linear2"}
    state = {}
    for name, values in network.state_dict().items():
        places = name.split(".")
        if places[0] == "output":
            target = ["output", "linear", places[1]]
        elif places[1] == "0":
            target = ["input_projection", places[2]]
        elif places[1] == "3":
            target = ["output", parts[places[2]], places[3]]
        else:
            target = ["blocks", str(int(places[1]) - 1), parts[places[3]], places[4]]
        state[".".join(target)] = values
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize("outputs", [1, 3])
def test_outputs_in_and_after_training_are_those_of_the_authors_package(outputs: int) -> None:
    network = made(outputs)
    other, network = theirs(network, outputs).double(), network.double()
    for _ in range(3):
        x = torch.randn(9, 5, dtype=torch.float64)
        torch.testing.assert_close(network.train()(x), other.train()(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(network.eval()(x), other.eval()(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", get_args(contract.Norm))
def test_the_contract_counts_the_parameters_and_names_the_layers_that_have_some(norm: Any) -> None:
    config = contract.ResNet(blocks=3, width=7, hidden_factor=1.5, norm=norm, residual_dropout=0.1)
    network = MODELS["resnet"](config, Inputs(4), 2)
    assert parameter_count(config, 4, 2) == sum(p.numel() for p in network.parameters())
    held = dict.fromkeys(network.layer_of(name) for name, _ in network.named_parameters())
    assert layer_names(config) == tuple(held)
    assert set(held) <= set(network.layer_names())


def test_a_blocks_inner_units_are_what_is_listened_to() -> None:
    network = made(activation="tanh").eval()
    taps = dict(network.taps())
    assert list(taps) == ["layers.0", "layers.1", "layers.2", "layers.3", "output"]
    widths: dict[str, int] = {}
    for name, module in taps.items():
        module.register_forward_hook(
            lambda module, given, output, name=name: widths.__setitem__(name, output.shape[1])
        )
    network(torch.randn(4, 5))
    assert widths == {"layers.0": 8, "layers.1": 12, "layers.2": 12, "layers.3": 8, "output": 1}
    assert all(isinstance(taps[f"layers.{i}"], torch.nn.Tanh) for i in (1, 2, 3))


def test_initialisation_reaches_the_layers_within_blocks() -> None:
    network = made(init=contract.ConstantInit(value=0.25), bias_init=0.5)
    for name in ("layers.0", "layers.1.branch.first", "layers.2.branch.second"):
        assert network.get_parameter(f"{name}.weight").unique().tolist() == [0.25]
        assert network.get_parameter(f"{name}.bias").unique().tolist() == [0.5]


@pytest.mark.parametrize("norm", get_args(contract.Norm))
def test_its_gradients_pass_the_check(norm: Any) -> None:
    network = made(norm=norm, activation="silu", dropout=0.2)
    x, y = torch.randn(20, 5), torch.randn(20, 1)
    found = check_gradients(network, LOSSES["mse"](contract.MSE(), []), x, torch.zeros(20, 0).long(), y)
    statuses = {each["status"] for each in found["parameters"].values()}
    # a bias before batch normalisation changes nothing
    assert statuses <= ({"pass", "dead"} if norm == "batch" else {"pass"})
