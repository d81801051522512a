"""Which scalings are compared, and that each one's patch makes the config that was looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradkeel.contract.errors import ConfigError
from gradkeel.contract.patch import merge_patch
from gradkeel.contract.presets import Shape
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table
from gradkeel_worker.data.errors import DataError
from gradkeel_worker.preflight.arms import Arm, arms_of

Json = dict[str, Any]
SMALL: Json = {"target": "y", "preset": "custom", "model": {"kind": "mlp", "widths": [4]}}
UNSCALED: Json = {"numeric": {"kind": "none"}, "target": {"kind": "none"}}


def table(rows: int = 80, **columns: Any) -> Table:
    draw = np.random.default_rng(0)
    x = draw.normal(size=rows)
    given = {"x": 1000 * x, "z": draw.normal(size=rows) - 5, "y": 30 * x + draw.normal(size=rows)}
    return Table.from_arrays(given | columns)


def arms(data: Table, **config: Any) -> list[Arm]:
    return arms_of(data, SMALL | config, Shape(rows=len(data), numeric=2, categorical=0))


def names(found: list[Arm]) -> list[list[str]]:
    return [arm.names for arm in found]


def test_the_scalings_of_plain_numbers() -> None:
    assert names(arms(table())) == [["as configured", "inputs and target"], ["inputs"], ["none"]]
    assert names(arms(table(), prepare=UNSCALED)) == [
        ["as configured", "none"],
        ["inputs and target"],
        ["inputs"],
    ]


def test_robust_scaling_where_values_lie_far_out() -> None:
    x = np.random.default_rng(0).normal(size=80)
    x[:4] = 1e4
    assert ["robust"] in names(arms(table(x=x)))


def test_classes_have_no_scale() -> None:
    y = np.array(["no", "yes"] * 40, dtype=object)
    assert names(arms(table(y=y))) == [["as configured", "inputs"], ["none"]]
    assert "target" not in arms(table(y=y))[1].patch["prepare"]


def test_bins_hide_the_scale_of_the_inputs() -> None:
    found = arms(table(), prepare={"embedding": {"kind": "piecewise_linear", "bins": 4, "width": 2}})
    assert names(found) == [["as configured", "inputs and target"], ["none"]]


def test_without_numbers_there_is_only_the_target() -> None:
    words = np.array(["a", "b"] * 40, dtype=object)
    assert names(arms(table(x=words, z=words))) == [
        ["as configured", "inputs and target"],
        ["inputs", "none"],
    ]


@pytest.mark.parametrize(
    "prepare",
    [
        {},
        UNSCALED,
        {"numeric": {"kind": "quantile", "n": 50}, "per_column": {"x": {"kind": "signed_log1p"}}},
        {"target": {"kind": "power"}, "missing": {"kind": "mean"}},
    ],
)
def test_every_patch_makes_the_config_that_was_looked_at(prepare: Json) -> None:
    submitted = SMALL | {"prepare": prepare, "loss": {"kind": "mse"}}
    data = table()
    for arm in arms_of(data, submitted, Shape(rows=80, numeric=2, categorical=0)):
        made = resolve(merge_patch(submitted, arm.patch)).prepare
        looked = arm.config.prepare
        assert (made.numeric, made.per_column, made.missing) == (
            looked.numeric,
            looked.per_column,
            looked.missing,
        )
        assert made.target in (looked.target, resolve(submitted).prepare.target)


def test_rows_with_broken_numbers_are_left_out_and_told() -> None:
    x = np.random.default_rng(0).normal(size=80)
    x[::10] = np.nan
    [first, *_] = arms(table(x=x), prepare={"missing": {"kind": "propagate"}})
    assert np.isfinite(first.prepared.train.x).all()
    assert any("hold non-finite numbers" in note for note in first.notes)


def test_neighbours_and_an_undecided_delta_are_told() -> None:
    found = arms(
        table(), prepare={"neighbors": {"kind": "means", "k": [3]}}, loss={"kind": "huber", "delta": "auto"}
    )
    assert len(found[0].notes) == 2 and found[0].prepared.preparation.neighbors is None


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(DataError):
        arms(table(y=np.ones(80)))
    with pytest.raises((ConfigError, DataError)):
        arms(table(), loss={"kind": "cross_entropy"}, task="regression")
