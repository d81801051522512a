"""Every rule of the diagnosis through the whole stack, with sgd and with adamw: it speaks where it should,
not on a near miss, and not on a healthy run.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gradkeel import Client
from gradkeel.contract.patch import merge_patch
from gradkeel.contract.report import REPORT_SCHEMA, RULES

from .conftest import Stack
from .rule_cases import CASES, HEALTHY, OPTIMIZERS, TABLES, Job

pytestmark = pytest.mark.system

Json = dict[str, Any]
Reports = dict[str, tuple[Json, Json]]
"""Name of a job → its submitted config and its report."""

NO_CONFIG_BRINGS_IT = {"gradient_mismatch"}
"""A wrong backward comes with a loss of one's own: tests/worker/diagnosis/test_report.py trains with one."""


def _jobs() -> Iterator[tuple[str, Job, str]]:
    """(name, job, optimizer) of every job, equal ones under one name."""
    jobs = [HEALTHY, *(job for case in CASES.values() for job in (case.fires, case.near) if job is not None)]
    for optimizer in OPTIMIZERS:
        for name in dict.fromkeys(_name(job, optimizer) for job in jobs):
            yield name, next(job for job in jobs if _name(job, optimizer) == name), optimizer


def _name(job: Job, optimizer: str) -> str:
    return f"{job.table} {json.dumps(job.config(optimizer), sort_keys=True)}"


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[Client]:
    with Client(**json.loads((stack.data / "profile.json").read_text())) as made:
        yield made


@pytest.fixture(scope="module")
def reports(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """All jobs as one batch, run once."""
    folder = tmp_path_factory.mktemp("tables")
    datasets = {name: client.datasets.upload(_written(folder, name)).id for name in TABLES}
    names, configs = [], []
    for name, job, optimizer in _jobs():
        names.append(name)
        configs.append(job.config(optimizer) | {"dataset_id": datasets[job.table]})
    batch = client.batches.submit(configs)
    batch.wait(timeout=300)
    assert batch.rejected == 0
    found = [client.jobs.get(str(result.job_id)).report().raw for result in batch.results()]
    return dict(zip(names, zip(configs, found, strict=True), strict=True))


def _written(folder: Path, name: str) -> Path:
    columns = TABLES[name]()
    path = folder / f"{list(TABLES).index(name)}.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        cells = ([_cell(value) for value in column] for column in columns.values())
        writer.writerows(zip(*cells, strict=True))
    return path


def _cell(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _rules(reports: Reports, job: Job, optimizer: str) -> list[str]:
    return [finding["rule"] for finding in reports[_name(job, optimizer)][1]["findings"]]


def test_every_rule_has_its_cases() -> None:
    assert set(CASES) == set(RULES)
    assert {rule for rule, case in CASES.items() if case.fires is None} == NO_CONFIG_BRINGS_IT


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rule", CASES)
def test_a_rule_speaks_where_it_should_and_not_nearby(reports: Reports, rule: str, optimizer: str) -> None:
    case = CASES[rule]
    assert rule not in _rules(reports, case.near, optimizer)
    if case.fires is not None:
        assert rule in _rules(reports, case.fires, optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_healthy_run_has_nothing_to_tell(reports: Reports, optimizer: str) -> None:
    assert _rules(reports, HEALTHY, optimizer) == []
    assert reports[_name(HEALTHY, optimizer)][1]["verdict"] == "healthy"


def test_reports_follow_the_schema_and_every_patch_is_accepted(client: Client, reports: Reports) -> None:
    validator, asked = Draft202012Validator(REPORT_SCHEMA), set()
    for config, report in reports.values():
        validator.validate(report)
        assert report["provenance"]["notes"] == []
        for finding in report["findings"]:
            proposal = finding["rule"], json.dumps(finding["remedy"]["patch"], sort_keys=True)
            if proposal not in asked:
                client.jobs.validate(config=merge_patch(config, finding["remedy"]["patch"]))
            asked.add(proposal)
