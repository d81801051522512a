"""The verdict of a preflight, in words."""

from __future__ import annotations

import re
from typing import Any

Json = dict[str, Any]

_UNSCALED = re.compile(r"\bnone\b")

_ALIKE = 3.0
"""Limits within this factor are called much the same: they are estimates on a sample."""


def told(entries: list[Json], optimizer: str) -> str:
    """What limits the rate with and without scaling, and what to use."""
    own = [entry for entry in entries if entry["dry_run"] is not None]
    chosen = next((entry for entry in own if entry["recommended"]), None)
    if not own:
        return "The preflight ended before the first scaling was measured."
    if chosen is None:
        return (
            "Under no scaling did the loss fall in a dry run, down to the smallest rate that was tried: look "
            "at the data and at the model's first weights."
        )
    return f"{_limits(own, chosen)} {_advice(chosen, optimizer)}"


def _limits(own: list[Json], chosen: Json) -> str:
    raw = next((entry for entry in own if _UNSCALED.search(entry["scaling"])), None)
    scaled = _limit(chosen)
    if raw is None or raw is chosen or _limit(raw) is None or scaled is None:
        known = (
            "no limit was found" if scaled is None else f"the largest stable learning rate is {scaled:.1g}"
        )
        return f"With the scaling {chosen['scaling']} {known}."
    unscaled = _limit(raw)
    assert unscaled is not None
    if max(scaled, unscaled) < _ALIKE * min(scaled, unscaled):
        return (
            f"Scaling hardly changes the largest stable learning rate: {unscaled:.1g} with the columns as "
            f"they stand, {scaled:.1g} scaled."
        )
    return (
        f"With the columns as they stand the largest stable learning rate is {unscaled:.1g}; scaled it is "
        f"{scaled:.1g}."
    )


def _advice(chosen: Json, optimizer: str) -> str:
    run = chosen["dry_run"]
    return (
        f"Use {run['lr']:.2g} with {optimizer} and the scaling {chosen['scaling']}: the loss fell from "
        f"{_number(run['loss_before'])} to {_number(run['loss_after'])} in a dry run of {run['steps']} steps."
    )


def _limit(entry: Json) -> float | None:
    known = [entry[name] for name in ("local_stability_limit", "gauss_newton_limit") if entry[name]]
    return min(known, default=None)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
