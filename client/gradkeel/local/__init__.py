"""Predictions from a bundle, without the service and without torch: numpy and onnxruntime only.

from gradkeel.local import load
model = load("model.gradkeel")
model.predict([{"rooms": 3, "zone": "B"}]).values
"""

from gradkeel.local.csv_rows import rows_from_csv
from gradkeel.local.errors import BadValue, BundleError, LocalModelError, MissingColumn, NoInterval
from gradkeel.local.model import Model, Predictions, load

__all__ = [
    "BadValue",
    "BundleError",
    "LocalModelError",
    "MissingColumn",
    "Model",
    "NoInterval",
    "Predictions",
    "load",
    "rows_from_csv",
]
