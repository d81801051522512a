"""Guards judge; what they ask for is done by the trainer."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from gradkeel.contract import config as contract
from gradkeel.contract.errors import ConfigError
from gradkeel.contract.resolve import resolve
from gradkeel_worker.engine import train
from gradkeel_worker.engine.actions import RollBack, SkipStep, StopDiverged
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.stabilizers import GUARDS
from gradkeel_worker.stabilizers.guards import judge

from ..engine.cases import SMALL, diabetes, prepared

Json = dict[str, Any]


class Step(NamedTuple):
    loss: float
    global_norm: float


GOOD, BAD = Step(1.0, 1.0), Step(math.nan, math.nan)


def outliers(norms: list[float], z: float, window: int) -> list[bool]:
    """The rule of skip_outlier, from its words."""
    held: list[float] = []
    found = []
    for norm in norms:
        latest = held[-window:]
        limit = np.mean(latest) + z * np.std(latest) if len(held) >= min(16, window) else math.inf
        found.append(bool(norm > limit))
        held.append(min(norm, float(limit)))
    return found


@pytest.mark.parametrize(("z", "window"), [(6.0, 128), (2.0, 20), (1.0, 4)])
def test_outliers_are_told_from_the_latest_norms(z: float, window: int) -> None:
    norms = np.random.default_rng(0).lognormal(0, 0.3, 400)
    norms[50::40] *= 30
    guard = GUARDS["skip_outlier"](contract.SkipOutlier(z=z, window=window))
    found = [bool(guard(Step(1.0, float(norm)))) for norm in norms]
    assert found == outliers(norms.tolist(), z, window)
    assert found[50] and not any(found[:4])


def test_only_upwards_and_a_lasting_rise_is_let_through() -> None:
    guard = GUARDS["skip_outlier"](contract.SkipOutlier(window=32))
    steady = [Step(1.0, 1.0 + 0.01 * (i % 5)) for i in range(40)]
    assert not any(guard(step) for step in steady)
    assert not guard(Step(1.0, 1e-9))
    rise = [bool(guard(Step(1.0, 50.0))) for _ in range(200)]
    assert rise[0] and not any(rise[-50:])


@pytest.mark.parametrize("bad", [Step(math.nan, 1.0), Step(1.0, math.nan), Step(1.0, math.inf)])
def test_what_is_not_finite_never_enters_the_window(bad: Step) -> None:
    norms = np.random.default_rng(1).lognormal(0, 0.5, 100).tolist()
    one, other = (GUARDS["skip_outlier"](contract.SkipOutlier(z=1.5, window=10)) for _ in range(2))
    answers = []
    for norm in norms:
        assert not one(bad)
        answers.append(one(Step(1.0, norm)))
    assert answers == [other(Step(1.0, norm)) for norm in norms]
    assert any(answers)


def kinds(actions: Any) -> list[type]:
    return [type(action) for action in actions]


def test_rollback_acts_where_the_run_would_end() -> None:
    patient = GUARDS["skip_nonfinite"](contract.SkipNonfinite(max_consecutive=2))
    rollback = GUARDS["rollback"](contract.Rollback(max=2, lr_factor=0.25))
    told = [judge([patient, rollback], step) for step in (GOOD, BAD, BAD, BAD, BAD, GOOD, BAD, BAD)]
    skip, back, end = [SkipStep], [SkipStep, RollBack], [SkipStep, StopDiverged, StopDiverged]
    assert [kinds(each) for each in told] == [[], skip, back, skip, back, [], skip, end]
    assert told[2][1] == RollBack("the loss is not finite", 0.25)
    alone = GUARDS["rollback"](contract.Rollback(max=1))
    assert [kinds(judge([alone], step)) for step in (GOOD, BAD, BAD)] == [[], [RollBack], [StopDiverged]]


def test_stop_after_counts_steps_at_which_others_stepped_in() -> None:
    guards = [
        GUARDS["skip_nonfinite"](contract.SkipNonfinite(max_consecutive=100)),
        GUARDS["stop_after"](contract.StopAfter(interventions=3)),
    ]
    told = [kinds(judge(guards, step)) for step in (BAD, GOOD, BAD, GOOD, BAD)]
    assert told == [[SkipStep], [], [SkipStep], [], [SkipStep, StopDiverged]]


@pytest.mark.parametrize(
    ("guards", "pointer"),
    [
        (["stop_after"], "/guards/0"),
        (["skip_nonfinite", "stop_after", "rollback"], "/guards/1"),
        (["rollback", "skip_nonfinite", "rollback"], "/guards/2"),
    ],
)
def test_lists_that_make_no_sense_are_refused(guards: list[str], pointer: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve({"target": "y", "guards": [{"kind": kind} for kind in guards]})
    assert [error.pointer for error in refused.value.errors] == [pointer]


# ------------------------------------------------------------------------------------------- in a training

WILD: Json = {
    "optimizer": {"kind": "sgd", "lr": 1e3, "momentum": 0.5},
    "loss": {"kind": "mse"},
    "clips": [],
    "budget": {"epochs": 30, "batch_size": 64, "patience": 0},
}


def test_a_run_that_blew_up_goes_back_and_comes_through() -> None:
    events: list[Json] = []
    guards: list[Json] = [{"kind": "skip_nonfinite"}, {"kind": "rollback", "lr_factor": 1e-3}]
    result = train(
        diabetes(),
        SMALL | WILD | {"guards": guards},
        on_event=lambda name, data: events.append(data) if name == "intervention" else None,
    )
    assert train(diabetes(), SMALL | WILD).status == "diverged"
    assert result.status == "succeeded"
    (back,) = [event for event in events if event["action"] == "roll_back"]
    assert back in result.report["interventions"]
    lr = result.readings.lr
    assert lr[back["step"]] == 1e3 and lr[back["step"] + 1] == 1.0
    assert result.readings.skipped[back["step"]]
    assert np.isfinite(result.readings.loss[back["step"] + 1 :]).all()
    assert result.readings.loss[back["step"] + 1] < 10


def test_it_goes_back_to_the_best_epochs_weights_and_optimizer_state() -> None:
    """Bad numbers in the third epoch: at its first step after them, all is as at the end of the best."""
    data = prepared(
        optimizer={"kind": "adam", "lr": 0.01},
        guards=[{"kind": "rollback"}],
        model={"kind": "mlp", "widths": [8]},
    )
    run = build(data, data.config)
    kept: Json = {}
    close = run.schedule.epoch_ended

    def closed(loss: float) -> None:
        close(loss)
        if run.keeper.best is not None and run.keeper.best.step == run.step:
            kept.update(values=run.parameters.values.clone(), steps=run.optimizer.state()["steps"].clone())

    run.schedule.epoch_ended = closed  # type: ignore[method-assign]
    loss_of, steps = run.objective.loss, len(run.batches)

    def spoilt(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return loss_of(prediction, target) * (math.nan if run.step == 2 * steps + 1 else 1.0)

    restored: list[bool] = []
    run.objective.loss = spoilt

    def emit(name: str, told: Json) -> None:
        if name == "intervention":
            assert told["action"] == "roll_back"
            restored.append(torch.equal(run.parameters.values, kept["values"]))
            restored.append(torch.equal(run.optimizer.state()["steps"], kept["steps"]))

    run.hooks = dataclasses.replace(run.hooks, emit=emit)
    assert fit(run) == "epochs"
    assert restored == [True, True]
    assert run.lr == 0.005


def test_after_its_last_time_back_the_run_has_diverged() -> None:
    guards: list[Json] = [{"kind": "rollback", "lr_factor": 0.9, "max": 2}]
    result = train(diabetes(), SMALL | WILD | {"guards": guards})
    assert result.status == "diverged"
    assert [one["action"] for one in result.report["interventions"]] == ["roll_back", "roll_back", "stop"]


def test_guards_that_step_in_too_often_end_the_run() -> None:
    guards: list[Json] = [
        {"kind": "skip_outlier", "z": 0.5, "window": 5},
        {"kind": "stop_after", "interventions": 3},
    ]
    result = train(diabetes(), SMALL | {"guards": guards})
    assert result.status == "diverged"
    assert result.error is not None and "guards stepped in 3 times" in result.error["message"]
    actions = [one["action"] for one in result.report["interventions"]]
    assert actions == ["skip_step", "skip_step", "skip_step", "stop"]


def test_without_a_guard_that_minds_a_loss_that_is_not_finite_ends_the_run() -> None:
    result = train(diabetes(), SMALL | WILD | {"guards": [{"kind": "skip_outlier"}]})
    assert result.status == "diverged"
    assert len(result.readings.steps) < 30
