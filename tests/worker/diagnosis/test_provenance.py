"""The first non-finite tensor, its producer, its cell."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table, prepare
from gradkeel_worker.diagnosis.provenance import first_bad_cell, trace_nonfinite


class _Broken(nn.Module):
    def __init__(self, operation: str) -> None:
        super().__init__()
        self.first, self.operation, self.last = nn.Linear(3, 4), operation, nn.Linear(4, 1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        hidden = self.first(x)
        if self.operation == "log":
            hidden = torch.log(-hidden.abs())
        if self.operation == "exp":
            hidden = torch.exp(hidden.abs() * 1e4)
        return self.last(hidden)


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    return x, torch.zeros(8, 0, dtype=torch.int64), torch.zeros(8, 1)


def test_the_operation_outside_its_domain_is_named_not_those_that_pass_it_on() -> None:
    origin = trace_nonfinite(_Broken("log"), nn.functional.mse_loss, *_batch())
    assert origin is not None
    assert origin.what == "activation"
    assert origin.kind == "nan"
    assert origin.operation == "log (outside its domain)"
    assert origin.producer


def test_an_overflow_is_told_from_a_domain() -> None:
    origin = trace_nonfinite(_Broken("exp"), nn.functional.mse_loss, *_batch())
    assert origin is not None
    assert (origin.what, origin.kind, origin.operation) == ("activation", "inf", "exp")


def test_a_loss_that_overflows_is_named() -> None:
    x, c, y = _batch()
    origin = trace_nonfinite(_Broken("none"), nn.functional.mse_loss, x, c, y + 1e30)
    assert origin is not None
    assert (origin.what, origin.layer) == ("loss", "loss")


def test_a_root_at_zero_shows_in_the_backward_pass() -> None:
    x, c, _ = _batch()
    model = _Broken("none")
    with torch.no_grad():
        target = model(x, c)
    origin = trace_nonfinite(model, lambda p, t: ((p - t) ** 2).sum().sqrt(), x, c, target)
    assert origin is not None
    assert origin.what == "gradient"


def test_broken_weights_are_named_first() -> None:
    model = _Broken("none")
    with torch.no_grad():
        model.last.weight[0, 0] = float("nan")
    origin = trace_nonfinite(model, nn.functional.mse_loss, *_batch())
    assert origin is not None
    assert (origin.what, origin.layer) == ("weight", "last")


def test_sound_runs_have_no_origin_and_nothing_changes() -> None:
    model, state = _Broken("none"), torch.get_rng_state()
    assert trace_nonfinite(model, nn.functional.mse_loss, *_batch()) is None
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_tracing_does_not_load_the_compiler() -> None:
    trace_nonfinite(_Broken("log"), nn.functional.mse_loss, *_batch())
    assert "torch._dynamo.convert_frame" not in sys.modules


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_cell_is_found_by_row_and_column(value: float) -> None:
    rng = np.random.default_rng(0)
    columns = {name: rng.normal(size=50) for name in ("a", "b", "target")}
    columns["b"][31] = value
    config = {
        "target": "target",
        "split": {"kind": "random", "validation": 0, "test": 0},
        "prepare": {"missing": {"kind": "propagate"}},
        "budget": {"batch_size": 10},
    }
    origin = first_bad_cell(prepare(Table.from_arrays(columns), resolve(config)))
    assert origin is not None
    assert (origin.what, origin.row, origin.column) == ("input", 31, "b")
