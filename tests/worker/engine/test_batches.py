"""Every row once an epoch, in the order that seed and epoch decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradkeel_worker.engine import batches
from gradkeel_worker.engine.batches import Batches, Tensors, piecewise_order


def numbered(rows: int) -> Tensors:
    x = torch.arange(rows, dtype=torch.float32).unsqueeze(1)
    return Tensors(x, torch.zeros(rows, 0, dtype=torch.int64), x, x.squeeze(1))


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 2), st.integers(0, 3))
def test_every_row_once(rows: int, size: int, smallest: int, epoch: int) -> None:
    if rows < smallest or size < smallest:
        return
    made = Batches(numbered(rows), size, seed=3, smallest=smallest)
    seen = list(made.epoch(epoch))
    assert len(seen) == len(made)
    order = np.concatenate([batch.x[:, 0].numpy() for batch in seen])
    np.testing.assert_array_equal(order, made.order(epoch))
    assert sorted(order) == list(range(rows))
    assert min(len(batch.y) for batch in seen) >= min(smallest, rows)
    assert all(torch.equal(batch.x[:, 0], batch.weight) for batch in seen if batch.weight is not None)
    assert [batch.first for batch in seen] == np.cumsum([0, *made.sizes[:-1]]).tolist()


def test_small_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [batch.x for batch in Batches(numbered(100), 7, seed=0).epoch(2)]
    monkeypatch.setattr(batches, "_BLOCK_BYTES", 200)
    parts = [batch.x for batch in Batches(numbered(100), 7, seed=0).epoch(2)]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_epochs_differ_and_no_rows_are_refused() -> None:
    made = Batches(numbered(50), 10, seed=0)
    assert made.order(0).tolist() != made.order(1).tolist()
    with pytest.raises(ValueError, match="0 rows"):
        Batches(numbered(0), 10, seed=0)


def test_a_large_part_is_shuffled_by_runs_of_rows() -> None:
    """Every row once; rows that are near in the order lie in few runs; another epoch, another order."""
    rows, row_bytes, window = 10_007, 2**12, 2**20  # 64 rows a run, four runs a window
    orders = [
        piecewise_order(np.random.default_rng((0, epoch)), rows, row_bytes, window) for epoch in range(2)
    ]
    assert [np.sort(order).tolist() for order in orders] == [list(range(rows))] * 2
    assert orders[0].tolist() != orders[1].tolist()
    assert max(len(np.unique(orders[0][start : start + 256] // 64)) for start in range(0, rows, 256)) <= 8
    assert np.corrcoef(orders[0], np.arange(rows))[0, 1] < 0.2
    together = orders[0][:256]
    assert np.any(np.abs(np.diff(together)) > 1) and len(np.unique(together[:64] // 64)) > 1


def test_only_parts_beyond_the_limit_are_shuffled_by_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 50_000
    data = Tensors(torch.zeros(rows, 4), torch.zeros(rows, 0, dtype=torch.int64), torch.zeros(rows, 1), None)
    made = Batches(data, 32, seed=1)
    whole = np.random.default_rng((1, 0)).permutation(rows)
    np.testing.assert_array_equal(made.order(0), whole)
    monkeypatch.setattr(batches, "SHUFFLED_BYTES", rows * 24 - 1)
    pieces = made.order(0)
    np.testing.assert_array_equal(np.sort(pieces), np.arange(rows))
    assert pieces.tolist() == made.order(0).tolist() != whole.tolist()
