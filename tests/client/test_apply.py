"""Running a job again with the change that its report proposes: SDK, async SDK and the words about it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gradkeel import AsyncClient, Client, Event, GradkeelError
from gradkeel.cli.live import Remarks
from gradkeel.sansio.configs import change_lines
from gradkeel.testing import FakeService

CSV = b"size,price\n1,2\n2,4\n3,6\n"
Json = dict[str, Any]


def finding(rule: str, severity: str, patch: Json | None) -> Json:
    place = dict.fromkeys(("layer", "parameter", "step", "epoch", "row", "line", "column", "phase"))
    return {
        "rule": rule,
        "family": "gradient",
        "severity": severity,
        "confidence": "high",
        "where": place,
        "evidence": {},
        "explanation": "It went wrong.",
        "also_consistent_with": [],
        "consequences": [],
        "remedy": {"text": "Lower it.", "patch": patch, "tried": None},
    }


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Client:
    return Client(transport=service)


def test_the_first_patch_is_applied_to_what_was_submitted(service: FakeService, client: Client) -> None:
    findings = [
        finding("clipping_dominates", "info", {"seed": 9}),
        finding("lr_too_high", "critical", {"optimizer": {"lr": 0.01}}),
    ]
    service.next_job(verdict="unstable", findings=findings)
    data = client.datasets.upload(CSV)
    job = client.jobs.create(data, target="price", optimizer={"kind": "sgd", "lr": 10.0}).wait()
    again = client.jobs.apply(job, seed=3)
    assert service.requests[-1].document == {
        "dataset_id": data.id,
        "target": "price",
        "optimizer": {"kind": "sgd", "lr": 0.01},
        "seed": 3,
    }
    assert again.id != job.id and again.wait().state == "succeeded"


def test_the_same_for_asyncio(service: FakeService, client: Client) -> None:
    service.next_job(findings=[finding("lr_too_high", "critical", {"optimizer": {"lr": 0.01}})])
    job = client.jobs.create(client.datasets.upload(CSV), target="price").wait()

    async def applied() -> float:
        async with AsyncClient(transport=service) as other:
            again = await other.jobs.apply(job.id)
            return float(again.config["optimizer"]["lr"])

    assert asyncio.run(applied()) == 0.01


def test_where_there_is_nothing_to_apply_it_says_why(service: FakeService, client: Client) -> None:
    data = client.datasets.upload(CSV)
    service.next_job(held=True)
    running = client.jobs.create(data, target="price")
    with pytest.raises(GradkeelError, match="has no report yet; wait for its end"):
        client.jobs.apply(running)
    healthy = client.jobs.create(data, target="price").wait()
    with pytest.raises(GradkeelError, match=r"is healthy and proposes no change"):
        client.jobs.apply(healthy)
    service.next_job(verdict="unstable", findings=[finding("gradient_mismatch", "critical", None)])
    unmended = client.jobs.create(data, target="price").wait()
    with pytest.raises(GradkeelError, match=r"no change of the config that would mend.*gradient_mismatch"):
        client.jobs.apply(unmended)


def test_a_change_is_told_option_by_option() -> None:
    config = {"optimizer": {"kind": "sgd", "lr": 10}, "prepare": {"per_column": {}}, "clips": []}
    patch = {
        "optimizer": {"lr": 0.01},
        "prepare": {"per_column": {"a/b": {"kind": "standard", "n": None}}},
        "clips": [{"kind": "norm", "max_norm": 1.0}],
        "loss": None,
    }
    assert change_lines(config, patch) == [
        "optimizer.lr: 10 → 0.01",
        'prepare.per_column.a/b: nothing → {"kind": "standard"}',
        'clips: [] → [{"kind": "norm", "max_norm": 1.0}]',
        "loss: nothing → as the preset has it",
    ]


def test_a_repair_is_a_line_of_its_own_while_it_runs() -> None:
    remarks = Remarks()
    told = {"message": "Now repair 1: lower the learning rate.", "step": 0, "repair": {"attempt": 1}}
    assert remarks.on(Event(1, "log", told)) == "Now repair 1: lower the learning rate."
    assert remarks.on(Event(2, "log", {"message": "anything else", "step": 0})) is None
