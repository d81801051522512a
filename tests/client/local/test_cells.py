"""What the text of one cell means."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkeel.local import cells


@given(st.floats(allow_nan=False))
def test_every_float_is_read_back(value):
    assert cells.parse_number(repr(value)) == value


@pytest.mark.parametrize("text", ["", "1_0", "１２", "0x10", "1,5", "nan", "1e", "--1", "1 2", "true"])
def test_what_is_no_number(text):
    with pytest.raises(ValueError):
        cells.parse_number(text)


def test_numbers_with_blanks_signs_and_a_decimal_comma():
    assert cells.parse_number(" +1.5e3 ") == 1500
    assert cells.parse_number("-1,5", ",") == -1.5
    assert cells.parse_number("-Infinity") == float("-inf")


@given(st.datetimes(min_value=datetime(1000, 1, 1)), st.sampled_from(["T", " "]))
def test_iso_times_are_read_back(moment, separator):
    expected = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)
    # float64 seconds hold microseconds to about 1e-6 around the years 1000 to 9999
    assert cells.parse_datetime(moment.isoformat(sep=separator)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86400),
        ("1970/1/2", 86400),
        ("1970-01", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01 00:00:00Z", 0),
        ("1970-01-01T00:00-0230", 9000),
    ],
)
def test_forms_of_dates(text, seconds):
    assert cells.parse_datetime(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1970", "01.02.1970", "1970-13-01", "1970-02-30", "1970-01-01T25:00", "x"]
)
def test_what_is_no_date(text):
    with pytest.raises(ValueError):
        cells.parse_datetime(text)


@pytest.mark.parametrize(("text", "value"), [("TRUE", 1), ("f", 0), (" Yes ", 1), ("N", 0), ("1", 1)])
def test_truth_values(text, value):
    assert cells.parse_boolean(text) == value


def test_numbers_as_the_file_wrote_them():
    assert cells.number_text(3.0, integer=True) == "3"
    assert cells.number_text(3.0, integer=False) == "3.0"
    assert cells.number_text(1e16, integer=False) == "1e+16"
