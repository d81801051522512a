"""JSON Schemas of what the API answers: the component schemas of the OpenAPI document."""

from typing import Any

from gradkeel.contract.states import (
    BatchState,
    ColumnType,
    DatasetState,
    EventName,
    JobErrorCode,
    JobKind,
    JobState,
    Phase,
    Scope,
    SubmissionState,
    UploadState,
    Verdict,
)

Json = dict[str, Any]

TABLE_TYPES = (
    "text/csv",
    "text/tab-separated-values",
    "application/jsonl",
    "application/vnd.apache.parquet",
    "application/gzip",
    "application/zstd",
    "application/octet-stream",
)


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _maybe(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(properties: dict[str, Json], open_ended: bool = False) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": open_ended,
    }


def _page(name: str) -> Json:
    return _object(
        {
            "data": {"type": "array", "items": _ref(name)},
            "has_more": {"type": "boolean"},
            "next_cursor": _maybe({"type": "string"}),
        }
    )


TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
MOMENT: Json = {"type": "string", "format": "date-time"}
ANYTHING: Json = {"type": "object", "additionalProperties": True}


def _choice(names: Any) -> Json:
    return {"type": "string", "enum": [str(name) for name in names]}


PROBLEM = _object(
    {
        "type": {"type": "string", "format": "uri"},
        "title": TEXT,
        "status": WHOLE,
        "detail": TEXT,
        "instance": _maybe(TEXT),
        "request_id": _maybe(TEXT),
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "pointer": TEXT | {"description": "A JSON pointer into the request."},
                    "code": TEXT,
                    "detail": TEXT,
                    "column": TEXT,
                    "row": WHOLE | {"description": "0-based record of the file."},
                    "line": WHOLE | {"description": "1-based line of the file."},
                },
                "required": ["code", "detail"],
            },
        },
    }
)

DATASET = _object(
    {
        "id": TEXT,
        "name": TEXT,
        "sha256": TEXT,
        "bytes": WHOLE,
        "state": _choice(DatasetState),
        "rows": _maybe(WHOLE),
        "columns": _maybe(
            {
                "type": "array",
                "items": _object({"name": TEXT, "type": _choice(ColumnType), "missing": WHOLE}),
            }
        ),
        "error": _maybe(ANYTHING),
        "created_at": MOMENT,
    },
    open_ended=True,
)

UPLOAD = _object(
    {
        "id": TEXT,
        "name": TEXT,
        "state": _choice(UploadState),
        "length": WHOLE | {"description": "Bytes of the whole file."},
        "received": WHOLE | {"description": "Bytes that are stored."},
        "sha256": _maybe(TEXT) | {"description": "Declared at first, found once the upload is done."},
        "dataset_id": _maybe(TEXT),
        "error": _maybe(ANYTHING),
        "created_at": MOMENT,
        "expires_at": MOMENT,
    },
    open_ended=True,
)

PROGRESS = _object(
    {
        "phase": _maybe(_choice(Phase)),
        "epoch": _maybe(WHOLE),
        "epochs": _maybe(WHOLE),
        "step": _maybe(WHOLE),
        "fraction": _maybe({"type": "number"}),
        "eta_seconds": _maybe({"type": "number"}),
    },
    open_ended=True,
) | {"required": []}

JOB_ERROR = {
    "type": "object",
    "properties": {"code": _choice(JobErrorCode), "message": TEXT, "where": _maybe(ANYTHING)},
    "required": ["code", "message"],
    "additionalProperties": True,
}

JOB = _object(
    {
        "id": TEXT,
        "kind": _choice(JobKind),
        "state": _choice(JobState),
        "cancel_requested": {"type": "boolean"},
        "submitted": ANYTHING | {"description": "The config as it was sent: what patches apply to."},
        "config": ANYTHING | {"description": "The resolved config: every option, preset filled in."},
        "dataset_id": TEXT,
        "model_id": _maybe(TEXT),
        "progress": _maybe(PROGRESS),
        "attempts": WHOLE,
        "interruptions": WHOLE,
        "retry_of": _maybe(TEXT),
        "batch_id": _maybe(TEXT),
        "priority": WHOLE | {"description": "Orders the jobs of one project: higher first, then older."},
        "verdict": _maybe(_choice(Verdict)),
        "metrics": _maybe(ANYTHING),
        "error": _maybe(JOB_ERROR),
        "labels": {"type": "object", "additionalProperties": TEXT},
        "created_at": MOMENT,
        "started_at": _maybe(MOMENT),
        "ended_at": _maybe(MOMENT),
    },
    open_ended=True,
)

BATCH = _object(
    {
        "id": TEXT,
        "state": _choice(BatchState),
        "priority": WHOLE,
        "lines": WHOLE | {"description": "Lines that are not blank."},
        "rejected": WHOLE | {"description": "Lines that made no job; the results say why."},
        "counts": _object({str(state): WHOLE for state in JobState})
        | {"description": "Jobs by state; lines that the cancelling kept from becoming jobs are cancelled."},
        "progress": _object(
            {
                "read": WHOLE | {"description": "Lines that have been read."},
                "fraction": {"type": "number", "description": "Of the lines, whose outcome is known."},
            }
        ),
        "cancel_requested": {"type": "boolean"},
        "error": _maybe(_ref("Problem")),
        "created_at": MOMENT,
        "ended_at": _maybe(MOMENT),
    },
    open_ended=True,
)

BATCH_LINES: Json = {
    "type": "string",
    "format": "binary",
    "description": 'JSON lines, each `{"custom_id": "…", "config": {…}}`, config as POST /v1/jobs takes it.',
}

BATCH_RESULT = _object(
    {
        "line": WHOLE | {"description": "Counted from 1 in the file."},
        "custom_id": _maybe(TEXT),
        "job_id": _maybe(TEXT),
        "state": _choice([*JobState, "rejected"]),
        "metrics": _maybe(ANYTHING),
        "verdict": _maybe(_choice(Verdict)),
        "error": _maybe(ANYTHING)
        | {"description": "The job's error, or the problem document that a rejected line ended with."},
    },
    open_ended=True,
)

MODEL = _object(
    {
        "id": TEXT,
        "job_id": TEXT,
        "target": TEXT,
        "task": TEXT,
        "columns": {
            "type": "array",
            "items": _object({"name": TEXT, "type": TEXT, "required": {"type": "boolean"}}, open_ended=True),
        },
        "classes": _maybe({"type": "array", "items": TEXT}),
        "metrics": _maybe(ANYTHING),
        "verdict": _maybe(_choice(Verdict)),
        "digests": {"type": "object", "additionalProperties": TEXT},
        "created_at": MOMENT,
    },
    open_ended=True,
)

KEY = _object(
    {
        "id": TEXT,
        "name": TEXT,
        "scopes": {"type": "array", "items": _choice(Scope)},
        "created_at": MOMENT,
        "expires_at": _maybe(MOMENT),
        "revoked_at": _maybe(MOMENT),
        "last_used_at": _maybe(MOMENT) | {"description": "To the minute."},
    },
    open_ended=True,
)

NUMBER: Json = {"type": "number"}
QUOTA = _object({"used": NUMBER, "limit": _maybe(WHOLE)})


def _counts(names: Any) -> Json:
    return _object({str(name): WHOLE for name in names})


USAGE = _object(
    {
        "project": _object({"id": TEXT, "name": TEXT, "created_at": MOMENT}),
        "jobs": _counts(JobState),
        "datasets": _counts(DatasetState),
        "models": WHOLE,
        "training_seconds": NUMBER | {"description": "From start to end of all jobs that ended."},
        "quotas": _object(
            {name: QUOTA for name in ("queued_jobs", "storage_bytes", "training_seconds_of_day", "streams")}
        ),
        "limits": {"type": "object", "additionalProperties": _maybe(NUMBER)},
    },
    open_ended=True,
)

PREDICT_REQUEST: Json = {
    "oneOf": [
        _object({"records": {"type": "array", "items": ANYTHING}}),
        _object({"columns": {"type": "object", "additionalProperties": {"type": "array"}}}),
    ]
}

PREDICTIONS: Json = {
    "type": "object",
    "properties": {
        "model_id": TEXT,
        "predictions": {
            "type": "array",
            "description": "A number or a class a row; of several targets or quantiles an object a row, "
            "from the target's name or the level to its number.",
        },
        "probabilities": {
            "type": "array",
            "items": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
        },
        "places": {
            "type": "array",
            "description": "Of a model over windows: what each prediction is for. Rows come first, in the "
            "order given; a forecast's steps after the last row of each series follow, with row null.",
            "items": _object(
                {"row": _maybe({"type": "integer"}), "step": {"type": "integer"}}, open_ended=True
            ),
        },
        "intervals": {
            "type": "array",
            "items": ANYTHING,
            "description": "Where `interval` was given: lower and upper bound of each row; of several "
            "targets by name.",
        },
        "warnings": {"type": "array"},
    },
    "required": ["model_id", "predictions", "warnings"],
}

SUBMISSION = _object(
    {
        "submission_id": TEXT,
        "state": _choice(SubmissionState),
        "job_id": _maybe(TEXT),
        "error": _maybe(_ref("Problem")),
        "warnings": {"type": "array", "items": _object({"code": TEXT, "detail": TEXT}, open_ended=True)},
        "created_at": MOMENT,
    },
    open_ended=True,
)

COMPONENTS: dict[str, Json] = {
    "Problem": PROBLEM,
    "Dataset": DATASET,
    "DatasetPage": _page("Dataset"),
    "Upload": UPLOAD,
    "Profile": ANYTHING | {"description": "What is known of every column, and findings about the data."},
    "Preview": _object(
        {
            "columns": {"type": "array", "items": TEXT},
            "rows": {"type": "array", "items": {"type": "array"}},
            "lines": {"type": "array", "items": _maybe(WHOLE)},
        }
    ),
    "Job": JOB,
    "JobPage": _page("Job"),
    "Batch": BATCH,
    "BatchPage": _page("Batch"),
    "BatchLines": BATCH_LINES,
    "BatchResult": BATCH_RESULT,
    "Event": _object({"id": WHOLE, "event": _choice(EventName), "data": ANYTHING}),
    "EventPage": _page("Event"),
    "Report": ANYTHING | {"description": "See /v1/schemas/report.json."},
    "Metrics": ANYTHING,
    "Submission": SUBMISSION,
    "SubmissionPage": _page("Submission"),
    "Model": MODEL,
    "ModelPage": _page("Model"),
    "PredictRequest": PREDICT_REQUEST,
    "Predictions": PREDICTIONS,
    "KeyRequest": {
        "type": "object",
        "properties": {
            "name": TEXT,
            "scopes": {"type": "array", "items": _choice(Scope), "minItems": 1},
            "expires_at": _maybe(MOMENT),
            "expires_in": _maybe(WHOLE | {"minimum": 1, "description": "Seconds; instead of expires_at."}),
        },
        "required": ["scopes"],
        "additionalProperties": False,
    },
    "RotateRequest": {
        "type": "object",
        "properties": {
            "overlap_seconds": WHOLE
            | {"minimum": 0, "default": 0, "description": "How long the old key works beside the new one."}
        },
        "additionalProperties": False,
    },
    "Usage": USAGE,
    "Key": KEY,
    "NewKey": KEY
    | {
        "properties": KEY["properties"] | {"key": TEXT | {"description": "The secret, shown this once."}},
        "required": [*KEY["required"], "key"],
    },
    "KeyPage": _page("Key"),
    "JsonSchema": ANYTHING | {"description": "A JSON Schema (2020-12)."},
}
