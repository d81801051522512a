"""Cross-validation: scores of held-out rows, the job's own model as ever, any interruption survived."""

from __future__ import annotations

import copy
import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score, root_mean_squared_error

from gradkeel.contract.config import RandomSplit
from gradkeel.contract.errors import ConfigError
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import DataError, Table, prepare
from gradkeel_worker.engine import Result, train
from gradkeel_worker.engine.checkpoint import Checkpoint, folds_through
from gradkeel_worker.interrupts import Released

from .cases import SMALL, categories, diabetes, iris, prepared
from .test_resume import comparable

Json = dict[str, Any]

QUICK: Json = SMALL | {
    "health": {"gradient_check": False},
    "budget": {"epochs": 2, "batch_size": 64, "patience": 0},
}


def folded(table: Table, split: Json, changes: Json | None = None, **options: Any) -> Result:
    return train(copy.deepcopy(table), QUICK | {"split": split} | (changes or {}), **options)


def scores(result: Result) -> Json:
    found: Json = result.report["fit"]["cross_validation"]
    return found


@pytest.fixture(scope="module")
def five() -> Result:
    return folded(diabetes(), {"kind": "random", "folds": 5})


def test_the_jobs_own_model_is_that_of_a_job_without_folds(five: Result) -> None:
    plain = folded(diabetes(), {"kind": "random"})
    assert five.model is not None and plain.model is not None
    assert five.model.state_dict().keys() == plain.model.state_dict().keys()
    for name, weights in plain.model.state_dict().items():
        assert torch.equal(five.model.state_dict()[name], weights)
    assert {name: five.metrics[name] for name in plain.metrics} == plain.metrics
    assert plain.report["fit"]["cross_validation"] is None


def test_a_folds_model_is_what_train_makes_of_its_rows(five: Result) -> None:
    """Each fold again by itself: the fold's rows prepared, trained on and judged as any other job's."""
    config = resolve(QUICK | {"split": {"kind": "random", "folds": 5}})
    for fold in (0, 3):
        data = prepare(diabetes(), config, fold)
        alone = train(data, dataclasses.replace(data.config, split=RandomSplit()))
        assert scores(five)["per_fold"][fold]["metrics"] == alone.metrics["test"]
        assert scores(five)["per_fold"][fold]["baselines"] == alone.metrics["baselines"]


def test_scores_are_those_of_the_predictions(five: Result) -> None:
    table = five.predictions
    found = scores(five)
    assert found["failed"] == [] and found["folds"] == 5 and found["kind"] == "random"
    for entry in found["per_fold"]:
        mine = table["fold"] == entry["fold"]
        assert mine.sum() == entry["rows"]["held_out"]
        rmse = root_mean_squared_error(table["actual"][mine], table["prediction"][mine])
        r2 = r2_score(table["actual"][mine], table["prediction"][mine])
        # both sides sum a few hundred float64 squares, in another order
        assert entry["metrics"]["rmse"] == pytest.approx(rmse, rel=1e-12)
        assert entry["metrics"]["r2"] == pytest.approx(r2, rel=1e-10)
    values = [entry["metrics"]["rmse"] for entry in found["per_fold"]]
    assert found["metrics"]["rmse"] == {
        "mean": pytest.approx(np.mean(values), rel=1e-14),
        "sd": pytest.approx(np.std(values, ddof=1), rel=1e-14),
    }
    assert found["baselines"].keys() == {"constant", "ridge"}
    assert five.metrics["cross_validation"]["metrics"] == found["metrics"]


def test_every_row_is_predicted_once(five: Result) -> None:
    assert sorted(five.predictions["row"].tolist()) == list(range(442))
    assert np.sum(five.predictions["fold"] == 0) == len(five.prepared.test)
    assert set(five.prepared.test.rows) == set(five.predictions["row"][five.predictions["fold"] == 0])


def test_classes_with_repeats() -> None:
    result = folded(iris(), {"kind": "stratified", "folds": 3, "repeats": 2, "test": 0.2})
    table = result.predictions
    assert table["probabilities"].shape == (30 + 2 * 120, 3)
    assert table["probabilities"].sum(1) == pytest.approx(np.ones(270), abs=1e-9)
    assert set(table["fold"]) == set(range(7))
    one = table["fold"] == 4
    accuracy = np.mean(table["actual"][one] == table["prediction"][one])
    assert scores(result)["per_fold"][3]["metrics"]["accuracy"] == pytest.approx(accuracy)
    assert (scores(result)["folds"], scores(result)["repeats"]) == (3, 2)


def test_a_class_that_a_fold_lacks_has_no_probability_there() -> None:
    table = iris()
    table.columns["y"].values[:] = np.where(
        np.arange(150) == 7, "rare", np.where(np.arange(150) % 2, "a", "b")
    )
    result = folded(table, {"kind": "random", "folds": 2, "test": 0, "validation": 0})
    found = result.predictions
    assert sorted(found["row"].tolist()) == [i for i in range(150) if i != 7]  # nobody can answer that row
    assert result.prepared.classes == ("a", "b", "rare")
    sums = [found["probabilities"][found["fold"] == fold, 2].sum() for fold in (1, 2)]
    assert min(sums) == 0 < max(sums)


def test_same_seed_same_bits(five: Result) -> None:
    assert comparable(folded(diabetes(), {"kind": "random", "folds": 5})) == comparable(five)


def test_progress_is_of_the_whole_job() -> None:
    told: list[tuple[str, Json]] = []
    folded(diabetes(), {"kind": "random", "folds": 3}, on_event=lambda name, data: told.append((name, data)))
    fractions = [data["fraction"] for name, data in told if name == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    messages = [data["message"] for name, data in told if name == "log"]
    assert messages == [f"fold {i} of 3 is through" for i in (1, 2, 3)]
    assert [data.get("fold") for name, data in told if name == "log"] == [1, 2, 3]
    epochs = [data["epoch"] for name, data in told if name == "epoch"]
    assert epochs == sorted(epochs)  # those of the job's own model alone


# ------------------------------------------------------------------------------------------- interruptions

CASES: dict[str, tuple[Table, Json, Json]] = {
    "random, with dropout": (
        diabetes(),
        {"kind": "random", "folds": 3},
        {"model": {"kind": "mlp", "widths": [8], "dropout": 0.3}},
    ),
    "stratified classes": (iris(), {"kind": "stratified", "folds": 2, "repeats": 2}, {}),
    "categories, weights, averaged": (
        categories(),
        {"kind": "random", "folds": 2, "test": 0},
        {"columns": {"weight": "w"}, "budget": {"epochs": 2, "batch_size": 64, "patience": 0, "ema": 0.1}},
    ),
    "learning rate and delta found": (
        diabetes(),
        {"kind": "random", "folds": 2},
        {"optimizer": {"kind": "adamw", "lr": "auto"}, "loss": {"kind": "huber", "delta": "auto"}},
    ),
}


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradkeel_worker.engine.epochs._PAUSE", 0.0)


def every_checkpoint(
    table: Table, split: Json, changes: Json | None = None, **options: Any
) -> tuple[Result, list[bytes]]:
    """The result, and the checkpoints before every step and after every epoch of every training."""
    made: list[bytes] = []
    result = folded(
        table,
        split,
        changes,
        on_checkpoint=lambda checkpoint: made.append(checkpoint.to_bytes()),
        checkpoint_seconds=1e-9,
        **options,
    )
    return result, made


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_cross_validation_ends_bit_equal(name: str, no_pauses: None) -> None:
    table, split, changes = CASES[name]
    whole, made = every_checkpoint(table, split, changes)
    begun = random.Random(name).randrange(len(made) // 2)
    _, later = every_checkpoint(table, split, changes, resume=made[begun])
    assert len(made) - begun - 2 <= len(later) <= len(made) - begun
    resumed = folded(table, split, changes, resume=later[len(later) // 2])  # interrupted twice
    expected, ended = comparable(whole), comparable(resumed)
    for key, value in expected.items():
        assert ended[key] == value, key


@pytest.mark.parametrize("through", [0, 1, 2, 3])
def test_folds_that_are_through_are_not_trained_again(through: int, no_pauses: None) -> None:
    split = {"kind": "random", "folds": 3}
    whole, made = every_checkpoint(diabetes(), split)
    told: list[tuple[str, Json]] = []
    kept = made[through * (len(made) // 4) + 1]
    result = folded(diabetes(), split, resume=kept, on_event=lambda name, data: told.append((name, data)))
    assert [data["fold"] for name, data in told if name == "log"] == list(range(through + 1, 4))
    assert [name for name, _ in told].count("resumed") == 1
    assert comparable(result) == comparable(whole)


def test_released_a_job_goes_on_where_it_was() -> None:
    made: list[Checkpoint] = []
    through = [0]

    def note(name: str, data: Json) -> None:
        through[0] += name == "log"

    split = {"kind": "random", "folds": 3}
    with pytest.raises(Released):
        folded(
            diabetes(),
            split,
            on_event=note,
            should_stop=lambda: "released" if through[0] == 1 else None,
            on_checkpoint=made.append,
        )
    assert folds_through(made[-1].to_bytes()) == 1
    again = folded(diabetes(), split, resume=made[-1].to_bytes())
    assert comparable(again) == comparable(folded(diabetes(), split))


@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_a_checkpoint_of_another_training_is_set_aside(place: float, no_pauses: None) -> None:
    """Of the first fold, the second, and the training after the folds."""
    split = {"kind": "random", "folds": 2}
    _, made = every_checkpoint(diabetes(), split)
    kept = made[int(place * len(made))]
    again = folded(diabetes(), split, {"seed": 3}, resume=kept)
    assert comparable(again) == comparable(folded(diabetes(), split, {"seed": 3}))


def test_bytes_that_are_no_checkpoint_have_no_folds_behind_them() -> None:
    assert [folds_through(data) for data in (b"", b"x" * 100, b"\2" + b"\0" * 7 + b"[]")] == [0, 0, 0]


def test_cancelled_within_the_folds_a_job_has_no_model_and_tells_what_is_through() -> None:
    through = [0]

    def note(name: str, data: Json) -> None:
        through[0] += name == "log"

    result = folded(
        diabetes(),
        {"kind": "random", "folds": 4},
        on_event=note,
        should_stop=lambda: "cancelled" if through[0] >= 2 else None,
    )
    assert (result.status, result.model) == ("cancelled", None)
    assert [entry["fold"] for entry in scores(result)["per_fold"]] == [1, 2]


# ----------------------------------------------------------------------------------------------- the odd ways


def test_a_fold_that_diverges_is_named_and_counts_for_nothing() -> None:
    """One row's target is beyond float32's squares: only the folds that train on it blow up."""
    table = diabetes()
    table.columns["y"].values[5] = 1e30
    changes = {
        "loss": {"kind": "mse"},
        "clips": [],
        "guards": [],
        "prepare": {"target": {"kind": "none"}},
    }
    split = {"kind": "random", "folds": 3, "test": 0, "validation": 0}
    result = folded(table, split, changes)
    held_out = [5 in prepare(table, resolve(QUICK | {"split": split}), k).test.rows for k in range(3)]
    assert scores(result)["failed"] == [k + 1 for k in range(3) if not held_out[k]]
    (sound,) = [entry for entry in scores(result)["per_fold"] if entry["metrics"]]
    assert sound["status"] == "succeeded"
    assert scores(result)["metrics"]["mae"] == {"mean": sound["metrics"]["mae"], "sd": None}
    assert set(result.predictions["fold"]) == {sound["fold"]}


def test_time_is_shared_by_all_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def should_stop() -> None:
        clock[0] += 1.0

    budget = {"epochs": 1000, "batch_size": 64, "patience": 0, "max_seconds": 100}
    result = folded(diabetes(), {"kind": "random", "folds": 3}, {"budget": budget}, should_stop=should_stop)
    assert [entry["stopped_by"] for entry in scores(result)["per_fold"]] == ["max_seconds"] * 3
    assert result.readings.stopped_by == "max_seconds"
    assert len(result.readings.steps) == pytest.approx(25, abs=2)
    assert result.report["provenance"]["reproducible"] is False


def test_a_fold_that_cannot_be_used_is_named() -> None:
    table = iris()
    table.columns["y"].values[:] = np.where(np.arange(150) == 3, "a", "b")
    with pytest.raises(DataError, match=r"in fold .: every training row is of the one class"):
        folded(table, {"kind": "random", "folds": 2, "test": 0, "validation": 0})


def test_prepared_data_has_no_folds() -> None:
    with pytest.raises(ValueError, match="folds are cut from a table"):
        train(prepared(split={"kind": "random", "folds": 2}), resolve(QUICK | {"split": {"folds": 2}}))


@pytest.mark.parametrize(
    ("split", "pointer"),
    [
        ({"folds": 1}, "/split/folds"),
        ({"folds": 2.5}, "/split/folds"),
        ({"repeats": 3}, "/split/repeats"),
        ({"kind": "column", "folds": 3}, "/split/folds"),
        ({"kind": "ordered", "column": "t", "folds": 3, "repeats": 2}, "/split/repeats"),
    ],
)
def test_bad_folds_are_refused(split: Json, pointer: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(SMALL | {"split": split})
    assert [error.pointer for error in raised.value.errors] == [pointer]
