"""Fuzzing what a request may carry beside JSON: forms, ranges, digests, cursors, queries, paths, keys.

The application runs in this process on records and objects of its own. The first byte of an input chooses the
part of the request that the rest becomes.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
from harness import run

from gradkeel.contract.problems import MEDIA_TYPE, PROBLEMS

PARSERS = ["gradkeel_service", "gradkeel_store.records.pages", "werkzeug.sansio", "werkzeug.http"]
with atheris.instrument_imports(include=PARSERS):
    from werkzeug.test import TestResponse

    from gradkeel_service.app import create_app
    from gradkeel_store.logs import configure_logging
    from gradkeel_store.records import open_records
    from gradkeel_store.records.pages import encode_cursor
    from gradkeel_store.settings import Settings
    from making import ended_job

LONGEST = 2048
FORM = "multipart/form-data; boundary=x"

Send = Callable[[bytes], TestResponse]


class Requests:
    """One way to send a request for each part of it that is fuzzed; only that part is strange."""

    def __init__(self, folder: str) -> None:
        settings = Settings.load({"GRADKEEL_REQUESTS_PER_MINUTE": "0"}, data=Path(folder))
        configure_logging("service", "CRITICAL")
        records = open_records(settings)
        project = records.default_project()
        self.key = records.create_key(project, ("read", "submit", "admin"))[1]
        self.client = create_app(settings).test_client()
        self.dataset = self._send("POST", "/v1/datasets", data=b"a,b\n1,2\n").get_json()["id"]
        self.job = ended_job(records, project).id
        self.cursor = encode_cursor(records.get_job(project, self.job).created_at, self.job)
        self.ways: tuple[Send, ...] = (
            lambda text: self._send("POST", "/v1/datasets", data=text, headers={"Content-Type": FORM}),
            lambda text: self._form_head(text),
            lambda text: self._header("GET", f"/v1/jobs/{self.job}/logs", "Range", text),
            lambda text: self._header("POST", "/v1/datasets", "Repr-Digest", text),
            lambda text: self._header("POST", "/v1/datasets", "Content-Type", text),
            lambda text: self._header("GET", f"/v1/jobs/{self.job}", "Accept", text),
            lambda text: self._header("GET", f"/v1/jobs/{self.job}", "If-None-Match", text),
            lambda text: self._header("GET", "/v1/jobs", "Authorization", text),
            lambda text: self._header("POST", "/v1/jobs", "Idempotency-Key", text),
            lambda text: self._events("Last-Event-ID", text),
            lambda text: self._send("GET", "/v1/jobs", query_string={"after": text.decode("latin-1")}),
            lambda text: self._send("GET", "/v1/jobs", query_string={"after": _cursor(text)}),
            lambda text: self._send("GET", "/v1/jobs", query_string=text.decode("latin-1")),
            lambda text: self._send("POST", "/v1/datasets", query_string=text.decode("latin-1"), data=b""),
            lambda text: self._send("GET", "/v1/" + text.decode("latin-1").replace("?", "")),
            lambda text: self._json("/v1/jobs?validate_only=true", text),
            lambda text: self._json("/v1/keys", text),
        )

    def _send(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {"Host": "localhost", "Authorization": f"Bearer {self.key}"} | options.pop("headers", {})
        return self.client.open(path, method=method, headers=headers, **options)

    def _header(self, method: str, path: str, name: str, text: bytes) -> TestResponse:
        value = text.decode("latin-1").translate(dict.fromkeys(map(ord, "\0\r\n")))
        return self._send(method, path, headers={name: value}, data=b"" if method == "POST" else None)

    def _events(self, name: str, text: bytes) -> TestResponse:
        value = text.decode("latin-1").translate(dict.fromkeys(map(ord, "\0\r\n")))
        headers = {name: value, "Accept": "application/json"}
        return self._send("GET", f"/v1/jobs/{self.job}/events", headers=headers)

    def _form_head(self, text: bytes) -> TestResponse:
        body = b"--x\r\nContent-Disposition: form-data; " + text + b"\r\n\r\na\n1\n\r\n--x--\r\n"
        return self._send("POST", "/v1/datasets", data=body, headers={"Content-Type": FORM})

    def _json(self, path: str, text: bytes) -> TestResponse:
        return self._send("POST", path, data=text, headers={"Content-Type": "application/json"})


def _cursor(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def seeds(requests: Requests) -> list[bytes]:
    """One good and one odd value for each way."""
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\na\n1\n\r\n--x--\r\n'
    config = json.dumps({"dataset_id": requests.dataset, "target": "a"}).encode()
    values: tuple[tuple[bytes, ...], ...] = (
        (part, part.replace(b"name=", b"name*=utf-8''"), b"--x--\r\n", part * 2),
        (b'name="file"; filename="a.csv"', b"name=f; filename*=UTF-8''%e2%82%ac.csv", b'filename="..\\a"'),
        (b"bytes=0-3", b"bytes=-5", b"bytes=2-", b"bytes=9-1, 2-3"),
        (b"sha-256=:AAAA:", b"sha-512=:" + b"A" * 88 + b":, md5=:AA==:"),
        (FORM.encode(), b'multipart/form-data; boundary="a b"', b"text/csv; charset=utf-16"),
        (b"application/json;q=0.5, text/*", b"*/*;q=0"),
        (b'W/"abc", "def"', b"*"),
        (f"Bearer {requests.key}".encode(), b"Basic eDp5", b"Bearer key_x."),
        (b"one-key", b"a" * 200),
        (b"4294967297", b"-1"),
        (requests.cursor.encode(), b"AAAA"),
        (b"2026-01-01T00:00:00+00:00 job_x", b"0001-01-01T00:00:00+14:00 a"),
        (b"limit=5&order=asc&state=queued&label=a=b", b"created_after=2020-01-01T00:00:00Z&limit=%31"),
        (b"name=a.csv&delimiter=tab&decimal=,&encoding=utf-8&header=true", b"name=%00"),
        (f"jobs/{requests.job}/report".encode(), b"datasets/by-digest/" + b"0" * 64, b"schemas/config.json"),
        (config, b'{"target": 1}'),
        (b'{"scopes": ["read"], "name": "n", "expires_at": "2999-01-01T00:00:00Z"}', b"[]"),
    )
    assert len(values) == len(requests.ways)
    return [bytes([way]) + value for way, some in enumerate(values) for value in some]


def target_of(requests: Requests) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        if not data:
            return
        with requests.ways[data[0] % len(requests.ways)](data[1:]) as answer:
            check(answer)

    return target


def check(answer: TestResponse) -> None:
    """No failure of the service, and every refusal is a whole problem document."""
    assert answer.status_code < 500, (answer.status_code, answer.get_data())
    if answer.status_code >= 400:
        assert answer.mimetype == MEDIA_TYPE, answer.headers
        document = json.loads(answer.get_data())
        assert document["type"].rpartition(":")[2] in PROBLEMS
        assert document["status"] == answer.status_code


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="gkf-") as scratch:
        made = Requests(scratch)
        run(target_of(made), seeds(made), LONGEST)
