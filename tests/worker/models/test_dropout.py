"""Dropout from random bits: the share it drops, what it keeps, and that it repeats."""

from __future__ import annotations

import math

import pytest
import torch

from gradkeel_worker.models.dropout import Dropout


@pytest.mark.parametrize(
    ("asked", "p"), [(0.001, 66 / 65536), (0.01, 655 / 65536), (0.1, 26 / 256), (0.5, 0.5), (0.9, 230 / 256)]
)
def test_it_drops_its_share_and_scales_the_rest(asked: float, p: float) -> None:
    """``p``: as it is rounded."""
    torch.manual_seed(0)
    x = torch.full((300, 333), 2.0)
    y = Dropout(asked)(x)
    dropped = (y == 0).double().mean().item()
    # five standard deviations of a binomial share
    assert abs(dropped - p) < 5 * math.sqrt(p * (1 - p) / x.numel())
    assert y[y != 0].unique().numel() == 1
    assert y.max().item() == pytest.approx(2 / (1 - p), rel=1e-6)


def test_every_position_is_dropped_equally_often() -> None:
    """Eight masks come from one draw; none of the eight is special."""
    torch.manual_seed(1)
    kept = torch.stack([Dropout(0.5)(torch.ones(64)) for _ in range(4000)]).bool().double().mean(0)
    assert (kept - 0.5).abs().max() < 5 * math.sqrt(0.25 / 4000)


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 7, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


def test_the_same_seed_gives_the_same_mask() -> None:
    masks = []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append(Dropout(0.2)(torch.ones(13, 5)))
    assert torch.equal(*masks)


def test_it_does_nothing_in_evaluation() -> None:
    x = torch.randn(3, 4)
    module = Dropout(0.5).eval()
    assert torch.equal(module(x), x)
