"""Model families: shapes, names, and the statistics that weights start with."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from gradkeel.contract import config as contract
from gradkeel_worker.models import MODELS, Inputs
from gradkeel_worker.models.dropout import Dropout

INPUTS = Inputs(400)


# Expected standard deviation of weights [300, 400] and whether they are bounded (uniform).
SPREADS: list[tuple[Any, float]] = [
    (contract.DefaultInit(), math.sqrt(1 / (3 * 400))),
    (contract.He(), math.sqrt(2 / 400)),
    (contract.Glorot(), math.sqrt(2 / 700)),
    (contract.Lecun(), math.sqrt(1 / 400)),
    (contract.Normal(std=0.3), 0.3),
    (contract.ConstantInit(value=2.5), 0.0),
]


@pytest.mark.parametrize(("init", "spread"), SPREADS)
def test_weights_start_with_the_spread_of_their_init(init: Any, spread: float) -> None:
    torch.manual_seed(0)
    network = MODELS["mlp"](contract.MLP(widths=(300,), init=init, bias_init=-2.0), INPUTS, 1)
    weight = network.get_parameter("layers.0.linear.weight")
    # 120,000 draws: the sample's deviation is within 1 % of the true one.
    assert weight.std().item() == pytest.approx(spread, rel=0.01, abs=1e-9)
    assert network.get_parameter("layers.0.linear.bias").unique().tolist() == [-2.0]
    assert network.get_parameter("output.bias").tolist() == [0.0]


def test_orthogonal_rows_are_orthonormal() -> None:
    network = MODELS["mlp"](contract.MLP(widths=(300,), init=contract.Orthogonal()), INPUTS, 1)
    weight = network.get_parameter("layers.0.linear.weight")
    torch.testing.assert_close(weight @ weight.T, torch.eye(300), atol=1e-4, rtol=0)


def test_linear_is_one_layer() -> None:
    network = MODELS["linear"](
        contract.Linear(bias_init=3.0, init=contract.ConstantInit(value=1.0)), Inputs(4), 2
    )
    assert [name for name, _ in network.named_parameters()] == ["output.weight", "output.bias"]
    torch.testing.assert_close(network(torch.ones(5, 4)), torch.full((5, 2), 7.0))
    bare = MODELS["linear"](contract.Linear(bias=False), Inputs(4), 1)
    assert [name for name, _ in bare.named_parameters()] == ["output.weight"]


def test_mlp_is_linear_norm_activation_dropout() -> None:
    network = MODELS["mlp"](
        contract.MLP(widths=(6, 5), norm="layer", activation="gelu", dropout=0.2), Inputs(4), 3
    )
    kinds = [(name, type(module)) for name, module in network.operations()]
    block = [nn.Linear, nn.LayerNorm, nn.GELU, Dropout]
    assert kinds == [
        *(("layers.0", kind) for kind in block),
        *(("layers.1", kind) for kind in block),
        ("output", nn.Linear),
    ]
    assert [name for name, _ in network.taps()] == ["layers.0", "layers.1", "output"]
    assert [type(module) for _, module in network.taps()] == [nn.GELU, nn.GELU, nn.Linear]
    assert network(torch.zeros(2, 4)).shape == (2, 3)


def test_sequential_builds_what_is_listed() -> None:
    listed = (
        contract.LinearLayer(units=7, bias=False),
        contract.BatchNorm(),
        contract.SELU(),
        contract.Dropout(p=0.3),
        contract.LinearLayer(units=3),
        contract.Tanh(),
    )
    network = MODELS["sequential"](contract.Sequential(layers=listed), Inputs(4), 1)
    assert network.layer_names() == (*(f"layers.{i}" for i in range(6)), "output")
    assert network.get_parameter("layers.0.weight").shape == (7, 4)
    assert network.layer_of("layers.4.bias") == "layers.4"
    assert "layers.0.bias" not in dict(network.named_parameters())
    plain = nn.Sequential(*copy.deepcopy(network.layers), copy.deepcopy(network.output)).eval()
    x = torch.randn(5, 4)
    torch.testing.assert_close(network.eval()(x), plain(x))


def test_categories_enter_beside_numbers() -> None:
    network = MODELS["mlp"](contract.MLP(widths=(8,)), Inputs(2, ((5, 3), (4, 2))), 1)
    assert network.layer_names() == ("embeddings.0", "embeddings.1", "layers.0", "output")
    assert network.get_parameter("layers.0.linear.weight").shape == (8, 2 + 3 + 2)
    x, c = torch.randn(6, 2), torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3], [4, 0], [0, 1]])
    tables = [network.get_parameter(f"embeddings.{i}.weight") for i in range(2)]
    joined = torch.cat([x, tables[0][c[:, 0]], tables[1][c[:, 1]]], dim=1)
    expected = network.output(network.layers[0](joined))
    torch.testing.assert_close(network(x, c), expected)
    assert not tables[0][0].any()  # the shared level of rare and unseen ones starts at the centre
    only = MODELS["linear"](contract.Linear(), Inputs(0, ((5, 3),)), 1)
    assert only(torch.zeros(6, 0), c[:, :1]).shape == (6, 1)


def test_a_copy_runs_on_its_own_weights() -> None:
    network = MODELS["mlp"](contract.MLP(widths=(8,)), Inputs(2), 1)
    twin = copy.deepcopy(network).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert twin(torch.ones(1, 2, dtype=torch.float64)).item() != 0
