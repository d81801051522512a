"""The contestants. Each takes a Contest and returns predictions of its test part.

Defaults throughout, with early stopping on the shared validation part where a library has it. Where the
default number of rounds would end a booster before early stopping does, it is raised, which only helps the
peer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import xgboost
from catboost import CatBoostClassifier, CatBoostRegressor
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler

from contest.sets import CLASSIFICATION, PART, REGRESSION, Set, Table, typed
from gradkeel.contract.resolve import resolve, shape_of
from gradkeel_worker.data import read_table
from gradkeel_worker.engine import train
from gradkeel_worker.ingest import Limits, Options, ingest

Array = np.ndarray[Any, Any]
ROUNDS, PATIENCE = 2000, 50


@dataclass(frozen=True)
class Contest:
    """A split table, and the same as typed features ``x`` and target ``y`` (classes as numbers from 0).

    ``parts``: row numbers of train, validation and test.
    """

    one: Set
    table: Table
    seed: int
    x: Any
    y: Any
    classes: tuple[str, ...]
    parts: dict[str, Array]

    @classmethod
    def of(cls, one: Set, table: Table, seed: int) -> Contest:
        """The contest on a table that has its parts."""
        x, y = typed(table, one)
        classes: tuple[str, ...] = ()
        if one.task == CLASSIFICATION:
            encoder = LabelEncoder().fit(y)
            y, classes = pd.Series(encoder.transform(y)), tuple(encoder.classes_)
        rows = {name: np.flatnonzero(table[PART] == name) for name in ("train", "validation", "test")}
        return cls(one, table, seed, x, y, classes, rows)

    @property
    def regression(self) -> bool:
        return self.one.task == REGRESSION

    @property
    def task(self) -> str:
        """The task by its name in a config."""
        if self.regression:
            return REGRESSION
        return "binary" if len(self.classes) == 2 else "multiclass"

    def part(self, name: str, x: Any = None) -> tuple[Any, Any]:
        """Features and target of a part."""
        rows = self.parts[name]
        return (self.x if x is None else x).iloc[rows], self.y.iloc[rows]

    def spread(self, probabilities: Array, known: Array) -> Array:
        """Probabilities [n, known] laid out over all classes [n, classes]: a class without a training row
        has 0.
        """
        laid = np.zeros((len(probabilities), len(self.classes)))
        laid[:, np.asarray(known, dtype=int)] = probabilities
        return laid

    def dense(self) -> tuple[Any, Any]:
        """Training and validation targets as 0 … k−1 of the classes that the training part has, and those:
        boosters ask for that. Validation rows of other classes are left out.
        """
        known = np.unique(self.part("train")[1])
        return known, {int(k): i for i, k in enumerate(known)}


def _answer(model: Any, contest: Contest, known: Array | None = None, x: Any = None) -> Array:
    features = contest.part("test", x)[0]
    if contest.regression:
        return np.asarray(model.predict(features), dtype=np.float64).ravel()
    classes = known if known is not None else model.classes_
    return contest.spread(np.asarray(model.predict_proba(features)), classes)


def _boosted(contest: Contest) -> tuple[Any, Any, Any, Any, Any]:
    """Training and validation features and targets for a booster, and the classes behind its numbers."""
    (x, y), (xv, yv) = contest.part("train"), contest.part("validation")
    if contest.regression:
        return x, y, xv, yv, None
    known, number = contest.dense()
    kept = yv.isin(known)
    return x, y.map(number), xv[kept], yv[kept].map(number), known


def linear(contest: Contest) -> Array:
    """Ridge (penalty by cross-validation) or logistic regression, on the neural peer's features."""
    model = RidgeCV(np.logspace(-3, 4, 15)) if contest.regression else LogisticRegression(max_iter=500)
    fitted = make_pipeline(_features(contest), model).fit(*contest.part("train"))
    return _answer(fitted, contest)


def sklearn_mlp(contest: Contest) -> Array:
    """MLPRegressor or MLPClassifier 256×3 with early stopping on its own share of training and validation."""
    options: dict[str, Any] = {
        "hidden_layer_sizes": (256, 256, 256),
        "early_stopping": True,
        "validation_fraction": 0.2,
        "random_state": contest.seed,
    }
    core: Any = (
        TransformedTargetRegressor(MLPRegressor(**options), transformer=StandardScaler())
        if contest.regression
        else MLPClassifier(**options)
    )
    rows = np.concatenate([contest.parts["train"], contest.parts["validation"]])
    x, y = contest.x.iloc[rows], contest.y.iloc[rows]
    if not contest.regression:  # its own split wants two rows of every class
        kept = y.map(y.value_counts()) >= 2
        x, y = x[kept], y[kept]
    return _answer(make_pipeline(_features(contest), core).fit(x, y), contest)


def _features(contest: Contest) -> Any:
    numbers = [name for name in contest.x if contest.x[name].dtype == float or contest.x[name].dtype == int]
    others = [name for name in contest.x if name not in numbers]
    return make_column_transformer(
        (
            make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()),
            numbers,
        ),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), others),
    )


def sklearn_hgb(contest: Contest) -> Array:
    """Histogram gradient boosting of scikit-learn."""
    kind = HistGradientBoostingRegressor if contest.regression else HistGradientBoostingClassifier
    model = kind(max_iter=ROUNDS, early_stopping=True, random_state=contest.seed)
    x, y, xv, yv, known = _boosted(contest)
    model.fit(x, y, X_val=xv, y_val=yv)
    return _answer(model, contest, known)


def boosted_xgboost(contest: Contest) -> Array:
    """XGBoost."""
    kind = xgboost.XGBRegressor if contest.regression else xgboost.XGBClassifier
    model = kind(
        n_estimators=ROUNDS,
        early_stopping_rounds=PATIENCE,
        enable_categorical=True,
        random_state=contest.seed,
        n_jobs=2,
    )
    x, y, xv, yv, known = _boosted(contest)
    model.fit(x, y, eval_set=[(xv, yv)], verbose=False)
    return _answer(model, contest, known)


def boosted_lightgbm(contest: Contest) -> Array:
    """LightGBM."""
    kind = lightgbm.LGBMRegressor if contest.regression else lightgbm.LGBMClassifier
    model = kind(n_estimators=ROUNDS, random_state=contest.seed, n_jobs=2, verbose=-1)
    x, y, xv, yv, known = _boosted(_plainly_named(contest))
    model.fit(x, y, eval_set=[(xv, yv)], callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)])
    return _answer(model, _plainly_named(contest), known)


def _plainly_named(contest: Contest) -> Contest:
    """LightGBM refuses some characters in names."""
    x = contest.x.set_axis([f"f{i}" for i in range(contest.x.shape[1])], axis=1)
    return Contest(contest.one, contest.table, contest.seed, x, contest.y, contest.classes, contest.parts)


def boosted_catboost(contest: Contest) -> Array:
    """CatBoost."""
    kind = CatBoostRegressor if contest.regression else CatBoostClassifier
    texts = [name for name in contest.x if contest.x[name].dtype == "category"]
    told = contest.x.assign(**{name: contest.x[name].astype(object).fillna("") for name in texts})
    model = kind(
        cat_features=texts,
        random_seed=contest.seed,
        early_stopping_rounds=PATIENCE,
        thread_count=2,
        verbose=False,
        allow_writing_files=False,
    )
    known, number = (None, None) if contest.regression else contest.dense()
    (x, y), (xv, yv) = contest.part("train", told), contest.part("validation", told)
    if number is not None:
        kept = yv.isin(known)
        x, y, xv, yv = x, y.map(number), xv[kept], yv[kept].map(number)
    model.fit(x, y, eval_set=(xv, yv))
    return _answer(model, contest, known, told)


def gradkeel(preset: str) -> Callable[[Contest], Array]:
    """This engine with a preset, from the uploaded file on: it types the columns itself."""

    def answer(contest: Contest) -> Array:
        with tempfile.TemporaryDirectory() as folder:
            source, work = Path(folder) / "table.csv", Path(folder) / "work"
            work.mkdir()
            contest.table.to_csv(source, index=False)
            ingested = ingest(source, work, Options.from_json({}), Limits())
            submitted = {
                "target": contest.one.target,
                "task": contest.task,
                "preset": preset,
                "seed": contest.seed,
                "split": {"kind": "column", "column": PART},
            }
            config = resolve(submitted, shape_of(resolve(submitted), ingested.profile))
            table = read_table(ingested.path, ingested.profile, config)
            result = train(table, config, profile=ingested.profile, submitted=submitted)
        return _test_predictions(contest, result)

    return answer


def _test_predictions(contest: Contest, result: Any) -> Array:
    """In the order of the test part. Rows of a class that the training part has not are not answered: for
    them every class is equally likely."""
    predicted, wanted = result.predictions, contest.parts["test"]
    rows = np.asarray(predicted["row"])
    order = np.minimum(np.searchsorted(rows, wanted), len(rows) - 1)
    answered = rows[order] == wanted
    if contest.regression:
        assert answered.all()
        return np.asarray(predicted["prediction"])[order]
    names = [str(label).strip() for label in result.prepared.classes]
    known = np.array([contest.classes.index(name) for name in names])
    probabilities = np.where(answered[:, None], np.asarray(predicted["probabilities"])[order], 0.0)
    return contest.spread(probabilities, known)


PEERS: dict[str, Callable[[Contest], Array]] = {
    "linear": linear,
    "sklearn MLP": sklearn_mlp,
    "sklearn HGB": sklearn_hgb,
    "XGBoost": boosted_xgboost,
    "LightGBM": boosted_lightgbm,
    "CatBoost": boosted_catboost,
    "Gradkeel fast": gradkeel("fast"),
    "Gradkeel standard": gradkeel("standard"),
    "Gradkeel best": gradkeel("best"),
}
