"""Hidden units that no longer react, as the readings show them. numpy alone."""

from __future__ import annotations

import numpy as np

from gradkeel_worker.engine.readings import Readings

MOST_UNITS = 0.5
_CHECKS = 3


def affected_units(readings: Readings, series: str) -> list[tuple[str, int, float]]:
    """Layers whose share in ``series`` is above MOST_UNITS at three checks in a row.

    ``series``: dead_fraction or saturated_fraction. Returns (layer, step of the first such check, median
    since).
    """
    if series not in readings.sparse:
        return []
    steps, values, names = readings.sparse[series]
    found = []
    for k, name in enumerate(names):
        high = np.nan_to_num(values[:, k], nan=0.0) > MOST_UNITS
        starts = [i for i in range(len(high) - _CHECKS + 1) if high[i : i + _CHECKS].all()]
        if starts:
            found.append((name, int(steps[starts[0]]), float(np.nanmedian(values[starts[0] :, k]))))
    return found
