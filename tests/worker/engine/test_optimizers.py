"""Each optimizer against torch.optim's of the same name, over many steps with changing learning rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gradkeel.contract import config as contract
from gradkeel_worker.optimizers import OPTIMIZERS

CASES: list[tuple[Any, Any, dict[str, Any]]] = [
    (contract.SGD(), torch.optim.SGD, {}),
    (contract.SGD(momentum=0.9, weight_decay=0.1), torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    (contract.SGD(momentum=0.8, dampening=0.3), torch.optim.SGD, {"momentum": 0.8, "dampening": 0.3}),
    (contract.SGD(momentum=0.9, nesterov=True), torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    (contract.Adam(weight_decay=0.05), torch.optim.Adam, {"weight_decay": 0.05}),
    (contract.Adam(betas=(0.8, 0.95), eps=1e-3), torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-3}),
    (contract.AdamW(weight_decay=0.05), torch.optim.AdamW, {"weight_decay": 0.05}),
    (contract.NAdam(), torch.optim.NAdam, {}),
    (
        contract.NAdam(betas=(0.8, 0.95), momentum_decay=0.02, weight_decay=0.05, eps=1e-3),
        torch.optim.NAdam,
        {"betas": (0.8, 0.95), "momentum_decay": 0.02, "weight_decay": 0.05, "eps": 1e-3},
    ),
    (contract.RAdam(), torch.optim.RAdam, {}),
    (
        contract.RAdam(betas=(0.8, 0.95), weight_decay=0.05),
        torch.optim.RAdam,
        {"betas": (0.8, 0.95), "weight_decay": 0.05},
    ),
    (contract.RAdam(betas=(0.0, 0.5)), torch.optim.RAdam, {"betas": (0.0, 0.5)}),
    (contract.RMSprop(), torch.optim.RMSprop, {}),
    (
        contract.RMSprop(alpha=0.9, momentum=0.7, weight_decay=0.1),
        torch.optim.RMSprop,
        {"alpha": 0.9, "momentum": 0.7, "weight_decay": 0.1},
    ),
    (contract.Adagrad(eps=1e-6, weight_decay=0.1), torch.optim.Adagrad, {"eps": 1e-6, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("config", "oracle", "arguments"), CASES)
def test_as_torch_does_it(config: Any, oracle: Any, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    values, gradient = torch.randn(1000), torch.zeros(1000)
    theirs = torch.nn.Parameter(values.clone())
    optimizer = OPTIMIZERS[config.kind](config, values, gradient)
    reference = oracle([theirs], lr=1.0, **arguments)
    for step in range(50):
        lr = 0.02 / (1 + step % 3)
        # Large at first, then small, with exact zeros among them.
        gradient.copy_(torch.randn(1000) * (10.0 if step < 5 else 0.1) * (torch.rand(1000) > 0.2))
        theirs.grad = gradient.clone()
        reference.param_groups[0]["lr"] = lr
        before = gradient.clone()
        optimizer.step(lr)
        reference.step()
        assert torch.equal(gradient, before)
    # float32 over 50 steps in another order of operations.
    torch.testing.assert_close(values, theirs.detach(), rtol=1e-4, atol=1e-5)
