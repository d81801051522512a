"""The estimators, through a real stack: scikit-learn's own checks, its tools, and what is Gradkeel's."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from gradkeel import AsyncClient, Client, WaitTimeout
from gradkeel.local.cells import FALSE_WORDS, MISSING_NUMBER, TRUE_WORDS
from gradkeel.sklearn import RESERVED, GradkeelClassifier, GradkeelRegressor, label_names

QUICK: dict[str, Any] = {
    "preset": "fast",
    "budget": {"epochs": 20, "batch_size": 16},
    "health": {"gradient_check": False, "tier": "economy"},
    "random_state": 0,
}
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a row that stands twice can fall into both the training and the validation part, and counts as two "
        "in a batch; a row of weight 2 does neither"
    )
}


@pytest.fixture(scope="module")
def access(stack: Any) -> tuple[str, str]:
    profile = json.loads((stack.data / "profile.json").read_text())
    return profile["url"], profile["api_key"]


@pytest.fixture(autouse=True)
def known_service(access: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment leads to the stack; joblib's processes inherit it."""
    monkeypatch.setenv("GRADKEEL_URL", access[0])
    monkeypatch.setenv("GRADKEEL_API_KEY", access[1])


@pytest.fixture
def client(access: tuple[str, str]) -> Iterator[Client]:
    with Client(*access) as made:
        yield made


@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [GradkeelRegressor(**QUICK), GradkeelClassifier(**QUICK)],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
    xfail_strict=True,
)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def own_frame(rows: int = 90) -> tuple[pd.DataFrame, pd.Series]:
    """Mixed types with missing cells; y depends on x and zone."""
    source = np.random.default_rng()
    x = source.normal(size=rows)
    zone = np.where(x > 0.2, "B", "A").astype(object)
    zone[::9] = None
    frame = pd.DataFrame({"x": x, "zone": zone, "when": pd.date_range("2024", periods=rows, tz="UTC")})
    frame["level"] = pd.Categorical(np.where(source.random(rows) > 0.5, 3, 7))
    frame["rooms"] = pd.array([None if i % 7 == 0 else i % 4 for i in range(rows)], dtype="Int64")
    return frame, pd.Series(2 * x + source.normal(scale=0.1, size=rows), name="price")


def test_frames_of_mixed_types_keep_their_names_and_types() -> None:
    X, y = own_frame()
    model = GradkeelRegressor(**QUICK).fit(X, y)
    assert list(model.feature_names_in_) == list(X.columns)
    assert model.n_features_in_ == 5
    types = {column.name: column.type for column in model.model_.columns}
    assert types == {
        "x": "numeric",
        "zone": "categorical",
        "when": "datetime",
        "level": "categorical",
        "rooms": "numeric",
    }
    assert model.score(X, y) > 0.5
    assert model.report_.verdict == model.job_.verdict
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[list(X.columns)[::-1]])


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [0, 1], [True, False], [1.0, 2.0], ["NA", " padded "], ["dog", "cat"]], ids=str
)
def test_labels_come_back_as_they_went(labels: list[Any]) -> None:
    x = np.random.default_rng().normal(size=(60, 2))
    y = np.array([labels[int(row[0] > 0)] for row in x])
    model = GradkeelClassifier(**QUICK).fit(x, y)
    assert model.classes_.tolist() == sorted(labels)
    found = model.predict(x)
    assert found.dtype == y.dtype
    assert np.mean(found == y) > 0.7
    shares = model.predict_proba(x)
    assert shares.sum(axis=1) == pytest.approx(np.ones(60))
    assert np.mean(model.classes_[shares.argmax(axis=1)] == found) == 1


def test_label_names_are_never_read_as_something_else() -> None:
    assert label_names(["b", "setosa 2"]) == ["b", "setosa 2"]
    assert label_names([1, 2]) == ["class 1", "class 2"]
    assert label_names(["a", "a\n"]) == ["class 0", "class 1"]
    words = {word for word in TRUE_WORDS | FALSE_WORDS | MISSING_NUMBER if word[:1].isalpha()}
    assert {word.lower() for word in words} <= RESERVED


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([1.0, np.nan] * 5, "NaN"),
        (["a", None] * 5, "NaN"),
        (["a"] * 10, "one class"),
        (["a"] * 9, "inconsistent"),
        (None, "requires y"),
    ],
)
def test_targets_that_nothing_can_be_learned_from_are_value_errors(y: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GradkeelClassifier(**QUICK).fit(np.eye(10), y)


def test_what_the_service_refuses_is_a_value_error_that_keeps_its_cause() -> None:
    x = np.random.default_rng().normal(size=(20, 2))
    with pytest.raises(ValueError, match="/optimizer/lr") as caught:
        GradkeelRegressor(optimizer={"kind": "sgd", "lr": -1}).fit(x, x[:, 0])
    assert caught.value.__cause__.problem["errors"][0]["pointer"] == "/optimizer/lr"  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="infinity"):
        GradkeelRegressor().fit(pd.DataFrame({"a": [1.0, np.inf, 2.0]}), [1, 2, 3])


def test_the_same_table_is_uploaded_once(client: Client) -> None:
    X, y = own_frame()
    fits = [GradkeelRegressor(client=client, **QUICK).fit(X, y) for _ in range(2)]
    assert len({fit.job_.dataset_id for fit in fits}) == 1
    assert len({fit.job_.id for fit in fits}) == 2
    assert fits[0].predict(X) == pytest.approx(fits[1].predict(X), rel=1e-6)


def test_cross_validation_grid_search_and_pipelines(client: Client) -> None:
    X, y = own_frame()
    numbers = X[["x"]]
    scores = cross_val_score(GradkeelRegressor(**QUICK), numbers, y, cv=2, n_jobs=2)
    assert min(scores) > 0.5
    pipeline = make_pipeline(StandardScaler(), GradkeelRegressor(client=client, **QUICK))
    grid = {"gradkeelregressor__optimizer": [{"kind": "sgd", "lr": 1e-9}, {"kind": "adamw", "lr": 0.01}]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(numbers, y)
    assert search.best_params_ == {"gradkeelregressor__optimizer": grid["gradkeelregressor__optimizer"][1]}
    best = search.best_estimator_[-1]
    assert best.client is client
    assert best.job_.config["optimizer"]["lr"] == 0.01


def test_pickles_and_shown_forms_hold_no_key_of_a_client(client: Client, access: tuple[str, str]) -> None:
    secret = access[1].partition(".")[2]
    X, y = own_frame()
    model = GradkeelRegressor(client=client, **QUICK).fit(X, y)
    packed = pickle.dumps(model)
    assert secret.encode() not in packed
    assert pickle.loads(packed).predict(X) == pytest.approx(model.predict(X))
    keyed = GradkeelRegressor(url=access[0], api_key=access[1])
    for shown in (repr(keyed), keyed._repr_html_(), str(make_pipeline(keyed)), keyed._repr_mimebundle_()):
        assert secret not in str(shown)
    assert clone(keyed).api_key == access[1]


def test_a_fit_that_is_not_waited_for_is_cancelled(client: Client) -> None:
    X, y = own_frame()
    label = {"cut": str(np.random.default_rng().integers(2**62))}
    long = {"budget": {"epochs": 100_000, "patience": 0}, "labels": label, "timeout": 0.2}
    with pytest.raises(WaitTimeout):
        GradkeelRegressor(client=client, **(QUICK | long)).fit(X, y)
    (job,) = client.jobs.list(label=f"cut={label['cut']}")
    assert job.wait(check=False).state == "cancelled"


def test_what_is_not_fitted_says_so(access: tuple[str, str]) -> None:
    with pytest.raises(NotFittedError):
        GradkeelClassifier().predict_proba([[1.0]])
    with pytest.raises(NotFittedError):
        GradkeelRegressor().report_  # noqa: B018
    with pytest.raises(TypeError, match="cannot await"):
        GradkeelRegressor(client=cast(Any, AsyncClient(*access))).fit(np.eye(9), range(9))
