"""JSON merge patches: the examples of RFC 7396, and patches of configs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkeel.contract import config as c
from gradkeel.contract.patch import combine, merge_patch, replace_block, set_value
from gradkeel.contract.resolve import resolve, to_json


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(document: Any, patch: Any, result: Any) -> None:
    assert merge_patch(document, patch) == result


@pytest.mark.parametrize(
    "given", [{}, {"loss": {"delta": 3.0}}, {"loss": {"kind": "smooth_l1", "beta": 2.0}}]
)
@pytest.mark.parametrize("kind", c.REGRESSION_LOSSES)
def test_a_replaced_block_is_accepted_whatever_stood_there(given: dict[str, Any], kind: str) -> None:
    submitted = {"target": "y", **given}
    patch = replace_block(submitted, ("loss",), {"kind": kind})
    assert resolve(merge_patch(submitted, patch)).loss == c.LOSSES[kind]()


def starts_anew(first: Any, second: Any) -> bool:
    """Whether ``second`` has an object, at any depth, where ``first`` has none."""
    return any(
        not isinstance(first.get(key), dict) or starts_anew(first[key], value)
        for key, value in second.items()
        if isinstance(value, dict)
    )


@given(st.data())
def test_combined_patches_act_as_one_after_the_other(data: st.DataObject) -> None:
    keys = st.sampled_from("abc")
    patches = st.recursive(
        st.none() | st.integers(0, 3), lambda inner: st.dictionaries(keys, inner), max_leaves=6
    )
    documents = st.dictionaries(keys, patches.filter(lambda value: value is not None), max_size=3)
    document, first, second = (data.draw(documents) for _ in range(3))
    # Merging into a value that is no object starts from an empty one; combining keeps that only for objects.
    if starts_anew(first, second):
        return
    assert merge_patch(document, combine(first, second)) == merge_patch(merge_patch(document, first), second)


def test_a_patch_changes_neither_argument() -> None:
    submitted = to_json(resolve({"target": "y"}))
    before = repr(submitted)
    patch = set_value(("optimizer", "lr"), 0.5)
    assert merge_patch(submitted, patch)["optimizer"]["lr"] == 0.5
    assert repr(submitted) == before and patch == {"optimizer": {"lr": 0.5}}
