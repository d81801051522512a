"""Jobs that mend themselves: what they change, what they never change, and how they are stopped and go on."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from gradkeel.contract.patch import merge_patch
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table
from gradkeel_worker.diagnosis import partial_report
from gradkeel_worker.engine import Result, train
from gradkeel_worker.engine.epochs import is_due
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.interrupts import Released

from ..diagnosis.runs import ADAMW, RAW, SGD, VALIDATOR, diabetes
from .test_resume import comparable

Json = dict[str, Any]
Told = list[tuple[str, Json]]

QUICK = {"budget": {"epochs": 16}, "model": {"widths": [24, 24]}, "health": {"gradient_check": False}}
ALL = {"repair_allow": ["loss", "target"]}
OPEN = {"loss": {"kind": "mse"}, "clips": [], "guards": []}
CREEPS: Json = {
    **OPEN,
    "optimizer": {"lr": 10},
    "schedule": {"kind": "constant", "warmup_steps": 3000},
    "budget": {"epochs": 45, "batch_size": 32, "patience": 0},
    "model": {"widths": [64, 64]},
}
"""The learning rate grows step by step: the model learns, and is lost later."""


def mending(base: Json, change: Json, **health: Any) -> Json:
    config: Json = functools.reduce(merge_patch, (QUICK, change, {"health": {"repair": 2, **health}}), base)
    return config


def shuffled(seed: int) -> Table:
    target = np.random.default_rng(seed).permutation(diabetes()["target"])
    return Table.from_arrays(diabetes(target=target))


def run(config: Json, table: Table | None = None, **options: Any) -> tuple[Result, Told]:
    told: Told = []
    data = Table.from_arrays(diabetes()) if table is None else copy.deepcopy(table)
    result = train(data, config, on_event=lambda name, event: told.append((name, event)), **options)
    VALIDATOR.validate(result.report)
    return result, told


def rmse(result: Result) -> float:
    return float(result.metrics["validation"]["rmse"])


@pytest.fixture(scope="module")
def twins() -> dict[str, float]:
    """Validation RMSE of the healthy trainings."""
    return {name: rmse(run(merge_patch(base, QUICK))[0]) for name, base in (("sgd", SGD), ("adamw", ADAMW))}


FAULTS: dict[str, tuple[str, Json, tuple[str, ...], str]] = {
    "nothing scaled, sgd": ("sgd", mending(RAW, {}, **ALL), ("feature_scale",), "start"),
    "learning rate × 1000, sgd": ("sgd", mending(SGD, {"optimizer": {"lr": 10}}), ("lr_too_high",), "start"),
    "learning rate × 1000, adamw": (
        "adamw",
        mending(ADAMW, {"optimizer": {"lr": 1}}),
        ("lr_too_high",),
        "start",
    ),
    "dead units, sgd": ("sgd", mending(SGD, {"model": {"bias_init": -10}}), ("dead_units",), "start"),
    "dead units, adamw": ("adamw", mending(ADAMW, {"model": {"bias_init": -10}}), ("dead_units",), "start"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_mended(name: str, twins: dict[str, float]) -> None:
    twin, config, rules, begun = FAULTS[name]
    result, told = run(config)
    entries = result.report["repair"]
    assert tuple(entry["rule"] for entry in entries) == rules
    assert {(entry["status"], entry["from"]) for entry in entries} == {("applied", begun)}
    assert (result.status, result.report["verdict"]) == ("succeeded", "healthy")
    assert rmse(result) == pytest.approx(entries[-1]["after"]["rmse"])
    assert rmse(result) < 1.05 * twins[twin]
    # told in words, in the config that was trained, and while it happened
    assert "Re-run with this change (same seed, " in result.report["summary"]
    assert result.report["interventions"][0]["action"] == "repair"
    mended = resolve(merge_patch(config, entries[0]["patch"]))
    assert result.config.optimizer == mended.optimizer and result.config.model == mended.model
    assert any("repair 1" in reason for reason in result.config.chosen.values())
    logs = [data["repair"]["status"] for name, data in told if name == "log"]
    assert logs == ["applied", "applied"]  # it begins, and what came of it
    fractions = [data["fraction"] for name, data in told if name == "progress"]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and fractions[-1] <= 1


def test_a_healthy_training_is_left_alone() -> None:
    watched, _ = run(mending(SGD, {}))
    plain, _ = run(merge_patch(SGD, QUICK))
    assert watched.report["repair"] == []
    assert comparable(watched) == comparable(plain)


def test_good_weights_are_gone_on_from() -> None:
    result, _ = run(mending(SGD, CREEPS))
    (entry,) = result.report["repair"]
    assert (entry["from"], entry["status"], entry["rule"]) == ("last_good", "applied", "lr_too_high")
    assert entry["patch"].keys() == {"optimizer"}
    assert result.readings.steps[0] == entry["step"] > 0
    assert entry["steps"] == len(result.readings.steps)
    assert entry["gained"] >= 0  # the weights it went on from are its own to return
    assert [each["epoch"] for each in result.readings.epochs] == list(range(45))


def test_what_is_worse_is_undone() -> None:
    table = shuffled(2)
    result, _ = run(mending(ADAMW, {}), table)
    (entry,) = result.report["repair"]
    assert (entry["status"], entry["rule"]) == ("reverted", "no_better_than_baseline")
    assert entry["gained"] < 0 and entry["after"]["rmse"] > entry["before"]["rmse"] == rmse(result)
    assert result.config.model.kind == "mlp"
    alone, _ = run(merge_patch(ADAMW, QUICK), table)
    weights, expected = (each.model.state_dict() for each in (result, alone) if each.model is not None)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert result.report["series"] == alone.report["series"]
    (finding,) = (each for each in result.report["findings"] if each["rule"] == entry["rule"])
    assert finding["remedy"]["tried"]["gained"] == entry["gained"]
    assert finding["remedy"]["tried"]["status"] == "reverted"


def test_a_difference_that_may_be_chance_does_not_undo_what_mended() -> None:
    columns = diabetes()
    holed = diabetes(bmi=np.where(np.arange(442) == 7, np.nan, columns["bmi"]))
    config = mending(ADAMW, {"prepare": {"missing": {"kind": "propagate"}}})
    result, _ = run(config, Table.from_arrays(holed))
    (entry,) = result.report["repair"]
    assert (entry["rule"], entry["status"]) == ("non_finite", "applied")
    assert result.report["verdict"] == "healthy"
    if entry["gained"] < 0:
        assert "may be chance" in entry["reason"]


def test_what_is_estimated_is_not_changed_unasked() -> None:
    raw = {**RAW, "loss": {"kind": "huber"}}
    result, _ = run(mending(raw, {"optimizer": {"kind": "sgd", "lr": 3.0}}))
    assert (result.config.loss.kind, result.config.prepare.target.kind) == ("huber", "none")
    for entry in result.report["repair"]:
        assert "target" not in entry["patch"].get("prepare", {})


def test_under_a_squared_error_the_target_may_be_scaled_unasked() -> None:
    """The mean moves and stretches with the target."""
    result, _ = run(mending(RAW, {}))
    entry = result.report["repair"][0]
    assert entry["status"] == "applied"
    assert entry["patch"]["prepare"].keys() == {"numeric", "target"}
    assert (result.config.loss.kind, result.config.prepare.target.kind) == ("mse", "standard")
    assert result.report["verdict"] == "healthy"


def test_no_more_attempts_than_allowed() -> None:
    result, _ = run(mending(RAW, {"optimizer": {"lr": 100}}, repair=1))
    done = [entry for entry in result.report["repair"] if entry["status"] != "refused"]
    assert len(done) == 1


def test_the_callers_own_model_is_not_changed() -> None:
    own = torch.nn.Sequential(torch.nn.Linear(10, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    with torch.no_grad():
        own[0].bias.fill_(-100.0)
    result, _ = run(mending(ADAMW, {}), model=own)
    assert result.report["repair"]
    assert all("model" not in e["patch"] for e in result.report["repair"] if e["status"] != "refused")


# ------------------------------------------------------------------------------------ stopping and going on


def answers(steps: int, word: str) -> Iterator[str | None]:
    yield from [None] * steps
    while True:
        yield word


RESUMED: dict[str, tuple[Json, list[int], Table | None]] = {
    "in the second training": (mending(RAW, {}, **ALL), [40], None),
    "in the first and the second": (
        mending(SGD, {"model": {"bias_init": -10, "dropout": 0.2}}),
        [9, 40],
        None,
    ),
    "before its first step": (mending(RAW, {}, **ALL), [9], None),
    "of good weights": (mending(SGD, CREEPS), [310], None),
    "before it is undone": (mending(ADAMW, {}), [150], shuffled(2)),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_repaired_training_that_was_interrupted_ends_bit_equal(name: str) -> None:
    config, stops, table = RESUMED[name]
    whole, _ = run(config, table)
    kept: bytes | None = None
    for steps in stops:
        made: list[bytes] = []
        stop = answers(steps, "released")
        with pytest.raises(Released):
            run(
                config,
                table,
                resume=kept,
                should_stop=lambda stop=stop: next(stop),
                on_checkpoint=lambda checkpoint, made=made: made.append(checkpoint.to_bytes()),
            )
        kept = made[-1]
    result, told = run(config, table, resume=kept)
    assert "resumed" in [name for name, _ in told]
    expected, found = comparable(whole), comparable(result)
    for key, value in expected.items():
        assert found[key] == value, key


def test_a_checkpoint_of_another_job_is_set_aside() -> None:
    made: list[bytes] = []
    stop = answers(40, "released")
    with pytest.raises(Released):
        run(
            mending(RAW, {}, **ALL),
            should_stop=lambda: next(stop),
            on_checkpoint=lambda checkpoint: made.append(checkpoint.to_bytes()),
        )
    config = mending(SGD, {"optimizer": {"lr": 10}})
    result, told = run(config, resume=made[-1])
    assert "begins anew" in next(data["message"] for name, data in told if name == "log")
    assert comparable(result) == comparable(run(config)[0])


@pytest.mark.parametrize("word", ["cancelled", "deadline"])
def test_a_job_that_ends_within_an_attempt_tells_of_it(word: str) -> None:
    stop = answers(40, word)
    result, _ = run(mending(SGD, {"optimizer": {"lr": 10}}), should_stop=lambda: next(stop))
    assert result.status == word
    (entry,) = result.report["repair"]
    assert (entry["status"], entry["after"]) == ("applied", None)
    assert word in entry["reason"]
    assert result.model is not None and result.config.optimizer.lr < 10


def test_the_model_of_before_is_kept_where_an_attempt_had_none_yet() -> None:
    """A job that is cancelled in the first steps of an attempt has the weights that it began with, at the
    least."""
    steps = len(run(merge_patch(mending(SGD, CREEPS), {"health": {"repair": 0}}))[0].readings.steps)
    stop = answers(steps + 2, "cancelled")
    result, _ = run(mending(SGD, CREEPS), should_stop=lambda: next(stop))
    assert result.status == "cancelled" and result.model is not None
    assert result.report["fit"]["best_epoch"] is not None
    # from the start: no epoch is over, so that the model is the first training's
    change = {"model": {"bias_init": -10}}
    begun: list[int] = []

    def note() -> str | None:
        if begun:
            begun.append(1)
        return "cancelled" if len(begun) > 3 else None

    def listen(name: str, data: Json) -> None:
        if name == "log" and "repair" in data:
            begun.append(0)

    result = train(Table.from_arrays(diabetes()), mending(SGD, change), on_event=listen, should_stop=note)
    assert result.status == "cancelled" and result.model is not None
    assert result.config.model == resolve(mending(SGD, change)).model
    (entry,) = result.report["repair"]
    assert entry["status"] == "reverted" and "was kept" in entry["reason"]


def test_attempts_share_the_jobs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def should_stop() -> None:
        clock[0] += 10.0

    config = mending(RAW, {"budget": {"max_seconds": 150}}, **ALL)
    result, _ = run(config, should_stop=should_stop)
    entry, refused = result.report["repair"]
    assert (refused["status"], "No time of budget.max_seconds" in refused["reason"]) == ("refused", True)
    assert result.readings.stopped_by == "max_seconds"
    # the first training took a step in 10 seconds; what it left of 150 is the second's
    assert abs(10 * (entry["stopped_at"] + entry["steps"]) - 150) <= 20


def test_the_report_of_a_job_that_was_killed_tells_of_its_repairs() -> None:
    config = mending(SGD, {"optimizer": {"lr": 10}})
    spooled: list[bytes] = []
    stop = answers(40, "released")
    with pytest.raises(Released):
        run(config, should_stop=lambda: next(stop), spool=lambda r: spooled.append(r.to_bytes()))
    readings = Readings.from_bytes(spooled[-1])
    report = partial_report(readings, resolve(config), config, "worker_lost")
    VALIDATOR.validate(report)
    (entry,) = report["repair"]
    assert (entry["rule"], entry["after"]) == ("lr_too_high", None)
    assert report["provenance"]["config"]["optimizer"]["lr"] == entry["patch"]["optimizer"]["lr"]


def test_readings_are_judged_after_a_bounded_share_of_the_epochs() -> None:
    due = [epoch + 1 for epoch in range(1000) if is_due(epoch)]
    assert due[:12] == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16]
    assert sum(due) < 6 * 1000 and len(due) < 40
