"""Presets: what fills the options that are not given. ``custom`` is fixed; the others fit the data's size.

No preset asks for a batch larger than the table: a size that nobody asked for is no reason to refuse a job.
"""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """What is known of the table: rows, numeric and categorical features, and the task if it is clear."""

    rows: int
    numeric: int
    categorical: int
    task: str | None = None


# Rows for which a table of unknown size is taken.
_UNKNOWN = Shape(rows=10_000, numeric=10, categorical=0)

_LOSS_BY_TASK = {
    "binary": {"kind": "bce"},
    "multiclass": {"kind": "cross_entropy"},
    "quantile": {"kind": "quantile"},
}


def preset_document(preset: str, shape: Shape | None, submitted: Json) -> Json:
    """The preset's config as JSON, sized for ``shape``."""
    known = shape or _UNKNOWN
    task = submitted.get("task")
    task = task if isinstance(task, str) and task != "auto" else known.task
    document = _BUILDERS[preset](known)
    document["preset"] = preset
    if _kind_of(submitted.get("loss")) == "poisson":
        document["prepare"] |= {"target": {"kind": "none"}}
    document["loss"] = dict(_LOSS_BY_TASK.get(task or "", {"kind": "huber", "delta": 1.0}))
    if task == "forecast" and _kind_of(submitted.get("model")) is None:
        document["model"] = {"kind": "gru"}
    if (_kind_of(submitted.get("model")) or document["model"]["kind"]) in OVER_WINDOWS:
        document |= _over_windows(document, task, submitted)
    return document


def reasons(document: Json, shape: Shape | None) -> dict[str, str]:
    """Why the options that depend on the data are as a preset's document has them, by JSON pointer."""
    preset, known = document["preset"], shape or _UNKNOWN
    if preset == "custom":
        return {}
    size = f"{_training(known):,} training rows" + ("" if shape else " (taken for a table of unknown size)")
    found = {pointer: f"{preset}, for {size}" for pointer in _SIZED[preset]}
    if "embedding" not in document["prepare"]:
        return found
    if document["split"]["kind"] != "random":  # no preset's own: a model over windows was asked for
        return found | _WINDOWED_REASONS
    return found | {"/prepare/embedding": f"{preset}, for {size} and {known.numeric} numeric columns"}


OVER_WINDOWS = ("gru", "lstm", "tcn")
_WINDOWED_REASONS = {
    "/split": "windows share their rows, so parts are later rows or other series",
    "/prepare/embedding": "models over windows get numbers as they are, unless an embedding is asked for",
}


def _over_windows(document: Json, task: str | None, submitted: Json) -> Json:
    """Parts that share no rows: later ones, or for what is no forecast other series; numbers as they are."""
    columns = submitted.get("columns")
    grouped = isinstance(columns, dict) and columns.get("group") is not None and task != "forecast"
    split = {"kind": "group" if grouped else "ordered", "validation": 0.15, "test": 0.15}
    return {
        "split": split,
        "prepare": document["prepare"] | {"embedding": {"kind": "none"}, "neighbors": {"kind": "none"}},
    }


def _kind_of(block: Any) -> Any:
    return block.get("kind") if isinstance(block, dict) else None


def _custom(shape: Shape) -> Json:
    return {
        "prepare": {
            "numeric": {"kind": "standard"},
            "target": {"kind": "standard"},
            "missing": {"kind": "median", "indicator": True},
            "outliers": {"kind": "keep"},
            "categorical": {"kind": "embedding"},
        },
        "split": {"kind": "random", "validation": 0.15, "test": 0.15, "seed": 0},
        "model": {"kind": "mlp", "widths": [256, 256, 256], "activation": "relu"},
        "optimizer": {"kind": "adamw", "lr": 0.001, "weight_decay": 0.0003},
        "schedule": {"kind": "constant", "warmup_steps": 0},
        "clips": [{"kind": "norm", "max_norm": 1.0}],
        "guards": [{"kind": "skip_nonfinite", "max_consecutive": 5}],
        "budget": {
            "epochs": 100,
            "batch_size": min(256, max(1, shape.rows)),
            "patience": 16,
            "max_seconds": 600,
        },
        "health": {"tier": "standard", "gradient_check": True},
    }


def _standard(shape: Shape) -> Json:
    training = _training(shape)
    document = _custom(shape)
    document["prepare"] |= {"target": {"kind": "auto"}, "embedding": _embedding(training, shape.numeric)}
    dropout = 0.1 if training < 50_000 else 0.0
    document["model"] |= {"widths": _widths(training), "activation": "silu", "dropout": dropout}
    document["optimizer"] |= {"lr": 0.002}
    epochs, patience = _epochs(training)
    document["budget"] |= {
        "epochs": epochs,
        "patience": patience,
        "batch_size": min(training, _batch_size(training)),
        "ema": 0.005,
    }
    return document


def _fast(shape: Shape) -> Json:
    training = _training(shape)
    document = _custom(shape)
    document["prepare"] |= {"target": {"kind": "auto"}}
    document["model"] |= {"widths": [64, 64]}
    document["optimizer"] |= {"lr": 0.003}
    document["budget"] |= {
        "epochs": 30,
        "patience": 5,
        "batch_size": min(training, 2 * _batch_size(training)),
        "max_seconds": 120,
    }
    return document


def _training(shape: Shape) -> int:
    """Rows to train on, as the usual split leaves them."""
    return max(1, int(shape.rows * 0.7))


def _best(shape: Shape) -> Json:
    training = _training(shape)
    document = _standard(shape)
    # what the neighbours tell, finer bins need not
    embedding = _embedding(min(training, 9_999), shape.numeric)
    document["prepare"] |= {"embedding": embedding, "neighbors": {"kind": "means"}}
    document["model"] = {
        "kind": "tabm",
        "members": 8,
        "blocks": len(_widths(training)),
        "width": 256,
        "activation": "silu",
        "dropout": 0.0 if training < 10_000 else 0.1,
    }
    document["budget"] |= {"max_seconds": 1800}
    return document | {"precision": "auto"}


def _embedding(training: int, numeric: int) -> Json:
    """Bins that the rows can fill; hundreds of columns get none, for each widens the first layer."""
    if not 0 < numeric <= 300:
        return {"kind": "none"}
    bins, width = (16, 12) if training < 2_000 else (32, 16) if training < 10_000 else (64, 24)
    return {"kind": "piecewise_linear", "bins": bins, "width": width if numeric <= 60 else 8}


def _widths(training: int) -> list[int]:
    if training < 2_000:
        return [128, 128]
    return [256, 256] if training < 10_000 else [256, 256, 256]


def _epochs(training: int) -> tuple[int, int]:
    """Epochs at most, and how many without progress end a run: small tables have few steps in each."""
    return (600, 40) if training < 2_000 else (300, 30) if training < 10_000 else (100, 16)


def _batch_size(training: int) -> int:
    """A few dozen steps an epoch on small tables, no more than 1024 rows a step on large ones."""
    for rows, batch in ((1_000, 32), (5_000, 64), (10_000, 128), (100_000, 256), (400_000, 512)):
        if training < rows:
            return batch
    return 1024


_BUILDERS = {"custom": _custom, "standard": _standard, "fast": _fast, "best": _best}
_BUDGET = ("/budget/epochs", "/budget/patience", "/budget/batch_size")
_SIZED = {
    "standard": ("/model/widths", "/model/dropout", *_BUDGET),
    "fast": ("/budget/batch_size",),
    "best": ("/model/blocks", "/model/dropout", *_BUDGET),
}
