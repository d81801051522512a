"""Settings, each from one environment variable, all in one table.

A variable's value may also stand in a file that ``<VARIABLE>_FILE`` names, as container secrets do.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gradkeel_store.errors import SettingsError

GIB = 1024**3


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("must be more than 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _amount(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("must be 0 or more")
    return value


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True)
class Setting:
    """One row of the table: ``default`` is written as the environment would write it."""

    name: str
    env: str
    default: str
    help: str
    parse: Callable[[str], Any] = str
    secret: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "data",
        "GRADKEEL_DATA",
        "${XDG_DATA_HOME:-~/.local/share}/gradkeel",
        "Folder of everything that is kept on this machine.",
        Path,
    ),
    Setting(
        "database_url",
        "GRADKEEL_DATABASE_URL",
        "sqlite:///DATA/gradkeel.db",
        "SQLAlchemy URL of the records: sqlite:///… or postgresql+psycopg://….",
        secret=True,
    ),
    Setting(
        "objects_url",
        "GRADKEEL_OBJECTS_URL",
        "file://DATA/objects",
        "Where bytes are kept: file://FOLDER or s3://BUCKET/PREFIX.",
    ),
    Setting(
        "s3_endpoint", "GRADKEEL_S3_ENDPOINT", "", "Address of an S3-compatible server; empty: AWS itself."
    ),
    Setting("s3_region", "GRADKEEL_S3_REGION", "us-east-1", "Region of the bucket."),
    Setting(
        "s3_access_key",
        "GRADKEEL_S3_ACCESS_KEY",
        "",
        "Access key of the bucket; empty: AWS_ACCESS_KEY_ID or the machine's role.",
        secret=True,
    ),
    Setting(
        "s3_secret_key",
        "GRADKEEL_S3_SECRET_KEY",
        "",
        "Secret key of the bucket; empty: AWS_SECRET_ACCESS_KEY or the machine's role.",
        secret=True,
    ),
    Setting(
        "broker_url",
        "GRADKEEL_BROKER_URL",
        "redis://127.0.0.1:6379/0",
        "Celery's broker: redis://…, redis+socket://…, rediss://… or amqp://….",
        secret=True,
    ),
    Setting(
        "redis_url",
        "GRADKEEL_REDIS_URL",
        "",
        "Redis or Valkey of the step events; empty: the broker, where that is one; else no step events.",
        secret=True,
    ),
    Setting(
        "pepper",
        "GRADKEEL_PEPPER",
        "DATA/pepper",
        "Secret that API keys are hashed with; unset: the file DATA/pepper, made when missing.",
        secret=True,
    ),
    Setting(
        "url",
        "GRADKEEL_PUBLIC_URL",
        "",
        "Address under which clients reach the service; empty: from the request.",
    ),
    Setting(
        "trusted_hosts",
        "GRADKEEL_TRUSTED_HOSTS",
        "127.0.0.1,localhost,[::1]",
        "Host names that requests may carry, by commas.",
        _names,
    ),
    Setting("log_level", "GRADKEEL_LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR."),
    Setting(
        "lease_seconds",
        "GRADKEEL_LEASE_SECONDS",
        "60",
        "A job whose worker gave no sign for so long is given to another.",
        _seconds,
    ),
    Setting(
        "heartbeat_seconds",
        "GRADKEEL_HEARTBEAT_SECONDS",
        "10",
        "Between two signs of life of a job.",
        _seconds,
    ),
    Setting(
        "self_kill_seconds",
        "GRADKEEL_SELF_KILL_SECONDS",
        "45",
        "A worker that could not give a sign for so long ends its own training process.",
        _seconds,
    ),
    Setting(
        "poll_seconds",
        "GRADKEEL_POLL_SECONDS",
        "5",
        "Between two looks of a worker for queued jobs.",
        _seconds,
    ),
    Setting(
        "reconcile_seconds",
        "GRADKEEL_RECONCILE_SECONDS",
        "5",
        "Jobs queued for longer are rung for again.",
        _seconds,
    ),
    Setting(
        "cancel_poll_seconds",
        "GRADKEEL_CANCEL_POLL_SECONDS",
        "0.25",
        "Between two looks of a worker for cancel requests.",
        _seconds,
    ),
    Setting(
        "checkpoint_seconds",
        "GRADKEEL_CHECKPOINT_SECONDS",
        "30",
        "Between two checkpoints of a training; at ends of epochs they may come ten times as often.",
        _seconds,
    ),
    Setting(
        "max_attempts",
        "GRADKEEL_MAX_ATTEMPTS",
        "3",
        "How often a job may be started before it fails as worker_lost.",
        _count,
    ),
    Setting(
        "worker_concurrency",
        "GRADKEEL_WORKER_CONCURRENCY",
        "1",
        "Jobs that one worker runs at a time.",
        _count,
    ),
    Setting(
        "job_memory_mb", "GRADKEEL_JOB_MEMORY_MB", "4096", "Memory of one training process, MiB.", _count
    ),
    Setting(
        "job_in_memory_mb",
        "GRADKEEL_JOB_IN_MEMORY_MB",
        "512",
        "A table larger than this once read, MiB, is prepared in files of the worker's folder.",
        _amount,
    ),
    Setting("job_max_seconds", "GRADKEEL_JOB_MAX_SECONDS", "86400", "Longest run of one job.", _seconds),
    Setting(
        "ingest_memory_mb",
        "GRADKEEL_INGEST_MEMORY_MB",
        "1024",
        "Memory of one reader of uploads, MiB.",
        _count,
    ),
    Setting("ingest_seconds", "GRADKEEL_INGEST_SECONDS", "300", "Longest reading of one upload.", _seconds),
    Setting("max_upload_bytes", "GRADKEEL_MAX_UPLOAD_BYTES", str(2 * GIB), "Largest upload, bytes.", _count),
    Setting(
        "upload_seconds",
        "GRADKEEL_UPLOAD_SECONDS",
        "86400",
        "A resumable upload to which nothing was added for so long is dropped.",
        _seconds,
    ),
    Setting(
        "max_unpacked_bytes",
        "GRADKEEL_MAX_UNPACKED_BYTES",
        str(8 * GIB),
        "Largest upload after decompression, bytes.",
        _count,
    ),
    Setting("max_columns", "GRADKEEL_MAX_COLUMNS", "10000", "Most columns of a data set.", _count),
    Setting("max_rows", "GRADKEEL_MAX_ROWS", "0", "Most rows of a data set; 0: any number.", _amount),
    Setting(
        "max_body_bytes",
        "GRADKEEL_MAX_BODY_BYTES",
        str(16 * 1024**2),
        "Largest request body that is not an upload, bytes.",
        _count,
    ),
    Setting(
        "min_body_rate",
        "GRADKEEL_MIN_BODY_RATE",
        "4096",
        "Bytes a second at which a request body must come, after 30 seconds of grace; 0: any.",
        _amount,
    ),
    Setting(
        "rate_limit",
        "GRADKEEL_RATE_LIMIT",
        "60000",
        "Requests that one key may send in a minute; 0: any number.",
        _amount,
    ),
    Setting(
        "failed_key_limit",
        "GRADKEEL_FAILED_KEY_LIMIT",
        "600",
        "Wrong keys that one address may send in a minute; 0: any number.",
        _amount,
    ),
    Setting("max_parameters", "GRADKEEL_MAX_PARAMETERS", "50000000", "Most parameters of a model.", _count),
    Setting("max_queued_jobs", "GRADKEEL_MAX_QUEUED_JOBS", "10000", "Most queued jobs of a project.", _count),
    Setting(
        "max_training_seconds",
        "GRADKEEL_MAX_TRAINING_SECONDS",
        "0",
        "Training of a project in a day, seconds; 0: any. A project over it may submit nothing more.",
        _amount,
    ),
    Setting(
        "max_streams",
        "GRADKEEL_MAX_STREAMS",
        "100",
        "Event streams and waiting requests of a project at a time, in one process.",
        _count,
    ),
    Setting(
        "max_batch_bytes", "GRADKEEL_MAX_BATCH_BYTES", str(256 * 1024**2), "Largest batch, bytes.", _count
    ),
    Setting("max_batch_lines", "GRADKEEL_MAX_BATCH_LINES", "50000", "Most lines of a batch.", _count),
    Setting(
        "max_open_batches",
        "GRADKEEL_MAX_OPEN_BATCHES",
        "100",
        "Most batches of a project that wait to be read.",
        _count,
    ),
    Setting(
        "max_storage_bytes",
        "GRADKEEL_MAX_STORAGE_BYTES",
        str(100 * GIB),
        "Most stored data of a project.",
        _count,
    ),
    Setting(
        "event_stream_length", "GRADKEEL_EVENT_STREAM_LENGTH", "20000", "Step events kept of one job.", _count
    ),
)


@dataclass(frozen=True)
class Settings:
    """Everything that can be set; ``SETTINGS`` says what each is for. Times are seconds."""

    data: Path
    database_url: str
    objects_url: str
    broker_url: str
    redis_url: str
    pepper: str
    s3_endpoint: str = ""
    s3_region: str = "us-east-1"
    s3_access_key: str = ""
    s3_secret_key: str = ""
    url: str = ""
    trusted_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    log_level: str = "INFO"
    lease_seconds: float = 60.0
    heartbeat_seconds: float = 10.0
    self_kill_seconds: float = 45.0
    poll_seconds: float = 5.0
    reconcile_seconds: float = 5.0
    cancel_poll_seconds: float = 0.25
    checkpoint_seconds: float = 30.0
    max_attempts: int = 3
    worker_concurrency: int = 1
    job_memory_mb: int = 4096
    job_in_memory_mb: int = 512
    job_max_seconds: float = 86400.0
    ingest_memory_mb: int = 1024
    ingest_seconds: float = 300.0
    max_upload_bytes: int = 2 * GIB
    upload_seconds: float = 86400.0
    max_unpacked_bytes: int = 8 * GIB
    max_columns: int = 10_000
    max_rows: int = 0
    max_body_bytes: int = 16 * 1024**2
    min_body_rate: int = 4096
    rate_limit: int = 60_000
    failed_key_limit: int = 600
    max_parameters: int = 50_000_000
    max_queued_jobs: int = 10_000
    max_training_seconds: int = 0
    max_streams: int = 100
    max_batch_bytes: int = 256 * 1024**2
    max_batch_lines: int = 50_000
    max_open_batches: int = 100
    max_storage_bytes: int = 100 * GIB
    event_stream_length: int = 20_000

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, data: Path | str | None = None) -> Settings:
        """Read the environment (``os.environ`` unless given); ``data`` overrides ``GRADKEEL_DATA``.

        Makes the data folder (mode 0700) and the pepper file where they are missing. Raises
        ``SettingsError``, which names the variable.
        """
        env = os.environ if env is None else env
        folder = Path(data) if data is not None else default_data(env)
        folder = folder.expanduser().absolute()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        values = {setting.name: _value(setting, env) for setting in SETTINGS if setting.name != "data"}
        given = {name: value for name, value in values.items() if value is not None}
        return cls(**(_derived(folder, given) | given | {"data": folder}))

    def __repr__(self) -> str:
        """Secrets are left out, so that a settings object may be logged."""
        hidden = {setting.name for setting in SETTINGS if setting.secret}
        shown = {f.name: "…" if f.name in hidden else getattr(self, f.name) for f in fields(self)}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def default_data(env: Mapping[str, str]) -> Path:
    """``GRADKEEL_DATA``, else ``${XDG_DATA_HOME:-~/.local/share}/gradkeel``."""
    share = env.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(env.get("GRADKEEL_DATA") or f"{share}/gradkeel")


def _text(setting: Setting, env: Mapping[str, str]) -> str | None:
    """The variable, else the content of the file that ``<VARIABLE>_FILE`` names; empty counts as unset."""
    file = env.get(f"{setting.env}_FILE")
    if not file or env.get(setting.env):
        return env.get(setting.env) or None
    try:
        return Path(file).read_text(encoding="utf-8").strip() or None
    except OSError as error:
        raise SettingsError(f"{setting.env}_FILE: cannot read {file}: {error.strerror}") from error


def _value(setting: Setting, env: Mapping[str, str]) -> Any:
    text = _text(setting, env)
    if text is None:
        return None
    try:
        return setting.parse(text)
    except ValueError as error:
        shown = "the value" if setting.secret else repr(text)
        raise SettingsError(f"{setting.env}: {shown} cannot be used: {error}. {setting.help}") from error


def _derived(data: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    broker = given.get("broker_url", "redis://127.0.0.1:6379/0")
    return {
        "database_url": f"sqlite:///{data}/gradkeel.db",
        "objects_url": f"file://{data}/objects",
        "broker_url": broker,
        "redis_url": redis_url_of(broker),
        "pepper": given.get("pepper") or _pepper_file(data / "pepper"),
    }


def redis_url_of(broker_url: str) -> str:
    """The broker's URL as redis-py writes it; empty where the broker is no Redis."""
    parts = urlsplit(broker_url)
    if parts.scheme in ("redis", "rediss"):
        return broker_url
    if parts.scheme != "redis+socket":
        return ""
    database = parse_qs(parts.query).get("virtual_host", ["0"])[0].strip("/")
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"unix://{login}{parts.path}?db={database}"


def _pepper_file(path: Path) -> str:
    """The pepper in ``path``, made with 256 random bits (mode 0600) when it is missing.

    Written under another name and then linked, so that two processes that start at once agree on one.
    """
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    pepper = path.read_text(encoding="ascii").strip()
    if not pepper:
        raise SettingsError(
            f"{path} is empty: remove it to have a new pepper made (old keys end), or restore it"
        )
    return pepper
