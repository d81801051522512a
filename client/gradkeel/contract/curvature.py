"""The curvature of a report: what its places are called, and the paragraph that tells it.

Curvature is how sharply the loss bends around the weights. It bounds the learning rates whose steps settle.
"""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

PLACES = {"start": "at the first weights", "end": "at the end of training"}
"""Where it is measured → how that is told, in the order of a training."""

PLAINLY = (
    "The loss is a landscape and training walks down it: curvature says how narrow the valley is. In a "
    "narrow one a step that is too long lands higher up the other side, and the next one higher still."
)
HOVERING = (
    "Training on the whole data at once often hovers at the limit: being above it is no fault by itself."
)
_HOVERS = 2.0
"""Times the limit up to which that is said: what hovers stays near it."""


def told(curvature: Mapping[str, Any] | None) -> str | None:
    """The curvature as one paragraph; None where none was measured."""
    if curvature is None:
        return None
    places = {"start": curvature.get("start") or {}, "end": curvature}
    said = [_place_words(place, name) for name, place in places.items()]
    return " ".join([*(one for one in said if one), *_remarks(places)]) or None


def _place_words(place: Mapping[str, Any], name: str) -> str | None:
    largest = place.get("lambda_max") or {}
    if largest.get("value") is None:
        return None
    where = PLACES[name][:1].upper() + PLACES[name][1:]
    return f"{where} the loss bends most by {_value(largest)}{_limit_words(place)}"


def _value(found: Mapping[str, Any]) -> str:
    return _number(found["value"]) + ("" if found.get("converged") else " or more")


def _limit_words(place: Mapping[str, Any]) -> str:
    limit, over, stepped = (
        place.get(key) for key in ("local_stability_limit", "lr_over_limit", "preconditioned_lambda_max")
    )
    if limit is None:
        return f": {place['no_limit']}." if place.get("no_limit") else "."
    used = "" if over is None else f"; {_used(place.get('lr') or {})} {_times(over)} that"
    divided = f" ({_value(stepped)} as the optimizer's own division scales it)" if stepped else ""
    return f"{divided}, so that steps settle below a learning rate of about {_number(limit)}{used}."


def _used(lr: Mapping[str, Any]) -> str:
    shortened = (lr.get("clip_coefficient") or 1) < 0.995
    clipped = f", shortened by clips to {_number(lr['effective'])}," if shortened else ""
    return f"the {_number(lr.get('scheduled') or 0)} in use{clipped} is"


def _times(ratio: float) -> str:
    return f"{_number(ratio)} times" if ratio >= 1 else f"{_number(100 * ratio)} % of"


def _number(value: float) -> str:
    """Three significant digits: 0.0042, 12.3, 4,570, 1.2e+09."""
    short = float(f"{value:.3g}")
    return f"{short:,.0f}" if 1000 <= abs(short) < 1e6 else f"{short:g}"


def _remarks(places: Mapping[str, Mapping[str, Any]]) -> list[str]:
    ratios = {name: place.get("lr_over_limit") or 0 for name, place in places.items()}
    said = []
    if ratios["start"] > 1 >= ratios["end"] > 0:
        said.append("Training began above the limit and left for where the loss bends less.")
    if 1 < max(ratios.values()) <= _HOVERS:
        said.append(HOVERING)
    return [*said, *_squared(list(places.values()))]


def _squared(places: list[Mapping[str, Any]]) -> list[str]:
    """What rows far off hide under a robust loss, where that lowers a limit."""
    pairs = [
        (safe, place["local_stability_limit"])
        for place in places
        if (safe := (place.get("squared_loss") or {}).get("local_stability_limit")) is not None
    ]
    lower = [safe for safe, own in pairs if own is None or safe < 0.99 * own]
    if not lower:
        return []
    return [
        "Rows far off carry little or no curvature under this loss. With the curvature that each would have "
        f"near its target the limit is {_number(min(lower))}, the safer of the two."
    ]
