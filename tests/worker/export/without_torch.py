"""Run by the parity tests in a process of its own, where torch cannot be imported.

For each folder: predicts rows.json with ``gradkeel.local`` (model.gradkeel) and with onnxruntime on
model.onnx alone, and leaves answer.npz.
"""

import json
import sys
from datetime import datetime, timezone
from pathlib import Path


class _NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "gradkeel_worker", "sklearn", "pandas", "onnx"):
            raise ImportError(f"{name} is not to be imported here")


sys.meta_path.insert(0, _NoTorch())

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

from gradkeel.local import load  # noqa: E402


def tensor(kind, cells):
    """One raw column as the ONNX file takes it: no knowledge of the model beyond the column's type."""
    if kind == "numeric":
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)[:, None]
    if kind == "datetime":
        return np.array([seconds(cell) for cell in cells], dtype=np.float64)[:, None]
    return np.array([str(cell) for cell in cells], dtype=object)[:, None]


def seconds(text):
    try:
        return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()  # noqa: UP017
    except ValueError:
        return np.nan


def answer(folder):
    question = json.loads((folder / "rows.json").read_text())
    predictions = load(folder / "model.gradkeel").predict(question["rows"])
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    fed = {name: tensor(question["types"][name], cells) for name, cells in question["rows"].items()}
    (alone,) = session.run(None, fed)
    given = predictions.values if predictions.probabilities is None else predictions.probabilities
    np.savez(folder / "answer.npz", local=given, alone=alone, labels=predictions.values.astype(str))


for name in sys.argv[1:]:
    answer(Path(name))
assert "torch" not in sys.modules
