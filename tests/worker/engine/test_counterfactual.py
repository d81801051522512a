"""The same training without its stabilizers: each arm is the engine on another config, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from torch import nn

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.counterfactual import ARMS, told
from gradkeel.contract.patch import merge_patch
from gradkeel.contract.report import REPORT_SCHEMA
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table, prepare
from gradkeel_worker.diagnosis.series import numbers
from gradkeel_worker.engine import Result, train
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.counterfactual import MOST_STEPS
from gradkeel_worker.engine.run import Hooks, Run
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.interrupts import Released

from .cases import SMALL, breast_cancer, categories, diabetes, iris, series
from .test_resume import comparable
from .test_warm_start import going_on

Json = dict[str, Any]
Event = tuple[str, Json]

QUICK: Json = SMALL | {"budget": {"epochs": 2, "batch_size": 64, "patience": 0}}
SGD: Json = SMALL | {
    "optimizer": {"kind": "sgd", "lr": 0.01},
    "budget": {"epochs": 6, "batch_size": 64, "patience": 2},
    "model": {"kind": "mlp", "widths": [16, 8], "dropout": 0.2},
}
STEPS = 30
"""Those of SGD: 5 an epoch."""


def asked(config: Json, *, study: bool = True) -> Json:
    return config | {"health": {"gradient_check": False, "counterfactual": study}}


def arms_of(result: Result) -> dict[str, Json]:
    return {arm["without"]: arm for arm in result.report["counterfactual"]["arms"]}


@pytest.fixture(scope="module")
def plain() -> tuple[Result, list[Event]]:
    """SGD on diabetes in raw units, and its events."""
    events: list[Event] = []
    return train(diabetes(), asked(SGD), on_event=lambda name, data: events.append((name, data))), events


def by_hand(config: Json, steps: int) -> Run:
    """The engine's loop on a config, ended after so many steps."""
    resolved = resolve(config)
    prepared = prepare(diabetes(), resolved)
    run = build(prepared, prepared.config)
    run.hooks = Hooks(should_stop=lambda: "steps" if run.step >= steps else None)
    fit(run)
    run.readings = run.monitor.readings()
    return run


def rmse_by_hand(run: Run, config: TrainConfig) -> float:
    """RMSE on the validation rows, from the targets as the file has them."""
    part = prepare(diabetes(), config)
    run.model.eval()
    with torch.no_grad():
        outputs = run.model(torch.from_numpy(part.validation.x), torch.from_numpy(part.validation.c)).numpy()
    predicted = outputs[:, 0].astype(np.float64) * part.target.scale + part.target.center  # type: ignore[union-attr]
    return float(np.sqrt(np.mean((predicted - part.validation.y_raw) ** 2)))


PATCHES: dict[str, Json] = {
    "nothing": {},
    "scaling": {"prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}}},
    "huber": {"loss": {"kind": "mse"}},
    "clipping": {"clips": [], "guards": []},
}
PATCHES["all"] = {key: value for patch in PATCHES.values() for key, value in patch.items()}


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_is_the_engine_on_the_other_config(name: str, plain: tuple[Result, list[Event]]) -> None:
    arm = arms_of(plain[0])[name]
    assert arm["status"] == "ran"
    assert arm["patch"] == PATCHES[name]
    config = merge_patch(SGD, PATCHES[name])
    config["budget"] = config["budget"] | {"patience": 0}
    run = by_hand(config, STEPS)
    readings = run.readings
    assert [step for step, _ in arm["loss"]] == readings.steps.tolist()
    assert [loss for _, loss in arm["loss"]] == numbers(readings.loss)
    assert [norm for _, norm in arm["gradient_norm"]] == numbers(readings.global_norm)
    if arm["diverged_at"] is None:
        # the same weights give the same bits; only the order of numpy's own sum may differ
        assert arm["metrics"]["rmse"] == pytest.approx(rmse_by_hand(run, resolve(config)), rel=1e-12)
        assert arm["curve"][-1] == [STEPS, numbers(np.array([arm["metrics"]["rmse"]]))[0]]
        assert arm["steps"] == STEPS
    else:
        whole = np.isfinite(readings.loss + readings.global_norm)
        assert arm["diverged_at"] == readings.steps[~whole][0]


def test_raw_units_without_stabilizers_diverge_at_once(plain: tuple[Result, list[Event]]) -> None:
    arms = arms_of(plain[0])
    assert arms["all"]["diverged_at"] in (2, 3)
    assert arms["all"]["metrics"] is None
    assert [arm["diverged_at"] for name, arm in arms.items() if name != "all"] == [None] * 4


def test_every_arm_begins_alike(plain: tuple[Result, list[Event]]) -> None:
    found = plain[0].report["counterfactual"]
    for key in ("init_digest", "batch_order_digest"):
        assert {arm[key] for arm in found["arms"]} == {found[key]}
    other = train(diabetes(), asked(SGD | {"seed": 1})).report["counterfactual"]
    assert other["init_digest"] != found["init_digest"]
    assert other["batch_order_digest"] != found["batch_order_digest"]


def test_the_paragraph_tells_each_arm(plain: tuple[Result, list[Event]]) -> None:
    found = plain[0].report["counterfactual"]
    arms = {arm["without"]: arm for arm in found["arms"]}
    assert (
        f"ithout any of these the training diverged at step {arms['all']['diverged_at']}" in found["summary"]
    )
    assert (
        f"with everything it reached RMSE {arms['nothing']['metrics']['rmse']:.4g} on the" in found["summary"]
    )
    assert found["summary"] == told(found)
    jsonschema.validate(plain[0].report, REPORT_SCHEMA)


def test_events_tell_each_arm_while_it_runs(plain: tuple[Result, list[Event]]) -> None:
    logs = [data for name, data in plain[1] if name == "log" and "counterfactual" in data]
    told = [(log["counterfactual"]["without"], log["counterfactual"]["status"]) for log in logs]
    assert told == [(name, status) for name in ARMS for status in ("running", "ran")]
    assert "diverged at step" in logs[-1]["message"]
    places = [
        data["fraction"] for name, data in plain[1] if name == "progress" and data["phase"] == "diagnose"
    ]
    assert len(places) > len(ARMS) and places == sorted(places)


KINDS: dict[str, tuple[Callable[[], Table], Json, set[str]]] = {
    # table, config, the arms that are run
    "categories and weights": (categories, {"columns": {"weight": "w"}}, set(ARMS)),
    "residual blocks": (diabetes, {"model": {"kind": "resnet", "blocks": 1, "width": 8}}, set(ARMS)),
    "ensemble over bins, averaged weights": (
        diabetes,
        {
            "prepare": {"embedding": {"kind": "piecewise_linear", "bins": 8, "width": 3}},
            "model": {"kind": "tabm", "members": 3, "blocks": 2, "width": 8, "dropout": 0.1},
            "budget": QUICK["budget"] | {"ema": 0.05},
        },
        set(ARMS),
    ),
    "linear, delta by a pilot, neighbours": (
        diabetes,
        {
            "model": {"kind": "linear"},
            "loss": {"kind": "huber", "delta": "auto"},
            "prepare": {
                "numeric": {"kind": "quantile", "n": 50},
                "neighbors": {"kind": "means", "columns": ["bmi"], "k": [5]},
            },
        },
        set(ARMS),
    ),
    "windows, no validation part": (
        series,
        {
            "model": {"kind": "gru", "width": 4, "window": 3},
            "columns": {"order": "t", "group": "g"},
            "split": {"kind": "group", "validation": 0, "test": 0.3},
        },
        set(ARMS),
    ),
    "a forecast of changes": (
        series,
        {
            "task": "forecast",
            "model": {"kind": "gru", "width": 4, "window": 3, "change_from": "last"},
            "columns": {"order": "t", "group": "g"},
            "split": {"kind": "ordered"},
        },
        set(ARMS),
    ),
    "two classes": (breast_cancer, {}, {"nothing", "scaling", "clipping", "all"}),
    "three classes without clips": (iris, {"clips": [], "guards": []}, {"nothing", "scaling"}),
    "quantiles": (
        diabetes,
        {"loss": {"kind": "quantile", "levels": [0.1, 0.9]}},
        {"nothing", "scaling", "clipping", "all"},
    ),
    "two targets, one of them raw": (
        diabetes,
        {
            "target": ["y", "bmi"],
            "prepare": {"target": {"kind": "none"}, "per_column": {"bp": {"kind": "power"}}},
        },
        set(ARMS),
    ),
    "raw units throughout, squared loss": (
        diabetes,
        {"loss": {"kind": "mse"}, "prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}}},
        {"nothing", "clipping"},
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_training_has_its_arms_and_the_same_model(name: str) -> None:
    table, changes, expected = KINDS[name]
    with_study = train(table(), asked(QUICK | changes))
    arms = arms_of(with_study)
    assert list(arms) == list(ARMS)
    assert {name for name, arm in arms.items() if arm["status"] == "ran"} == expected
    assert all(arm["reason"] for arm in arms.values() if arm["status"] == "not_used")
    assert {arm["status"] for arm in arms.values()} <= {"ran", "not_used"}
    found = with_study.report["counterfactual"]
    for key in ("init_digest", "batch_order_digest"):
        assert {arms[name][key] for name in expected} == {found[key]}
    jsonschema.validate(with_study.report, REPORT_SCHEMA)
    without = train(table(), asked(QUICK | changes, study=False))
    assert without.report["counterfactual"] is None
    one, other = comparable(with_study), comparable(without)
    one["report"] = json.dumps(json.loads(one["report"]) | {"counterfactual": None})
    assert one == other


def test_an_earlier_models_weights_fit_scaled_values_alone(tmp_path: Path) -> None:
    first = train(diabetes(), QUICK)
    kept, config = going_on(first, tmp_path, {})
    arms = arms_of(train(diabetes(), asked(config | {"budget": QUICK["budget"]}), earlier=kept))
    assert {name: arm["status"] for name, arm in arms.items()} == {
        "nothing": "ran",
        "scaling": "refused",
        "huber": "ran",
        "clipping": "ran",
        "all": "ran",
    }
    assert "earlier model" in arms["scaling"]["reason"]
    assert arms["all"]["left_out"] == ["huber", "clipping"]


def test_weights_of_another_size_are_no_counterfactual() -> None:
    draw = np.random.default_rng(0)
    # float32 cannot tell these apart without scaling: its numbers lie 64 apart there
    x = 1e9 + draw.integers(0, 100, 200)
    table = Table.from_arrays({"x": x.astype(float), "y": draw.normal(size=200)})
    embedded = {"prepare": {"embedding": {"kind": "piecewise_linear", "bins": 16, "width": 3}}}
    arms = arms_of(train(table, asked(QUICK | embedded)))
    assert arms["scaling"]["status"] == arms["all"]["status"] == "refused"
    assert "another size" in arms["scaling"]["reason"]
    assert arms["clipping"]["status"] == "ran"


class Restless(nn.Module):
    """A model whose copies are not alike."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(10, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(x)

    def __deepcopy__(self, memo: Any) -> Restless:
        made = Restless()
        made.output.bias.data.fill_(float(torch.randint(2**20, ())))
        return made


def test_an_arm_that_begins_otherwise_is_told_as_an_error() -> None:
    torch.manual_seed(0)
    result = train(diabetes(), asked(QUICK), model=Restless())
    arms = arms_of(result)
    assert {arm["status"] for arm in arms.values()} == {"failed"}
    assert "internal error" in arms["nothing"]["reason"] and "init_digest" in arms["nothing"]["reason"]
    assert result.status == "succeeded" and result.report["counterfactual"]["summary"] is None


def test_a_training_that_diverged_has_its_arms_too() -> None:
    result = train(diabetes(), asked(SGD | PATCHES["all"]))
    assert result.status == "diverged"
    arms = arms_of(result)
    assert {arm["status"] for name, arm in arms.items() if name != "nothing"} == {"not_used"}
    assert arms["nothing"]["diverged_at"] == result.error["where"]["step"]  # type: ignore[index]


def test_an_arm_takes_so_many_steps_at_most() -> None:
    config = SGD | {"budget": {"epochs": 200, "batch_size": 64, "patience": 1}, "clips": [], "guards": []}
    found = train(diabetes(), asked(config)).report["counterfactual"]
    assert found["steps"] == MOST_STEPS
    arm = found["arms"][0]
    assert arm["steps"] == MOST_STEPS and len(arm["loss"]) <= 300 and len(arm["curve"]) <= 300
    assert arm["loss"][0][0] == 0 and arm["loss"][-1][0] == MOST_STEPS - 1


def test_an_arm_that_runs_out_of_time_says_so() -> None:
    budget = SGD["budget"] | {"max_seconds": 1e-6}
    result = train(diabetes(), asked(SGD | {"budget": budget}))
    arms = arms_of(result)
    assert all(arm["cut_short"] and arm["steps"] == 1 for arm in arms.values())
    assert "its time over after step 1" in result.report["counterfactual"]["summary"]
    assert result.report["provenance"]["reproducible"] is False


# ------------------------------------------------------------------------------- stopping and going on


class StopAt:
    """Says "cancelled" or "released" at the n-th question after some arm began."""

    def __init__(self, arm: str, questions: int, answer: str) -> None:
        self._arm, self._left, self._answer, self._begun = arm, questions, answer, False

    def event(self, name: str, data: Json) -> None:
        record = data.get("counterfactual", {}) if name == "log" else {}
        self._begun |= (record.get("without"), record.get("status")) == (self._arm, "running")

    def __call__(self) -> str | None:
        self._left -= self._begun
        return self._answer if self._left < 0 else None


@pytest.mark.parametrize("answer", ["cancelled", "deadline"])
def test_a_job_that_is_stopped_amid_an_arm_keeps_those_before(answer: str) -> None:
    stop = StopAt("huber", 7, answer)
    result = train(diabetes(), asked(SGD), on_event=stop.event, should_stop=stop)
    assert result.status == answer and result.model is not None
    arms = arms_of(result)
    statuses = ["ran", "ran", "stopped", "stopped", "stopped"]
    assert [arm["status"] for arm in arms.values()] == statuses
    assert "first" in arms["huber"]["reason"]
    jsonschema.validate(result.report, REPORT_SCHEMA)


@pytest.mark.parametrize("config", [SGD, SGD | PATCHES["all"]], ids=["succeeded", "diverged"])
def test_a_job_that_goes_on_amid_its_arms_ends_the_same(config: Json) -> None:
    config = asked(config | {"prepare": config.get("prepare", {}) | {"missing": {"kind": "mean"}}})
    whole = train(diabetes(), config)
    made: list[bytes] = []
    for arm in ("nothing", "huber", "all") if whole.status == "succeeded" else ("nothing",):
        stop = StopAt(arm, 2, "released")
        with pytest.raises(Released):
            train(
                diabetes(),
                config,
                on_event=stop.event,
                should_stop=stop,
                resume=made[-1] if made else None,
                on_checkpoint=lambda checkpoint: made.append(checkpoint.to_bytes()),
            )
    events: list[Event] = []
    result = train(
        diabetes(), config, resume=made[-1], on_event=lambda name, data: events.append((name, data))
    )
    assert "reading" not in [name for name, _ in events]
    begun = [
        data["counterfactual"]["without"]
        for name, data in events
        if name == "log" and data.get("counterfactual", {}).get("status") == "running"
    ]
    assert begun == (["all"] if whole.status == "succeeded" else ["nothing"])
    assert comparable(result) == comparable(whole)


def test_a_job_killed_amid_its_arms_ends_the_same() -> None:
    whole = train(diabetes(), asked(SGD))
    made: list[bytes] = []
    train(
        diabetes(),
        asked(SGD),
        on_checkpoint=lambda checkpoint: made.append(checkpoint.to_bytes()),
        checkpoint_seconds=1e-9,
    )
    for kept in made[-len(ARMS) - 1 :: 2]:
        assert comparable(train(diabetes(), asked(SGD), resume=kept)) == comparable(whole)


def test_the_study_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train(diabetes(), asked(QUICK))
    assert torch.equal(torch.get_rng_state(), before)
