"""A preflight from table to words: what it recommends can be submitted, and trains stably."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

from gradkeel.contract.errors import ConfigError
from gradkeel.contract.patch import merge_patch
from gradkeel.contract.presets import Shape
from gradkeel.contract.report import REPORT_SCHEMA, preflight_report
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table
from gradkeel_worker.data.errors import DataError
from gradkeel_worker.engine import train
from gradkeel_worker.preflight import Preflight, preflight

Json = dict[str, Any]
SMALL: Json = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [12]},
    "budget": {"epochs": 4, "batch_size": 32, "patience": 0},
    "health": {"gradient_check": False},
}
UNSCALED: Json = {"prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}}}


def table(rows: int = 240, **columns: Any) -> Table:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=rows), draw.normal(size=rows)
    y = 5000 + 700 * a * b + 900 * a + 50 * draw.normal(size=rows)
    return Table.from_arrays({"a": 3000 * a + 20_000, "b": b, "y": y} | columns)


def look(data: Table, **config: Any) -> Preflight:
    return preflight(data, SMALL | config, Shape(rows=len(data), numeric=2, categorical=0))


def recommended(found: Preflight) -> Json:
    [chosen] = [entry for entry in found.entries if entry["recommended"]]
    return chosen


def check(found: Preflight) -> None:
    """The report with these entries fits the schema, and says nothing of a training."""
    report = preflight_report(found.entries, None, summary=found.summary)
    Draft202012Validator(REPORT_SCHEMA).validate(report)
    others = report.keys() - {"schema_version", "summary", "preflight"}
    assert all(report[key] in (None, []) for key in others)


@pytest.fixture(scope="module")
def raw() -> dict[str, Preflight]:
    """Looks at large columns and a large target that the config does not scale."""
    return {kind: look(table(), **UNSCALED, optimizer={"kind": kind}) for kind in ("sgd", "adamw")}


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_scaling_is_recommended_where_it_matters(raw: dict[str, Preflight], kind: str) -> None:
    chosen = recommended(raw[kind])
    assert chosen["scaling"] == "inputs and target" and chosen["loss"] == "huber"
    assert chosen["dry_run"]["stable"] and chosen["dry_run"]["falls"]
    assert chosen["patch"]["optimizer"] == {"lr": chosen["lr"]}
    check(raw[kind])


def test_the_verdict_names_both_limits(raw: dict[str, Preflight]) -> None:
    said = raw["sgd"].summary
    unscaled = next(one for one in raw["sgd"].entries if one["scaling"] == "as configured (none)")
    assert said.startswith("With the columns as they stand the largest stable learning rate is ")
    limit = min(unscaled["local_stability_limit"] or 1e9, unscaled["gauss_newton_limit"])
    assert f"is {limit:.1g}; scaled it is 0." in said and limit < 1e-7
    assert "with sgd and the scaling inputs and target" in said


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_what_is_recommended_trains_stably(raw: dict[str, Preflight], kind: str) -> None:
    submitted = SMALL | UNSCALED | {"optimizer": {"kind": kind}}
    patched = merge_patch(submitted, recommended(raw[kind])["patch"])
    config = resolve(patched)
    assert (config.prepare.numeric.kind, config.prepare.target.kind) == ("standard", "standard")
    result = train(table(), patched)
    assert result.status == "succeeded"
    assert result.readings.loss[-8:].mean() < result.readings.loss[:8].mean()
    rules = {finding["rule"] for finding in result.report["findings"]}
    assert not rules & {"exploding_gradient", "non_finite", "lr_too_high"}


def test_a_good_config_keeps_its_scaling_and_only_gets_a_rate() -> None:
    found = look(table())
    chosen = recommended(found)
    assert chosen["scaling"] == "as configured (inputs and target)"
    assert list(chosen["patch"]) == ["optimizer"]


def test_the_same_again_and_nothing_drawn_from_torchs_generator() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = look(table(80))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert look(table(80)).entries == first.entries


@pytest.mark.parametrize(
    "config",
    [
        {"task": "quantile", "loss": {"kind": "quantile", "levels": [0.1, 0.9]}},
        {"target": ["y", "b"]},
        {"loss": {"kind": "poisson"}, "prepare": {"target": {"kind": "none"}}},
        {"split": {"kind": "random", "folds": 3}, "optimizer": {"kind": "adamw", "lr": "auto"}},
        {"prepare": {"missing": {"kind": "propagate"}}, "columns": {"weight": "b"}},
        {"model": {"kind": "tabm", "members": 2, "blocks": 1, "width": 8}},
        {"model": {"kind": "sequential", "layers": [{"kind": "linear", "units": 4}, {"kind": "batch_norm"}]}},
        {
            "task": "forecast",
            "columns": {"order": "when"},
            "split": {"kind": "ordered", "column": "when"},
            "model": {"kind": "gru", "width": 4, "window": 4},
        },
    ],
    ids=["quantiles", "two targets", "poisson", "folds, auto", "weights", "tabm", "batch norm", "forecast"],
)
def test_every_kind_of_training_can_be_looked_at(config: Json) -> None:
    b = np.abs(np.random.default_rng(1).normal(size=240)) + 0.1
    rows = 80 if config.get("task") == "forecast" else 240
    found = look(table(rows, b=b[:rows], when=np.arange(float(rows))), **config)
    check(found)
    chosen = recommended(found)
    assert chosen["lambda_max"] is not None and chosen["gauss_newton_lambda_max"] > 0
    assert resolve(merge_patch(SMALL | config, chosen["patch"])).optimizer.lr == chosen["lr"]


def test_classes_are_looked_at_by_their_own_loss_alone() -> None:
    y = np.array(["no", "yes", "no"] * 80, dtype=object)
    found = look(table(y=y))
    assert {entry["loss"] for entry in found.entries} == {"bce"}
    check(found)


def test_a_table_of_five_rows() -> None:
    found = look(table(5), budget={"epochs": 2, "batch_size": 2})
    check(found)
    assert found.entries and found.summary


def test_what_cannot_be_trained_is_refused_with_its_place() -> None:
    with pytest.raises(DataError) as constant:
        look(table(y=np.ones(240)))
    assert "y" in str(constant.value)
    with pytest.raises(ConfigError) as unknown:
        look(table(), optimizer={"kind": "nothing"})
    assert unknown.value.errors[0].pointer == "/optimizer/kind"


def test_a_stop_is_heard_between_scalings() -> None:
    asked: list[str | None] = []

    def stop() -> str | None:
        asked.append(None)
        return "cancelled" if len(asked) > 1 else None

    found = preflight(table(), SMALL, Shape(240, 2, 0), should_stop=stop)
    assert len({entry["scaling"] for entry in found.entries}) == 1
