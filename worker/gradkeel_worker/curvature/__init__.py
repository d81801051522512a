"""Curvature of a loss at a model's weights, and the learning rates that it allows.

``limits`` needs no torch; the names below are loaded on first use, for they do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradkeel_worker.curvature.lanczos import Eigenvalue, largest_eigenvalue
    from gradkeel_worker.curvature.operators import (
        Operator,
        Problem,
        gauss_newton,
        hessian,
        preconditioned,
        shifted,
    )
    from gradkeel_worker.curvature.spectrum import Density, density, trace

_HOMES = {
    "lanczos": ("Eigenvalue", "largest_eigenvalue"),
    "operators": ("Operator", "Problem", "gauss_newton", "hessian", "preconditioned", "shifted"),
    "spectrum": ("Density", "density", "trace"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Density",
    "Eigenvalue",
    "Operator",
    "Problem",
    "density",
    "gauss_newton",
    "hessian",
    "largest_eigenvalue",
    "preconditioned",
    "shifted",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
