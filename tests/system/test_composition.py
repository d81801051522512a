"""The parts as compose.yaml runs them: service and worker apart, on PostgreSQL, S3 and a broker."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import pytest

from servers import S3, LoggedProcess, Valkey, free_port
from system.conftest import STOP_SECONDS, gradkeel, own_environment

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

TABLE = "rooms,zone,price\n" + "".join(f"{i % 7},{'AB'[i % 2]},{100 + 3 * (i % 7)}\n" for i in range(200))


@dataclass
class Composition:
    """A running service and worker."""

    client: httpx.Client
    broker: Valkey
    refusal: str
    log: LoggedProcess

    def upload(self, table: str = TABLE) -> dict[str, Any]:
        made = self.client.post("/v1/datasets?name=table.csv", content=table.encode())
        assert made.status_code == 201, made.text
        return self.until("datasets", made.json()["id"], ("ready", "rejected"))

    def submit(self, dataset_id: str, **change: Any) -> httpx.Response:
        config = {"dataset_id": dataset_id, "target": "price", "preset": "fast"} | change
        return self.client.post("/v1/jobs", json=config)

    def until(self, kind: str, name: str, ends: tuple[str, ...]) -> dict[str, Any]:
        while True:
            document: dict[str, Any] = self.client.get(f"/v1/{kind}/{name}?wait=30").json()
            if document["state"] in ends:
                return document


@pytest.fixture(scope="module")
def broker() -> Iterator[Valkey]:
    with contextlib.closing(Valkey()) as server:
        server.start()
        yield server


@pytest.fixture(scope="module")
def composition(
    postgres: Any, s3_server: S3, broker: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Composition]:
    """First `serve`, which refuses; then `bootstrap-key`, `serve` beyond loopback, and `worker`."""
    folder = tmp_path_factory.mktemp("composition")
    database, port = postgres.create_database(), free_port()
    env = own_environment(
        folder,
        [
            ("GRADKEEL_DATA", str(folder / "data")),
            ("GRADKEEL_DATABASE_URL", database),
            ("GRADKEEL_OBJECTS_URL", f"s3://{s3_server.create_bucket()}/objects"),
            ("GRADKEEL_S3_ENDPOINT", s3_server.endpoint),
            ("GRADKEEL_S3_ACCESS_KEY", S3.ACCESS_KEY),
            ("GRADKEEL_S3_SECRET_KEY", S3.SECRET_KEY),
            ("GRADKEEL_BROKER_URL", broker.url),
            ("GRADKEEL_PEPPER", "pepper of the composition"),
        ],
    )
    serve = ("serve", "--host", "0.0.0.0", "--port", str(port))
    refused = gradkeel(*serve, env=env)
    key = gradkeel("bootstrap-key", env=env).stdout.strip()
    worker = subprocess.Popen([sys.executable, "-m", "gradkeel", "worker"], env=env)
    server = LoggedProcess([sys.executable, "-m", "gradkeel", *serve], r"Listening at|\"request\"", env=env)
    try:
        yield Composition(_client(port, key), broker, refused.stderr, server)
    finally:
        server.process.terminate()
        worker.terminate()
        server.process.wait(STOP_SECONDS)
        worker.wait(STOP_SECONDS)
        postgres.drop_database(database)


def _client(port: int, key: str) -> httpx.Client:
    """A client, once the service answers."""
    url = f"http://127.0.0.1:{port}"
    transport = httpx.HTTPTransport(retries=10)
    client = httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, transport=transport
    )
    assert client.get("/healthz").status_code == 200
    return client


def test_it_refuses_to_serve_without_a_key(composition: Composition) -> None:
    assert "bootstrap-key" in composition.refusal


def test_from_a_table_to_predictions(composition: Composition) -> None:
    dataset = composition.upload()
    assert (dataset["state"], dataset["rows"]) == ("ready", 200)
    client = composition.client
    assert client.get(f"/v1/datasets/{dataset['id']}/preview?rows=1").json()["rows"] == [[0, "A", 100]]
    accepted = composition.submit(dataset["id"], labels={"team": "a"})
    assert accepted.status_code == 202
    job = composition.until("jobs", accepted.json()["id"], ("succeeded", "failed"))
    assert job["state"] == "succeeded", job["error"]
    assert client.get(f"/v1/jobs/{job['id']}/report").json()["verdict"] == job["verdict"]
    assert [row["id"] for row in client.get("/v1/jobs?label=team=a").json()["data"]] == [job["id"]]
    model = f"/v1/models/{job['model_id']}"
    bundle = client.get(f"{model}/artifact", headers={"Range": "bytes=0-1"})
    assert (bundle.status_code, bundle.content) == (206, b"PK")
    answer = client.post(f"{model}/predict", json={"records": [{"rooms": 3, "zone": "B"}]})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"]) == 1


def test_rejected_data_says_where(composition: Composition) -> None:
    dataset = composition.upload("a,b\n1,2\n3\n")
    assert dataset["state"] == "rejected"
    assert (dataset["error"]["errors"][0]["row"], dataset["error"]["errors"][0]["line"]) == (1, 3)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        *(("GET", f"/v1/jobs?{query}=%00", 422) for query in ("label", "dataset_id", "after", "state")),
        ("GET", "/v1/jobs?label=" + "n" * 201, 200),
        ("GET", "/v1/jobs?label=a=" + "v" * 2001, 200),
        ("GET", "/v1/datasets/by-digest/%00", 404),
        ("GET", "/v1/jobs/%00", 404),
        ("GET", "/v1/jobs?created_after=0001-01-01T00:00:00%2B14:00", 422),
        ("GET", "/v1/jobs?created_after=0001-01-01T00:00:00Z", 200),
        ("GET", "/v1/jobs?created_before=9999-12-31T23:59:59Z", 200),
        ("DELETE", "/v1/keys/key_%00", 404),
    ],
)
def test_what_postgresql_would_choke_on(
    composition: Composition, method: str, path: str, status: int
) -> None:
    assert composition.client.request(method, path).status_code == status


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"n" * 201: "x"}},
        {"labels": {"a\0": "x"}},
        {"target": "a\0"},
        {"columns": {"missing_values": {"*": ["\0"]}}},
    ],
    ids=str,
)
def test_text_that_postgresql_cannot_hold(composition: Composition, change: dict[str, Any]) -> None:
    assert composition.submit(composition.upload()["id"], **change).status_code == 422


def test_the_same_request_twice(composition: Composition) -> None:
    config = {"dataset_id": composition.upload()["id"], "target": "price", "preset": "fast"}
    key = {"Idempotency-Key": "composition-1"}
    first = composition.client.post("/v1/jobs", json=config, headers=key)
    second = composition.client.post("/v1/jobs", json=config, headers=key)
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert composition.client.post("/v1/jobs", json=config | {"seed": 9}, headers=key).status_code == 422


def test_jobs_are_taken_and_run_while_the_broker_is_dead(composition: Composition) -> None:
    dataset = composition.upload()
    composition.broker.kill()
    try:
        accepted = composition.submit(dataset["id"])
        assert accepted.status_code == 202, accepted.text
        job = composition.until("jobs", accepted.json()["id"], ("succeeded", "failed"))
        assert job["state"] == "succeeded"
    finally:
        composition.broker.start()


def test_the_secret_stays_out_of_the_log(composition: Composition) -> None:
    assert not re.search(r"key_\w+\.[\w-]{43}", "\n".join(composition.log.tail))
