"""Levels: their order, what is rare or unseen, and missing cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkeel.contract import config as contract
from gradkeel.local.cells import MISSING_TEXT
from gradkeel_worker.data.categories import filled_with_most_frequent, fit_encoding
from gradkeel_worker.data.features import FITS


def _cells(*values):
    return np.array(values, dtype=object)


def test_rare_and_unseen_levels_share_code_zero():
    encoding = fit_encoding(contract.Embedding(min_count=2), "z", _cells("a", "a", "b", "b", "once"), ())
    assert encoding.levels == ("a", "b")
    assert encoding.codes(_cells("b", "once", "never", "a")).tolist() == [2, 0, 0, 1]
    assert encoding.other


def test_numbers_are_ordered_by_value_and_text_by_code_point():
    numbers = fit_encoding(contract.Ordinal(), "z", _cells("10", "9", "-1"), ())
    assert numbers.levels == ("-1", "9", "10")
    assert fit_encoding(contract.Ordinal(), "z", _cells("b", "B", "ä"), ()).levels == ("B", "b", "ä")


def test_missing_cells_are_a_level_where_training_has_enough():
    cells = _cells("a", "a", None, None, "b", "b")
    encoding = fit_encoding(contract.Embedding(min_count=2), "z", cells, ())
    assert encoding.levels == ("", "a", "b")
    assert encoding.codes(_cells(None, "a", "zz")).tolist() == [1, 2, 0]
    few = fit_encoding(contract.Embedding(min_count=3), "z", _cells("a", "a", "a", None), ())
    assert few.levels == ("a",) and few.codes(_cells(None)).tolist() == [0]


def test_most_frequent_sends_missing_cells_to_that_level():
    cells = _cells("a", "b", "b", None, None, None)
    encoding = filled_with_most_frequent(fit_encoding(contract.OneHot(), "z", cells, ()), cells)
    assert encoding.levels == ("a", "b")
    assert encoding.codes(_cells(None, "a")).tolist() == [2, 1]


def test_onehot_keeps_the_most_frequent_levels():
    cells = _cells(*"aaabbbccd")
    encoding = fit_encoding(contract.OneHot(max_levels=2), "z", cells, ())
    assert encoding.levels == ("a", "b") and encoding.onehot_codes() == (0, 1, 2)
    whole = fit_encoding(contract.OneHot(), "z", cells, ())
    assert whole.onehot_codes() == (1, 2, 3, 4)


def test_the_automatic_width_is_the_documented_one():
    assert fit_encoding(contract.Embedding(min_count=1), "z", _cells(*"abcdefghij"), ()).width == 6
    many = _cells(*(str(i) for i in range(5000)))
    assert fit_encoding(contract.Embedding(min_count=1), "z", many, ()).width == 32
    assert fit_encoding(contract.Embedding(min_count=1, width=3), "z", many, ()).width == 3


@given(st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=40), st.integers(1, 3))
def test_the_text_table_of_the_graph_gives_the_same_codes(values, min_count):
    cells = _cells(
        *(None if value is not None and value.strip() in MISSING_TEXT else value for value in values)
    )
    encoding = fit_encoding(contract.Embedding(min_count=min_count), "z", cells, ("gone", -200))
    table = encoding.text_codes()
    raw = ["" if cell is None else cell for cell in cells]
    assert [table.get(text, 0) for text in raw] == encoding.codes(cells).tolist()


@pytest.mark.parametrize("text", ["", "NA", " ?", "nan", "gone", "-200", "-200.0"])
def test_texts_of_a_missing_cell_have_its_code(text):
    encoding = fit_encoding(contract.OneHot(), "z", _cells("a", None), ("gone", -200))
    assert encoding.text_codes()[text] == encoding.missing == 1


def test_every_feature_type_can_be_fitted():
    assert set(FITS) == {"numeric", "boolean", "datetime", "categorical"}
