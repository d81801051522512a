"""A training that was interrupted ends bit for bit as one that was not."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from gradkeel.contract import config as contract
from gradkeel_worker.data import Table
from gradkeel_worker.engine import Result, train
from gradkeel_worker.engine.checkpoint import Checkpoint
from gradkeel_worker.interrupts import Interrupted, Released
from gradkeel_worker.optimizers import OPTIMIZERS
from gradkeel_worker.schedules import SCHEDULES
from gradkeel_worker.stabilizers import CLIPS, GUARDS

from .cases import SMALL, breast_cancer, categories, diabetes, iris, series

Json = dict[str, Any]

PLATEAU = {"kind": "plateau", "patience": 1, "factor": 0.3}
DROPOUT = {"kind": "mlp", "widths": [16, 8], "dropout": 0.3}
QUICK: Json = {"health": {"gradient_check": False}}
NORMS: list[Json] = [{"kind": "mlp", "widths": [16, 8], "norm": norm} for norm in ("batch", "layer")]


def poisoned() -> Table:
    """Diabetes with two missing cells."""
    table = diabetes()
    table.columns["bp"].values[123] = table.columns["bmi"].values[7] = np.nan
    return table


CASES: dict[str, tuple[Table, Json]] = {
    "sgd with momentum, plateau": (
        diabetes(),
        {"optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True}, "schedule": PLATEAU},
    ),
    "sgd": (diabetes(), {"optimizer": {"kind": "sgd", "lr": 0.02}, "clips": []}),
    "adam, cosine with warm-up": (
        diabetes(),
        {
            "optimizer": {"kind": "adam", "lr": 0.01},
            "schedule": {"kind": "cosine", "warmup_steps": 7, "min_factor": 0.1},
        },
    ),
    "adamw, constant, value clip": (
        diabetes(),
        {
            "optimizer": {"kind": "adamw", "lr": 0.01},
            "schedule": {"kind": "constant"},
            "clips": [{"kind": "value", "max_value": 0.01}],
        },
    ),
    "rmsprop with momentum, normalize": (
        diabetes(),
        {"optimizer": {"kind": "rmsprop", "lr": 0.003, "momentum": 0.5}, "clips": [{"kind": "normalize"}]},
    ),
    "adagrad, two clips": (
        diabetes(),
        {
            "optimizer": {"kind": "adagrad", "lr": 0.05},
            "clips": [{"kind": "norm", "max_norm": 0.2}, {"kind": "value", "max_value": 0.05}],
        },
    ),
    "dropout, gradient check": (diabetes(), {"model": DROPOUT, "health": {"gradient_check": True}}),
    "batch norm": (diabetes(), {"model": NORMS[0]}),
    "layer norm, economy tier": (
        diabetes(),
        {"model": NORMS[1], "health": {"tier": "economy", "gradient_check": False}},
    ),
    "full tier, batch norm": (
        diabetes(),
        {"model": NORMS[0], "health": {"tier": "full", "gradient_check": False}},
    ),
    "full tier, ensemble": (
        diabetes(),
        {
            "model": {"kind": "tabm", "members": 2, "blocks": 2, "width": 8},
            "health": {"tier": "full", "gradient_check": False},
            "budget": {"epochs": 6, "batch_size": 32, "patience": 0},
        },
    ),
    "embedded numbers, dropout, averaged weights": (
        diabetes(),
        {
            "prepare": {"embedding": {"kind": "piecewise_linear", "bins": 8, "width": 3}},
            "model": DROPOUT,
            "budget": {"ema": 0.05},
        },
    ),
    "neighbours": (
        diabetes(),
        {"prepare": {"neighbors": {"kind": "means", "columns": ["bmi", "s5"], "k": [5]}}},
    ),
    "periodic embedding": (
        diabetes(),
        {"prepare": {"embedding": {"kind": "periodic", "frequencies": 4, "width": 3}}},
    ),
    "ensemble, averaged weights": (
        diabetes(),
        {
            "prepare": {"embedding": {"kind": "piecewise_linear", "bins": 8, "width": 3}},
            "model": {"kind": "tabm", "members": 3, "blocks": 2, "width": 8, "dropout": 0.2},
            "loss": {"kind": "huber", "delta": "auto"},
            "clips": [{"kind": "adaptive"}],
            "budget": {"ema": 0.05},
        },
    ),
    "whole ensemble in bf16, categories and weights": (
        categories(),
        {
            "model": {"kind": "tabm", "members": 2, "blocks": 2, "width": 8, "mini": False},
            "columns": {"weight": "w"},
            "precision": "bf16",
        },
    ),
    "residual blocks": (
        diabetes(),
        {"model": {"kind": "resnet", "blocks": 2, "width": 8, "residual_dropout": 0.1}},
    ),
    "patience": (
        diabetes(),
        {
            "optimizer": {"kind": "adamw", "lr": 0.05},
            "budget": {"epochs": 60, "batch_size": 64, "patience": 3},
        },
    ),
    "no validation part": (
        diabetes(),
        {"split": {"kind": "random", "validation": 0, "test": 0.2}, "schedule": PLATEAU},
    ),
    "two classes": (breast_cancer(), {"model": DROPOUT}),
    "three classes": (iris(), {"budget": {"epochs": 4, "batch_size": 7, "patience": 0}}),
    "categories and weights": (categories(), {"columns": {"weight": "w"}}),
    "missing cells, skipped steps": (
        poisoned(),
        {"prepare": {"missing": {"kind": "propagate"}}, "guards": [{"kind": "skip_nonfinite"}]},
    ),
    "huber, delta by a pilot": (diabetes(), {"loss": {"kind": "huber", "delta": "auto"}}),
    "huber's delta and the learning rate found": (
        diabetes(),
        {"loss": {"kind": "huber", "delta": "auto"}, "optimizer": {"kind": "adamw", "lr": "auto"}},
    ),
    "bf16, batch norm, averaged weights": (
        diabetes(),
        {
            "precision": "bf16",
            "prepare": {"embedding": {"kind": "piecewise_linear", "bins": 8, "width": 3}},
            "model": NORMS[0],
            "budget": {"ema": 0.05},
        },
    ),
    "fp16, a scale that is lowered": (
        diabetes(),
        {
            "precision": "fp16",
            "loss": {"kind": "mse"},
            "prepare": {"target": {"kind": "none"}},
            "model": DROPOUT,
        },
    ),
    "lstm over windows, dropout, averaged weights, unit-wise clip": (
        series(),
        {
            "model": {"kind": "lstm", "width": 6, "layers": 2, "window": 5, "dropout": 0.2},
            "columns": {"order": "t", "group": "g"},
            "split": {"kind": "group", "validation": 0.3, "test": 0.3},
            "clips": [{"kind": "adaptive"}],
            "budget": {"epochs": 3, "batch_size": 32, "ema": 0.05},
        },
    ),
    "forecast by a tcn, learning rate found": (
        series(),
        {
            "task": "forecast",
            "model": {
                "kind": "tcn",
                "width": 4,
                "layers": 2,
                "window": 5,
                "horizon": 2,
                "change_from": "last",
            },
            "columns": {"order": "t", "group": "g"},
            "split": {"kind": "ordered"},
            "optimizer": {"kind": "adamw", "lr": "auto"},
            "budget": {"epochs": 3, "batch_size": 32},
        },
    ),
    "poisson": (diabetes(), {"loss": {"kind": "poisson"}}),
    "quantiles, averaged weights, clips": (
        diabetes(),
        {
            "loss": {"kind": "quantile", "levels": [0.1, 0.5, 0.9]},
            "clips": [{"kind": "adaptive"}, {"kind": "layer_norm", "max_norm": 0.1}],
            "model": DROPOUT,
            "budget": {"ema": 0.05},
        },
    ),
    "two targets, delta by a pilot, averaged weights": (
        diabetes(),
        {
            "target": ["y", "bmi"],
            "loss": {"kind": "huber", "delta": "auto"},
            "clips": [{"kind": "percentile", "p": 60, "window": 9}],
            "budget": {"ema": 0.05},
        },
    ),
    "two targets with row weights": (categories(), {"target": ["y", "size"], "columns": {"weight": "w"}}),
    "nadam, one cycle, layer norm clip": (
        diabetes(),
        {
            "optimizer": {"kind": "nadam", "lr": 0.01, "weight_decay": 0.01},
            "schedule": {"kind": "one_cycle", "warmup_steps": 3},
            "clips": [{"kind": "layer_norm", "max_norm": 0.1}, {"kind": "adaptive"}],
        },
    ),
    "radam, steps, statistics of norms": (
        diabetes(),
        {
            "optimizer": {"kind": "radam", "lr": 0.01},
            "schedule": {"kind": "step", "every": 2, "factor": 0.3},
            "clips": [
                {"kind": "percentile", "p": 60, "window": 9},
                {"kind": "zscore", "z": 0.5, "warmup": 5},
            ],
            "guards": [
                {"kind": "skip_nonfinite"},
                {"kind": "skip_outlier", "z": 0.5, "window": 5},
                {"kind": "stop_after", "interventions": 1000},
            ],
        },
    ),
    "outliers end the run": (
        diabetes(),
        {
            "clips": [],
            "guards": [
                {"kind": "skip_outlier", "z": 0.5, "window": 5},
                {"kind": "stop_after", "interventions": 3},
            ],
        },
    ),
    "back to earlier weights": (
        diabetes(),
        {
            "optimizer": {"kind": "sgd", "lr": 1e3, "momentum": 0.5},
            "loss": {"kind": "mse"},
            "clips": [],
            "model": DROPOUT,
            "budget": {"epochs": 12, "batch_size": 64, "patience": 0},
            "guards": [
                {"kind": "skip_nonfinite", "max_consecutive": 2},
                {"kind": "rollback", "lr_factor": 0.001},
            ],
        },
    ),
    "back to earlier weights, averaged": (
        poisoned(),
        {
            "prepare": {"missing": {"kind": "propagate"}},
            "model": NORMS[0],
            "budget": {"epochs": 3, "batch_size": 64, "patience": 0, "ema": 0.1},
            "guards": [{"kind": "rollback", "max": 20}],
        },
    ),
    "divergence without guards": (
        diabetes(),
        {"optimizer": {"kind": "sgd", "lr": 1e4}, "loss": {"kind": "mse"}, "clips": [], "guards": []},
    ),
    "divergence with a guard": (
        diabetes(),
        {
            "optimizer": {"kind": "sgd", "lr": 1e4},
            "loss": {"kind": "mse"},
            "clips": [],
            "guards": [{"kind": "skip_nonfinite", "max_consecutive": 4}],
        },
    ),
}


def kinds_in(block: str) -> set[str]:
    """Kinds of a config's block that some case names."""
    found: list[Json] = []
    for _, config in CASES.values():
        value = config.get(block, [])
        found += value if isinstance(value, list) else [value]
    return {each["kind"] for each in found}


@pytest.mark.parametrize(
    ("block", "table"),
    [("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("clips", CLIPS), ("guards", GUARDS)],
)
def test_every_kind_that_may_remember_something_is_tried(block: str, table: Json) -> None:
    assert kinds_in(block) == set(table)


def comparable(result: Result) -> Json:
    """Everything of a result but what it cost and when it was made."""
    readings = copy.copy(result.readings)
    readings.seconds_monitoring = readings.seconds_training = 0.0
    readings.seconds_by_probe = {}
    report = {key: value for key, value in result.report.items() if key not in ("cost", "provenance")}
    report["fit"] = (report["fit"] or {}) | {"seconds": None}
    state = {} if result.model is None else result.model.state_dict()
    return {
        "status": result.status,
        "error": result.error,
        "weights": {name: tensor.numpy().tobytes() for name, tensor in state.items()},
        "readings": {name: repr(value) for name, value in vars(readings).items()},
        "arrays": readings.to_bytes(),
        "metrics": result.metrics,
        "predictions": {name: np.asarray(each).tolist() for name, each in result.predictions.items()},
        "report": json.dumps(report),
    }


def stopping_after(steps: int) -> Iterator[str | None]:
    yield from [None] * steps
    yield "released"


def interrupted(table: Table, config: Json, steps: list[int]) -> tuple[Result, list[int]]:
    """Train with a release after so many steps each, those of a pilot fit aside; the result, and where it
    went on."""
    kept: bytes | None = None
    went_on: list[int] = []
    answers: Iterator[str | None] = iter(())

    def note(name: str, data: Json) -> None:
        nonlocal answers
        if name == "resumed":
            went_on.append(data["step"])
        if name == "resolved" and (count := next(counts, None)) is not None:
            answers = stopping_after(count)

    def answer() -> str | None:
        return next(answers, None)

    counts = iter(steps)
    for _ in steps:
        made: list[bytes] = []
        answers = iter(())
        try:
            result = train(
                copy.deepcopy(table),
                config,
                resume=kept,
                on_event=note,
                should_stop=answer,
                on_checkpoint=lambda checkpoint, made=made: made.append(checkpoint.to_bytes()),
            )
        except Released:
            kept = made[-1]
        else:
            return result, went_on
    return train(copy.deepcopy(table), config, resume=kept, on_event=note), went_on


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_training_ends_bit_equal(name: str) -> None:
    table, changes = CASES[name]
    config = SMALL | QUICK | changes
    whole = train(copy.deepcopy(table), config)
    total = len(whole.readings.steps)
    draw = random.Random(name)
    steps = sorted(draw.sample(range(1, total), min(3, total - 1)))
    gaps = [stop - start for start, stop in zip([0, *steps], steps, strict=False)]
    result, went_on = interrupted(table, config, gaps)
    assert went_on == steps
    assert result.report["provenance"]["resumed_at"] == steps
    expected, found = comparable(whole), comparable(result)
    for key, value in expected.items():
        assert found[key] == value, key


def every_checkpoint(config: Json, **options: Any) -> tuple[Result, list[bytes]]:
    """A training that makes a checkpoint before every step and after every epoch."""
    made: list[bytes] = []
    result = train(
        diabetes(),
        config,
        on_checkpoint=lambda checkpoint: made.append(checkpoint.to_bytes()),
        checkpoint_seconds=1e-9,
        **options,
    )
    return result, made


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradkeel_worker.engine.epochs._PAUSE", 0.0)


def test_making_checkpoints_changes_nothing(no_pauses: None) -> None:
    config = SMALL | CASES["patience"][1]
    watched, made = every_checkpoint(config)
    assert len(made) == len(watched.readings.steps)  # before every step but the first, and after the last
    assert comparable(watched) == comparable(train(diabetes(), config))


def test_after_its_last_epoch_a_training_only_ends(no_pauses: None) -> None:
    config = SMALL | CASES["patience"][1]
    watched, made = every_checkpoint(config)
    assert watched.readings.stopped_by == "patience"
    told: list[str] = []
    resumed = train(diabetes(), config, resume=made[-1], on_event=lambda name, data: told.append(name))
    assert "reading" not in told
    assert comparable(resumed) == comparable(watched)


def test_tiny_runs_make_no_checkpoint() -> None:
    made: list[Checkpoint] = []
    train(diabetes(), SMALL, on_checkpoint=made.append)
    assert made == []


def test_a_checkpoint_says_where_it_stands(no_pauses: None) -> None:
    made: list[tuple[int, int, float]] = []
    train(
        diabetes(),
        SMALL,
        on_checkpoint=lambda c: made.append((c.step, c.epoch, c.seconds)),
        checkpoint_seconds=1e-9,
    )
    steps = [step for step, _, _ in made]
    assert steps == list(range(1, len(steps) + 1))
    per_epoch = len(steps) // SMALL["budget"]["epochs"]
    assert [epoch for _, epoch, _ in made] == [step // per_epoch for step in steps]
    seconds = [second for _, _, second in made]
    assert seconds == sorted(seconds) and seconds[0] > 0


def damaged(whole: bytes) -> dict[str, bytes]:
    return {
        "nothing": b"",
        "torn": whole[: len(whole) // 2],
        "torn at the end": whole[:-1],
        "text": b"this is no checkpoint at all, however long it may be",
        "a foreign format": whole.replace(b"gradkeel-checkpoint-1", b"gradkeel-checkpoint-0"),
        "a vast header": b"\xff" * 8 + whole[8:],
    }


@pytest.mark.parametrize("damage", damaged(b""))
def test_a_damaged_checkpoint_is_set_aside(damage: str, no_pauses: None) -> None:
    whole, made = every_checkpoint(SMALL)
    told: list[tuple[str, Json]] = []
    result = train(
        diabetes(),
        SMALL,
        resume=damaged(made[5])[damage],
        on_event=lambda name, data: told.append((name, data)),
    )
    (message,) = [data["message"] for name, data in told if name == "log"]
    assert "begins anew" in message
    assert "resumed" not in [name for name, _ in told]
    assert comparable(result) == comparable(whole)
    assert result.report["provenance"]["resumed_at"] == []


@pytest.mark.parametrize("changed", [{"seed": 3}, {"loss": {"kind": "mse"}}, None])
def test_a_checkpoint_of_another_training_is_set_aside(changed: Json | None, no_pauses: None) -> None:
    _, made = every_checkpoint(SMALL)
    table = diabetes(400) if changed is None else diabetes()
    config = SMALL | (changed or {})
    told: list[str] = []
    result = train(table, config, resume=made[3], on_event=lambda name, data: told.append(name))
    assert "resumed" not in told and "log" in told
    assert comparable(result) == comparable(train(table, config))


def test_time_spent_before_counts(no_pauses: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on after its seconds are spent takes no further step; the last epoch still counts."""
    config = SMALL | {"budget": {"epochs": 1000, "batch_size": 64, "patience": 0, "max_seconds": 100}}
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    made: list[Checkpoint] = []

    def keep(checkpoint: Checkpoint) -> None:
        made.append(checkpoint)
        kept.append(checkpoint.to_bytes())

    kept: list[bytes] = []

    def should_stop() -> str | None:
        clock[0] += 12.0
        return "released" if clock[0] > 1100 else None

    with pytest.raises(Released):
        train(diabetes(), config, should_stop=should_stop, on_checkpoint=keep, checkpoint_seconds=1e9)
    result = train(diabetes(), config, resume=kept[-1])
    assert made[-1].seconds >= 100
    assert result.readings.stopped_by == "max_seconds"
    assert len(result.readings.steps) == made[-1].step
    assert result.readings.seconds_training >= 100
    assert result.report["fit"]["seconds"] >= 100


def test_interrupted_while_it_prepares() -> None:
    class Now:
        def __enter__(self) -> None:
            raise Interrupted("cancelled")

        def __exit__(self, *_: object) -> None: ...

    with pytest.raises(Interrupted, match="cancelled"):
        train(diabetes(), SMALL, interruptible=Now)


def test_interrupted_in_the_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(*_: object) -> None:
        raise Interrupted("cancelled")

    monkeypatch.setattr("gradkeel_worker.engine.training.evaluate", evaluate)
    result = train(diabetes(), SMALL)
    assert (result.status, result.readings.stopped_by) == ("cancelled", "epochs")
    assert result.model is not None
    assert result.error is not None and result.error["code"] == "cancelled"
    assert result.report["provenance"]["status"] == "cancelled"


def test_the_callers_random_state_is_left_alone_by_a_resume(no_pauses: None) -> None:
    _, made = every_checkpoint(SMALL)
    before = torch.get_rng_state()
    train(diabetes(), SMALL, resume=made[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_contract_names_no_schedule_that_is_not_tried() -> None:
    assert kinds_in("schedule") == set(contract.SCHEDULES)
