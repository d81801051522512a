"""Imported once by the forkserver, so that every child has these modules from birth. Import it nowhere else.

The forkserver and with it every child of its has to die when the worker is killed: its death signal is asked
for here, because no other code of ours runs in it.
"""

import importlib

from gradkeel_worker.limits import die_with_parent

die_with_parent()

MODULES = (
    "numpy",
    "torch",
    "sklearn.linear_model",
    "pyarrow.parquet",
    "gradkeel_worker.child",
    "gradkeel_worker.reading",
    "gradkeel_worker.training",
)

for _name in MODULES:
    importlib.import_module(_name)
