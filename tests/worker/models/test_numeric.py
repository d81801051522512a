"""Embeddings of numbers, against the formulas in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradkeel.contract import config as contract
from gradkeel_worker.models import NUMERIC_EMBEDDINGS, Inputs
from gradkeel_worker.models.mlp import mlp
from gradkeel_worker.models.numeric import (
    EDGES,
    NumericEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)


def places(value: float, edges: np.ndarray) -> list[float]:
    """The definition: (value − left) / (right − left), clipped to [0, 1] but beyond the outermost edges."""
    found = []
    last = len(edges) - 2
    for index, (left, right) in enumerate(itertools.pairwise(edges)):
        place = (value - left) / (right - left)
        low = -np.inf if index == 0 else 0.0
        high = np.inf if index == last else 1.0
        found.append(min(max(place, low), high))
    return found


@given(
    edges=st.lists(st.integers(-50, 50), min_size=2, max_size=9, unique=True).map(sorted),
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=5),
)
def test_piecewise_linear_features_are_the_place_in_each_bin(edges: list[int], values: list[float]) -> None:
    array = np.array(edges, np.float32)
    short = np.array([0, 1], np.float32)  # a column of one bin beside it: the rest of its row stays 0
    module = PiecewiseLinearEmbedding([array, short], width=2)
    x = torch.tensor([[value, value] for value in values])
    features = module.features(x).numpy()
    expected = [places(value, array.astype(np.float64)) for value in values]
    # one subtraction and one product in float32, of numbers up to 200
    np.testing.assert_allclose(features[0], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(features[1, :, 0], values, rtol=1e-6)
    assert not features[1, :, 1:].any()


@given(
    edges=st.lists(st.integers(-50, 50), min_size=2, max_size=9, unique=True).map(sorted),
    values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=5),
    seed=st.integers(0, 9),
)
def test_what_is_looked_up_is_the_whole_product(edges: list[int], values: list[float], seed: int) -> None:
    """Values and gradients of relu(features · weight + bias), in float64; on an edge the sides agree to the
    rounding of the rates, which are float32 (1 / 41 · 41 is less than 1)."""
    torch.manual_seed(seed)
    short = np.array([0, 1], np.float32)
    module = PiecewiseLinearEmbedding([np.array(edges, np.float32), short], width=3).double()
    x = torch.tensor([[value, value] for value in [*values, float(edges[0]), float(edges[-1])]]).double()
    weighed = torch.randn(len(x), module.outputs, dtype=torch.float64)
    parameters = list(module.parameters())
    found, expected = module(x), NumericEmbedding.forward(module, x)
    np.testing.assert_allclose(found.detach(), expected.detach(), atol=1e-6)
    gradients = [torch.autograd.grad((each * weighed).sum(), parameters) for each in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_missing_number_stays_missing() -> None:
    edges = np.array([0, 1, 2], np.float32)
    found = PiecewiseLinearEmbedding([edges, edges], width=2)(torch.tensor([[math.nan, 0.5]]))
    assert torch.isnan(found[0, :2]).all()
    assert torch.isfinite(found[0, 2:]).all()


def test_periodic_features_are_cosines_and_sines() -> None:
    torch.manual_seed(0)
    module = PeriodicEmbedding(3, frequencies=4, sigma=0.5, width=2)
    x = torch.randn(5, 3)
    turns = 2 * np.pi * module.frequency.detach().double().numpy() * x.double().numpy().T[:, :, None]
    expected = np.concatenate([np.cos(turns), np.sin(turns)], axis=2)
    np.testing.assert_allclose(module.features(x).detach().numpy(), expected, atol=1e-5)
    assert module.frequency.abs().max() <= 1.5


@pytest.mark.parametrize("kind", ["piecewise_linear", "periodic"])
def test_each_column_has_a_vector_of_its_own(kind: str) -> None:
    """relu(features · weight + bias), column by column, joined with the columns that are not embedded."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)).astype(np.float32), rng.normal(size=200)
    block = contract.NUMERIC_EMBEDDINGS[kind](width=5)
    module = NUMERIC_EMBEDDINGS[kind](block, x[:, :2], y)
    assert module is not None
    torch.nn.init.normal_(module.bias)
    features = module.features(torch.from_numpy(x[:, :2])).detach().double().numpy()
    weight, bias = (tensor.detach().double().numpy() for tensor in (module.weight, module.bias))
    vectors = [np.maximum(features[i] @ weight[i] + bias[i], 0) for i in range(2)]
    found = module(torch.from_numpy(x[:, :2])).detach().numpy()
    np.testing.assert_allclose(found, np.concatenate(vectors, axis=1), rtol=1e-4, atol=1e-5)
    network = mlp(contract.MLP(widths=(4,)), Inputs(3, embedding=module), 1)
    assert network.inputs.width == 2 * 5 + 1
    joined = network._joined(torch.from_numpy(x), None).detach().numpy()
    np.testing.assert_array_equal(joined, np.concatenate([found, x[:, 2:]], axis=1))
    assert network.layer_names()[0] == "embeddings.numeric"
    assert {network.layer_of(name) for name, _ in network.named_parameters()} == set(network.layer_names())


def test_quantile_edges_hold_the_same_number_of_rows() -> None:
    values = np.random.default_rng(0).exponential(size=1000).astype(np.float32)
    edges = EDGES["quantiles"](values, values, 10)
    counts, _ = np.histogram(values, edges)
    assert len(edges) == 11
    assert counts.min() >= 99


def test_tree_edges_stand_where_the_target_jumps() -> None:
    values = np.random.default_rng(0).uniform(size=1000).astype(np.float32)
    edges = EDGES["tree"](values, (values > 0.3).astype(float), 2)
    assert len(edges) == 3
    assert edges[1] == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("by", ["quantiles", "tree"])
def test_a_column_of_two_values_has_a_bin_or_two(by: str) -> None:
    values = np.array([0, 1] * 50, np.float32)
    edges = EDGES[by](values, values, 48)
    assert 2 <= len(edges) <= 3
    assert (edges[0], edges[-1]) == (0, 1)


@pytest.mark.parametrize("by", ["quantiles", "tree"])
def test_a_column_without_spread_still_has_a_bin(by: str) -> None:
    edges = EDGES[by](np.zeros(40, np.float32), np.arange(40.0), 8)
    np.testing.assert_array_equal(edges, [0, 1])
