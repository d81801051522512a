"""Going on from an earlier model: its weights and its preparation as they were, everything else anew."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradkeel.contract.config import NUMERIC_SCALERS
from gradkeel.contract.errors import ConfigError
from gradkeel.contract.resolve import resolve, to_json
from gradkeel.contract.warm_start import completed, missing_features
from gradkeel_worker.data import DataError, Table, prepare
from gradkeel_worker.data.kept import Kept
from gradkeel_worker.engine import Result, train
from gradkeel_worker.engine.build import build
from gradkeel_worker.export import write_bundle
from gradkeel_worker.export.earlier import read_earlier

from .cases import SMALL, breast_cancer, categories, diabetes, iris
from .test_resume import comparable

Json = dict[str, Any]

QUICK: Json = SMALL | {"health": {"gradient_check": False}}
MODEL_ID = "mdl_" + "a" * 22


def mixed(rows: int = 200, seed: int = 0) -> Table:
    """Columns of every type, with missing cells."""
    draw = np.random.default_rng(seed)
    size, zone = draw.lognormal(size=rows), draw.choice(list("abcd"), rows).astype(object)
    size[::17], zone[::13] = np.nan, None
    day = draw.integers(1_600_000_000, 1_700_000_000, rows).astype(float)
    columns = {"size": size, "x": draw.normal(size=rows), "zone": zone, "day": day}
    columns |= {"flag": draw.choice(["yes", "no"], rows), "y": draw.normal(size=rows) + (zone == "a")}
    return Table.from_arrays(columns, {"day": "datetime", "flag": "boolean", "zone": "categorical"})


def bundled(result: Result, path: Path) -> Path:
    about: Json = {"id": "ds", "sha256": "0", "name": "t", "columns": []}
    write_bundle(result, path, dataset=about, job_id="job", created_at="", report_html="")
    return path


def features_of(kept: Kept) -> list[Json]:
    return [{"name": each.name, "type": each.type} for each in kept.preparation.sources]


def going_on(result: Result, folder: Path, changes: Json) -> tuple[Kept, Json]:
    """What is kept of a training, and a config as submitted that goes on from it."""
    kept = read_earlier(bundled(result, folder / "earlier.gradkeel"))
    submitted = {key: QUICK[key] for key in ("preset", "budget", "device", "health")} | changes
    config = to_json(result.config)
    whole = completed(submitted | {"model_id": MODEL_ID}, MODEL_ID, config, features_of(kept))
    return kept, whole


CASES: dict[str, tuple[Table, Json]] = {
    "numbers": (diabetes(), {}),
    "power target, winsorized": (
        diabetes(),
        {"prepare": {"target": {"kind": "power"}, "outliers": {"kind": "winsorize"}}},
    ),
    "poisson": (diabetes(), {"loss": {"kind": "poisson"}}),
    "two classes, batch norm": (
        breast_cancer(),
        {"model": {"kind": "mlp", "widths": [8], "norm": "batch"}},
    ),
    "three classes": (iris(), {}),
    "mixed, binned": (
        mixed(),
        {"prepare": {"embedding": {"kind": "piecewise_linear", "bins": 6, "width": 3}}},
    ),
    "mixed, periodic, one-hot": (
        mixed(),
        {
            "prepare": {
                "embedding": {"kind": "periodic", "frequencies": 3, "width": 2},
                "categorical": {"kind": "onehot"},
            }
        },
    ),
    "mixed, ordinal, most frequent": (
        mixed(),
        {"prepare": {"categorical": {"kind": "ordinal"}, "missing": {"kind": "most_frequent"}}},
    ),
    "an ensemble": (diabetes(), {"model": {"kind": "tabm", "members": 2, "blocks": 1, "width": 8}}),
    "residual blocks": (diabetes(), {"model": {"kind": "resnet", "blocks": 1, "width": 8}}),
    "linear": (diabetes(), {"model": {"kind": "linear"}}),
}
for kind in NUMERIC_SCALERS:
    CASES[f"scaled by {kind}"] = (mixed(), {"prepare": {"numeric": {"kind": kind}, "per_column": {}}})
CASES["scaled by log1p"] = (
    mixed(),
    {"prepare": {"per_column": {"size": {"kind": "log1p"}, "x": {"kind": "quantile", "output": "uniform"}}}},
)


@pytest.mark.parametrize("name", CASES)
def test_a_bundle_gives_back_what_was_fitted_and_learnt(name: str, tmp_path: Path) -> None:
    """On the same rows the new run starts with the very inputs and outputs that the old one ended with."""
    table, changes = CASES[name]
    first = train(copy.deepcopy(table), QUICK | {"budget": {"epochs": 1, "batch_size": 64}} | changes)
    kept, submitted = going_on(first, tmp_path, {})
    again = prepare(copy.deepcopy(table), resolve(submitted), kept=kept)
    old = first.prepared
    for part in ("train", "validation", "test"):
        for array in ("x", "c", "y"):
            new = getattr(getattr(again, part), array)
            assert np.array_equal(getattr(getattr(old, part), array), new, equal_nan=True)
    assert (again.classes, again.task, again.target) == (old.classes, old.task, old.target)
    run = build(again, resolve(submitted))
    assert first.model is not None
    assert run.model.state_dict().keys() == first.model.state_dict().keys()
    for weight, tensor in first.model.state_dict().items():
        assert torch.equal(run.model.state_dict()[weight], tensor), weight
    first.model.eval(), run.model.eval()
    x, c = (torch.from_numpy(np.array(getattr(again.train, array))) for array in ("x", "c"))
    assert torch.equal(run.model(x, c), first.model(x, c))


@pytest.fixture(scope="module")
def first() -> Result:
    return train(mixed(), QUICK | {"budget": {"epochs": 3, "batch_size": 64, "patience": 0}})


def test_other_rows_fit_nothing_anew(first: Result, tmp_path: Path) -> None:
    kept, submitted = going_on(first, tmp_path, {})
    other = mixed(150, seed=5)
    other.columns["x"].values[:] *= 1000
    other.columns["zone"].values[::5] = "never seen"
    result = train(other, submitted, earlier=kept)
    for name, array in first.prepared.arrays().items():
        assert np.array_equal(result.prepared.arrays()[name], array)
    part = result.prepared.train
    assert np.all(part.c[np.asarray(other.columns["zone"].values[part.rows] == "never seen")] == 0)
    assert np.abs(part.x).max() > 100
    assert result.status == "succeeded" and result.config.model_id == MODEL_ID


def test_training_goes_on(first: Result, tmp_path: Path) -> None:
    """With a learning rate of next to nothing it is the earlier model; with a real one it is another."""
    kept, submitted = going_on(first, tmp_path, {"optimizer": {"kind": "sgd", "lr": 1e-30}})
    same = train(mixed(), submitted, earlier=kept)
    moved = train(mixed(), submitted | {"optimizer": {"kind": "adamw", "lr": 0.01}}, earlier=kept)
    assert first.model is not None and same.model is not None and moved.model is not None
    for name, weights in first.model.state_dict().items():
        assert torch.equal(same.model.state_dict()[name], weights)
    assert same.metrics == first.metrics
    assert not torch.equal(
        moved.model.get_parameter("output.weight"), same.model.get_parameter("output.weight")
    )


def test_only_the_head_is_trained(first: Result, tmp_path: Path) -> None:
    frozen = ["layers.0", "layers.1", "embeddings.0"]
    kept, submitted = going_on(
        first, tmp_path, {"model": {"freeze": frozen}, "budget": {"epochs": 2, "ema": 0.1}}
    )
    result = train(mixed(seed=3), submitted, earlier=kept)
    assert first.model is not None and result.model is not None
    changed = {
        name
        for name, weights in first.model.state_dict().items()
        if not torch.equal(result.model.state_dict()[name], weights)
    }
    assert changed == {"output.weight", "output.bias"}


@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": {"kind": "adamw", "lr": "auto"}, "budget": {"epochs": 3, "ema": 0.1}}]
)
def test_a_resumed_one_ends_bit_equal(
    changes: Json, first: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradkeel_worker.engine.epochs._PAUSE", 0.0)
    kept, submitted = going_on(first, tmp_path, changes)
    made: list[bytes] = []
    whole = train(
        mixed(),
        submitted,
        earlier=kept,
        on_checkpoint=lambda checkpoint: made.append(checkpoint.to_bytes()),
        checkpoint_seconds=1e-9,
    )
    resumed = train(mixed(), submitted, earlier=kept, resume=made[len(made) // 2])
    assert resumed.report["provenance"]["resumed_at"]
    assert comparable(resumed) == comparable(whole)


def test_a_column_that_is_gone_is_named(first: Result, tmp_path: Path) -> None:
    kept, submitted = going_on(first, tmp_path, {})
    columns = {name: each.values for name, each in mixed().columns.items() if name != "x"}
    with pytest.raises(DataError, match="'x'"):
        train(Table.from_arrays(columns), submitted, earlier=kept)
    profile = {"columns": [{"name": name} for name in columns]}
    (fault,) = missing_features(MODEL_ID, features_of(kept), profile)
    assert (fault.pointer, fault.column) == ("/model_id", "x")


def test_classes_that_it_does_not_know_are_named(tmp_path: Path) -> None:
    kept, submitted = going_on(train(iris(), QUICK), tmp_path, {})
    table = iris()
    table.columns["y"].values[::4] = "orchid"
    with pytest.raises(DataError, match="and not 'orchid'"):
        train(table, submitted, earlier=kept)
    table.columns["y"].values[:] = np.where(np.arange(150) % 2, "setosa", "virginica")
    result = train(table, submitted, earlier=kept)  # fewer classes are no hindrance
    assert result.prepared.classes == ("setosa", "versicolor", "virginica")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"model": {"kind": "linear"}}, "/model/kind"),
        ({"model": {"widths": [16]}}, "/model/widths"),
        ({"model": {"activation": "tanh"}}, "/model/activation"),
        ({"prepare": {"numeric": {"kind": "robust"}}}, "/prepare/numeric"),
        ({"prepare": {"target": {"kind": "none"}}}, "/prepare/target"),
        ({"loss": {"kind": "poisson"}}, "/loss/kind"),
        ({"task": "binary"}, "/task"),
        ({"split": {"folds": 3}}, "/split/folds"),
        ({"columns": {"include": ["x"]}}, "/columns/include"),
        ({"columns": {"exclude": ["zone"]}}, "/columns/exclude"),
        ({"columns": {"types": {"x": "categorical"}}}, "/columns/types/x"),
        ({"columns": {"missing_values": {"x": [-1]}}}, "/columns/missing_values/x"),
    ],
)
def test_what_the_weights_do_not_go_with_is_refused(
    changes: Json, pointer: str, first: Result, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        going_on(first, tmp_path, changes)
    assert [error.pointer for error in raised.value.errors] == [pointer]


def test_looked_up_rows_are_another_tables(first: Result) -> None:
    config = to_json(first.config)
    config["prepare"]["neighbors"] = {"kind": "means"}
    with pytest.raises(ConfigError, match="looks up neighbours in its own training rows") as raised:
        completed({"model_id": MODEL_ID}, MODEL_ID, config, [])
    assert [error.pointer for error in raised.value.errors] == ["/model_id"]


def test_models_over_windows_are_not_gone_on_from() -> None:
    submitted = {"target": "y", "task": "forecast", "columns": {"order": "t"}}
    with pytest.raises(ConfigError, match=r"reads windows of series.*without model_id") as raised:
        completed({"model_id": MODEL_ID}, MODEL_ID, to_json(resolve(submitted)), [])
    assert [error.pointer for error in raised.value.errors] == ["/model_id"]


def test_what_agrees_or_is_free_may_be_given(first: Result, tmp_path: Path) -> None:
    given = {
        "model": {"kind": "mlp", "widths": [16, 8], "dropout": 0.5, "freeze": ["layers.0"]},
        "prepare": {"numeric": {"kind": "standard"}, "target": {"kind": "auto"}},
        "columns": {"types": {"zone": "categorical", "more": "text"}},
        "target": "y",
    }
    config = resolve(going_on(first, tmp_path, given)[1])
    assert (config.model.dropout, config.model.freeze) == (0.5, ("layers.0",))  # type: ignore[union-attr]
    assert config.prepare.target.kind == first.config.prepare.target.kind
    assert config.loss == first.config.loss
    assert config.columns.types["more"] == "text"


def test_a_damaged_bundle_is_told(first: Result, tmp_path: Path) -> None:
    path = bundled(first, tmp_path / "m.gradkeel")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="the earlier model cannot be read"):
        read_earlier(path)


def test_row_weights_are_no_part_of_it(tmp_path: Path) -> None:
    kept, submitted = going_on(train(categories(), QUICK | {"columns": {"weight": "w"}}), tmp_path, {})
    assert {each.name for each in kept.preparation.sources} == {"zone", "kind", "size"}
    assert resolve(submitted).columns.weight is None
    result = train(
        categories(), submitted | {"columns": submitted["columns"] | {"weight": "w"}}, earlier=kept
    )
    assert result.status == "succeeded"
