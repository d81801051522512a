"""The fake service for users' tests: its documents are the real service's, its errors the SDK's own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from gradkeel import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncClient,
    Client,
    ConflictError,
    DatasetRejected,
    InternalServerError,
    JobCancelled,
    JobFailed,
    NotFoundError,
    RateLimitError,
    UnprocessableError,
    WaitTimeout,
)
from gradkeel.contract.problems import PROBLEMS
from gradkeel.contract.report import REPORT_SCHEMA
from gradkeel.testing import FakeService, JobOutcome

CSV = b"size,zone,price\n1,A,2\n2,B,4\n3,,6\n"
OPENAPI = json.loads((Path(__file__).parents[2] / "docs/openapi.json").read_text())


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService) -> Client:
    return Client(transport=service, max_retries=2)


def check(name: str, document: Any) -> None:
    """The document fits the component schema of the service's OpenAPI description."""
    Draft202012Validator({"$ref": f"#/components/schemas/{name}", **OPENAPI}).validate(document)


def test_a_job_succeeds_and_says_that_nothing_was_trained(service: FakeService, client: Client) -> None:
    data = client.datasets.upload(CSV, name="homes.csv")
    assert [(column.name, column.type, column.missing) for column in data.columns] == [
        ("size", "numeric", 0),
        ("zone", "categorical", 1),
        ("price", "numeric", 0),
    ]
    seen: list[Any] = []
    job = client.jobs.create(data, target="price", preset="fast").wait(on_event=seen.append)
    assert job.state == "succeeded"
    assert seen[-1].name == "end"
    assert [event.id for event in seen] == list(range(1, len(seen) + 1))
    assert "nothing was trained" in job.report().summary
    assert job.metrics is not None
    assert job.metrics["test"]["mae"] == pytest.approx(4 / 3)
    found = job.model().predict([{"size": 9}, {"size": 10}])
    assert found.values == (4.0, 4.0)
    assert "nothing was trained" in found.warnings[0]
    assert service.requests[-1].document == {"records": [{"size": 9}, {"size": 10}]}


def test_every_document_fits_the_services_own_description(client: Client) -> None:
    data = client.datasets.upload(CSV)
    job = client.jobs.create(data, target="zone", labels={"a": "b"})
    check("Job", job.raw)
    check("Job", job.wait().raw)
    Draft202012Validator(REPORT_SCHEMA).validate(job.report().raw)
    fetch = client._http.get
    model = f"/v1/models/{job.model_id}"
    for name, path in {
        "Dataset": f"/v1/datasets/{data.id}",
        "DatasetPage": "/v1/datasets?limit=1",
        "Preview": f"/v1/datasets/{data.id}/preview",
        "Profile": f"/v1/datasets/{data.id}/profile",
        "JobPage": "/v1/jobs?label=a%3Db",
        "EventPage": f"/v1/jobs/{job.id}/events",
        "Model": model,
        "ModelPage": "/v1/models",
    }.items():
        check(name, fetch(path).json())
    answer = client._http.post(f"{model}/predict", json={"columns": {"size": [1.0]}}).json()
    check("Predictions", answer)
    assert answer["probabilities"] == [{"A": 0.5, "B": 0.5}]
    missing = fetch("/v1/jobs/job_0").json()
    check("Problem", missing)
    assert missing["type"] == "urn:gradkeel:problem:not_found"
    client.jobs.create(data, target="zone")
    with pytest.raises(UnprocessableError) as caught:
        client.jobs.create(data, target="zone", optimizer={"kind": "adamw", "lr": -1})
    check("Problem", caught.value.problem)


def test_jobs_end_as_told(service: FakeService, client: Client) -> None:
    data = client.datasets.upload(CSV)
    service.next_job(state="failed", code="diverged", message="the loss became inf", where={"step": 3})
    service.next_job(state="cancelled")
    with pytest.raises(JobFailed, match=r"diverged.*became inf") as caught:
        client.jobs.create(data, target="price").wait()
    assert caught.value.job.verdict == "diverged"
    assert caught.value.problem is not None
    assert caught.value.problem["errors"][0]["step"] == 3
    check("Job", caught.value.job.raw)
    with pytest.raises(JobCancelled):
        client.jobs.create(data, target="price").wait()
    with pytest.raises(ValueError, match="not as 'won'"):
        JobOutcome(state="won")


def test_held_jobs_run_until_they_are_released_or_cancelled(service: FakeService, client: Client) -> None:
    data = client.datasets.upload(CSV)
    service.next_job(held=True)
    service.next_job(held=True)
    job = client.jobs.create(data, target="price")
    with pytest.raises(WaitTimeout):
        job.wait(timeout=0.0)
    with pytest.raises(ConflictError):
        job.report()
    assert job.refresh().progress is not None
    with pytest.raises(ConflictError):
        data.delete()
    service.release(job.id)
    assert job.wait().state == "succeeded"
    with pytest.raises(ConflictError):
        job.cancel()
    other = client.jobs.create(data, target="price")
    assert other.cancel().cancel().state == "cancelled"


def test_predictions_are_those_that_were_told(service: FakeService, client: Client) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "sick": ["no", "yes", "yes"]})
    data = client.datasets.upload(frame)
    service.next_job(predict=lambda row: {"yes": 0.9, "no": 0.1} if row["x"] > 2 else "no")
    model = client.jobs.create(data, target="sick").wait().model()
    assert (model.task, model.classes) == ("binary", ("no", "yes"))
    found = model.predict(frame)
    assert found.values == ("no", "no", "yes")
    assert found.probabilities is not None
    assert found.probabilities[2]["yes"] == 0.9
    with pytest.raises(UnprocessableError, match="'x' is missing"):
        model.predict([{"y": 1}], policy="strict")


def test_bundles_are_only_what_was_given(service: FakeService, client: Client, tmp_path: Path) -> None:
    data = client.datasets.upload(CSV)
    service.next_job(bundle=b"of my own")
    jobs = [client.jobs.create(data, target="price").wait() for _ in range(2)]
    assert jobs[0].model().download(tmp_path / "m").read_bytes() == b"of my own"
    with pytest.raises(NotFoundError, match="nothing was trained"):
        jobs[1].model().download(tmp_path / "n")


def test_bad_tables_are_rejected_with_their_place(service: FakeService, client: Client) -> None:
    with pytest.raises(DatasetRejected, match="line 3") as caught:
        client.datasets.upload(b"a,b\n1,2\n3\n")
    check("Dataset", caught.value.dataset.raw)
    service.reject_next_upload("a broken cell", line=7, column="size")
    with pytest.raises(DatasetRejected, match="a broken cell"):
        client.datasets.upload(CSV)
    assert client.datasets.upload(CSV).state == "ready"
    assert client.datasets.upload(b'{"a": 1}\n{"a": 2}\n').rows == 2


def test_configs_are_refused_as_by_the_service(client: Client) -> None:
    data = client.datasets.upload(CSV)
    for given in ({"target": "cost"}, {"target": "price", "modle": {}}, {}):
        with pytest.raises(UnprocessableError):
            client.jobs.create(data, **given)
    assert client.jobs.validate(data, target="price")["preset"] == "standard"


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_of_the_service_can_be_played(service: FakeService, code: str) -> None:
    service.refuse(code, on="GET /v1/jobs/", retry_after="0")
    with Client(transport=service, max_retries=0) as client, pytest.raises(APIStatusError) as caught:
        client.jobs.get("job_1")
    assert caught.value.status == PROBLEMS[code].status
    assert caught.value.request_id
    assert caught.value.problem is not None
    check("Problem", caught.value.problem)


def test_faults_pass_and_no_job_is_doubled(service: FakeService, client: Client) -> None:
    data = client.datasets.upload(CSV)
    service.refuse("rate_limited", on="POST /v1/jobs", retry_after="0")
    service.cut(on="POST /v1/jobs")
    job = client.jobs.create(data, target="price")
    assert [found.id for found in client.jobs.list()] == [job.id]
    service.refuse("rate_limited", times=3, retry_after="0")
    with pytest.raises(RateLimitError):
        client.jobs.get(job.id)
    service.refuse("internal", times=1)
    with pytest.raises(InternalServerError, match="request req_"):
        Client(transport=service, max_retries=0).jobs.get(job.id)
    service.cut(silent=True)
    with pytest.raises(APITimeoutError) as caught:
        Client(transport=service, max_retries=0).jobs.get(job.id)
    assert isinstance(caught.value.__cause__, httpx2.ReadTimeout)
    service.cut()
    with pytest.raises(APIConnectionError):
        Client(transport=service, max_retries=0).jobs.get(job.id)


def test_lists_page_and_things_are_deleted(client: Client) -> None:
    data = client.datasets.upload(CSV)
    jobs = [client.jobs.create(data, target="price", labels={"n": str(n)}) for n in range(5)]
    assert [job.id for job in client.jobs.list(limit=2, order="asc")] == [job.id for job in jobs]
    assert [job.id for job in client.jobs.list(label="n=3")] == [jobs[3].id]
    model = jobs[0].wait().model()
    model.delete()
    with pytest.raises(NotFoundError):
        client.models.get(model.id)
    for job in jobs:
        job.wait()
    data.delete()
    assert list(client.datasets.list()) == []
    assert jobs[0].retry().retry_of == jobs[0].id
    with pytest.raises(NotFoundError, match="does not play"):
        list(client.keys.list())


def test_the_asyncio_client_takes_the_same_service(service: FakeService) -> None:
    async def work() -> tuple[list[str], Any]:
        async with AsyncClient(transport=service) as client:
            data = await client.datasets.upload(CSV)
            job = await client.jobs.create(data, target="price")
            names = [event.name async for event in job.stream()]
            return names, await (await (await job.wait()).model()).predict({"size": [1.0]})

    names, found = asyncio.run(work())
    assert names[-1] == "end"
    assert list(found) == [4.0]


def test_the_estimators_train_on_it(service: FakeService, client: Client) -> None:
    estimators = pytest.importorskip("gradkeel.sklearn")
    service.next_job(predict=lambda row: row["x0"] * 2)
    model = estimators.GradkeelRegressor(client=client).fit([[1.0], [2.0], [3.0]], [2, 4, 6])
    assert model.score([[1.0], [2.0], [3.0]], [2, 4, 6]) == 1.0


def test_a_preflight_ends_with_what_it_was_told_and_makes_no_model(
    service: FakeService, client: Client
) -> None:
    entry = {"scaling": "inputs", "recommended": True, "lr": 0.01, "patch": {"optimizer": {"lr": 0.01}}}
    service.next_job(preflight=[entry])
    data = client.datasets.upload(CSV)
    job = client.preflights.create(data, target="price").wait()
    check("Job", job.raw)
    assert (job.kind, job.verdict, job.model_id) == ("preflight", None, None)
    report = job.report()
    assert report.preflight == [entry] and report.recommended == entry
    assert all(
        report[key] in (None, []) for key in report.raw.keys() - {"schema_version", "summary", "preflight"}
    )
    assert job.retry().kind == "preflight"
    with pytest.raises(UnprocessableError, match="leave model_id out"):
        client.preflights.create(data, target="price", model_id="mdl_" + "0" * 22)

    async def looked() -> str:
        async with AsyncClient(transport=service) as other:
            return (await other.preflights.create(data, target="price")).kind

    assert asyncio.run(looked()) == "preflight"
