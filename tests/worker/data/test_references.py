"""What a forecast is a change from, beside the series as they stand in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradkeel.contract.errors import ConfigError
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import DataError, Prepared, Table, prepare
from gradkeel_worker.diagnosis.forecasts import naive_forecasts
from gradkeel_worker.engine import train
from gradkeel_worker.engine.build import build_model

Json = dict[str, Any]


def asked(prepared: Json | None = None, **model: Any) -> Json:
    return {
        "target": "y",
        "task": "forecast",
        "preset": "custom",
        "model": {"kind": "gru", "width": 3, "window": 10, **model},
        "columns": {"order": "t", "group": "g"},
        "prepare": prepared or {},
        "budget": {"epochs": 1, "batch_size": 64},
        "health": {"gradient_check": False},
    }


def table(kind: str, n: int = 120) -> Table:
    """Two series in no order: a walk, a season of seven rows on a trend, or noise."""
    draw = np.random.default_rng(0)
    t = np.tile(np.arange(n), 2)
    noise = draw.normal(size=2 * n)
    y = {
        "walk": np.cumsum(noise),
        "season": 3 * np.sin(2 * np.pi * t / 7) + 0.01 * t + 0.1 * noise,
        "noise": noise,
    }[kind]
    mixed = draw.permutation(2 * n)
    columns = {"t": t, "g": np.repeat(["a", "b"], n), "y": y + 50}
    return Table.from_arrays({name: column[mixed] for name, column in columns.items()})


def prepared_of(kind: str, given: Json | None = None, **model: Any) -> Prepared:
    return prepare(table(kind), resolve(asked(given, **model)))


SCALINGS: list[Json] = [
    {},
    {"numeric": {"kind": "minmax"}, "target": {"kind": "robust"}},
    {"numeric": {"kind": "maxabs"}, "target": {"kind": "none"}},
    {"numeric": {"kind": "log1p"}, "target": {"kind": "log1p"}},
]


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda each: str(each.get("target", "auto")))
@pytest.mark.parametrize("horizon", [1, 3, 9])
@pytest.mark.parametrize("kind", ["last", "season"])
def test_a_network_of_no_change_gives_the_value_of_the_file_and_its_drift(
    kind: str, horizon: int, scaling: Json
) -> None:
    prepared = prepared_of("season", scaling, horizon=horizon, change_from=kind)
    model = build_model(prepared, prepared.config).eval()
    torch.nn.init.zeros_(model.output.weight)
    torch.nn.init.zeros_(model.output.bias)
    part = prepared.test
    with torch.no_grad():
        found = prepared.in_target_units(
            model(*map(torch.from_numpy, part.fed(slice(None)))).double().numpy()
        )
    given = table("season").columns
    value = {(g, t): y for g, t, y in zip(*(given[name].values for name in "gty"), strict=True)}
    back = horizon if kind == "last" else 7 * -(-horizon // 7)
    places = part.windows.names()
    expected = [value[g, int(t) - back] for g, t in zip(places["group"], places["order"], strict=True)]
    drift, target = prepared.reference.drift, prepared.target
    # float32 of numbers near 50
    np.testing.assert_allclose(found, target.inverse(target.forward(np.array(expected)) + drift), rtol=1e-5)
    naive = naive_forecasts(prepared)["test"]
    np.testing.assert_allclose(expected, naive["naive" if kind == "last" else "seasonal_naive"])


@pytest.mark.parametrize("scaling", SCALINGS[:2])
def test_what_is_predicted_has_a_standard_deviation_of_one(scaling: Json) -> None:
    prepared = prepared_of("season", scaling, change_from="season")
    assert np.std(prepared.aims()) == pytest.approx(1, rel=1e-5)
    assert np.mean(prepared.aims()) == pytest.approx(0, abs=1e-5)
    part = prepared.validation
    np.testing.assert_allclose(prepared.target.inverse(part.y), part.y_raw, rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "model", "chosen", "words"),
    [
        ("walk", {}, "last", "from the last value 0."),
        ("season", {}, "season", "from the value one season back 0."),
        ("season", {"window": 6}, "last", "from the last value"),
        ("noise", {}, "none", "from the last value 1."),
    ],
)
def test_auto_takes_what_changes_least(data: str, model: Json, chosen: str, words: str) -> None:
    result = train(table(data), asked(**model))
    assert result.config.model.change_from == chosen
    assert words in result.config.chosen["/model/change_from"]
    assert (result.prepared.reference is None) == (chosen == "none")


def test_rows_after_the_training_part_have_no_say() -> None:
    data = table("walk")
    first = prepare(data, resolve(asked()))
    later = np.setdiff1d(np.arange(len(data)), first.train.rows)
    late = later[data.columns["t"].values[later] > 105]
    data.columns["y"].values[late] *= 100
    again = prepare(data, resolve(asked()))
    assert again.reference == first.reference
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (asked({"numeric": {"kind": "quantile"}}, change_from="last"), "its past by quantile"),
        (asked({"target": {"kind": "power"}}, change_from="season"), "scaled by power"),
        (asked({"target": {"kind": "log1p"}}, change_from="last"), "its past by standard"),
        (asked(change_from="last") | {"loss": {"kind": "poisson"}}, "logarithms"),
        (asked(change_from="last") | {"task": "regression"}, "only a forecast"),
    ],
)
def test_what_cannot_be_a_change_is_refused_and_left_by_auto(config: Json, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(config)
    (fault,) = caught.value.errors
    assert (
        fault.pointer == "/model/change_from" and words in fault.detail and "use auto or none" in fault.detail
    )
    config["model"].pop("change_from")
    if config["task"] == "forecast":
        assert prepare(table("walk"), resolve(config)).config.model.change_from == "none"


@pytest.mark.parametrize(
    ("data", "model", "pointer", "words"),
    [
        ("walk", {}, "/model/change_from", "no season is plain"),
        ("season", {"window": 6}, "/model/window", "use 7 rows or more"),
    ],
)
def test_a_season_that_there_is_not_is_refused(data: str, model: Json, pointer: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        prepared_of(data, change_from="season", **model)
    (fault,) = caught.value.errors
    assert fault.pointer == pointer and words in fault.detail


def test_a_series_that_leaves_its_levels_is_followed() -> None:
    t = np.arange(200)
    draw = np.random.default_rng(0)
    trend = Table.from_arrays({"t": t, "y": 2.0 * t + draw.normal(size=200)})
    config = asked() | {"columns": {"order": "t"}, "budget": {"epochs": 30, "batch_size": 32}}
    config["optimizer"] = {"kind": "adamw", "lr": 0.01}
    scores = {}
    for kind in ("auto", "none"):
        model = config["model"] | {"change_from": kind}
        scores[kind] = train(trend, config | {"model": model}).metrics
    naive = scores["auto"]["baselines"]["naive"]["rmse"]
    assert scores["auto"]["test"]["rmse"] < naive < scores["none"]["test"]["rmse"]
