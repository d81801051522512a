"""What a repair may change, and how a change of a config is told."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkeel.contract import config as contract
from gradkeel.contract.patch import changes, difference, merge_patch
from gradkeel.contract.repairs import DROPPING, LEAVE, cut, keeps_estimand, leave_for
from gradkeel.contract.resolve import resolve, to_json

Json = dict[str, Any]

STANDARD, CLIP = {"kind": "standard"}, [{"kind": "norm", "max_norm": 1.0}]
HUBER = {"kind": "huber", "delta": 1.0}


@pytest.mark.parametrize(
    ("patch", "allow", "left", "left_out"),
    [
        ({"optimizer": {"lr": 0.1}}, (), {"optimizer": {"lr": 0.1}}, ()),
        ({"model": {"activation": "leaky_relu"}}, (), {"model": {"activation": "leaky_relu"}}, ()),
        # a loss that came along is left as it was; the rest mends still
        (
            {"prepare": {"numeric": STANDARD}, "loss": HUBER, "clips": CLIP},
            (),
            {"prepare": {"numeric": STANDARD}, "clips": CLIP},
            ("/loss",),
        ),
        ({"loss": HUBER, "clips": CLIP}, (), {"clips": CLIP}, ("/loss",)),
        ({"loss": HUBER}, (), {}, ("/loss",)),
        ({"loss": HUBER}, ("loss",), {"loss": HUBER}, ()),
        # a clip alone does not mend a target that was not scaled
        ({"prepare": {"target": STANDARD}, "clips": CLIP}, (), {}, ("/prepare/target",)),
        (
            {"prepare": {"target": STANDARD, "numeric": STANDARD}, "clips": CLIP},
            (),
            {"prepare": {"numeric": STANDARD}, "clips": CLIP},
            ("/prepare/target",),
        ),
        (
            {"prepare": {"target": STANDARD}, "clips": CLIP},
            ("target",),
            {"prepare": {"target": STANDARD}, "clips": CLIP},
            (),
        ),
        ({"columns": {"exclude": ["id"]}}, ("rows", "loss"), {}, ("/columns",)),
        ({"columns": {"exclude": ["id"]}}, ("columns",), {"columns": {"exclude": ["id"]}}, ()),
        ({"prepare": {"outliers": {"kind": "drop"}}}, (), {}, ("/prepare/outliers",)),
        (
            {"prepare": {"outliers": {"kind": "winsorize"}}},
            (),
            {"prepare": {"outliers": {"kind": "winsorize"}}},
            (),
        ),
        ({"prepare": {"missing": {"kind": "drop_rows"}}}, (), {}, ("/prepare/missing",)),
        ({"split": {"kind": "random", "test": 0.1}}, ("columns",), {}, ("/split",)),
    ],
)
def test_a_change_is_cut_to_what_is_allowed(
    patch: Json, allow: tuple[str, ...], left: Json, left_out: tuple[str, ...]
) -> None:
    assert cut(patch, allow) == (left, left_out)


@pytest.mark.parametrize(
    ("loss", "before", "patch", "kept"),
    [
        ("mse", "none", {"prepare": {"target": STANDARD}, "clips": CLIP}, True),
        ("mae", "standard", {"prepare": {"target": {"kind": "robust"}}}, True),
        # Huber's delta is in scaled units: another scaling aims at another place between mean and median
        ("huber", "none", {"prepare": {"target": STANDARD}}, False),
        ("mse", "none", {"prepare": {"target": {"kind": "log1p"}}}, False),
        ("mse", "log1p", {"prepare": {"target": STANDARD}}, False),
        ("mse", "none", {"prepare": {"target": STANDARD}, "target": "other"}, False),
        ("mse", "none", {"optimizer": {"lr": 0.1}}, False),
    ],
)
def test_scaling_the_target_changes_what_is_estimated_under_some_losses(
    loss: str, before: str, patch: Json, kept: bool
) -> None:
    config = resolve({"target": "y", "loss": {"kind": loss}, "prepare": {"target": {"kind": before}}})
    assert keeps_estimand(to_json(config), patch) is kept


def test_the_names_that_would_allow_it() -> None:
    patch = {"prepare": {"target": STANDARD, "missing": {"kind": "drop_rows"}}, "loss": HUBER, "clips": CLIP}
    _, left_out = cut(patch, ())
    assert leave_for(left_out, patch) == ("target", "rows", "loss")


def test_every_name_of_the_contract_allows_something() -> None:
    hint = get_type_hints(contract.Health)["repair_allow"]
    names = get_args(get_args(hint)[0])
    assert {*LEAVE.values(), *(name for _, name in DROPPING.values())} == set(names)


documents = st.recursive(
    st.one_of(
        st.booleans(), st.integers(-2, 2), st.text(max_size=2), st.lists(st.integers(0, 2), max_size=2)
    ),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), documents, max_size=3)


@given(objects, objects)
def test_a_difference_is_the_patch_from_one_to_the_other(before: Json, after: Json) -> None:
    patch = difference(before, after)
    assert merge_patch(before, patch) == after
    assert bool(patch) == (repr(before) != repr(after)) or before == after


def test_what_a_patch_sets_is_told_by_pointer() -> None:
    patch = {
        "optimizer": {"lr": 0.1},
        "prepare": {"per_column": {"a/b": STANDARD}},
        "clips": [],
        "seed": None,
    }
    assert changes(patch) == {
        "/optimizer/lr": 0.1,
        "/prepare/per_column/a~1b": STANDARD,
        "/clips": [],
        "/seed": None,
    }
