"""Every table of parts has the contract's kinds, no more and no fewer: the one place that says so.

A kind that the contract accepts and the worker does not know fails a job that was accepted; one that only
the worker knows can never be asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any, get_args, get_type_hints

import pytest

from gradkeel.contract import config as contract
from gradkeel.contract import presets, report, states
from gradkeel.contract.resolve import resolve
from gradkeel_worker.curvature.limits import STEPS
from gradkeel_worker.data.categories import EMBEDDING, ONEHOT, ORDINAL
from gradkeel_worker.data.columns import CONVERSIONS
from gradkeel_worker.data.features import FITS
from gradkeel_worker.data.missing import MISSING_POLICIES
from gradkeel_worker.data.neighbor_choice import LOOK_UPS
from gradkeel_worker.data.outliers import OUTLIERS
from gradkeel_worker.data.scalers import LOGARITHMS, NUMERIC_SCALERS, TARGET_SCALERS
from gradkeel_worker.data.splits import SPLITS
from gradkeel_worker.diagnosis.case import ADAPTIVE
from gradkeel_worker.diagnosis.examination import SECOND_DERIVATIVE
from gradkeel_worker.diagnosis.finding import PLACES, RANK
from gradkeel_worker.diagnosis.order import CONSEQUENCES, ROOTS
from gradkeel_worker.diagnosis.rules import RULES
from gradkeel_worker.engine.build import _LOSSES_OF_TASK
from gradkeel_worker.engine.precision import PRECISIONS
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.losses import LOSSES
from gradkeel_worker.models import MODELS, NUMERIC_EMBEDDINGS
from gradkeel_worker.models.activations import ACTIVATIONS
from gradkeel_worker.models.initialisation import INITS
from gradkeel_worker.models.mlp import NORMS
from gradkeel_worker.models.sequential import LAYERS
from gradkeel_worker.optimizers import OPTIMIZERS
from gradkeel_worker.probes import PROBES, TIERS, of_tier
from gradkeel_worker.schedules import SCHEDULES
from gradkeel_worker.stabilizers import CLIPS, GUARDS
from gradkeel_worker.stabilizers.clips import LIMITS
from gradkeel_worker.stabilizers.guards import NEEDS

COLUMN_TYPES = get_args(get_args(get_type_hints(contract.Columns)["types"])[1])

KINDS: dict[str, tuple[Collection[str], Collection[str]]] = {
    "split": (SPLITS, contract.SPLITS),
    "column types": (CONVERSIONS, COLUMN_TYPES),
    "fitted column types": ({*FITS, "text", "id"}, COLUMN_TYPES),
    "numeric scalers": (NUMERIC_SCALERS, contract.NUMERIC_SCALERS),
    "target scalers": ({*TARGET_SCALERS, "auto"}, contract.TARGET_SCALERS),
    "missing": (MISSING_POLICIES, contract.MISSING_POLICIES),
    "outliers": (OUTLIERS, contract.OUTLIERS),
    "categorical": ((EMBEDDING, ONEHOT, ORDINAL), contract.CATEGORICALS),
    "neighbors": (LOOK_UPS, contract.NEIGHBORS),
    "numeric embeddings": (NUMERIC_EMBEDDINGS, contract.NUMERIC_EMBEDDINGS),
    "models": (MODELS, contract.MODELS),
    "layers": (LAYERS, contract.LAYERS),
    "activations": (ACTIVATIONS, get_args(contract.Activation)),
    "norms": (NORMS, get_args(contract.Norm)),
    "initialisations": (INITS, contract.INITS),
    "losses": (LOSSES, contract.LOSSES),
    "losses by task": ({k for kinds in _LOSSES_OF_TASK.values() for k in kinds}, contract.LOSSES),
    "losses' curvature": (SECOND_DERIVATIVE, contract.LOSSES),
    "tasks": ({*_LOSSES_OF_TASK, "auto"}, contract.TASKS),
    "optimizers": (OPTIMIZERS, contract.OPTIMIZERS),
    "optimizers by what they do": ({*ADAPTIVE, "sgd"}, contract.OPTIMIZERS),
    "optimizers' stability limits": (STEPS, contract.OPTIMIZERS),
    "schedules": (SCHEDULES, contract.SCHEDULES),
    "clips": (CLIPS, contract.CLIPS),
    "clips' limits": (LIMITS, contract.CLIPS),
    "guards": (GUARDS, contract.GUARDS),
    "guards' probes": (NEEDS, contract.GUARDS),
    "precisions": ({*PRECISIONS, "auto"}, contract.PRECISIONS),
    "probe tiers": (TIERS, get_args(get_type_hints(contract.Health)["tier"])),
    "presets": (presets._BUILDERS, contract.PRESETS),
    "rules": (RULES, report.RULES),
    "severities": (RANK, states.Severity),
    "places of a finding": (PLACES, report._FINDING["properties"]["where"]["properties"]),
}


@pytest.mark.parametrize("table", KINDS)
def test_the_worker_has_the_contracts_kinds(table: str) -> None:
    ours, theirs = KINDS[table]
    assert sorted(map(str, ours)) == sorted(map(str, theirs))


@pytest.mark.parametrize(
    "table",
    [
        contract.SPLITS,
        contract.NUMERIC_SCALERS,
        contract.TARGET_SCALERS,
        contract.MISSING_POLICIES,
        contract.OUTLIERS,
        contract.CATEGORICALS,
        contract.NEIGHBORS,
        contract.INITS,
        contract.LAYERS,
        contract.MODELS,
        contract.LOSSES,
        contract.OPTIMIZERS,
        contract.SCHEDULES,
        contract.CLIPS,
        contract.GUARDS,
    ],
)
def test_each_kind_is_the_block_of_that_name(table: dict[str, Any]) -> None:
    for name, block in table.items():
        assert {f.name: f.default for f in dataclasses.fields(block)}["kind"] == name


def test_what_is_linked_by_name_exists() -> None:
    assert set(LOGARITHMS) <= set(NUMERIC_SCALERS)
    assert set(ROOTS.values()) <= set(RULES)
    assert set(CONSEQUENCES) <= set(RULES)
    assert {rule for follow in CONSEQUENCES.values() for rule in follow} <= set(RULES)
    assert {name for needed in NEEDS.values() for name in needed} <= set(PROBES)
    assert {name for probe in PROBES.values() for name in probe.needs} <= set(PROBES)


def test_every_number_a_probe_reads_has_its_place_in_the_readings() -> None:
    held = {field.name for field in dataclasses.fields(Readings)}
    assert {name for name, probe in PROBES.items() if probe.shape != "series"} <= held
    assert of_tier("full") == tuple(PROBES)
    assert set(of_tier("economy")) < set(of_tier("standard")) < set(PROBES)


@pytest.mark.parametrize("preset", contract.PRESETS)
@pytest.mark.parametrize("task", _LOSSES_OF_TASK)
def test_a_presets_loss_suits_the_task(preset: str, task: str) -> None:
    config = resolve({"target": "y", "preset": preset, "task": task, "columns": {"order": "t"}})
    assert config.loss.kind in _LOSSES_OF_TASK[task]
