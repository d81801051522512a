"""TabM against the authors' package and against the formulas in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import tabm
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradkeel.contract import config as contract
from gradkeel.contract.resolve import layer_names, parameter_count
from gradkeel_worker.diagnosis.examination import steepest
from gradkeel_worker.diagnosis.gradient_check import check_gradients
from gradkeel_worker.engine import train
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.parameters import flatten
from gradkeel_worker.losses import LOSSES, OwnLossOfMembers
from gradkeel_worker.models import MODELS, Inputs
from gradkeel_worker.models.ensemble import MEANS, Ensemble, starting_factors
from gradkeel_worker.models.numeric import PeriodicEmbedding
from gradkeel_worker.stabilizers import CLIPS

from ..engine.cases import breast_cancer, diabetes, iris, prepared

SMALL: dict[str, Any] = {"kind": "tabm", "members": 3, "blocks": 2, "width": 8}


def made(inputs: Inputs, outputs: int = 1, **options: Any) -> Ensemble:
    torch.manual_seed(0)
    config = contract.TabM(**{"members": 3, "blocks": 2, "width": 8, "dropout": 0.0, **options})
    network = MODELS["tabm"](config, inputs, outputs)
    assert isinstance(network, Ensemble)
    return network


def theirs(network: Ensemble, *, mini: bool, features: int, outputs: int) -> nn.Module:
    """The authors' model with the weights of ours, told apart a little first so that none is a plain 1."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    kind = "tabm-mini" if mini else "tabm"
    start = {"start_scaling_init": "random-signs"}
    other = tabm.TabM.make(
        n_num_features=features,
        d_out=outputs,
        k=3,
        n_blocks=2,
        d_block=8,
        dropout=0.0,
        arch_type=kind,
        **start,
    )
    ours = network.state_dict()
    first = "backbone.affine.weight" if mini else "backbone.blocks.0.0.r"
    state = {first: ours["layers.0.adapter.weight"]}
    for name, values in ours.items():
        if ".linear." in name:
            _, index, _, kept = name.split(".")
            state[f"backbone.blocks.{index}.0.{kept}"] = values
    state |= {"output.weight": ours["output.weight"].transpose(1, 2), "output.bias": ours["output.bias"]}
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize("mini", [True, False])
@pytest.mark.parametrize("outputs", [1, 4])
def test_outputs_and_gradients_are_those_of_the_authors_package(mini: bool, outputs: int) -> None:
    network = made(Inputs(5), outputs, mini=mini)
    other = theirs(network, mini=mini, features=5, outputs=outputs).double().train()
    network = network.double().train()
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    ours, expected = network(x), other(twin)
    assert ours.shape == (7, 3, outputs)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    (ours**3).sum().backward()
    (expected**3).sum().backward()
    torch.testing.assert_close(x.grad, twin.grad, rtol=1e-10, atol=1e-10)


def test_full_ensembles_are_the_mini_one_where_their_factors_are_one() -> None:
    mini, full = made(Inputs(4)).eval(), made(Inputs(4), mini=False).eval()
    state = full.state_dict()
    for name, values in mini.state_dict().items():
        state[name] = values.expand_as(state[name]) if name.endswith("linear.bias") else values
    full.load_state_dict(state)
    x = torch.randn(6, 4)
    torch.testing.assert_close(full(x), mini(x))


@pytest.mark.parametrize("embedded", [True, False])
def test_a_feature_starts_with_one_factor_for_all_of_its_columns(embedded: bool) -> None:
    embedding = PeriodicEmbedding(2, 3, 0.1, width=4) if embedded else None
    network = made(Inputs(3, ((5, 2),), embedding), members=200)
    weight = network.get_parameter("layers.0.adapter.weight")
    sizes = network.inputs.sizes
    assert sizes == ((4, 4, 1, 2) if embedded else (1, 1, 1, 2)) and sum(sizes) == network.inputs.width
    for columns in weight.split(sizes, dim=1):
        assert torch.equal(columns, columns[:, :1].expand_as(columns))
    assert (weight.abs() == 1).all().item() is not embedded
    assert starting_factors(2000, (1, 3), signs=not embedded).mean().abs() < 0.1


def _log_mean(values: Any) -> Any:
    return np.log(np.exp(values).mean(axis=1))


def _softmax(values: Any) -> Any:
    shares = np.exp(values)
    return shares / shares.sum(axis=-1, keepdims=True)


def test_predictions_are_the_mean_of_numbers_rates_and_probabilities() -> None:
    outputs = 3 * torch.randn(6, 4, 3, dtype=torch.float64)
    values = outputs.numpy()
    np.testing.assert_allclose(MEANS["identity"](outputs), values.mean(axis=1))
    np.testing.assert_allclose(MEANS["log"](outputs), _log_mean(values))
    share = (1 / (1 + np.exp(-values))).mean(axis=1)
    np.testing.assert_allclose(MEANS["logit"](outputs), np.log(share / (1 - share)))
    together = torch.softmax(MEANS["softmax"](outputs), dim=1)
    np.testing.assert_allclose(together, _softmax(values).mean(axis=1))
    far = torch.full((1, 2, 2), -2000.0)
    assert all(bool(torch.isfinite(mean(far)).all()) for mean in MEANS.values())


@pytest.mark.parametrize(
    ("table", "link"), [(diabetes, "identity"), (breast_cancer, "logit"), (iris, "softmax")]
)
def test_the_task_decides_what_is_averaged(table: Any, link: str) -> None:
    loss = {"identity": "huber", "logit": "bce", "softmax": "cross_entropy"}[link]
    data = prepared(table(), model=SMALL, loss={"kind": loss})
    model = build(data, data.config).model
    assert isinstance(model, Ensemble) and model.link == link
    x, c = torch.from_numpy(data.train.x), torch.from_numpy(data.train.c)
    apart = model.train()(x, c)
    model.eval()
    model.apart = True
    members = model(x, c)
    assert apart.shape == members.shape
    model.apart = False
    torch.testing.assert_close(model(x, c), MEANS[link](members))  # type: ignore[index]


def test_rates_of_a_poisson_model_are_averaged_as_rates() -> None:
    data = prepared(diabetes(), model=SMALL, loss={"kind": "poisson"})
    model = build(data, data.config).model
    assert isinstance(model, Ensemble) and model.link == "log"


def test_many_rows_are_predicted_as_few_are() -> None:
    network = made(Inputs(4, ((3, 2),))).eval()
    x, c = torch.randn(1300, 4), torch.randint(0, 3, (1300, 1))
    rows = torch.cat([network(x[i : i + 100], c[i : i + 100]) for i in range(0, 1300, 100)])
    torch.testing.assert_close(network(x, c), rows)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", contract.LOSSES)
def test_a_steps_loss_is_the_mean_of_the_members_losses(kind: str, weighted: bool) -> None:
    torch.manual_seed(1)
    classes = kind == "cross_entropy"
    if kind not in LOSSES:
        pytest.skip("a loss of another kind of output")
    block = contract.LOSSES[kind]()
    loss = LOSSES[kind](block, [3, 4, 4])
    prediction = torch.randn(11, 5, 3 if classes else 1)
    target = torch.randint(0, 3, (11,)) if classes else torch.rand(11, 1)
    weight = torch.rand(11) if weighted else None
    each = [loss(prediction[:, i], target, weight=weight) for i in range(5)]
    expected = torch.stack(each).mean()
    torch.testing.assert_close(loss(prediction, target, weight=weight), expected)


def test_a_callers_own_loss_sees_a_row_for_each_member() -> None:
    own = OwnLossOfMembers(lambda prediction, target: ((prediction - target) ** 2).mean())
    prediction, target = torch.randn(6, 3, 1), torch.randn(6, 1)
    torch.testing.assert_close(own(prediction, target), ((prediction - target[:, None]) ** 2).mean())
    torch.testing.assert_close(own(prediction[:, 0], target), ((prediction[:, 0] - target) ** 2).mean())

    def pinball(prediction: Tensor, target: Tensor) -> Tensor:
        assert prediction.shape == target.shape
        return functional.relu(target - prediction).mean() + 0.1 * (prediction - target).abs().mean()

    data = prepared(diabetes(), model=SMALL)
    result = train(data, data.config, loss=pinball)
    assert result.status == "succeeded"
    statuses = {each["status"] for each in result.report["gradient_check"]["parameters"].values()}
    assert statuses <= {"pass", "kink"}


@pytest.mark.parametrize("mini", [True, False])
def test_gradients_of_the_members_losses_are_checked(mini: bool) -> None:
    network = made(Inputs(4, ((3, 2),)), mini=mini, activation="silu")
    x, c, y = torch.randn(20, 4), torch.randint(0, 3, (20, 1)), torch.randn(20, 1)
    found = check_gradients(network, LOSSES["mse"](contract.MSE(), []), x, c, y)
    assert set(found["parameters"]) == {name for name, _ in network.named_parameters()}
    assert {each["status"] for each in found["parameters"].values()} == {"pass"}


@pytest.mark.parametrize("mini", [True, False])
def test_the_contract_counts_the_parameters_and_names_the_layers(mini: bool) -> None:
    config = contract.TabM(members=5, blocks=3, width=7, mini=mini)
    network = MODELS["tabm"](config, Inputs(4), 2)
    assert parameter_count(config, 4, 2) == sum(p.numel() for p in network.parameters())
    assert layer_names(config) == network.layer_names() == ("layers.0", "layers.1", "layers.2", "output")


@pytest.mark.parametrize(
    ("init", "spread"), [(contract.He(), math.sqrt(2 / 300)), (contract.Normal(std=0.5), 0.5)]
)
def test_initialisation_reaches_shared_and_own_weights(init: contract.Init, spread: float) -> None:
    network = made(Inputs(300), 1, members=4, width=300, init=init, mini=False, bias_init=-2.0)
    weight = network.get_parameter("layers.1.linear.weight")
    # 90,000 draws: the sample's deviation is within 1 % of the true one.
    assert weight.std().item() == pytest.approx(spread, rel=0.01)
    assert network.get_parameter("layers.1.linear.bias").unique().tolist() == [-2.0]
    assert network.get_parameter("output.bias").unique().tolist() == [0.0]
    own = network.get_parameter("output.weight")  # each member's by its own fan-in; torch's own under he
    assert own.std().item() == pytest.approx(
        0.5 if init.kind == "normal" else math.sqrt(1 / 3 / 300), rel=0.1
    )


def test_adaptive_clip_takes_rows_members_and_columns_as_units() -> None:
    embedding = PeriodicEmbedding(2, 3, 0.1, width=4)
    network = made(Inputs(3, (), embedding))
    parameters = flatten(network)
    parameters.gradient.copy_(torch.randn_like(parameters.gradient))
    parameters.scale(1.0)
    before = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    clip = contract.AdaptiveClip(factor=0.05)
    CLIPS["adaptive"](clip)(parameters)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        units = parameter.detach().double().reshape(len(parameter) if parameter.ndim > 1 else 1, -1)
        given = before[name].double().reshape(len(units), -1)
        size, norm = units.norm(dim=1), given.norm(dim=1)
        limit = clip.factor * size.clamp_min(clip.floor)
        factor = (limit / norm).clamp_max(1.0) if not name.startswith("output") else torch.ones(len(units))
        expected = (given * factor[:, None]).float().reshape(parameter.shape)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-5, atol=1e-7)


def test_bfloat16_products_change_little() -> None:
    network = made(Inputs(6), width=64, dropout=0.0)
    x, y = torch.randn(50, 6), torch.randn(50, 1)
    loss = LOSSES["huber"](contract.Huber(), [])
    exact = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(x)
    # 8 bits of mantissa, three layers
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.05)
    loss(rough.float(), y).backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.parameters())


def test_a_dead_shared_unit_is_dead_for_every_member() -> None:
    data = prepared(
        diabetes(), model={**SMALL, "bias_init": -1000.0}, budget={"epochs": 10, "batch_size": 64}
    )
    result = train(data, data.config)
    names = result.readings.sparse["dead_fraction"][2]
    assert names == ("layers.0", "layers.1")
    assert "dead_units" in {finding["rule"] for finding in result.report["findings"]}


def test_frozen_layers_stay_and_huber_and_lr_find_their_numbers() -> None:
    data = prepared(
        diabetes(),
        model={**SMALL, "freeze": ["layers.0"], "dropout": 0.2},
        loss={"kind": "huber", "delta": "auto"},
        optimizer={"kind": "adamw", "lr": "auto"},
    )
    result = train(data, data.config)
    assert result.status == "succeeded" and result.model is not None
    assert isinstance(result.config.loss, contract.Huber) and isinstance(result.config.loss.delta, float)
    start = build(data, result.config).model.state_dict()
    end = result.model.state_dict()
    same = {name for name in start if torch.equal(start[name], end[name])}
    assert same == {name for name in start if name.startswith("layers.0")}


def test_curvature_is_that_of_the_mean_of_the_members_losses() -> None:
    network = made(Inputs(4), width=5, activation="tanh").double().eval()
    x, c = torch.randn(6, 4, dtype=torch.float64), torch.zeros(6, 0, dtype=torch.int64)
    network.apart = True
    state = {name: p.detach() for name, p in network.named_parameters()}
    jacobians = torch.func.jacrev(lambda held: torch.func.functional_call(network, held, (x,)))(state)
    whole = torch.cat([each.reshape(6 * 3, -1) for each in jacobians.values()], dim=1)
    # Gauss-Newton of the mean of (z − y)² over 6 rows of 3 members
    expected = torch.linalg.eigvalsh(2 / (6 * 3) * whole.T @ whole)[-1].item()
    found = steepest(network, functional.mse_loss, x, c, torch.zeros(6, 1), 2.0)
    assert found == pytest.approx(expected, rel=1e-9)
