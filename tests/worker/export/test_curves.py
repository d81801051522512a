"""The curves as graphs against scipy and against the preparation's own sums, far out and at every edge."""

import numpy as np
import pytest
from scipy.special import ndtri

from gradkeel.contract import config as contract
from gradkeel.local.model import open_session
from gradkeel_worker.data.curves import END_SHARE, QuantileTable, YeoJohnson, fit_quantiles
from gradkeel_worker.export.curves import bent, straight
from gradkeel_worker.export.graph import Graph

DOUBLE = 11
RNG = np.random.default_rng(0)


def run(build, *columns):
    """What a graph makes of columns [n] side by side, [n, m]."""
    graph = Graph()
    names = [graph.input(f"x{i}", DOUBLE) for i in range(len(columns))]
    graph.output(build(graph, graph.concat(names)), "out", ["N", len(columns)])
    session = open_session(graph.model("test", {}).SerializeToString())
    return session.run(None, {name: x[:, None] for name, x in zip(names, columns, strict=True)})[0]


def test_the_normal_numbers_are_scipys():
    identity = np.array([0.0, 1.0])
    table = QuantileTable(identity, identity, identity, normal=True)
    tails = np.geomspace(END_SHARE / 10, 0.5, 400)
    share = np.concatenate([tails, 1 - tails, np.linspace(0, 1, 301), [0.075, 0.925]])
    found = run(lambda graph, x: bent(graph, (table,), x), share)[:, 0]
    inside = np.clip(share, END_SHARE, 1 - END_SHARE)
    # the share itself is known to 1e-16; the slope at the upper end is 2e6
    np.testing.assert_allclose(found, ndtri(inside), rtol=1e-13, atol=1e-9)


@pytest.mark.parametrize("normal", [True, False])
def test_quantile_tables_side_by_side(normal):
    output = "normal" if normal else "uniform"
    blocks = [contract.Quantile(n=n, output=output) for n in (2, 17, 256, 1000)]
    fitted = [
        RNG.normal(size=500),
        RNG.poisson(1.0, 300).astype(float),
        RNG.exponential(size=300),
        np.arange(1024.0),
    ]
    curves = tuple(fit_quantiles(*pair) for pair in zip(blocks, fitted, strict=True))
    edges = [curve.at for curve in curves]
    far = np.array([-np.inf, -1e300, np.nan, 0.0, 1e-300, 1e300, np.inf])
    longest = max(map(len, edges))
    asked = [
        np.concatenate([np.resize(at, longest), np.nextafter(np.resize(at, longest), -np.inf), far])
        for at in edges
    ]
    found = run(lambda graph, x: bent(graph, curves, x), *asked)
    expected = np.stack([curve(x) for curve, x in zip(curves, asked, strict=True)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("power", [-1.3, 0.0, 0.4, 1.0, 2.0, 3.1])
def test_yeo_johnson_and_its_inverse(power):
    x = np.concatenate([RNG.normal(size=50) * 30, [0.0, -0.0, 1e-12, -1e-12, np.nan]])
    curve = YeoJohnson(power)
    found = run(lambda graph, v: bent(graph, (None, curve), v), x, x)
    np.testing.assert_array_equal(found[:, 0], x)
    # (1 + x)^λ − 1 loses what 1 + x rounds away: 1e-16 in all
    np.testing.assert_allclose(found[:, 1], curve(x), rtol=1e-12, atol=1e-14)
    back = run(lambda graph, v: straight(graph, curve, v), curve(x))[:, 0]
    np.testing.assert_allclose(back, curve.inverse(curve(x)), rtol=1e-9, atol=1e-13)
