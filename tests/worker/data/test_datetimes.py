"""Dates as numbers: cycles close, and only what varies is kept."""

import numpy as np
import pytest

from gradkeel_worker.data.datetimes import part, phase, varying


def _seconds(*texts):
    return np.array(texts, dtype="datetime64[s]").astype(np.float64)


def test_phases_by_hand():
    moment = _seconds("2024-01-01T06:00:00")  # a Monday
    assert phase(moment, "day")[0] == 0.25
    assert phase(moment, "week")[0] == pytest.approx(0.25 / 7)
    assert phase(_seconds("1970-07-02T14:54:36"), "year")[0] == pytest.approx(0.5, abs=1e-6)


def test_the_end_of_a_cycle_lies_beside_its_start():
    midnight = _seconds("2024-03-03T23:59:59", "2024-03-04T00:00:00")
    for wave in ("day_sin", "day_cos", "week_sin", "week_cos"):
        assert np.ptp(part(midnight, wave)) < 1e-4


@pytest.mark.parametrize("year", range(1950, 2060, 7))
def test_the_mean_year_stays_within_a_day_of_the_calendar(year):
    new_year = phase(_seconds(f"{year}-01-01"), "year")[0]
    assert min(new_year, 1 - new_year) < 1.01 / 365.2425


def test_only_what_varies_is_kept():
    assert varying(_seconds("2024-01-01", "2024-01-01")) == ()
    assert varying(_seconds("2024-01-01", "2024-01-08")) == ("trend",)
    assert varying(_seconds("2024-01-01", "2024-01-02")) == ("week_sin", "week_cos", "trend")
    assert "year_sin" in varying(_seconds("2024-01-01", "2024-06-03"))
    assert "day_cos" in varying(_seconds("2024-01-01T00:00:00", "2024-01-01T05:00:00"))
