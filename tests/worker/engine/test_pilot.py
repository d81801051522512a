"""Huber's delta from a pilot fit: the number of the paper, fixed before the first step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradkeel.contract.resolve import resolve, to_json
from gradkeel_worker.data import Table
from gradkeel_worker.engine import pilot, train
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.run import Run
from gradkeel_worker.engine.trainer import fit

from .cases import SMALL, breast_cancer, config, diabetes, prepared

AUTO = {"loss": {"kind": "huber", "delta": "auto"}, "health": {"gradient_check": False}}


def noisy_line(noise: float, rows: int = 600) -> Table:
    """y = 3x with normal noise, of which 5 % is far out."""
    draw = np.random.default_rng(1)
    x = draw.normal(size=rows)
    error = draw.normal(size=rows) * noise
    error[::20] *= 50
    return Table.from_arrays({"x": x, "y": 3 * x + error})


def test_delta_is_the_residuals_robust_spread() -> None:
    data = prepared(**AUTO)
    found = pilot.with_delta(data, config(**AUTO)).loss.delta  # type: ignore[union-attr]
    # the same by hand: four epochs under huber(1.0), on the training part alone
    by_hand = config(
        loss={"kind": "huber"},
        budget={"epochs": 4, "batch_size": 64, "patience": 0},
        health={"tier": "economy"},
        schedule={"kind": "constant"},
    )
    run = build(data, by_hand)
    assert fit(run) == "epochs"
    with torch.no_grad():
        outputs = run.model.eval()(torch.from_numpy(data.train.x), torch.from_numpy(data.train.c))
    r = outputs[:, 0].double().numpy() - data.train.y
    # six digits are kept
    assert found == pytest.approx(1.345 * 1.4826 * np.median(np.abs(r - np.median(r))), rel=1e-5)


def test_delta_follows_the_noise_and_not_its_outliers() -> None:
    blocks: dict[str, Any] = {
        "model": {"kind": "linear"},
        "optimizer": {"kind": "adamw", "lr": 0.1},
        "prepare": {"target": {"kind": "none"}},
        "budget": {"epochs": 40, "batch_size": 16, "patience": 0},
    }
    data = prepared(noisy_line(0.5), **AUTO, **blocks)
    delta = pilot.with_delta(data, config(**AUTO, **blocks)).loss.delta  # type: ignore[union-attr]
    # 1.345 · 0.5, a little more for the 5 % that are far out, sampling error of a MAD over 420 rows about 5 %
    assert delta == pytest.approx(1.345 * 0.5, rel=0.25)


def test_the_resolved_config_holds_the_number_and_the_run_is_that_of_the_number() -> None:
    heard: list[Any] = []

    def listen(name: str, data: dict[str, Any]) -> None:
        if name == "resolved":
            heard.append(data["config"])

    first = train(diabetes(), {**SMALL, **AUTO}, on_event=listen)
    delta = first.config.loss.delta  # type: ignore[union-attr]
    assert isinstance(delta, float) and 0 < delta < 10
    assert heard[0]["loss"] == {"kind": "huber", "delta": delta} == to_json(first.config)["loss"]
    again = train(diabetes(), {**SMALL, **AUTO, "loss": {"kind": "huber", "delta": delta}})
    assert first.metrics == again.metrics
    assert first.model is not None and again.model is not None
    for ours, theirs in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_only_training_rows_decide_delta() -> None:
    def delta_of(table: Table) -> Any:
        split = {"kind": "column", "column": "part"}
        data = prepared(table, **AUTO, split=split)
        return pilot.with_delta(data, config(**AUTO, split=split)).loss.delta  # type: ignore[union-attr]

    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 300))
    part = np.repeat(np.array(["train", "validation", "test"], dtype=object), [200, 50, 50])
    one = delta_of(Table.from_arrays({"x": x, "y": y, "part": part}))
    y[200:] *= 1e3
    x[200:] -= 9
    assert one == delta_of(Table.from_arrays({"x": x, "y": y, "part": part}))


def test_a_pilot_is_short_on_long_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def counted(run: Run) -> str:
        ending = fit(run)
        steps.append(run.step)
        return ending

    monkeypatch.setattr(pilot, "fit", counted)
    monkeypatch.setattr(pilot, "PILOT_STEPS", 3)
    data = prepared(**AUTO)
    assert len(data.train) > 3 * 64
    found = pilot.with_delta(data, config(**AUTO)).loss.delta  # type: ignore[union-attr]
    assert steps == [3] and 0 < found < 10


def test_a_pilot_that_tells_nothing_leaves_delta_at_one() -> None:
    wild = {"optimizer": {"kind": "sgd", "lr": 1e6}, "clips": [], "guards": []}
    data = prepared(**AUTO, **wild)
    assert pilot.with_delta(data, config(**AUTO, **wild)).loss.delta == 1.0  # type: ignore[union-attr]
    calm = prepared(**AUTO)
    stopped = pilot.with_delta(calm, config(**AUTO), should_stop=lambda: "cancelled")
    assert stopped.loss.delta == 1.0  # type: ignore[union-attr]


def test_other_configs_have_no_pilot() -> None:
    plain = config(loss={"kind": "huber", "delta": 0.5})
    assert pilot.with_delta(prepared(), plain) is plain
    classes = config(target="y", task="binary", loss={"kind": "bce"})
    assert pilot.with_delta(prepared(breast_cancer()), classes) is classes


def test_auto_is_a_value_of_delta_in_the_contract() -> None:
    resolved = resolve({"target": "y", "loss": {"kind": "huber", "delta": "auto"}})
    assert resolve(to_json(resolved)) == resolved
