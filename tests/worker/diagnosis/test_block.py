"""A stretch of rows whose targets were mixed up is found, and one that is only of another kind is not."""

from __future__ import annotations

import numpy as np
import pytest

from gradkeel_worker.diagnosis.block import Answers, _kuiper, strange_block

ROWS = 400


def _answers(actual: np.ndarray, predicted: np.ndarray) -> Answers:
    rows = np.arange(len(actual)) * 2 + 1
    return Answers(rows, rows + 2, actual.reshape(len(rows), -1), predicted.reshape(len(rows), -1))


def _related(random: np.random.Generator, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    predicted = random.normal(size=ROWS)
    return predicted + noise * random.normal(size=ROWS), predicted


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_targets_of_a_stretch_are_found_and_placed(seed: int) -> None:
    random = np.random.default_rng(seed)
    actual, predicted = _related(random)
    actual[100:200] = random.permutation(actual[100:200])
    block = strange_block(_answers(actual, predicted))
    assert block is not None
    # The walk wanders over a few rows at either end.
    assert block.first["row"] == pytest.approx(201, abs=40)
    assert block.last["row"] == pytest.approx(399, abs=40)
    assert block.first["line"] == block.first["row"] + 2
    assert abs(block.inside) < 0.3 < 0.8 < block.outside


def test_shuffled_classes_are_found() -> None:
    random = np.random.default_rng(0)
    label = random.integers(3, size=ROWS)
    told = np.eye(3)[label] * 0.8 + random.dirichlet(np.ones(3), ROWS) * 0.2
    label[250:330] = random.permutation(label[250:330])
    block = strange_block(_answers(np.eye(3)[label], told))
    assert block is not None
    assert block.first["row"] == pytest.approx(501, abs=30)


@pytest.mark.parametrize("seed", range(20))
def test_rows_in_random_order_have_no_such_stretch(seed: int) -> None:
    assert strange_block(_answers(*_related(np.random.default_rng(seed)))) is None


def test_a_stretch_of_nearly_equal_targets_is_harder_to_tell_and_no_fault() -> None:
    random = np.random.default_rng(1)
    actual, predicted = _related(random)
    actual[100:200] = predicted[100:200] = 0.0
    actual[100:200] += 0.5 * random.normal(size=100)
    assert strange_block(_answers(actual, predicted)) is None


def test_a_model_that_tells_nothing_anywhere_has_no_such_stretch() -> None:
    random = np.random.default_rng(2)
    assert strange_block(_answers(random.normal(size=ROWS), random.normal(size=ROWS))) is None


def test_few_rows_tell_of_no_stretch() -> None:
    random = np.random.default_rng(0)
    actual, predicted = _related(random)
    actual[10:30] = random.permutation(actual[10:30])
    assert strange_block(_answers(actual[:50], predicted[:50])) is None


@pytest.mark.parametrize(("fall", "chance"), [(1.620, 0.10), (1.747, 0.05), (2.001, 0.01)])
def test_the_chance_is_that_of_kuipers_table(fall: float, chance: float) -> None:
    """Asymptotic percentage points of Stephens 1970, table 1A, told to three digits."""
    assert _kuiper(fall) == pytest.approx(chance, rel=0.01)
