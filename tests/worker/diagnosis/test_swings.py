"""Whether a series fell, what leaps out of it and what swings, against plain loops and known series."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from gradkeel_worker.diagnosis.swings import FEWEST, WINDOW, fall_of, spikes_of, swings_of


def test_the_error_of_a_fall_is_that_of_many_draws() -> None:
    """The standard error that one series tells beside the spread of the difference over 300 series."""
    rng = np.random.default_rng(0)
    falls = [fall_of(rng.normal(5, 2, 400)) for _ in range(300)]
    differences = [fall.first - fall.last for fall in falls]
    # 300 draws tell a standard deviation to about 4 %; the median absolute deviation adds as much
    assert np.median([fall.error for fall in falls]) == pytest.approx(np.std(differences), rel=0.15)
    assert np.mean([fall.beyond_noise for fall in falls]) == pytest.approx(0.023, abs=0.03)  # P(z > 2)


def test_a_fall_larger_than_the_noise_is_one() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 400)
    assert fall_of(np.linspace(2, 1, 400) + noise).beyond_noise
    assert not fall_of(np.linspace(1, 2, 400) + noise).beyond_noise
    assert not fall_of(np.ones(50)).beyond_noise


@pytest.mark.parametrize("at", [40, WINDOW + 100])
@pytest.mark.parametrize(("height", "found"), [(7.0, True), (5.0, False)])
def test_a_spike_is_told_against_the_steps_before_it(at: int, height: float, found: bool) -> None:
    values = np.random.default_rng(2).normal(1, 0.1, 400)
    before = values[max(0, at - WINDOW) : at]
    values[at] = before.mean() + height * before.std()
    spikes = spikes_of(values, 6.0, 0.0)
    assert [spike.index for spike in spikes] == ([at] if found else [])
    if found:
        assert spikes[0].z == pytest.approx(height)
        assert spikes[0].mean == pytest.approx(before.mean())
        assert spikes[0].lasted == 1


def test_what_stays_up_is_one_spike_that_lasted() -> None:
    values = np.random.default_rng(3).normal(1, 0.1, 400)
    values[200:209] += 50
    (spike,) = spikes_of(values, 6.0, 0.0)
    assert (spike.index, spike.lasted) == (200, 9)
    assert spikes_of(values, 6.0, 60.0) == []
    assert spikes_of(values[: FEWEST - 1], 6.0, 0.0) == []


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e150])
def test_spikes_are_the_same_in_any_unit(factor: float) -> None:
    values = np.random.default_rng(4).normal(1, 0.1, 300)
    values[[50, 250]] = 9.0
    spikes = spikes_of(values * factor, 6.0, 0.5 * factor)
    assert [spike.index for spike in spikes] == [50, 250]


@pytest.mark.parametrize(("least", "expected"), [(0.5, [1, 2, 1.5]), (1.2, [1.5]), (3, [])])
def test_swings_lie_between_turning_points(least: float, expected: list[float]) -> None:
    turns = [0.0, 3.0, 2.0, 4.0, 2.5, 6.0]
    values = np.concatenate([np.linspace(a, b, 7) for a, b in pairwise(turns)])
    assert swings_of(values, least) == pytest.approx(expected)


def test_a_way_down_has_no_swings() -> None:
    assert len(swings_of(np.geomspace(1, 1e-3, 50), 0.01)) == 0
    assert len(swings_of(np.ones(50), 0.01)) == 0
    assert len(swings_of(np.zeros(0), 0.01)) == 0
