"""The words that records, events and reports use for where things stand."""

from enum import StrEnum


class JobState(StrEnum):
    """queued → running → succeeded | failed | cancelled; running → queued when a lease runs out."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: frozenset[JobState] = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class JobKind(StrEnum):
    """What a job does: train a model, or only look at what a training could use."""

    TRAIN = "train"
    PREFLIGHT = "preflight"


class DatasetState(StrEnum):
    INGESTING = "ingesting"
    READY = "ready"
    REJECTED = "rejected"


class UploadState(StrEnum):
    """receiving → assembling → done | failed."""

    RECEIVING = "receiving"
    ASSEMBLING = "assembling"
    DONE = "done"
    FAILED = "failed"


class BatchState(StrEnum):
    """reading → running (all lines are read) → ended (all jobs have ended)."""

    READING = "reading"
    RUNNING = "running"
    ENDED = "ended"


class SubmissionState(StrEnum):
    """What became of a job that came by the queue."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Phase(StrEnum):
    PREPARE = "prepare"
    TRAIN = "train"
    DIAGNOSE = "diagnose"
    EXPORT = "export"


class JobErrorCode(StrEnum):
    """Why a job ended as failed."""

    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    DEADLINE = "deadline"
    WORKER_LOST = "worker_lost"
    BAD_DATA = "bad_data"
    INTERNAL = "internal"


class Scope(StrEnum):
    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


class Verdict(StrEnum):
    """What the gradient findings add up to; fit and data findings never change it."""

    HEALTHY = "healthy"
    STRAINED = "strained"
    UNSTABLE = "unstable"
    DIVERGED = "diverged"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Family(StrEnum):
    GRADIENT = "gradient"
    DATA = "data"
    FIT = "fit"


class EventName(StrEnum):
    """Names of a job's events. ``state`` and ``end`` are kept in SQL; the others in the step stream."""

    STATE = "state"
    PROGRESS = "progress"
    EPOCH = "epoch"
    READING = "reading"
    FINDING = "finding"
    INTERVENTION = "intervention"
    LOG = "log"
    GAP = "gap"
    END = "end"


class ColumnType(StrEnum):
    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    DATETIME = "datetime"
    TEXT = "text"
    ID = "id"
    BOOLEAN = "boolean"
