"""Tables and their preparation: reading, typing, splitting, fitting on the training part. No network, no
SQL."""

from gradkeel_worker.data.errors import DataError
from gradkeel_worker.data.fitting import prepare
from gradkeel_worker.data.preparation import Category, Input, Preparation
from gradkeel_worker.data.prepared import Part, Prepared
from gradkeel_worker.data.read import read_table
from gradkeel_worker.data.scalers import TargetTransform, TargetTransforms
from gradkeel_worker.data.table import Column, Table

__all__ = [
    "Category",
    "Column",
    "DataError",
    "Input",
    "Part",
    "Preparation",
    "Prepared",
    "Table",
    "TargetTransform",
    "TargetTransforms",
    "prepare",
    "read_table",
]
