"""JSON is read strictly, and what is refused is said."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkeel.contract.errors import StrictJSONError
from gradkeel.contract.strict_json import loads


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"   ",
        b'{"a": 1',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"\xff"',
        '{"a": 1}'.encode("utf-16"),
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[-1e999]",
        b"[" + b"9" * 5000 + b"]",
        b'{"a": 1, "a": 2}',
        b'{"b": {"a": 1, "a": 2}}',
        b'"\\ud800"',
        b'{"\\ud800": 1}',
        b'[["\\udfff"]]',
        b"{'a': 1}",
        b"[1,]",
        b"1 2",
    ],
    ids=lambda document: document[:20].decode("latin-1"),
)
def test_refused(document: bytes) -> None:
    with pytest.raises(StrictJSONError) as caught:
        loads(document)
    assert 5 < len(caught.value.detail) < 300


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner)
    ),
    max_leaves=20,
)


@given(json_values)
def test_every_proper_document_is_read_as_the_standard_decoder_reads_it(value: object) -> None:
    document = json.dumps(value).encode()
    assert loads(document) == json.loads(document)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_give_a_value_or_a_refusal(document: bytes) -> None:
    try:
        loads(document)
    except StrictJSONError as error:
        assert error.detail
