"""Configs with several targets or several quantiles: what they imply, and what is refused where."""

from __future__ import annotations

from typing import Any

import pytest

from gradkeel.contract.config import QuantileLoss, target_text
from gradkeel.contract.errors import ConfigError
from gradkeel.contract.resolve import check_data, infer_task, resolve, role_columns, to_json

PROFILE: dict[str, Any] = {
    "rows": 1000,
    "columns": [
        {"name": "a", "type": "numeric", "distinct": 90},
        {"name": "b", "type": "numeric", "distinct": 80},
        {"name": "flag", "type": "numeric", "distinct": 2},
        {"name": "zone", "type": "categorical", "distinct": 4},
        {"name": "same", "type": "numeric", "distinct": 1},
    ],
}
QUANTILES = {"kind": "quantile", "levels": [0.1, 0.9]}


def refused(**config: Any) -> list[tuple[str | None, str, str]]:
    with pytest.raises(ConfigError) as caught:
        resolve(config)
    return [(error.pointer, error.code, error.detail) for error in caught.value.errors]


def faults(**config: Any) -> list[tuple[str | None, str]]:
    return [(error.pointer, error.code) for error in check_data(resolve(config), PROFILE)]


def test_the_loss_implies_the_task_and_the_task_the_loss() -> None:
    assert infer_task(resolve({"target": "flag", "loss": QUANTILES}), PROFILE) == "quantile"
    loss = resolve({"target": "a", "task": "quantile"}).loss
    assert isinstance(loss, QuantileLoss) and loss.levels == (0.1, 0.5, 0.9)


def test_another_loss_or_task_is_refused() -> None:
    assert refused(target="a", task="quantile", loss={"kind": "huber"}) == [
        ("/loss/kind", "conflict", "huber is for regression and forecast tasks; for quantile use quantile")
    ]
    ((pointer, code, detail),) = refused(target="a", task="regression", loss=QUANTILES)
    assert (pointer, code) == ("/loss/kind", "conflict")
    assert detail.startswith("quantile is for quantile tasks; for regression use huber")


@pytest.mark.parametrize(
    ("levels", "pointer", "code"),
    [
        ([], "/loss/levels", "out_of_range"),
        ([0.0, 0.5], "/loss/levels/0", "out_of_range"),
        ([0.5, 1.0], "/loss/levels/1", "out_of_range"),
        ([0.1, 0.5, 0.5], "/loss/levels/2", "conflict"),
        ([0.9, 0.1], "/loss/levels/1", "conflict"),
        ([0.1, "0.5"], "/loss/levels/1", "wrong_type"),
    ],
)
def test_levels_that_cannot_be(levels: list[Any], pointer: str, code: str) -> None:
    ((found, told, detail),) = refused(target="a", loss={"kind": "quantile", "levels": levels})
    assert (found, told) == (pointer, code)
    if levels == [0.9, 0.1]:
        assert detail == "0.1 is below the level before it; give them ascending, each once: [0.1, 0.9]"


def test_a_list_of_targets() -> None:
    config = resolve({"target": ["a", "b"]})
    assert config.targets == ("a", "b") and config.target_text == "a, b"
    assert to_json(config)["target"] == ["a", "b"] and resolve(to_json(config)) == config
    assert infer_task(config, PROFILE) == "regression"
    assert role_columns(config) == {"a": "/target/0", "b": "/target/1"}
    assert check_data(config, PROFILE) == []
    assert target_text(to_json(config)["target"]) == "a, b"


def test_a_list_of_one_is_that_one() -> None:
    assert resolve({"target": ["a"]}) == resolve({"target": "a"})


@pytest.mark.parametrize(
    ("config", "pointer", "code"),
    [
        ({"target": []}, "/target", "out_of_range"),
        ({"target": 5}, "/target", "wrong_type"),
        ({"target": ["a", 5]}, "/target/1", "wrong_type"),
        ({"target": ["a", "b", "a"]}, "/target/2", "conflict"),
        ({"target": ["a", ""]}, "/target/1", "required"),
        ({"target": ["a", "b"], "task": "binary"}, "/task", "conflict"),
        ({"target": ["a", "b"], "loss": QUANTILES}, "/loss/kind", "conflict"),
        ({"target": ["a", "b"], "loss": {"kind": "bce"}}, "/loss/kind", "conflict"),
        ({"target": ["a", "b"], "columns": {"weight": "b"}}, "/columns/weight", "conflict"),
        ({"target": ["a", "b"], "columns": {"include": ["b"]}}, "/columns/include/0", "conflict"),
    ],
)
def test_targets_that_cannot_be(config: dict[str, Any], pointer: str, code: str) -> None:
    assert (pointer, code) in [(found, told) for found, told, _ in refused(**config)]


def test_each_target_is_checked_on_the_table() -> None:
    assert faults(target=["a", "c"]) == [("/target/1", "unknown_column")]
    assert faults(target=["a", "same"]) == [("/target/1", "target_constant")]
    assert faults(target=["zone", "a"]) == [("/task", "conflict")]
    assert faults(target="zone", loss=QUANTILES) == [("/task", "conflict")]
