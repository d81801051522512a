"""A whole stack at its most talkative, handed secrets by every way in: none of them is in any of its logs."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import pytest
from celery import Celery

from gradkeel.contract.tasks import SUBMIT, SUBMIT_QUEUE
from servers import Valkey
from system.conftest import gradkeel, own_environment

PEPPER = "pepper-that-nobody-may-read-0123456789"
QUERY = "in-a-query-0123456789"
FORGED = "%0d%0a%7B%22event%22:%22forged%22%7D%1b[31m"
TABLE = b"x,y\n" + b"".join(b"%d,%d\n" % (i, 2 * i) for i in range(60))


@dataclass
class Talk:
    """The logs by name, and what must not be in them."""

    logs: dict[str, str]
    secrets: dict[str, str]


class Stack:
    """`gradkeel up` at log level DEBUG on a broker with a password."""

    def __init__(self, folder: Path, broker: Valkey) -> None:
        self.data, self.broker = folder / "data", broker
        settings = [
            ("GRADKEEL_LOG_LEVEL", "DEBUG"),
            ("GRADKEEL_BROKER_URL", broker.url),
            ("GRADKEEL_PEPPER", PEPPER),
        ]
        self.env = own_environment(folder, settings)

    def run(self, *arguments: str) -> str:
        done = gradkeel(*arguments, "--data", self.data, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def profile(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.data / "profile.json").read_text())
        return found

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.profile['api_key']}"}
        return httpx.Client(base_url=self.profile["url"], headers=headers, timeout=60)


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    broker = Valkey()
    with contextlib.closing(broker):
        broker.start()
        stack = Stack(tmp_path_factory.mktemp("talk"), broker)
        stack.run("up", "--port", "0", "--detach")
        try:
            with stack.client() as client:
                secrets = _say_everything(stack, client)
        finally:
            stack.run("down")
        logs = {file.name: file.read_text(errors="replace") for file in (stack.data / "logs").iterdir()}
        yield Talk(logs, secrets)


def _say_everything(stack: Stack, client: httpx.Client) -> dict[str, str]:
    secrets = {
        "own key": stack.profile["api_key"].partition(".")[2],
        "broker": stack.broker.password,
        "pepper": PEPPER,
        "query": QUERY,
    }
    made = client.post("/v1/keys", json={"scopes": ["submit"]}).json()
    secrets["made key"] = made["key"].partition(".")[2]
    wrong = f"{made['id']}.{'w' * 43}"
    secrets["wrong key"] = "w" * 43
    client.get("/v1/jobs", headers={"Authorization": f"Bearer {wrong}"})
    client.get("/v1/jobs", params={"api_key": made["key"], "token": QUERY})
    client.post("/v1/jobs", json={"api_key": made["key"], "target": made["key"]})
    client.get(f"/v1/jobs/{made['key']}")
    client.get(f"/v1/{FORGED}")
    secrets["session"] = _sign_in(client, stack)
    _break_the_transport(stack, made["key"])
    job = _train(client)
    _submit(stack, made["key"], wrong)
    stack.broker.kill()
    client.get("/readyz")
    client.post(f"/v1/jobs/{job}/retry")
    stack.broker.start()
    assert client.get("/v1/jobs").status_code == 200
    return secrets


def _sign_in(client: httpx.Client, stack: Stack) -> str:
    said = {"Origin": stack.profile["url"]}
    client.post("/ui/sign-in", data={"key": "w" * 43}, headers=said)
    answer = client.post("/ui/sign-in", data={"key": stack.profile["api_key"]}, headers=said)
    assert answer.status_code == 303
    found = re.search(r"ses_([\w-]+)", answer.headers["Set-Cookie"])
    assert found is not None
    client.get("/ui/jobs")
    return found[1]


def _break_the_transport(stack: Stack, key: str) -> None:
    host, port = stack.profile["url"].removeprefix("http://").split(":")
    for head in (
        f"GET /v1/jobs?key={QUERY} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nBad header\r\n\r\n",
        f"GET /v1/jobs HTTP/9.9 {key}\r\n\r\n",
        f"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\x1b[31m\0\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(head.encode())
            while connection.recv(65536):
                pass


def _train(client: httpx.Client) -> str:
    data = client.post("/v1/datasets", content=TABLE, params={"name": "t.csv"}).json()["id"]
    client.get(f"/v1/datasets/{data}", params={"wait": 60})
    config = {"dataset_id": data, "target": "y", "preset": "fast", "budget": {"epochs": 1}}
    job: str = client.post("/v1/jobs", json=config).json()["id"]
    while client.get(f"/v1/jobs/{job}", params={"wait": 60}).json()["state"] in ("queued", "running"):
        pass
    return job


def _submit(stack: Stack, key: str, wrong: str) -> None:
    """Submissions by the queue carry their key: a good one, a wrong one, and one that cannot be read."""
    producer = Celery(broker=stack.broker.url)
    with producer.connection_for_write() as connection:
        for number, token in enumerate((key, wrong, f"{key}\x1b[31m\r\n")):
            document = {"submission_id": f"s{number}", "api_key": token, "config": {"target": 3}}
            producer.send_task(SUBMIT, kwargs=document, queue=SUBMIT_QUEUE, connection=connection)
        producer.send_task(SUBMIT, args=[key], kwargs={"api_key": {"deep": key}}, queue=SUBMIT_QUEUE)
    with stack.client() as client:
        for _ in range(200):
            if client.get("/v1/submissions/s0").status_code == 200:
                return
    raise AssertionError("the submission was not taken in")


def test_no_secret_is_in_any_log(talk: Talk) -> None:
    assert {"http.log", "worker.log", "consumer.log"} <= set(talk.logs)
    for name, text in talk.logs.items():
        for what, secret in talk.secrets.items():
            assert secret not in text, f"{what} stands in {name}"


CELERY_SAYS = ("", "worker: Warm shutdown (MainProcess)")
"""What Celery's signal handler writes to standard error itself, past every logger."""


def parsed(line: str) -> dict[str, object]:
    try:
        document: dict[str, object] = json.loads(line)
    except ValueError:
        pytest.fail(f"not JSON: {line[:300]!r}")
    return document


def test_every_line_is_a_json_object_that_drives_no_terminal(talk: Talk) -> None:
    for name in ("http.log", "worker.log", "consumer.log"):
        lines = [line for line in talk.logs[name].splitlines() if line not in CELERY_SAYS]
        assert lines, name
        for line in lines:
            document = parsed(line)
            assert document.get("event") != "forged"
            assert {"event", "level", "time", "component"} <= set(document), line
        assert not set(talk.logs[name]) & {"\x1b", "\r", "\0", "\x9b"}


def test_the_logs_tell_what_happened(talk: Talk) -> None:
    """Silence would keep every secret."""
    requests = [json.loads(line) for line in talk.logs["http.log"].splitlines()]
    assert {"POST", "GET"} <= {line.get("method") for line in requests}
    assert any(line.get("status") == 401 for line in requests)
    assert "the job ended" in talk.logs["worker.log"]
