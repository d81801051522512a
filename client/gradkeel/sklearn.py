"""Estimators in the manner of scikit-learn that train and predict on a Gradkeel service.

``GradkeelRegressor(preset="fast").fit(X, y).predict(X)``; they work in pipelines, ``cross_val_score`` and
``GridSearchCV``. Needs the extra: ``pip install 'gradkeel[sklearn]'``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from gradkeel.client import Client
from gradkeel.errors import DatasetRejected, GradkeelError, JobFailed, MissingExtra, UnprocessableError
from gradkeel.frames import arrow_table
from gradkeel.profile import find_access
from gradkeel.reports import Report
from gradkeel.resources.jobs import Job
from gradkeel.resources.models import Model, Predictions

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import (
        assert_all_finite,
        check_array,
        check_consistent_length,
        check_is_fitted,
        column_or_1d,
        validate_data,
    )
except ImportError as error:
    raise MissingExtra(f"{error}; pip install 'gradkeel[sklearn]' brings what is needed") from error

__all__ = ["GradkeelClassifier", "GradkeelRegressor"]

BLOCKS = (
    "columns",
    "split",
    "prepare",
    "model",
    "loss",
    "optimizer",
    "schedule",
    "clips",
    "guards",
    "budget",
    "health",
    "device",
    "labels",
)
"""Parameters that are blocks of the training config."""

FEWEST_ROWS = 3
VALIDATION = 0.15
HIDDEN = "…"
PLAIN_LABEL = re.compile(r"[^\W\d][\w .:/-]{0,79}")
RESERVED = frozenset(
    ["na", "n/a", "nan", "null", "none", "true", "false", "yes", "no", "t", "f", "y", "n", "inf", "infinity"]
)
"""Words, in lower case, that the service reads as no class: a missing cell, a truth value, a number."""


class _Unshown(str):
    """A text that is not shown by ``repr``, wherever scikit-learn prints an estimator's parameters."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        return text if isinstance(text, cls) else super().__new__(cls, text)

    def __repr__(self) -> str:
        return f"{HIDDEN!r}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators are: parameters, upload, training, prediction."""

    def __init__(
        self,
        *,
        client: Client | None = None,
        url: str | None = None,
        api_key: str | None = None,
        preset: str = "standard",
        config: Mapping[str, Any] | None = None,
        columns: Mapping[str, Any] | None = None,
        split: Mapping[str, Any] | None = None,
        prepare: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
        loss: Mapping[str, Any] | None = None,
        optimizer: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | None = None,
        clips: Sequence[Mapping[str, Any]] | None = None,
        guards: Sequence[Mapping[str, Any]] | None = None,
        budget: Mapping[str, Any] | None = None,
        health: Mapping[str, Any] | None = None,
        device: str | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        random_state: Any = None,
    ) -> None:
        self.client = client
        self.url = url
        self.api_key = api_key
        self.preset = preset
        self.config = config
        self.columns = columns
        self.split = split
        self.prepare = prepare
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.schedule = schedule
        self.clips = clips
        self.guards = guards
        self.budget = budget
        self.health = health
        self.device = device
        self.labels = labels
        self.timeout = timeout
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    _report: Report | None = None
    job_: Job
    model_: Model

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters; the key among them does not show itself when printed."""
        params: dict[str, Any] = super().get_params(deep)
        if isinstance(self.api_key, str):
            params["api_key"] = _Unshown(self.api_key)
        return params

    @property
    def report_(self) -> Report:
        """The gradient-health report of the fit, fetched when it is first asked for."""
        check_is_fitted(self)
        if self._report is None:
            self._report = Job(self.job_.raw, self._service()).report()
        return self._report

    # ----------------------------------------------------------------------------------------------- training

    def _train(self, features: Any, target: Any, sample_weight: Any, task: str) -> None:
        """Upload features [n, d], target [n] and weights [n] as one table, and train on it."""
        weights = _weights(sample_weight, target)
        table, names, weight_name = _training_table(features, target, weights)
        document = self._document(table, names, weight_name, task)
        service = self._service()
        try:
            data = service.datasets.upload(table, name=f"{type(self).__name__}.parquet")
            job = service.jobs.create(data, target=names[0] if len(names) == 1 else names, config=document)
            self.job_ = _ended(job, self.timeout)
        except (DatasetRejected, UnprocessableError) as error:
            raise ValueError(str(error)) from error
        except JobFailed as error:
            if (error.job.error or {}).get("code") == "bad_data":
                raise ValueError(str(error)) from error
            raise
        self.model_ = self.job_.model()
        self._report = None

    def _document(self, table: Any, targets: list[str], weight: str | None, task: str) -> dict[str, Any]:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        given = {name: getattr(self, name) for name in ("preset", *BLOCKS)}
        document = {**(self.config or {}), **{k: v for k, v in given.items() if v is not None}}
        named = dict(document.get("columns") or {})
        numbers = task in ("regression", "quantile")
        types = _types(table) | dict.fromkeys(targets, "numeric" if numbers else "categorical")
        columns = {**named, "types": {**types, **named.get("types", {})}}
        kind = "random" if numbers else "stratified"
        split = {"kind": kind, "validation": VALIDATION, "test": 0.0, "seed": seed}
        return {
            "split": split,
            "seed": seed,
            **document,
            **_budget(document, len(table)),
            "task": task,
            "columns": columns | ({"weight": weight} if weight else {}),
        }

    def _features(self, X: Any, *, fitting: bool) -> Any:
        """X as an Arrow table. Arrays name their columns x0, x1, …; frames keep their own names."""
        if _is_frame(X):
            validate_data(self, X=X, reset=fitting, skip_check_array=True)
            table = arrow_table(X)
            _check_rows(len(table), FEWEST_ROWS if fitting else 1)
        else:
            fewest = FEWEST_ROWS if fitting else 1
            X = validate_data(
                self,
                X=X,
                reset=fitting,
                dtype=None,
                ensure_all_finite="allow-nan",
                ensure_min_samples=fewest,
            )
            table = arrow_table({f"x{index}": _cells(X[:, index]) for index in range(X.shape[1])})
        _check_finite(table)
        return table

    # --------------------------------------------------------------------------------------------- predicting

    def _predictions(self, X: Any) -> Predictions:
        check_is_fitted(self)
        table = self._features(X, fitting=False)
        return Model(self.model_.raw, self._service()).predict(table)

    def _service(self) -> Client:
        if self.client is not None:
            if not isinstance(self.client, Client):
                raise TypeError("client must be a gradkeel.Client; an estimator cannot await")
            return self.client
        access = find_access(self.url, self.api_key)
        return _shared_client(access.url, access.api_key, os.getpid())


class GradkeelRegressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A regressor that is trained by the service.

    ``client``, or ``url`` and ``api_key``, name the service; left out, they come from the environment or
    the profile of ``gradkeel up``. ``preset``, ``config`` and the blocks (``optimizer={"kind": "sgd"}``)
    are those of the training config. Of the rows, 15 % at random decide when training stops, none are kept
    for a test, unless ``split`` says otherwise. ``timeout`` limits the wait for a fit, in seconds.

    After ``fit``: ``job_``, ``model_``, ``report_``, ``n_features_in_``, and ``feature_names_in_`` where X
    was a frame with names. A pickle holds ``api_key`` if it was given; ``client`` is pickled without one.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X [n, d] (array or frame; missing cells, text, dates allowed) and y [n] or [n, targets].

        Raises ValueError for what the service refuses, ``JobFailed`` and ``WaitTimeout`` for the rest.
        """
        table = self._features(X, fitting=True)
        target = _targets(self, y, table)
        if target.dtype.kind == "O":
            target = target.astype(float)
        assert_all_finite(target, input_name="y")
        self._train(table, target.astype(float), sample_weight, self._task())
        return self

    def _task(self) -> str:
        """quantile where the loss is."""
        loss = self.loss or (self.config or {}).get("loss") or {}
        return "quantile" if loss.get("kind") == "quantile" else "regression"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: Any) -> Any:
        """Predictions [n] in units of the target, float64; [n, targets] of several targets, and [n, levels]
        under the loss quantile with several levels."""
        values = self._predictions(X).values
        rows = [list(value.values()) if isinstance(value, Mapping) else [value] for value in values]
        found = np.array(rows, dtype=float)  # None becomes NaN
        return found[:, 0] if found.shape[1] == 1 else found


class GradkeelClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A classifier that is trained by the service. Parameters and attributes as of ``GradkeelRegressor``.

    The rows that decide when training stops are drawn by class. After ``fit``, ``classes_`` [k] holds the
    labels in sorted order; they may be text, numbers or booleans.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X [n, d] and labels y [n]. Raises ValueError where there are fewer than two classes."""
        table = self._features(X, fitting=True)
        target = _target(self, y, table)
        check_classification_targets(target)
        self.classes_, codes = np.unique(target, return_inverse=True)
        weights = _weights(sample_weight, target)
        present = len(self.classes_) if weights is None else len(np.unique(codes[weights > 0]))
        if present < 2:
            raise ValueError(f"{type(self).__name__} needs two classes; the data holds only one class")
        task = "binary" if len(self.classes_) == 2 else "multiclass"
        self._train(table, np.array(label_names(self.classes_), dtype=object)[codes], sample_weight, task)
        return self

    def predict(self, X: Any) -> Any:
        """The likeliest label of each row, [n]."""
        positions = self._positions()
        check_is_fitted(self)
        return self.classes_[[positions[name] for name in self._predictions(X).values]]

    def predict_proba(self, X: Any) -> Any:
        """Probability of each class, [n, k], in the order of ``classes_``."""
        positions = self._positions()
        found = self._predictions(X).probabilities
        if found is None:
            raise GradkeelError("the model gives no probabilities")
        shares = np.zeros((len(found), len(self.classes_)))
        for row, named in enumerate(found):
            for name, share in named.items():
                shares[row, positions[name]] = share
        return shares

    def _positions(self) -> dict[str, int]:
        check_is_fitted(self)
        return {name: index for index, name in enumerate(label_names(self.classes_))}


def label_names(classes: Any) -> list[str]:
    """Names under which the labels travel: themselves where they are plain words, else ``class 1``, say.

    A label that reads like a number, a truth value or a missing cell would not come back as it went.
    """
    texts = [str(label) for label in classes]
    if all(isinstance(label, str) and _is_plain(label) for label in classes):
        return texts
    named = [f"class {text}" for text in texts]
    if len(set(named)) == len(named) and all(PLAIN_LABEL.fullmatch(name) for name in named):
        return named
    return [f"class {index}" for index in range(len(texts))]


def _is_plain(label: str) -> bool:
    reserved = label.strip().lower() in RESERVED
    return not reserved and label == label.strip() and PLAIN_LABEL.fullmatch(label) is not None


# ---------------------------------------------------------------------------------------------- X, y, weights


def _is_frame(X: Any) -> bool:
    return hasattr(X, "iloc") or hasattr(X, "get_columns") or isinstance(X, pa.Table)


def _check_rows(found: int, fewest: int) -> None:
    if found < fewest:
        raise ValueError(f"Found array with {found} sample(s) while a minimum of {fewest} is required.")


def _cells(column: Any) -> Any:
    """One column of an array: numbers where all are, else text; None and NaN are missing."""
    if column.dtype.kind != "O":
        return column.astype(object) if column.dtype.kind in "US" else column
    try:
        return column.astype(float)
    except (TypeError, ValueError):
        for cell in column:
            if not isinstance(cell, str | None) and cell == cell:
                told = f"a column holds a {type(cell).__name__} among text"
                raise TypeError(f"{told}: argument must be a string or a number") from None
        return column


def _check_finite(table: Any) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_floating(column.type) and pc.any(pc.is_inf(column)).as_py():
            raise ValueError(f"Input X contains infinity or a value too large: column {name!r}")


def _target(estimator: Any, y: Any, table: Any) -> Any:
    """y as an array [n]. Raises ValueError where it is absent, has another length or missing cells."""
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"{name} requires y to be passed, but the target y is None")
    target = column_or_1d(y, warn=True)
    check_consistent_length(np.empty((len(table), 1)), target)
    if target.dtype.kind == "O" and any(cell is None or cell != cell for cell in target):
        raise ValueError("Input y contains NaN.")
    if target.dtype.kind in "fc":
        assert_all_finite(target, input_name="y")
    return target


def _targets(estimator: Any, y: Any, table: Any) -> Any:
    """y as an array [n], or [n, targets] where it has several columns."""
    shape = () if y is None else np.asarray(y).shape
    if len(shape) < 2 or shape[1] == 1:
        return _target(estimator, y, table)
    targets = check_array(y, ensure_all_finite=True, dtype=None, input_name="y")
    check_consistent_length(np.empty((len(table), 1)), targets)
    return targets


def _weights(sample_weight: Any, target: Any) -> Any:
    """Weights [n] as float64, or None. Raises ValueError for any that is negative or not finite."""
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=float)
    if weights.ndim == 0:
        weights = np.full(len(target), float(weights))
    if weights.shape != (len(target),):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(len(target),)}!")
    assert_all_finite(weights, input_name="sample_weight")
    if (weights < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`")
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def _training_table(features: Any, target: Any, weights: Any) -> tuple[Any, list[str], str | None]:
    """The table to upload, and the names of its target and weight columns. Rows of weight 0 are left out."""
    table, names = features, []
    for column in np.reshape(target, (len(target), -1)).T:
        names.append(_free_name("target", table.column_names))
        table = table.append_column(names[-1], pa.array(column))
    if weights is None:
        return table, names, None
    weight_name = _free_name("sample_weight", table.column_names)
    table = table.append_column(weight_name, pa.array(weights)).filter(pa.array(weights > 0))
    _check_rows(len(table), FEWEST_ROWS)
    return table, names, weight_name


def _free_name(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _budget(document: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The budget, with a batch no larger than the table, as scikit-learn's own networks have it."""
    budget = dict(document.get("budget") or {})
    if isinstance(budget.get("batch_size"), int):
        budget["batch_size"] = min(budget["batch_size"], rows)
    return {"budget": budget} if budget else {}


KINDS = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_integer, "numeric"),
    (pa.types.is_floating, "numeric"),
    (pa.types.is_decimal, "numeric"),
    (pa.types.is_temporal, "datetime"),
    (pa.types.is_dictionary, "categorical"),
    (pa.types.is_string, "categorical"),
    (pa.types.is_large_string, "categorical"),
    (pa.types.is_string_view, "categorical"),
)


def _types(table: Any) -> dict[str, str]:
    """Type by column, from the column's own: what an array or frame says of itself is not guessed at."""
    kinds = {
        field.name: next((name for test, name in KINDS if test(field.type)), None) for field in table.schema
    }
    return {name: kind for name, kind in kinds.items() if kind is not None}


# ------------------------------------------------------------------------------------------------ the service


@functools.lru_cache(maxsize=8)
def _shared_client(url: str, api_key: str | None, pid: int) -> Client:
    """One client for all estimators of a process; ``pid`` keeps connections out of forked ones."""
    return Client(url, api_key)


def _ended(job: Job, timeout: float | None) -> Job:
    """Wait for the job. One that is not waited for to its end (Ctrl-C, say) is cancelled."""
    try:
        return job.wait(timeout)
    except JobFailed:
        raise
    except BaseException:
        with contextlib.suppress(GradkeelError):
            job.cancel()
        raise
