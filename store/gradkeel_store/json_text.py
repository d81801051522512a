"""JSON as it is stored and sent: strict and compact."""

from __future__ import annotations

import json
import math
from typing import Any


def finite(value: Any) -> Any:
    """``value`` with null for what JSON has no number for (NaN and the infinities)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def to_text(value: Any) -> str:
    """The JSON text of ``value``, in ASCII: NUL and lone surrogates, which databases refuse, are escaped."""
    return json.dumps(finite(value), allow_nan=False, separators=(",", ":"))
