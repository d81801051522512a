"""A wrong backward is named: the loss, a layer, or one of its parameters; and no kind of model is accused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradkeel_worker.data import Table
from gradkeel_worker.diagnosis.examination import batch_of, sound_rows
from gradkeel_worker.diagnosis.gradient_check import check_gradients
from gradkeel_worker.engine import train
from worker.diagnosis.runs import VALIDATOR, found, lead
from worker.engine.cases import SMALL, categories, diabetes, iris, series

Json = dict[str, Any]


class _Inflated(torch.autograd.Function):
    """Its input, with a backward that is off by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.factor * grads[0], None


class _Layer(nn.Linear):
    """A linear layer whose derivatives in input, weight and bias are off by a factor each."""

    factors = (1.0, 1.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        given = zip((x, self.weight, self.bias), self.factors, strict=True)
        return nn.functional.linear(*(_Inflated.apply(one, factor) for one, factor in given))


class _Net(nn.Module):
    def __init__(self, *factors: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.mine, self.last = nn.Linear(3, 8), _Layer(8, 8), nn.Linear(8, 1)
        self.mine.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.mine(torch.tanh(self.first(x)))))


class _Loss(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return nn.functional.mse_loss(_Inflated.apply(prediction, self.factor), target)


def _reported(**own: Any) -> Json:
    """The report of a short training with a loss or model of one's own."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(96, 3))
    columns = {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": x @ [1.0, 2.0, -1.0] + draw.normal(size=96)}
    short = SMALL | {"budget": {"epochs": 2, "batch_size": 32}}
    report = train(Table.from_arrays(columns), short, **own).report
    VALIDATOR.validate(report)
    return report


@pytest.mark.parametrize("factor", [1.01, -1.0])
def test_a_loss_with_a_wrong_backward_is_named(factor: float) -> None:
    report = _reported(loss=_Loss(factor))
    (culprit,) = report["gradient_check"]["culprits"]
    assert (culprit["what"], culprit["kind"]) == ("loss", "_Loss")
    assert culprit["factor"] == pytest.approx(factor, abs=1e-4)
    assert {one["status"] for one in report["gradient_check"]["parameters"].values()} == {"fail"}
    finding = lead(report)
    assert (finding["rule"], finding["where"]["layer"]) == ("gradient_mismatch", "loss")
    assert f"the loss in the predictions is {factor:g} times" in finding["explanation"]


@pytest.mark.parametrize(
    ("factors", "wrong"),
    [
        ((1.01, 1.01, 1.01), ["input", "weight", "bias"]),
        ((-1.0, -1.0, -1.0), ["input", "weight", "bias"]),
        ((1.01, 1.0, 1.0), ["input"]),
        ((1.0, 1.0, 1.01), ["bias"]),
        ((0.0, 1.0, 1.0), ["input"]),
    ],
)
def test_a_layer_with_a_wrong_backward_is_named(factors: Any, wrong: list[str]) -> None:
    report = _reported(model=_Net(*factors))
    (culprit,) = report["gradient_check"]["culprits"]
    assert culprit["name"].endswith("mine") and culprit["kind"] == "_Layer"
    assert culprit["with_respect_to"] == wrong
    expected = min(factors, key=lambda one: -abs(one - 1))
    assert culprit["factor"] == pytest.approx(expected, abs=1e-4)
    where = found(report, "gradient_mismatch")["where"]
    assert where["layer"].endswith("mine")
    assert str(where["parameter"]).endswith("mine.bias") == (wrong == ["bias"])


WINDOWS = {"columns": {"order": "t", "group": "g"}, "split": {"kind": "ordered"}}
NUMBERS = ["age", "bmi", "bp", "s5"]

KINDS: dict[str, tuple[Table, Json]] = {
    "linear": (diabetes(120), {"model": {"kind": "linear"}}),
    "mlp, batch norm": (diabetes(120), {"model": {"kind": "mlp", "widths": [8], "norm": "batch"}}),
    "resnet": (diabetes(120), {"model": {"kind": "resnet", "width": 8, "blocks": 2}}),
    "tabm": (diabetes(120), {"model": {"kind": "tabm", "members": 3, "blocks": 2, "width": 8}}),
    "tabm, whole": (
        iris(),
        {"model": {"kind": "tabm", "members": 2, "blocks": 1, "width": 8, "mini": False}},
    ),
    "gru": (series(), WINDOWS | {"model": {"kind": "gru", "width": 4, "window": 4}}),
    "lstm": (series(), WINDOWS | {"model": {"kind": "lstm", "width": 4, "window": 4}}),
    "tcn": (series(), WINDOWS | {"model": {"kind": "tcn", "width": 4, "window": 5, "layers": 2}}),
    "embedded categories": (categories(), {"prepare": {"categorical": {"kind": "embedding"}}}),
    "piecewise linear": (
        diabetes(120),
        {"prepare": {"embedding": {"kind": "piecewise_linear", "bins": 6, "width": 3}}},
    ),
    "periodic": (
        diabetes(120),
        {"prepare": {"embedding": {"kind": "periodic", "frequencies": 4, "width": 3}}},
    ),
    "several targets": (diabetes(120), {"target": ["y", "bmi"]}),
    "quantiles": (diabetes(120), {"loss": {"kind": "quantile", "levels": [0.1, 0.5, 0.9]}}),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_model_passes_and_a_wrong_loss_of_its_is_named(name: str) -> None:
    table, changes = KINDS[name]
    short = SMALL | {"budget": {"epochs": 1, "batch_size": 64, "patience": 0}}
    result = train(table, short | changes)
    check = result.report["gradient_check"]
    states = [one["status"] for one in check["parameters"].values()]
    assert "fail" not in states and "pass" in states
    assert check["culprits"] == []

    def wrong(prediction: Tensor, target: Tensor) -> Tensor:
        spread = _Inflated.apply(prediction, 1.01)
        return (spread**2).mean() + spread.sin().mean()

    batch = batch_of(result.prepared.train, sound_rows(result.prepared.train, 16))
    (culprit,) = check_gradients(result.model, wrong, *batch)["culprits"]
    assert (culprit["what"], culprit["kind"]) == ("loss", "wrong")
    assert culprit["factor"] == pytest.approx(1.01, abs=1e-4)
