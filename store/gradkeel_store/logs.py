"""Logs: one JSON object a line, with secrets taken out.

Control characters, line breaks and terminal escapes in a message are escaped by JSON, so a line is a line.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, TextIO

import structlog

REDACTED = "[redacted]"
_SECRET_NAME = re.compile(
    r"api[_-]?key|authorization|cookie|credential|password|passwd|pepper|secret|token", re.IGNORECASE
)
_SECRET_TEXT = (
    (re.compile(r"\bkey_[0-9A-Za-z]{22}\.[\w-]{20,}"), "key_" + REDACTED),
    (re.compile(r"\bses_[\w-]{20,}"), "ses_" + REDACTED),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), r"\1 " + REDACTED),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@:]*:[^\s/]*@", re.IGNORECASE), r"\1" + REDACTED + "@"),
    (
        re.compile(
            r"(?i)(\b(?:password|api_?key|key|secret|access_token|token|signature|x-amz-signature)=)"
            r"[^&\s\"',;]+"
        ),
        r"\1" + REDACTED,
    ),
)


def redact_text(text: str) -> str:
    """``text`` without API keys, bearer tokens, and passwords in URLs."""
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def redact(value: Any) -> Any:
    """As `redact_text`, within containers too; values under a secret's name go whole."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {key: _redact_item(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else redact_text(str(value))


def _redact_item(name: str, value: Any) -> Any:
    return REDACTED if value and _SECRET_NAME.search(name) else redact(value)


def _redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    redacted: MutableMapping[str, Any] = redact(event)
    return redacted


_BEFORE = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
    structlog.stdlib.PositionalArgumentsFormatter(),
)


def configure_logging(component: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's logging to ``stream`` (stderr) as JSON lines.

    ``component`` (service, worker, …) stands in every line. Call once per process; again replaces.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_BEFORE,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter(component))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _log_crash


def _log_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The last words of a process, through the log: an exception's text may hold a URL with a password."""
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger(__name__).critical("the process ends", exc_info=(kind, error, trace))


def _formatter(component: str) -> logging.Formatter:
    def name_component(
        _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["component"] = component
        return event

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_BEFORE,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            name_component,
            _redact_event,
            structlog.processors.JSONRenderer(sort_keys=False, default=str),
        ],
    )


def get_logger(name: str) -> Any:
    """A structlog logger: ``log.info("job claimed", job_id=…)``."""
    return structlog.stdlib.get_logger(name)
