"""A real service for the tests: gunicorn on a free port of loopback, Valkey, SQLite, a folder of objects."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pyarrow
import pyarrow.parquet
import pytest
from flask import Flask

from gradkeel.contract.report import empty_report
from gradkeel.contract.states import Scope
from gradkeel_service.app import create_app
from gradkeel_store.events import EventLog
from gradkeel_store.json_text import to_text
from gradkeel_store.objects import Objects, open_objects
from gradkeel_store.records import DatasetRow, JobRow, Records, open_records
from gradkeel_store.settings import Settings
from servers import LoggedProcess, Valkey, free_port

THREADS = 8
BODY_TIMEOUT = 1.0
MAX_UPLOAD = 3_000_000

TABLE = "rooms,zone,price\n" + "".join(f"{i % 7},{'AB'[i % 2]},{100 + 3 * i}\n" for i in range(40))
COLUMNS = [
    {"name": "rooms", "type": "numeric", "missing": 0, "distinct": 7},
    {"name": "zone", "type": "categorical", "missing": 0, "distinct": 2},
    {"name": "price", "type": "numeric", "missing": 0, "distinct": 40},
]


class Service:
    """The running service, the records and objects beneath it, and a key of each scope."""

    def __init__(self, folder: Path, broker: Valkey, **env: str) -> None:
        self.broker = broker
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            "GRADKEEL_DATA": str(folder),
            "GRADKEEL_BROKER_URL": broker.url,
            "GRADKEEL_MAX_UPLOAD_BYTES": str(MAX_UPLOAD),
            "GRADKEEL_MAX_BODY_BYTES": "2000000",
            "GRADKEEL_FAILED_KEY_LIMIT": "100000",  # walks and fuzzers send wrong keys by the thousand
        } | env
        self.settings = Settings.load(env=self.env)
        self.records: Records = open_records(self.settings)
        self.objects: Objects = open_objects(self.settings)
        self.events = EventLog(self.settings)
        self.project = self.records.default_project()
        self.admin = self._key(self.project, *Scope)
        self.reader = self._key(self.project, Scope.READ)
        self.submitter = self._key(self.project, Scope.READ, Scope.SUBMIT)
        self.stranger = self._key(self.records.project_named("another"), *Scope)
        self.server: LoggedProcess | None = None

    def _key(self, project: str, *scopes: Scope) -> str:
        return self.records.create_key(project, scopes)[1]

    def start(self) -> None:
        app = f"gradkeel_service.app:from_environment(threads={THREADS}, body_timeout={BODY_TIMEOUT})"
        command = [
            *(sys.executable, "-m", "gunicorn", "--config", "python:gradkeel_service.gunicorn_settings"),
            *("--bind", f"127.0.0.1:{self.port}", "--threads", str(THREADS), "--log-level", "info", app),
        ]
        self.server = LoggedProcess(command, r"Listening at", env=os.environ | self.env)
        self.server.wait_ready()
        httpx.get(f"{self.url}/healthz", timeout=60).raise_for_status()

    @property
    def log(self) -> str:
        assert self.server is not None
        return "\n".join(self.server.tail)

    def stop(self) -> None:
        if self.server is not None:
            self.server.process.terminate()
            self.server.process.wait(30)
        self.records.close()

    def client(self, key: str | None = None) -> httpx.Client:
        """An HTTP client with a key (admin unless given; empty: none)."""
        key = self.admin if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def raw(self, request: bytes, finish: bool = True) -> bytes:
        """Send bytes as they are and read to the end; ``finish`` closes the sending side."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            if finish:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
            return answer

    # Driving the records as a worker does

    def ready_dataset(self, profile: dict[str, Any] | None = None) -> DatasetRow:
        """A data set that has been read."""
        row = self.records.create_dataset(
            self.project, "table.csv", self.objects.put_bytes(TABLE.encode()), len(TABLE)
        )
        claimed = self.records.claim_dataset(row.id, "test")
        assert claimed is not None
        profile = profile or {"rows": 40, "columns": COLUMNS}
        assert self.records.finish_dataset(row.id, claimed.fence, self.parquet(), profile, 40, COLUMNS)
        return self.records.get_dataset(self.project, row.id)

    def parquet(self) -> str:
        """The digest of the table as ingest would store it."""
        cells = list(csv.DictReader(io.StringIO(TABLE)))
        table = pyarrow.table(
            {
                "rooms": [int(c["rooms"]) for c in cells],
                "zone": [c["zone"] for c in cells],
                "price": [int(c["price"]) for c in cells],
                "__row__": list(range(len(cells))),
                "__line__": [index + 2 for index in range(len(cells))],
            }
        )
        target = io.BytesIO()
        pyarrow.parquet.write_table(table, target)
        return self.objects.put_bytes(target.getvalue())

    def job(self, **labels: str) -> JobRow:
        """A queued job."""
        submitted = {"dataset_id": self.ready_dataset().id, "target": "price", "labels": labels}
        with self.client() as client:
            answer = client.post("/v1/jobs", json=submitted)
        assert answer.status_code == 202, answer.text
        return self.records.get_job(self.project, answer.json()["id"])

    def running_job(self) -> JobRow:
        row = self.records.claim_job(self.job().id, "test")
        assert row is not None
        return row

    def ended_job(self, model: dict[str, Any] | None = None) -> JobRow:
        """A job that succeeded, with everything that it leaves behind."""
        row = self.running_job()
        report = empty_report(summary="All went well.")
        done = self.records.finish_job(
            row.id,
            row.fence,
            "succeeded",
            model=model,
            report_digest=self.objects.put_bytes(to_text(report).encode()),
            series_digest=self.objects.put_bytes(b"PAR1 series"),
            predictions_digest=self.objects.put_bytes(b"row,actual,prediction\n1,2.0,2.5\n"),
            logs_digest=self.objects.put_bytes(b'{"event":"done"}\n'),
            metrics={"test": {"rmse": 1.5}},
            verdict="healthy",
        )
        assert done
        return self.records.get_job(self.project, row.id)


@contextlib.contextmanager
def running_service(**env: str) -> Iterator[Service]:
    """A service with a broker and a folder of its own; ``env`` over the environment of the tests."""
    broker = Valkey()
    with tempfile.TemporaryDirectory(prefix="gks-") as folder, contextlib.closing(broker):
        broker.start()
        running = Service(Path(folder), broker, **env)
        try:
            running.start()
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The service that most tests share: each makes what it looks at."""
    with running_service() as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    """A client with all scopes."""
    with service.client() as client:
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer, after checking its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["type"] == f"urn:gradkeel:problem:{code}", document
    assert document["status"] == status
    assert set(document) == {"type", "title", "status", "detail", "instance", "request_id", "errors"}
    assert document["request_id"] == answer.headers["X-Request-Id"]
    return document


@pytest.fixture(scope="session")
def app(service: Service) -> Flask:
    """The same application in this process, to be asked what it serves."""
    return create_app(service.settings, threads=THREADS)
