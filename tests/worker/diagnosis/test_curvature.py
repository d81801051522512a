"""``health.curvature`` on whole trainings, against exact Hessians of the first and the last weights."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian as exact_hessian
from torch.func import functional_call

from gradkeel.contract.curvature import HOVERING, told
from gradkeel.contract.patch import merge_patch
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table, prepare
from gradkeel_worker.engine import Result, train
from gradkeel_worker.engine.build import build, build_loss
from gradkeel_worker.engine.run import Run
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.interrupts import Interrupted, Released

from ..engine import cases
from ..engine.test_resume import comparable
from .runs import SGD, VALIDATOR, diabetes

Json = dict[str, Any]

STUDY: Json = {"gradient_check": False, "curvature": True}
SMALL: Json = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [4], "activation": "tanh"},
    "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.8, "weight_decay": 0.01},
    "loss": {"kind": "huber", "delta": 0.5},
    "clips": [{"kind": "norm", "max_norm": 0.5}],
    "budget": {"epochs": 5, "batch_size": 64, "patience": 0},
    "device": "cpu",
    "health": STUDY,
}
ADAMW: Json = SMALL | {"optimizer": {"kind": "adamw", "lr": 0.01}}
ADAM: Json = SMALL | {"optimizer": {"kind": "adam", "lr": 0.01, "weight_decay": 0.3}, "loss": {"kind": "mse"}}

NORM: Json = {"kind": "mlp", "widths": [4], "norm": "batch"}
_NEAR = 2e-3
"""Of an eigenvalue: twice the error bar at which it counts as found."""


def by_hand(config: Json) -> tuple[Run, nn.Module, Any]:
    """The engine's own loop on diabetes: (run at its end, model at its start, prepared data)."""
    resolved = resolve(config)
    data = prepare(cases.diabetes(), resolved)
    run = build(data, data.config)
    start = copy.deepcopy(run.model)
    fit(run)
    return run, start, data


def exact(model: nn.Module, config: Json, data: Any) -> Tensor:
    """The Hessian of the training loss over all training rows, in float64."""
    model = copy.deepcopy(model).double().eval()
    loss_fn = build_loss(data, data.config).double()  # type: ignore[attr-defined]
    x = torch.from_numpy(data.train.x).double()
    y = torch.from_numpy(data.train.y).double()[:, None]
    named = dict(model.named_parameters())

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([p.numel() for p in named.values()])
        held = {name: piece.view_as(p) for (name, p), piece in zip(named.items(), pieces, strict=True)}
        found: Tensor = loss_fn(functional_call(model, held, (x,)), y)
        return found

    return exact_hessian(loss, torch.cat([p.detach().flatten() for p in named.values()]))


def largest(matrix: Tensor) -> float:
    return float(torch.linalg.eigvalsh(matrix)[-1])


@pytest.mark.parametrize("config", [SMALL, ADAMW, ADAM], ids=["sgd", "adamw", "adam"])
def test_a_report_holds_the_exact_curvature_of_both_places(config: Json) -> None:
    result = train(cases.diabetes(), config)
    VALIDATOR.validate(result.report)
    run, start_model, data = by_hand(config)
    found = result.report["curvature"]
    assert found["rows"] == found["rows_of"] == len(data.train.rows)
    for place, model in ((found["start"], start_model), (found, run.model)):
        matrix = exact(model, config, data)
        value, bar = place["lambda_max"]["value"], place["lambda_max"]["error"]
        assert place["lambda_max"]["converged"] and abs(value - largest(matrix)) <= bar + 1e-9
        # four standard errors of a Hutchinson estimate of 16 draws
        assert abs(place["trace"]["value"] - float(matrix.trace())) <= 4 * place["trace"]["error"]
        assert sum(place["density"]["shares"]) == pytest.approx(1)
        assert place["density"]["edges"][0] < value < place["density"]["edges"][-1]
    if config is SMALL:
        expected = 2 * (1 + 0.8) / (largest(exact(run.model, config, data)) + 0.01)
        assert found["preconditioned_lambda_max"] is None
    else:
        flat = torch.cat([p.detach().flatten() for p in run.model.parameters()])
        assert torch.equal(run.parameters.as_in(run.model, run.parameters.values), flat)
        # torch's Adam: m / (1 − β₁ᵗ) over √(v / (1 − β₂ᵗ)) + eps, in the order of the model's parameters
        state: Any = run.optimizer.state()
        second = run.parameters.as_in(run.model, state["moments"][1]).double()
        root = (second / (1 - 0.999 ** float(state["steps"]))).sqrt().add(1e-8).rsqrt()
        decay = 0.3 if config is ADAM else 0.0
        matrix = exact(run.model, config, data) + decay * torch.eye(len(root), dtype=torch.float64)
        steepest = largest(root[:, None] * matrix * root)
        assert found["preconditioned_lambda_max"]["value"] == pytest.approx(steepest, rel=_NEAR)
        expected = 3.8 / (0.1 * steepest + (1.9 * 3e-4 if config is ADAMW else 0))
        assert found["start"]["local_stability_limit"] is None
        assert "there are none yet" in found["start"]["no_limit"]
    assert found["local_stability_limit"] == pytest.approx(expected, rel=_NEAR)


def test_the_learning_rate_is_what_clips_leave_of_it() -> None:
    result = train(cases.diabetes(), SMALL | {"clips": [{"kind": "norm", "max_norm": 0.1}]})
    readings, found = result.readings, result.report["curvature"]
    kept = float(np.median(readings.clip_coefficient))  # 25 steps: all of them are the last hundred
    assert 0.2 < kept < 0.9
    assert found["lr"] == {
        "scheduled": pytest.approx(readings.lr[-1]),
        "clip_coefficient": pytest.approx(kept),
        "effective": pytest.approx(kept * readings.lr[-1]),
    }
    ratio = kept * readings.lr[-1] / found["local_stability_limit"]
    assert found["lr_over_limit"] == pytest.approx(ratio)
    assert "shortened by clips" in found["summary"]


def test_a_robust_loss_hides_rows_that_the_squared_one_shows() -> None:
    raw = merge_patch(SMALL, {"prepare": {"target": {"kind": "none"}}, "budget": {"epochs": 1}})
    start = train(cases.diabetes(), raw).report["curvature"]["start"]
    # Targets of about 150 and δ = 0.5: every row is far off, and nothing bends but the network itself.
    assert start["gauss_newton_lambda_max"]["value"] == pytest.approx(0, abs=1e-9)
    squared = start["squared_loss"]
    _, model, data = by_hand(raw | {"loss": {"kind": "mse"}})
    # Huber is half the square near zero, and MSE's Gauss–Newton matrix is its Hessian where targets are met.
    met = copy.deepcopy(data.train.y)
    with torch.no_grad():
        met[:] = model(torch.from_numpy(data.train.x))[:, 0].numpy()
    data.train.y[:] = met
    exact_value = largest(exact(model, raw, data)) / 2
    assert squared["gauss_newton_lambda_max"]["value"] == pytest.approx(exact_value, rel=1e-5)
    assert squared["local_stability_limit"] < 0.2 * start["local_stability_limit"]
    assert "the safer of the two" in told({"start": start})  # type: ignore[operator]


@pytest.mark.parametrize(
    ("table", "config"),
    [
        (cases.categories, {"columns": {"weight": "w"}, "model": {"kind": "tabm", "members": 2, "width": 4}}),
        (cases.iris, {"optimizer": {"kind": "rmsprop", "lr": 0.003}}),
        (cases.diabetes, {"task": "quantile", "loss": {"kind": "quantile"}, "model": NORM}),
        (
            cases.series,
            {
                "model": {"kind": "lstm", "width": 4, "layers": 1, "window": 4},
                "columns": {"order": "t", "group": "g"},
                "split": {"kind": "ordered"},
            },
        ),
    ],
    ids=["weights, ensemble", "classes", "quantiles, batch norm", "windows"],
)
def test_every_kind_of_training_is_measured(table: Any, config: Json) -> None:
    short = {name: SMALL[name] for name in ("target", "preset", "device", "health", "model")}
    result = train(table(), short | {"budget": {"epochs": 2, "batch_size": 64}} | config)
    VALIDATOR.validate(result.report)
    found = result.report["curvature"]
    assert result.report["provenance"]["notes"] == []
    for place in (found["start"], found):
        assert place["lambda_max"]["converged"] and place["gauss_newton_lambda_max"]["value"] >= -1e-9
    assert result.report["cost"]["studies"]["curvature"] > 0


def test_measuring_changes_nothing() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    measured = train(cases.diabetes(), SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    plain = train(cases.diabetes(), SMALL | {"health": STUDY | {"curvature": False}})
    assert plain.report["curvature"] is None and measured.model is not None and plain.model is not None
    state = plain.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in measured.model.state_dict().items())
    again = train(cases.diabetes(), SMALL)
    assert comparable(again) == comparable(measured)
    assert again.report["curvature"] == measured.report["curvature"]


def test_a_training_that_goes_on_reports_the_same() -> None:
    whole = train(cases.diabetes(), ADAMW)
    made: list[bytes] = []
    asked = iter([None] * 12 + ["released"] * 2)
    with pytest.raises(Released):
        train(
            cases.diabetes(),
            ADAMW,
            should_stop=lambda: next(asked),
            on_checkpoint=lambda checkpoint: made.append(checkpoint.to_bytes()),
        )
    resumed = train(cases.diabetes(), ADAMW, resume=made[-1])
    assert resumed.report["curvature"] == whole.report["curvature"] and comparable(resumed) == comparable(
        whole
    )


def test_a_job_that_may_be_repaired_is_measured_once_it_is_through() -> None:
    whole = train(cases.diabetes(), SMALL)
    watched = train(cases.diabetes(), SMALL | {"health": STUDY | {"repair": 1}})
    assert watched.report["repair"] == [] and watched.report["provenance"]["notes"] == []
    assert watched.report["curvature"] == whole.report["curvature"]


@pytest.mark.parametrize("status", ["cancelled", "deadline"])
def test_a_job_may_be_stopped_while_curvature_is_measured(status: str) -> None:
    def stop(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == "largest_eigenvalue":
            raise Interrupted(status)

    @contextlib.contextmanager
    def interruptible() -> Iterator[None]:
        sys.setprofile(stop)
        try:
            yield
        finally:
            sys.setprofile(None)

    result = train(cases.diabetes(), SMALL, interruptible=interruptible)
    VALIDATOR.validate(result.report)
    assert result.status == status and result.model is not None and result.report["curvature"] is None
    assert any(status in note for note in result.report["provenance"]["notes"])


def test_weights_that_ran_away_are_told() -> None:
    wild: Json = {"optimizer": {"kind": "sgd", "lr": 1e6}, "loss": {"kind": "mse"}, "clips": [], "guards": []}
    wild |= {"model": {"kind": "mlp", "widths": [4], "activation": "relu"}}
    result = train(cases.diabetes(), SMALL | wild)
    found = result.report["curvature"]
    assert result.status == "diverged" and found["lambda_max"] is None and found["lr_over_limit"] is None
    assert found["start"]["lambda_max"]["converged"] and found["start"]["lr_over_limit"] > 1e5
    assert HOVERING not in found["summary"]
    assert any("not finite" in note for note in result.report["provenance"]["notes"])
    json.dumps(result.report, allow_nan=False)


class _Single(nn.Module):
    """A model that is float32 whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(10, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x.float())
        return found


def test_a_model_that_cannot_be_measured_is_told_and_trained() -> None:
    result = train(cases.diabetes(), SMALL, model=_Single())
    assert result.status == "succeeded" and result.report["curvature"] is None
    assert any(note.startswith("curvature: not measured") for note in result.report["provenance"]["notes"])


# ------------------------------------------------------------------------------------------------- the rule

LIMIT = 0.242640
"""Of gradient descent on the squared loss of a linear model, diabetes standardised: 2 / λ, the same wherever
the weights are."""


def descended(lr: float, *, study: bool = True, **health: Any) -> Result:
    config = {
        "model": {"kind": "linear"},
        "optimizer": {"kind": "sgd", "lr": lr},
        "loss": {"kind": "mse"},
        "clips": [],
        "guards": [],
        "budget": {"epochs": 40, "batch_size": 2000, "patience": 0},
        "health": {"tier": "economy", "gradient_check": False, "curvature": study, **health},
    }
    return train(Table.from_arrays(diabetes()), SGD | config)


def rules(result: Result) -> list[str]:
    return [finding["rule"] for finding in result.report["findings"]]


def test_above_the_limit_with_a_rising_loss_the_learning_rate_is_too_high() -> None:
    below, above = descended(0.99 * LIMIT), descended(1.005 * LIMIT)
    assert below.report["curvature"]["lr_over_limit"] == pytest.approx(0.99, rel=1e-4)
    assert above.report["curvature"]["lr_over_limit"] == pytest.approx(1.005, rel=1e-4)
    assert "lr_too_high" not in rules(below)
    finding = next(one for one in above.report["findings"] if one["rule"] == "lr_too_high")
    assert finding["evidence"]["lr_over_limit_at_end"] == pytest.approx(1.005, rel=1e-4)
    assert "settle below a learning rate of about 0.243" in finding["explanation"]
    assert finding["remedy"]["patch"]["optimizer"]["lr"] <= LIMIT / 4
    assert "lr_too_high" not in rules(descended(1.005 * LIMIT, study=False))


def test_above_the_limit_without_a_rising_loss_nothing_is_said_against_it() -> None:
    # The start is steeper than the learning rate allows; training leaves it and goes on well.
    config = {"loss": {"kind": "mse"}, "clips": [], "guards": [], "health": STUDY | {"tier": "economy"}}
    budget = {"optimizer": {"kind": "sgd", "lr": 0.03}, "budget": {"epochs": 40, "batch_size": 2000}}
    result = train(Table.from_arrays(diabetes()), SGD | config | budget)
    found = result.report["curvature"]
    assert found["start"]["lr_over_limit"] > 1.3 and found["lr_over_limit"] < 1
    assert "lr_too_high" not in rules(result)
    assert "left for where the loss bends less" in found["summary"] and HOVERING in found["summary"]


def test_what_is_told() -> None:
    assert told(None) is None and told({"start": None, "lambda_max": None}) is None
    sure = {"value": 50.0, "error": 0.01, "converged": True}
    end: Json = {"lambda_max": sure, "local_stability_limit": 0.04, "lr_over_limit": 0.25}
    end |= {"lr": {"scheduled": 0.01, "clip_coefficient": 1.0, "effective": 0.01}}
    assert told(end) == (
        "At the end of training the loss bends most by 50, so that steps settle below a learning rate of "
        "about 0.04; the 0.01 in use is 25 % of that."
    )
    unsure = end | {"lambda_max": sure | {"converged": False}, "lr_over_limit": 1.25}
    assert "50 or more" in told(unsure) and told(unsure).endswith(HOVERING)  # type: ignore[union-attr, operator]
    flat = end | {"local_stability_limit": None, "no_limit": "no direction bends upwards"}
    assert told(flat) == "At the end of training the loss bends most by 50: no direction bends upwards."
