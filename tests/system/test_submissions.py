"""The consumer as a process: on Valkey and on RabbitMQ, with producers that know nothing of Gradkeel."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import redis

from consuming import QUEUE, Place, item, place
from gradkeel.contract.states import Scope
from processes import children_of, eventually
from servers import LoggedProcess, Rabbit, Valkey
from system.conftest import STOP_SECONDS, gradkeel, own_environment

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ROOT = Path(__file__).parent.parent.parent
MANY = int(os.environ.get("GRADKEEL_TEST_SUBMISSIONS", "2000"))
"""The run with kills takes so many; the full size is 10000 (make chaos-queue)."""


@pytest.fixture(scope="module", params=["valkey", "rabbit"])
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One consumer for the tests that do not harm it, on each kind of broker; each uses ids of its own."""
    folder = tmp_path_factory.mktemp("place")
    with contextlib.ExitStack() as held:
        if request.param == "valkey":
            broker: Valkey | Rabbit = held.enter_context(contextlib.closing(Valkey()))
            broker.start()
        else:
            broker = request.getfixturevalue("rabbit")
        made = held.enter_context(place(folder, broker))
        made.start()
        yield made


EXAMPLES = dict(re.findall(r"```python (\w+)\n(.*?)```", (ROOT / "docs/queue.md").read_text("utf-8"), re.S))


@pytest.mark.parametrize("name", ["celery", "redis", "amqp"])
def test_the_examples_of_the_documentation(there: Place, name: str, tmp_path: Path) -> None:
    spoken = {"redis": Valkey, "amqp": Rabbit}.get(name, object)
    if not isinstance(there.broker, spoken):
        pytest.skip("the example is for the other broker")
    env = os.environ | {
        "BROKER_URL": there.broker.url,
        "API_KEY": there.key,
        "DATASET_ID": there.dataset_id,
        "SUBMISSION_ID": f"example {name}/1",
    }
    imported = "import sys; assert not [name for name in sys.modules if name.startswith('gradkeel')]\n"
    script = tmp_path / "producer.py"
    script.write_text(EXAMPLES[name] + imported)
    before, jobs = there.count("repeated"), there.records.job_counts(there.project)["queued"]
    for _ in range(2):
        subprocess.run([sys.executable, str(script)], env=env, check=True, timeout=60)
    row = there.recorded(f"example {name}/1")
    assert (row.state, row.error, row.warnings) == ("accepted", None, [])
    assert row.job_id is not None
    job = there.records.get_job(there.project, row.job_id)
    assert (job.state, job.submitted["preset"]) == ("queued", "fast")
    eventually(lambda: there.count("repeated") == before + 1)
    assert there.records.job_counts(there.project)["queued"] == jobs + 1


def test_what_is_wrong_is_told_where_there_is_someone_to_tell(there: Place) -> None:
    """Every fault, and behind them a good one, which must still come through."""
    reader = there.new_key(Scope.READ)
    faults: dict[str, dict[str, Any]] = {
        "config": there.kwargs("config", config=there.config(seed=-1)),
        "no config": {"submission_id": "no config", "api_key": there.key},
        "extra": there.kwargs("extra", colour="red"),
        "not an object": there.kwargs("not an object", config=[1]),
        "garbage": there.kwargs("garbage", config={"target": "x" * 1_000_000}),
        "a reader": there.kwargs("a reader", api_key=reader),
        "stranger's data": there.kwargs("stranger's data", config=there.config(dataset_id="ds_" + "0" * 22)),
    }
    dropped = there.count("unauthorized") + there.count("unreadable")
    for kwargs in faults.values():
        there.send(kwargs)
    there.send({"submission_id": "args", "api_key": there.key}, args=[1])
    nobody = [
        there.kwargs("wrong key", api_key="key_" + "0" * 22 + "." + "x" * 43),
        there.kwargs("no key", api_key=None),
        there.kwargs(17),
        there.kwargs(""),
        there.kwargs("a\0b"),
        there.kwargs("x" * 201),
        {"config": {}},
    ]
    for kwargs in nobody:
        there.send(kwargs)
    there.send({"job_id": "x"}, task="gradkeel.train")
    there.send(there.kwargs("good"), task_id="1")
    assert there.recorded("good").state == "accepted"
    codes = {
        name: (there.recorded(name).error or {})["type"].rpartition(":")[2] for name in [*faults, "args"]
    }
    assert codes.pop("a reader") == "forbidden"
    assert codes.pop("stranger's data") == "not_found"
    assert set(codes.values()) == {"invalid"}
    lost = dropped + len(nobody) + 1
    eventually(lambda: there.count("unauthorized") + there.count("unreadable") == lost)
    assert there.row("wrong key") is there.row("no key") is None


def junk(good: str) -> list[str | bytes]:
    """Items that are no message; on RabbitMQ, bodies that are no call."""
    return [
        b"",
        b"no json",
        b"\xff\xfe\x00",
        pickle.dumps({"submission_id": "x"}),
        "[]",
        "17",
        "{}",
        "null",
        "[" * 100_000,
        '{"body": 5}',
        json.dumps(
            {"body": "!!!", "properties": {"body_encoding": "base64"}, "content-type": "application/json"}
        ),
        json.dumps(json.loads(good) | {"content-type": "application/x-python-serialize"}),
        json.dumps(json.loads(good) | {"body": "[1, 2]"}),
        json.dumps(json.loads(good) | {"body": "[[], [], {}]"}),
        json.dumps(json.loads(good) | {"headers": None}),
        json.dumps(json.loads(good) | {"headers": {"task": "gradkeel.submit", "compression": "gzip"}}),
        json.dumps(json.loads(good) | {"body": "x" * 40_000_000}),
    ]


def test_garbage_is_set_aside_and_the_same_process_goes_on(there: Place) -> None:
    there.send(there.kwargs("before"))
    there.recorded("before")
    garbage, dropped = junk(item(there.kwargs("never"))), there.count("unreadable")
    there.push(*garbage)
    there.send(there.kwargs("pickled"), serializer="pickle")
    there.send(there.kwargs("after"))
    assert there.recorded("after").state == "accepted"
    eventually(lambda: there.count("unreadable") == dropped + len(garbage) + 1)
    assert there.process is not None and there.process.poll() is None
    assert there.row("never") is there.row("pickled") is None


def test_keys_stand_in_no_record_and_no_log(there: Place) -> None:
    """The last on this consumer: its log tells of all that came before, too."""
    bad = "key_" + "0" * 22 + "." + "s" * 43
    for number, kwargs in enumerate(
        [
            there.kwargs("1"),
            there.kwargs("2", config=there.config(seed=-1)),
            there.kwargs("3", api_key=bad),
            there.kwargs("4", **{there.key: there.key}),
            there.kwargs("5", config={there.key: there.key}),
        ]
    ):
        there.send(kwargs, task_id=str(number))
    there.push(item([there.key]), there.key)
    there.send(there.kwargs("last"))
    there.recorded("last")
    assert there.stop() == 0
    assert there.records.live_workers(role="consumer") == []
    secrets = [token.partition(".")[2] for token in (there.key, bad)]
    files = [path for path in there.settings.data.rglob("*") if path.is_file()]
    assert there.log in files
    assert there.log.read_text().count("a message of the queue was dropped") >= 3
    for path in files:
        assert not any(secret.encode() in path.read_bytes() for secret in secrets), path


def test_a_broker_that_is_killed_and_comes_back(valkey: Valkey, tmp_path: Path) -> None:
    with place(tmp_path, valkey) as there:
        there.start()
        for number in range(2):
            there.send(there.kwargs(f"round {number}"))
            assert there.recorded(f"round {number}").state == "accepted"
            valkey.kill()
            valkey.start()


def test_nothing_is_lost_while_the_records_cannot_be_written(
    postgres: Any, valkey: Valkey, tmp_path: Path
) -> None:
    url = postgres.create_database()
    with place(tmp_path, valkey, GRADKEEL_DATABASE_URL=url) as there:
        there.start()
        there.send(there.kwargs("first"))
        there.recorded("first")
        with there.records.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE submissions RENAME TO hidden")
        there.send(there.kwargs("second"))
        eventually(lambda: "cannot be recorded now" in there.log.read_text())
        assert there.stop() == 0
        with there.records.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO submissions")
        there.start()
        assert there.recorded("second").state == "accepted"
    postgres.drop_database(url)


def test_submissions_wait_while_the_quota_is_full_and_others_go_past(valkey: Valkey, tmp_path: Path) -> None:
    with place(tmp_path, valkey, GRADKEEL_MAX_QUEUED_JOBS="2") as there:
        other = there.records.project_named("another")
        key = there.new_key(Scope.SUBMIT, project=other)
        for number in range(4):
            there.send(there.kwargs(f"mine {number}"))
        there.send(there.kwargs("theirs", api_key=key))
        there.start()
        name = (other, "theirs")
        assert eventually(lambda: there.records.known_submissions([name]).get(name)).state == "rejected"
        assert [
            row.submission_id for row in reversed(there.records.list_submissions(there.project).rows)
        ] != []
        assert len(there.records.list_submissions(there.project).rows) == 2
        for job in there.records.list_jobs(there.project).rows:
            there.records.request_cancel(there.project, job.id)
        assert there.recorded("mine 3").state == "accepted"
        assert there.recorded("mine 2").state == "accepted"


def test_many_with_kills_end_with_exactly_the_right_records(valkey: Valkey, tmp_path: Path) -> None:
    """5 % are bad, 5 % doubled, and the consumer is killed twice at work; not one is lost or made twice."""
    with place(tmp_path, valkey, GRADKEEL_MAX_QUEUED_JOBS=str(2 * MANY)) as there:
        messages = [item(there.kwargs(f"s{number}", config=_config(there, number))) for number in range(MANY)]
        messages += messages[: MANY // 20]
        random.Random(7).shuffle(messages)
        there.push(*messages)
        for part in (5, 2):
            there.start()
            eventually(lambda part=part: _records(there) >= MANY // part, 120)
            there.kill()
        assert _records(there) < MANY
        there.start()
        eventually(lambda: _records(there) == MANY, 240)
        eventually(lambda: _left(valkey) == 0)
        assert there.stop() == 0
        rows = list(_all(there))
        states = {int(row.submission_id[1:]): row for row in rows}
        assert len(rows) == len(states) == MANY
        assert {number for number, row in states.items() if row.state == "rejected"} == set(
            range(0, MANY, 20)
        )
        made = [row.job_id for row in rows if row.state == "accepted"]
        assert len(set(made)) == len(made) == MANY - MANY // 20
        assert there.records.job_counts(there.project)["queued"] == len(made)


def _config(there: Place, number: int) -> dict[str, Any]:
    return there.config(seed=-1 if number % 20 == 0 else number)


def _records(there: Place) -> int:
    with there.records.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM submissions").scalar() or 0)


def _all(there: Place) -> Iterator[Any]:
    after = None
    while True:
        page = there.records.list_submissions(there.project, limit=1000, after=after)
        yield from page.rows
        after = page.next_cursor
        if after is None:
            return


def _left(valkey: Valkey) -> int:
    """Messages on the broker, waiting or in hand."""
    with redis.Redis.from_url(valkey.url) as client:
        return sum(client.llen(name) for name in client.keys(QUEUE + "*") if client.type(name) == b"list")  # type: ignore[union-attr, misc]


def test_the_whole_system_on_rabbitmq(rabbit: Rabbit, diabetes: Path, tmp_path: Path) -> None:
    """Doorbells and submissions over RabbitMQ, no Redis anywhere; without a consumer it is still ready."""
    env = own_environment(
        tmp_path, [("GRADKEEL_BROKER_URL", rabbit.url), ("GRADKEEL_DATA", str(tmp_path / "data"))]
    )
    env |= {"GRADKEEL_POLL_SECONDS": "3600", "GRADKEEL_RECONCILE_SECONDS": "3600"}  # doorbells alone
    env["GRADKEEL_HEARTBEAT_SECONDS"] = "2"
    server = LoggedProcess(
        [sys.executable, "-m", "gradkeel", "up", "--port", "0"], r"ready at (http://\S+)", env=env
    )
    try:
        url = server.wait_ready()[1]
        key = json.loads((tmp_path / "data/profile.json").read_text())["api_key"]
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=90) as client:
            dataset = client.post("/v1/datasets?name=d.csv", content=diabetes.read_bytes()).json()
            config = {
                "dataset_id": dataset["id"],
                "target": "progression",
                "preset": "fast",
                "budget": {"epochs": 2},
            }
            by_http = client.post("/v1/jobs", json=config).json()
            submitter = client.post("/v1/keys", json={"scopes": ["submit"]}).json()["key"]
            kwargs = {"submission_id": "by queue", "api_key": submitter, "config": config}
            script = (
                "import json, sys, celery\n"
                "celery.Celery('p', broker=sys.argv[1]).send_task('gradkeel.submit',"
                " kwargs=json.loads(sys.argv[2]), queue='gradkeel.submissions')"
            )
            subprocess.run(
                [sys.executable, "-c", script, rabbit.url, json.dumps(kwargs)], check=True, timeout=60
            )
            path = "/v1/submissions/by%20queue"
            eventually(lambda: client.get(path).status_code == 200)
            by_queue = client.get(path).json()
            assert by_queue["state"] == "accepted"
            for job_id in (by_http["id"], by_queue["job_id"]):
                job = eventually(lambda job_id=job_id: _ended(client, job_id), 120)
                assert job["state"] == "succeeded", job["error"]
            shown = gradkeel("submissions", "show", "by queue", env=env)
            assert shown.stdout.startswith("by queue: accepted, job job_"), shown.stderr
            listed = json.loads(gradkeel("submissions", "list", "--json", env=env).stdout)
            assert listed == [by_queue]
            _without_consumer(client, tmp_path / "data")
        server.process.terminate()
        assert server.process.wait(STOP_SECONDS) == 0
    finally:
        server.kill()


def _ended(client: httpx.Client, job_id: str) -> Any:
    job = client.get(f"/v1/jobs/{job_id}?wait=20").json()
    return job if job["state"] in ("succeeded", "failed", "cancelled") else None


def _without_consumer(client: httpx.Client, data: Path) -> None:
    """Stopped until its signs are old, it is missed under checks, and the service stays ready."""
    supervisor = json.loads((data / "up.lock").read_text())["pid"]
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children_of(supervisor)}
    [consumer] = [pid for pid, command in commands.items() if b"gradkeel_service.consumer" in command]
    assert client.get("/readyz").json()["checks"]["consumer"] is True
    os.kill(consumer, signal.SIGSTOP)
    try:
        answer = eventually(lambda: _without(client.get("/readyz")))
        assert (answer.status_code, answer.json()["missing"]) == (200, [])
    finally:
        os.kill(consumer, signal.SIGCONT)
    eventually(lambda: client.get("/readyz").json()["checks"]["consumer"])


def _without(answer: httpx.Response) -> httpx.Response | None:
    return None if answer.json()["checks"]["consumer"] else answer
