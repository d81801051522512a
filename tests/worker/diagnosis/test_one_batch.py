"""Whether a model can learn one batch by heart: those that can, those that cannot, and the bounds it is held
against."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from gradkeel.contract import config as contract
from gradkeel.contract.patch import merge_patch
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Prepared, Table, prepare
from gradkeel_worker.diagnosis.examination import batch_of
from gradkeel_worker.diagnosis.one_batch import FITTED, fit_one_batch, lowest_loss
from gradkeel_worker.engine.build import build, build_loss
from gradkeel_worker.losses import LOSSES
from worker.diagnosis.runs import SGD, breast_cancer, diabetes, trained, wine

Json = dict[str, Any]


def _checked(given: Any = None, loss_fn: Any = None, **changes: Any) -> Json:
    data = _prepared(given, **changes)
    run = build(data, data.config)
    kept = copy.deepcopy(run.model.state_dict())
    found = fit_one_batch(
        copy.deepcopy(run.model),
        loss_fn or build_loss(data, data.config),
        batch_of(data.train, np.arange(32)),
        None if loss_fn else data.config.loss,
        len(data.classes or (0, 1)),
    )
    assert all(torch.equal(kept[name], value) for name, value in run.model.state_dict().items())
    assert found is not None
    return found


def _prepared(given: Any = None, **changes: Any) -> Prepared:
    table = Table.from_arrays(given or diabetes())
    return prepare(table, resolve(merge_patch(SGD, changes)))


@pytest.mark.parametrize(
    ("columns", "changes"),
    [
        (None, {}),
        (None, {"loss": {"kind": "mae"}}),
        (None, {"loss": {"kind": "poisson"}}),
        (None, {"model": {"kind": "tabm", "widths": None, "members": 2, "blocks": 1, "width": 32}}),
        (breast_cancer(), {"loss": {"kind": "bce"}}),
        (wine(), {"loss": {"kind": "cross_entropy", "label_smoothing": 0.1}}),
    ],
)
def test_a_sound_model_fits_one_batch(columns: Any, changes: Json) -> None:
    found = _checked(columns, **changes)
    assert found["status"] == "pass"
    assert found["covered"] >= FITTED
    assert found["lowest"] <= found["loss"] < found["best_constant"]
    assert found["steps"] < 150


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"bias_init": -1000.0}},  # every unit is dead
        {"model": {"kind": "linear", "widths": None}, "columns": {"include": ["sex"]}},
    ],
)
def test_a_model_that_cannot_is_told(changes: Json) -> None:
    found = _checked(**changes)
    assert found["status"] == "fail"
    assert found["steps"] == 150
    assert found["covered"] < FITTED


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return -gradient


def test_a_loss_whose_backward_points_the_wrong_way_is_told() -> None:
    def wrong(prediction: Tensor, target: Tensor) -> Tensor:
        return _Reversed.apply(nn.functional.mse_loss(prediction, target))  # type: ignore[no-any-return]

    found = _checked(loss_fn=wrong)
    assert found["status"] == "fail"
    assert found["best_constant"] is None


def test_targets_that_are_all_alike_tell_nothing() -> None:
    data = _prepared()
    x, c, y = batch_of(data.train, np.arange(32))
    found = fit_one_batch(
        build(data, data.config).model, build_loss(data, data.config), (x, c, 0 * y + 0.3), data.config.loss
    )
    assert found is not None
    assert found["status"] == "unknown"


def test_a_huge_model_is_spared() -> None:
    batch = (torch.randn(32, 10), torch.zeros(32, 0, dtype=torch.int64), torch.randn(32, 1))
    wide = nn.Sequential(nn.Linear(10, 3000), nn.Linear(3000, 5000))
    assert fit_one_batch(wide, nn.functional.mse_loss, batch, None) is None


def test_the_lowest_loss_is_that_of_exact_answers() -> None:
    y = np.array([0.4, 1.0, 2.5])
    best = [minimize_scalar(lambda z, t=t: np.exp(z) - t * z).fun for t in y]
    assert lowest_loss(contract.Poisson(), y, 2) == pytest.approx(np.mean(best), abs=1e-9)
    smoothed = contract.CrossEntropy(label_smoothing=0.2)
    loss = LOSSES["cross_entropy"](smoothed, [1, 1, 1])
    aimed = torch.tensor([[0.2 / 3, 0.8 + 0.2 / 3, 0.2 / 3]], dtype=torch.float64)
    told = float(loss(aimed.log(), torch.tensor([1])))
    assert lowest_loss(smoothed, np.array([1]), 3) == pytest.approx(told, abs=1e-9)
    assert lowest_loss(contract.MSE(), y, 2) == 0


def test_the_full_tier_reports_it() -> None:
    checks = trained(diabetes(), merge_patch(SGD, {"health": {"tier": "full"}})).report["fit"]["checks"]
    assert checks["one_batch"]["status"] == "pass"
    assert trained(diabetes(), SGD).report["fit"]["checks"]["one_batch"] is None
