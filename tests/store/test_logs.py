import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gradkeel_store.logs import configure_logging, get_logger, redact

SESSION = "ses_0123456789abcdefghijklmnopqrstuvwxyz0123456"
TOKEN = "key_0123456789abcdefghijAB.abcdefghijklmnopqrstuvwxyz0123456789-_ABCDE"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("worker", "INFO", stream)
    yield stream
    logging.captureWarnings(False)
    sys.excepthook = sys.__excepthook__
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object(stream: io.StringIO) -> None:
    get_logger("a.b").info("claimed", job_id="job_x", step=3)
    [line] = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "claimed", "job_id": "job_x", "step": 3,
        "level": "info", "logger": "a.b", "component": "worker",
    }  # fmt: skip


def test_the_standard_library_logs_alike(stream: io.StringIO) -> None:
    logging.getLogger("celery").warning("lost %s", "it", extra={"job_id": "job_x"})
    [line] = lines(stream)
    assert (line["event"], line["level"], line["job_id"]) == ("lost it", "warning", "job_x")


def test_messages_cannot_forge_lines_or_drive_a_terminal(stream: io.StringIO) -> None:
    get_logger("a").info('x\r\n{"event": "forged"}\x1b[2J\u2028\x85')
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert not set(text) & {"\x1b", "\r", "\u2028", "\x85"}


def test_exceptions_stay_on_their_line_without_secrets(stream: io.StringIO) -> None:
    try:
        raise RuntimeError(f"bad redis://:hush@h/0 with {TOKEN}")
    except RuntimeError:
        get_logger("a").exception("failed")
        logging.getLogger("b").exception("failed too")
    for line in lines(stream):
        assert "RuntimeError" in line["exception"]
        assert "hush" not in str(line)
        assert TOKEN not in str(line)


def test_warnings_and_the_last_words_of_a_process_are_lines_as_well(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"use of {TOKEN}", stacklevel=1)
    try:
        raise RuntimeError(f"cannot reach redis://:hush@h/0 as {SESSION}")
    except RuntimeError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    warned, ended = lines(stream)
    assert warned["logger"] == "py.warnings"
    assert ended["level"] == "critical"
    for secret in (TOKEN, "hush", SESSION):
        assert secret not in stream.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        TOKEN,
        f"gradkeel_session={SESSION}; Path=/ui",
        "host=db user=g password=hush, dbname=x",
        "/v1/jobs?key=hush&limit=1",
        f"Authorization: Bearer {TOKEN}",
        "Bearer hushhushhush",
        "basic aHVzaDpodXNo",
        "redis+socket://:hush@/tmp/s",
        "postgresql+psycopg://user:hush@db/x",
        "https://h/x?a=1&api_key=hush&b=2",
        {"password": "hush", "list": [{"Api-Key": "hush", "x": ("redis://a:hush@h",)}]},
        {"api_key": "hush", "X-Token": "hush", "cookie": "hush", "AUTHORIZATION": "hush", "pepper": "hush"},
    ],
)
def test_secrets_are_taken_out(stream: io.StringIO, value: Any) -> None:
    get_logger("a").info("x", value=value)
    get_logger("a").info(
        str(value) if isinstance(value, str) else "y", **(value if isinstance(value, dict) else {})
    )
    text = stream.getvalue()
    for secret in (TOKEN.partition(".")[2], "hush", "aHVzaDpodXNo"):
        assert secret not in text
    assert "[redacted]" in text


def test_the_rest_is_left_alone() -> None:
    value = {
        "url": "http://h:8080/v1/jobs?limit=3",
        "n": 1,
        "f": 0.5,
        "b": True,
        "none": None,
        "key": "job_x",
    }
    assert redact(value) == value


def test_quiet_levels_are_quiet(stream: io.StringIO) -> None:
    get_logger("a").debug("x")
    logging.getLogger("b").debug("x")
    assert stream.getvalue() == ""
