"""The loop against a plain torch loop, and everything that can end it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from gradkeel.contract import config as contract
from gradkeel.contract.errors import ConfigError
from gradkeel_worker.data import Prepared
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.engine.run import Hooks, Run
from gradkeel_worker.engine.trainer import fit

from .cases import breast_cancer, categories, iris, prepared

OPTIMIZERS: list[tuple[dict[str, Any], Any]] = [
    ({"kind": "sgd", "lr": 0.05}, lambda p: torch.optim.SGD(p, lr=0.05)),
    (
        {"kind": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    ({"kind": "adamw", "lr": 0.003}, lambda p: torch.optim.AdamW(p, lr=0.003, weight_decay=3e-4)),
]


@pytest.mark.parametrize(("block", "make"), OPTIMIZERS)
def test_same_weights_as_a_plain_torch_loop(block: dict[str, Any], make: Any) -> None:
    data = prepared(
        optimizer=block, clips=[{"kind": "norm", "max_norm": 0.2}, {"kind": "value", "max_value": 0.05}]
    )
    run = build(data, data.config)
    oracle = copy.deepcopy(run.model)
    optimizer, losses = make(oracle.parameters()), []
    x, y = torch.from_numpy(data.train.x), torch.from_numpy(data.train.y)
    for epoch in range(4):
        for rows in torch.from_numpy(run.batches.order(epoch)).split(64):
            optimizer.zero_grad()
            loss = functional.huber_loss(oracle(x[rows]).squeeze(1), y[rows])
            loss.backward()
            nn.utils.clip_grad_norm_(oracle.parameters(), 0.2)
            nn.utils.clip_grad_value_(oracle.parameters(), 0.05)
            optimizer.step()
            losses.append(loss.item())
    assert fit(run) == "epochs"
    # float32, other summation orders: a few units in the last place that 20 steps carry on.
    np.testing.assert_allclose(run.readings.loss, losses, rtol=1e-4)
    for ours, theirs in zip(run.model.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def weights(run: Run) -> bytes:
    return run.parameters.values.numpy().tobytes()


def test_same_seed_same_bits() -> None:
    data = prepared(model={"kind": "mlp", "widths": [16, 8], "dropout": 0.2})
    first, second = build(data, data.config), build(data, data.config)
    other = build(data, dataclasses.replace(data.config, seed=1))
    for run in (first, second, other):
        torch.manual_seed(0)
        fit(run)
    assert weights(first) == weights(second) != weights(other)
    np.testing.assert_array_equal(first.readings.layer_norm, second.readings.layer_norm)
    assert first.epochs == second.epochs


def _with_nan(data: Prepared, row: int, column: int, value: float = np.nan) -> Prepared:
    x = data.train.x.copy()
    x[row, column] = value
    return dataclasses.replace(data, train=dataclasses.replace(data.train, x=x))


def test_a_nan_row_costs_its_batch_and_nothing_else() -> None:
    data = _with_nan(prepared(), 17, 3)
    told: list[tuple[str, dict[str, Any]]] = []
    run = build(data, data.config, hooks=Hooks(emit=lambda name, fact: told.append((name, fact))))
    assert fit(run) == "epochs"
    readings = run.readings
    assert readings.skipped.sum() == 4  # once an epoch
    assert torch.isfinite(run.parameters.values).all()
    np.testing.assert_array_equal(readings.skipped, readings.nonfinite > 0)
    assert np.all(readings.update_ratio[readings.skipped] == 0)
    assert [fact["action"] for name, fact in told if name == "intervention"] == ["skip_step"] * 4
    event = readings.nonfinite_event
    assert event is not None
    assert event["what"] == "input"
    assert event["rows"] == [data.train.rows[17]]
    assert event["columns"] == [data.inputs[3].name]
    assert event["step"] == np.flatnonzero(readings.skipped)[0]


def test_too_many_in_a_row_end_the_run_with_the_weights_untouched() -> None:
    data = prepared()
    x = np.full_like(data.train.x, np.nan)
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, x=x))
    run = build(data, data.config)
    before = weights(run)
    assert fit(run) == "diverged"
    assert weights(run) == before
    assert len(run.readings.steps) == 5
    assert [entry["action"] for entry in run.readings.interventions][-2:] == ["skip_step", "stop"]
    assert run.keeper.best is None


def test_without_a_guard_a_loss_that_is_not_finite_ends_the_run() -> None:
    data = _with_nan(prepared(guards=[]), 0, 0, np.inf)
    run = build(data, data.config)
    assert fit(run) == "diverged"
    assert run.readings.nonfinite_event is not None


def test_overflow_in_a_layer_is_placed() -> None:
    data = prepared(
        model={"kind": "mlp", "widths": [4], "init": {"kind": "constant", "value": 1e6}}, clips=[]
    )
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, x=data.train.x * np.float32(1e34)))
    run = build(data, data.config)
    fit(run)
    event = run.readings.nonfinite_event
    assert event is not None
    assert (event["what"], event["layer"]) == ("activation", "layers.0")
    assert event["producer"] is True  # its inputs were finite
    assert 0 < len(event["rows"]) <= 64


@pytest.mark.parametrize("answer", ["cancelled", "deadline"])
def test_should_stop_is_asked_before_every_step(answer: str) -> None:
    data = prepared()
    asked = iter([None] * 7 + [answer])
    run = build(data, data.config, hooks=Hooks(should_stop=lambda: next(asked)))
    assert fit(run) == answer
    assert len(run.readings.steps) == 7
    assert run.readings.stopped_by == answer


def test_a_deadline_in_the_past_ends_before_the_first_step() -> None:
    data = prepared()
    run = build(data, data.config, hooks=Hooks(deadline=0.0))
    assert fit(run) == "deadline"
    assert len(run.readings.steps) == 0


def test_max_seconds_is_an_ordinary_end_with_a_model() -> None:
    data = prepared(budget={"epochs": 1000, "batch_size": 64, "max_seconds": 1e-6, "patience": 0})
    run = build(data, data.config)
    assert fit(run) == "max_seconds"
    assert len(run.readings.steps) == 1
    assert run.keeper.best is not None
    assert run.epochs[-1]["validation_loss"] is not None


def test_early_stopping_returns_the_best_weights() -> None:
    data = prepared(
        optimizer={"kind": "adam", "lr": 0.03},
        model={"kind": "mlp", "widths": [64, 64]},
        budget={"epochs": 400, "batch_size": 32, "patience": 5},
    )
    run = build(data, data.config)
    assert fit(run) == "patience"
    losses = [entry["validation_loss"] for entry in run.epochs]
    best = int(np.argmin(losses))
    assert len(losses) == best + 6
    assert run.readings.best_epoch == best
    run.keeper.restore()
    run.model.eval()
    assert run.validation is not None
    assert run.objective.mean(run.validation)[0] == pytest.approx(losses[best], rel=1e-6)


def test_spool_is_given_readings_that_persist() -> None:
    data, spooled = prepared(), []
    run = build(data, data.config, hooks=Hooks(spool=lambda readings: spooled.append(readings.to_bytes())))
    fit(run)
    last = Readings.from_bytes(spooled[-1])
    assert len(last.steps) == run.step
    np.testing.assert_array_equal(last.weight_norm, run.readings.weight_norm)


def test_plateau_cuts_the_learning_rate() -> None:
    data = prepared(
        schedule={"kind": "plateau", "factor": 0.1, "patience": 1},
        optimizer={"kind": "sgd", "lr": 1e-12},
        split={"kind": "random", "validation": 0.0, "test": 0.1},
    )
    run = build(data, data.config)
    run.schedule.epoch_ended(-1.0)  # nothing will be better
    fit(run)
    assert run.readings.lr[-1] == pytest.approx(1e-15)


@pytest.mark.parametrize(
    "norm", [{"kind": "mlp", "widths": [8], "norm": "batch"}, {"kind": "resnet", "width": 8}]
)
def test_batch_norm_never_sees_a_single_row(norm: dict[str, Any]) -> None:
    data = prepared(
        model=norm,
        split={"kind": "random", "validation": 0, "test": 0},
        budget={"epochs": 2, "batch_size": 49},
    )
    assert data.train.x.shape[0] % 49 == 1
    run = build(data, data.config)
    assert fit(run) == "epochs"
    assert run.batches.sizes == [49] * 8 + [50]
    with pytest.raises(ConfigError, match="batches of two rows"):
        build(
            data,
            dataclasses.replace(data.config, budget=dataclasses.replace(data.config.budget, batch_size=1)),
        )


def test_two_classes_more_classes_and_categories_with_weights() -> None:
    settings: dict[str, Any] = {
        "optimizer": {"kind": "adam", "lr": 0.01},
        "budget": {"epochs": 30, "batch_size": 32},
    }
    binary = prepared(breast_cancer(), loss={"kind": "bce", "pos_weight": 2.0}, **settings)
    multi = prepared(iris(), loss={"kind": "cross_entropy", "class_weights": "balanced"}, **settings)
    mixed = prepared(categories(), columns={"weight": "w"}, **settings)
    runs = [build(data, data.config) for data in (binary, multi, mixed)]
    for run in runs:
        assert fit(run) in ("epochs", "patience")
    assert max(entry["accuracy"] for entry in runs[0].epochs) > 0.93
    assert max(entry["accuracy"] for entry in runs[1].epochs) > 0.9
    assert min(entry["rmse"] for entry in runs[2].epochs) < 0.5
    assert runs[2].readings.layers == ("embeddings.0", "embeddings.1", "layers.0", "layers.1", "output")


def test_the_loss_must_suit_the_task() -> None:
    data = prepared(breast_cancer())  # its config still has the preset's loss for an unknown task
    with pytest.raises(ConfigError, match="a binary task cannot use huber; use bce"):
        build(data, data.config)


def test_freeze_keeps_a_layer_as_it_starts() -> None:
    data = prepared(model={"kind": "mlp", "widths": [8, 8], "freeze": ["layers.0"]})
    run = build(data, data.config)
    frozen = run.model.get_parameter("layers.0.linear.weight").clone()
    fit(run)
    assert torch.equal(run.model.get_parameter("layers.0.linear.weight"), frozen)
    assert run.readings.layers == ("layers.1", "output")
    unknown = dataclasses.replace(data.config, model=contract.MLP(widths=(8,), freeze=("layers.7",)))
    with pytest.raises(ConfigError, match=r"layers\.7; layers: layers\.0, output"):
        build(data, unknown)
