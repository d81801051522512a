"""``preflight``: every scaling measured, one of them recommended."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from gradkeel.contract.patch import combine, set_value
from gradkeel.contract.presets import Shape
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Prepared, Table
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.range_test import with_lr
from gradkeel_worker.engine.run import Emit, silent
from gradkeel_worker.models import Ensemble
from gradkeel_worker.preflight.arms import CONFIGURED, Arm, arms_of
from gradkeel_worker.preflight.dry_run import confirm
from gradkeel_worker.preflight.sample import sampled
from gradkeel_worker.preflight.sharpness import Sharpness, measure
from gradkeel_worker.preflight.words import told

Json = dict[str, Any]

SAFETY = 0.5
"""Part of the limit that the first dry run takes."""
CLEARLY = 0.9
"""Another scaling than the config's own is recommended where its dry run ends at so much of the error."""

_PRODUCTS = 24
_CURVATURE_WORK, _DRY_WORK = 3e8, 1.2e10
"""Multiplications that a product with the curvature, and a dry run, may take; what is planned by them is rows
and steps. A second of one core does about 1.5e10."""
_ROWS, _STEPS = (48, 512), (24, 120)


@dataclass
class Preflight:
    """``entries``: as the report's ``preflight`` has them. ``summary``: the verdict in a sentence or two."""

    entries: list[Json] = field(default_factory=list)
    summary: str = ""
    prepared: Prepared | None = None
    """The sample as the config itself prepares it."""


def preflight(
    table: Table,
    submitted: Json,
    shape: Shape,
    *,
    on_event: Emit = silent,
    should_stop: Callable[[], str | None] = lambda: None,
) -> Preflight:
    """Look at a config before it is trained with. Nothing that is given is changed, and no model is left.

    ``submitted``: the config as ``POST /jobs`` takes it; ``shape``: of the whole table, by which presets are
    sized. ``should_stop`` is asked between scalings; what was found until then is returned.

    Raises:
        ConfigError, DataError: the config cannot be trained with on this data.
    """
    config = resolve(submitted, shape)
    with torch.random.fork_rng():
        arms = arms_of(sampled(table, config), submitted, shape)
        looks: list[_Look] = []
        for number, arm in enumerate(arms):
            if should_stop() is not None:
                break
            on_event("progress", {"phase": "diagnose", "fraction": number / len(arms)})
            looks.append(_look(arm, should_stop))
    chosen = _choice(looks)
    entries = [entry for look in looks for entry in _entries(look, look is chosen)]
    return Preflight(entries, told(entries, config.optimizer.kind), arms[0].prepared)


@dataclass(frozen=True)
class _Look:
    """One scaling as measured."""

    arm: Arm
    sharpness: list[Sharpness]
    dry_run: Json
    notes: list[str]

    @property
    def usable(self) -> bool:
        """Whether a rate was found that is stable and gets somewhere."""
        return bool(self.dry_run["stable"] and self.dry_run["falls"])

    @property
    def error(self) -> float:
        found = self.dry_run["error"]
        return math.inf if found is None else float(found)


def _look(arm: Arm, should_stop: Callable[[], str | None]) -> _Look:
    usual = type(arm.config.optimizer)().lr
    config = with_lr(arm.config, usual)
    run = build(arm.prepared, config, probes=())
    work = _work(run.model, arm)
    rows = _planned(_CURVATURE_WORK / work, _ROWS)
    steps = _planned(_DRY_WORK / (work * config.budget.batch_size), _STEPS)
    measured = measure(arm, run, rows, _PRODUCTS)
    limit = measured[0].limit
    notes = list(arm.notes)
    if limit is None:
        notes.append(
            "nothing bounds the rate at the first weights; the dry run began at the optimizer's default"
        )
    first = usual if limit is None else SAFETY * limit
    found, tried = confirm(arm.prepared, config, first, steps, lambda: should_stop() is not None)
    return _Look(arm, measured, found.to_json(tried), notes)


def _work(model: torch.nn.Module, arm: Arm) -> float:
    """Multiplications of a forward and two backward passes a row, and of as many products."""
    weights = sum(p.numel() for p in model.parameters())
    members = getattr(arm.config.model, "members", 1) if isinstance(model, Ensemble) else 1
    return 3.0 * weights * members * arm.prepared.train.length


def _planned(amount: float, bounds: tuple[int, int]) -> int:
    return int(min(max(amount, bounds[0]), bounds[1]))


def _choice(looks: list[_Look]) -> _Look | None:
    """The config's own scaling, unless it is not stable or another one clearly gets farther."""
    usable = [look for look in looks if look.usable]
    best = min(usable, key=lambda look: look.error, default=None)
    own = next((look for look in usable if CONFIGURED in look.arm.names), None)
    if own is None or best is None:
        return best
    return best if best.error < CLEARLY * own.error else own


def _entries(look: _Look, recommended: bool) -> list[Json]:
    """One entry a loss: the config's own, which is the one that may be recommended, and the squared one."""
    arm = look.arm
    common = {"scaling": arm.title, "prepare": arm.kinds}
    first, *others = look.sharpness
    lr = look.dry_run["lr"] if look.dry_run["stable"] else None
    own = {
        "lr": lr,
        "dry_run": look.dry_run,
        "recommended": recommended,
        "patch": None if lr is None else combine(arm.patch, set_value(("optimizer", "lr"), lr)),
        "notes": look.notes,
    }
    shown: Json = {"lr": None, "dry_run": None, "recommended": False, "patch": None, "notes": []}
    return [
        common | asdict(one) | more for one, more in [(first, own), *((other, shown) for other in others)]
    ]
