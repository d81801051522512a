"""bf16 and fp16: what they change, what stays float32, how the loss is scaled and a format is chosen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradkeel_worker.data import Table
from gradkeel_worker.engine import Result, train
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.checkpoint import chosen_precision
from gradkeel_worker.engine.parameters import flatten
from gradkeel_worker.engine.precision import PRECISIONS, Float16, native
from gradkeel_worker.engine.precision_choice import choose_precision, judge_ratio
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.interrupts import Released

from .cases import SMALL, breast_cancer, config, diabetes, iris, prepared

Json = dict[str, Any]

CPU = torch.device("cpu")
QUICK: Json = {"health": {"gradient_check": False}}
FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}
EMBEDDING: Json = {"kind": "piecewise_linear", "bins": 8, "width": 3}
MODELS: dict[str, Json] = {
    "linear": {},
    "mlp": {"widths": [16, 8]},
    "resnet": {"blocks": 1, "width": 16, "dropout": 0.0},
    "tabm": {"members": 3, "blocks": 2, "width": 16, "dropout": 0.0},
}
TABLES = {"regression": diabetes, "binary": breast_cancer, "multiclass": iris}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device here")


def rounded(array: Tensor, dtype: torch.dtype) -> np.ndarray[Any, Any]:
    """As the format holds it, in float64."""
    found: np.ndarray[Any, Any] = array.detach().to(dtype).double().numpy()
    return found


@pytest.mark.parametrize(("name", "dtype"), FORMATS.items())
def test_a_product_of_matrices_is_of_rounded_factors(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(40, 30), torch.randn(64, 40)
    with PRECISIONS[name](CPU).forward:
        found = layer(x)
    assert found.dtype == dtype
    exact = rounded(x, dtype) @ rounded(layer.weight, dtype).T + rounded(layer.bias, dtype)
    # Sums are in float32; what comes out is rounded once more, by half a unit in the last place.
    unit = torch.finfo(dtype).eps
    np.testing.assert_allclose(found.detach().double().numpy(), exact, rtol=unit, atol=unit)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("name", "dtype"), FORMATS.items())
def test_gradients_are_float32s_but_for_rounding(name: str, dtype: torch.dtype, model: str) -> None:
    blocks: Json = {"model": {"kind": model, **MODELS[model]}, "prepare": {"embedding": EMBEDDING}}
    data = prepared(**blocks)
    plain, other = (build(data, config(precision=each, **blocks)) for each in ("float32", name))
    batch = next(iter(plain.batches.epoch(0)))
    for run in (plain, other):
        run.precision.backward(run.objective(batch), run.parameters)
    assert other.parameters.gradient.dtype == other.parameters.values.dtype == torch.float32
    exact, found = plain.parameters.gradient.double(), other.parameters.gradient.double()
    # Two dozen roundings of half a unit each on the way through the layers and back.
    assert float((found - exact).norm() / exact.norm()) < 12 * torch.finfo(dtype).eps
    assert not torch.equal(found, exact)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("task", TABLES)
def test_training_comes_to_the_same(task: str, name: str) -> None:
    settings = SMALL | QUICK | {"optimizer": {"kind": "adam", "lr": 0.01}}
    exact, found = (train(TABLES[task](), settings | {"precision": each}) for each in ("float32", name))
    assert found.status == "succeeded"
    assert found.report["provenance"]["precision"] == name
    losses = [result.readings.epochs[-1]["validation_loss"] for result in (exact, found)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def weights(result: Result) -> list[bytes]:
    assert result.model is not None
    return [tensor.numpy().tobytes() for tensor in result.model.state_dict().values()]


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_seed_gives_the_same_bits_and_another_format_others(name: str) -> None:
    settings = SMALL | QUICK | {"model": {"kind": "mlp", "widths": [64, 64], "dropout": 0.1}}
    first, again, plain = (
        train(diabetes(), settings | {"precision": each}) for each in (name, name, "float32")
    )
    assert weights(first) == weights(again) != weights(plain)
    assert first.model is not None
    assert all(tensor.dtype == torch.float32 for tensor in first.model.state_dict().values())


def test_validation_is_in_float32() -> None:
    run = build(prepared(), config(precision="bf16"))
    run.model.eval()
    assert run.validation is not None
    _, outputs = run.objective.mean(run.validation)
    with torch.no_grad():
        expected = run.model(run.validation.x, run.validation.c)
    assert expected.dtype == torch.float32
    np.testing.assert_array_equal(outputs, expected.double().numpy())


# ------------------------------------------------------------------------------------------- fp16's scale


def scaled(factor: float, features: float = 1.0) -> tuple[Float16, Any, Tensor]:
    """A precision, the parameters of one linear layer, and factor times the mean of its outputs."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    parameters, precision = flatten(layer), Float16(CPU)
    with precision.forward:
        output = layer(torch.full((8, 4), features))
    return precision, parameters, factor * output.float().mean()


def test_small_gradients_do_not_vanish() -> None:
    factor = 2.0**-26  # of it fp16 holds an eighth, a row's part, as 0
    precision, parameters, loss = scaled(factor)
    assert precision.backward(loss, parameters) == ()
    np.testing.assert_allclose(parameters.gradient.numpy(), factor, rtol=2**-10)
    plain, (_, others, again) = PRECISIONS["float32"](CPU), scaled(factor)
    plain.backward(again, others)
    assert not others.gradient.any()


def test_the_backward_pass_is_repeated_at_half_the_scale_until_nothing_overflows() -> None:
    precision, parameters, loss = scaled(2.0**10)  # 2¹⁶ · 2¹⁰ / 8 rows is too much for fp16, 2¹⁵ at most
    (told,) = precision.backward(loss, parameters)
    np.testing.assert_array_equal(parameters.gradient.numpy(), 2.0**10)
    scale = precision.state()["scale"]
    assert told.scale == scale  # type: ignore[union-attr]
    assert scale * 2**10 <= torch.finfo(torch.float16).max < 2 * scale * 2**10


def test_a_gradient_that_is_not_finite_by_itself_leaves_the_scale() -> None:
    precision, layer = Float16(CPU), nn.Linear(4, 1)
    parameters = flatten(layer)
    difference = layer(torch.ones(2, 4)) * 0
    loss = torch.sqrt(difference).mean()  # 0, and its gradient is not a number
    assert precision.backward(loss, parameters) == ()
    assert math.isnan(parameters.norm())
    assert precision.state()["scale"] == 2**16
    precision, parameters, loss = scaled(1.0, features=1e6)  # more than fp16 holds: the loss itself
    assert not math.isfinite(loss.item())
    assert precision.backward(loss, parameters) == ()
    assert precision.state()["scale"] == 2**16


def test_the_scale_grows_back() -> None:
    precision, parameters, loss = scaled(1.0)
    precision.load({"scale": 8.0, "steps": 1998})
    precision.backward(loss, parameters)
    assert precision.state() == {"scale": 8.0, "steps": 1999}
    precision.backward(loss, parameters)
    assert precision.state() == {"scale": 16.0, "steps": 0}


def test_a_lowered_scale_is_told_and_no_step_is_lost() -> None:
    events: list[Json] = []
    result = train(
        diabetes(),
        SMALL
        | QUICK
        | {"precision": "fp16", "loss": {"kind": "mse"}, "prepare": {"target": {"kind": "none"}}},
        on_event=lambda name, data: events.append(data) if name == "intervention" else None,
    )
    assert result.status == "succeeded"
    assert events
    assert {one["action"] for one in events} == {"lower_scale"}
    assert [one["action"] for one in result.report["interventions"]] == ["lower_scale"] * len(events)
    assert not result.readings.skipped.any()
    assert np.isfinite(result.readings.global_norm).all()


def test_what_fp16_cannot_hold_is_traced_and_ends_the_run() -> None:
    table = diabetes()
    table.columns["bmi"].values[:] *= 1e7
    result = train(table, SMALL | QUICK | {"precision": "fp16", "prepare": {"numeric": {"kind": "none"}}})
    assert result.status == "diverged"
    event = result.readings.nonfinite_event
    assert event is not None
    assert (event["what"], event["layer"]) == ("activation", "layers.0")


# ----------------------------------------------------------------------------------------- chosen by itself


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (0.4, ("bf16", True)),
        (0.7, ("bf16", False)),
        (0.9, ("float32", False)),
        (2.0, ("float32", True)),
    ],
)
def test_what_a_ratio_says(ratio: float, expected: tuple[str, bool]) -> None:
    assert judge_ratio(ratio) == expected


def test_small_steps_are_not_timed() -> None:
    result = train(diabetes(), SMALL | QUICK | {"precision": "auto"})
    choice = result.report["provenance"]["precision_choice"]
    assert (choice["chosen"], choice["step_seconds"], choice["sure"]) == ("float32", {}, True)
    assert result.config.precision == "float32"
    assert weights(result) == weights(train(diabetes(), SMALL | QUICK))


def test_nothing_is_timed_where_bf16_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})
    run = build(prepared(), config())
    assert choose_precision(run, lambda: False)["chosen"] == "float32"
    assert not native("bf16", CPU)
    assert not native("fp16", CPU)


def test_a_training_that_is_stopped_times_nothing(everything_timed: None) -> None:
    choice = choose_precision(build(prepared(), config()), lambda: True)
    assert (choice["chosen"], choice["step_seconds"]) == ("float32", {})


@pytest.fixture
def everything_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradkeel_worker.engine.precision_choice._SMALLEST", 0)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def test_what_was_chosen_is_told_kept_and_trains_the_same_again(everything_timed: None) -> None:
    events: list[tuple[str, Json]] = []
    settings = SMALL | QUICK | {"precision": "auto", "optimizer": {"kind": "adam", "lr": "auto"}}
    result = train(diabetes(), settings, on_event=lambda name, data: events.append((name, data)))
    choice = result.report["provenance"]["precision_choice"]
    assert set(choice["step_seconds"]) == {"float32", "bf16"}
    assert all(seconds > 0 for seconds in choice["step_seconds"].values())
    (resolved,) = [data["config"] for name, data in events if name == "resolved"]
    assert resolved["precision"] == choice["chosen"] == result.report["provenance"]["precision"]
    assert choice["message"] in [data["message"] for name, data in events if name == "log"]
    assert result.report["provenance"]["reproducible"] == choice["sure"]
    assert weights(train(diabetes(), resolved)) == weights(result)


def test_a_resumed_training_keeps_to_what_was_chosen(everything_timed: None) -> None:
    made: list[bytes] = []
    settings = SMALL | QUICK | {"precision": "auto"}
    answers: Iterator[str | None] = itertools.repeat(None)
    seen: list[Json] = []

    def begun(name: str, data: Json) -> None:
        nonlocal answers
        if name == "resolved":
            answers = iter([None] * 7 + ["released"])

    with pytest.raises(Released):
        train(
            diabetes(),
            settings,
            on_event=begun,
            should_stop=lambda: next(answers),
            on_checkpoint=lambda checkpoint: made.append(checkpoint.to_bytes()),
        )
    chosen = chosen_precision(made[-1])
    assert chosen is not None
    result = train(
        diabetes(),
        settings,
        resume=made[-1],
        on_event=lambda name, data: seen.append(data) if name == "resumed" else None,
    )
    assert [data["step"] for data in seen] == [7]
    assert result.report["provenance"]["precision_choice"] == chosen  # its times included: nothing was timed
    assert weights(result) == weights(train(diabetes(), settings | {"precision": chosen["chosen"]}))


@pytest.mark.parametrize("data", [b"", b"\0" * 40, (2).to_bytes(8, "little") + b"[]"])
def test_bytes_that_are_no_checkpoint_tell_nothing(data: bytes) -> None:
    assert chosen_precision(data) is None


def test_an_emulated_format_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    told: list[Json] = []
    settings = SMALL | QUICK | {"precision": "bf16"}
    train(diabetes(), settings, on_event=lambda name, data: told.append(data) if name == "log" else None)
    assert [data["message"] for data in told] == ["this cpu emulates bf16: steps take longer than in float32"]


@needs_cuda
@pytest.mark.parametrize("name", PRECISIONS)
def test_an_accelerator_trains_in_every_format(name: str) -> None:
    table: Table = diabetes()
    result = train(table, SMALL | QUICK | {"precision": name, "device": "cuda"})
    assert result.status == "succeeded"
    assert weights(result) == weights(train(table, SMALL | QUICK | {"precision": name, "device": "cuda"}))


def test_probes_and_clips_see_unscaled_gradients() -> None:
    plain, other = (build(prepared(), config(precision=each)) for each in ("float32", "fp16"))
    for run in (plain, other):
        assert fit(run) == "epochs"
    norms = [run.readings.global_norm for run in (plain, other)]
    np.testing.assert_allclose(norms[1], norms[0], rtol=0.05)
    clipped = [run.readings.clipped_norm for run in (plain, other)]
    assert (clipped[1] <= 1 + 1e-6).all()
    np.testing.assert_allclose(clipped[1], clipped[0], rtol=0.05)
