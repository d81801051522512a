"""The moving average of the weights, against its definition."""

from __future__ import annotations

import numpy as np
import torch

from gradkeel.contract import config as contract
from gradkeel_worker.engine import train
from gradkeel_worker.engine.averaging import Averaged
from gradkeel_worker.optimizers import OPTIMIZERS

from .cases import SMALL, diabetes


def test_it_follows_the_weights_and_stands_in_for_them() -> None:
    torch.manual_seed(0)
    values, gradient = torch.randn(6), torch.randn(6)
    block = contract.SGD(lr=0.1)
    optimizer = Averaged(OPTIMIZERS["sgd"](block, values, gradient), values, share=0.25)
    expected = values.double().numpy().copy()
    for step in range(1, 12):
        optimizer.step(0.1)
        share = max(0.25, 1 / (step + 1))
        expected += share * (values.double().numpy() - expected)
    newest = values.clone()
    with optimizer.in_place():
        # float32 sums of eleven steps
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(values, newest)


def test_a_share_of_one_changes_nothing() -> None:
    config = {"target": "target", **SMALL}
    plain = train(diabetes(), config)
    budget = {**config.get("budget", {}), "ema": 1.0}
    averaged = train(diabetes(), {**config, "budget": budget})
    assert plain.metrics == averaged.metrics


def test_what_is_returned_is_the_average() -> None:
    config = {"target": "target", **SMALL}
    budget = {**config.get("budget", {}), "ema": 0.02}
    plain, averaged = train(diabetes(), config), train(diabetes(), {**config, "budget": budget})
    assert plain.report["series"]["loss"][:5] == averaged.report["series"]["loss"][:5]
    assert plain.metrics["test"] != averaged.metrics["test"]
