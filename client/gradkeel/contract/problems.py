"""Problem documents (RFC 9457): every error that crosses a wire, in one table.

``docs/errors.md`` is generated from ``PROBLEMS``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gradkeel.contract.errors import FieldError

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class ProblemKind:
    """One row of the table: the HTTP status, the title, and what the reader should do."""

    status: int
    title: str
    advice: str


PROBLEMS: dict[str, ProblemKind] = {
    "bad_request": ProblemKind(400, "The request cannot be read", "Mend the request as the detail says."),
    "bad_json": ProblemKind(
        400, "The body is not strict JSON", "Send UTF-8 JSON without NaN or duplicate keys."
    ),
    "bad_body": ProblemKind(
        400, "The body did not arrive whole", "Send as many bytes as Content-Length declares."
    ),
    "digest_mismatch": ProblemKind(
        400, "The body does not match its digest", "Compute Repr-Digest over the bytes that are sent."
    ),
    "bad_host": ProblemKind(400, "The Host header is not trusted", "Add the name to GRADKEEL_TRUSTED_HOSTS."),
    "unauthorized": ProblemKind(
        401,
        "A valid key is needed",
        "Send 'Authorization: Bearer <key>'; 'gradkeel keys create' makes a key.",
    ),
    "forbidden": ProblemKind(
        403, "The key lacks the scope", "Use a key that has the scope that the detail names."
    ),
    "foreign_origin": ProblemKind(
        403, "The request comes from another site", "Use the service's own pages, or a key in the header."
    ),
    "not_found": ProblemKind(404, "Not found", "Check the id; things of other projects are not shown."),
    "method_not_allowed": ProblemKind(405, "The method is not allowed here", "See Allow and /openapi.json."),
    "not_acceptable": ProblemKind(406, "No acceptable form of the answer", "Widen the Accept header."),
    "timeout": ProblemKind(
        408, "The body stalled", "Send the body without pauses and not too slowly, or try again."
    ),
    "conflict": ProblemKind(409, "Its state does not allow that", "Read its state and decide anew."),
    "in_flight": ProblemKind(
        409, "The same request is still running", "Wait, then repeat it with the same key."
    ),
    "dataset_rejected": ProblemKind(
        409, "The data set was rejected", "Mend the file as its error says, upload again."
    ),
    "not_ended": ProblemKind(
        409, "The job has not ended", "Wait until its state is succeeded, failed or cancelled."
    ),
    "in_use": ProblemKind(409, "Still in use", "End or delete what uses it first."),
    "wrong_offset": ProblemKind(
        409, "The bytes do not follow those stored", "Ask for Upload-Offset with HEAD and go on from there."
    ),
    "gone": ProblemKind(410, "It is no longer there", "Begin a new upload."),
    "length_required": ProblemKind(
        411, "The length of the body is needed", "Send Content-Length, or chunked."
    ),
    "tus_version": ProblemKind(
        412,
        "This version of tus is not spoken",
        "Send 'Tus-Resumable: 1.0.0' with every request of an upload.",
    ),
    "too_large": ProblemKind(
        413, "The body is too large", "Send less, or raise the limit that the detail names."
    ),
    "uri_too_long": ProblemKind(414, "The address is too long", "Shorten the address."),
    "unsupported_media_type": ProblemKind(
        415,
        "This kind of content is not read",
        "Send CSV, TSV, JSON lines or Parquet, plain or as gzip or zstd.",
    ),
    "range_not_satisfiable": ProblemKind(
        416, "The range lies outside", "Ask for bytes within the length given."
    ),
    "invalid": ProblemKind(422, "The request cannot be accepted", "Mend each place that 'errors' names."),
    "bad_data": ProblemKind(422, "The data cannot be used", "Mend each place that 'errors' names."),
    "key_reused": ProblemKind(
        422, "The Idempotency-Key was used for another request", "Use a fresh key for a new request."
    ),
    "locked": ProblemKind(
        423,
        "Another request is working on it",
        "Wait as long as Retry-After says, then ask for Upload-Offset.",
    ),
    "rate_limited": ProblemKind(429, "Too many requests", "Wait as long as Retry-After says."),
    "quota": ProblemKind(429, "A quota is used up", "Wait until work has ended, or raise the quota."),
    "headers_too_large": ProblemKind(431, "The headers are too large", "Send shorter headers."),
    "internal": ProblemKind(500, "The service failed", "Report the request_id; the log has the details."),
    "not_implemented": ProblemKind(
        501, "The transfer coding is not known", "Send Content-Length or chunked."
    ),
    "unavailable": ProblemKind(503, "The service is not ready", "Wait as long as Retry-After says."),
    "storage_full": ProblemKind(507, "There is no room left", "Free or add storage; nothing was kept."),
}


@dataclass(frozen=True)
class Problem:
    """One problem document. ``code`` is a key of ``PROBLEMS`` and the last part of ``type``."""

    code: str
    detail: str
    errors: Sequence[FieldError] = field(default=())
    instance: str | None = None
    request_id: str | None = None

    @property
    def status(self) -> int:
        return PROBLEMS[self.code].status

    @property
    def title(self) -> str:
        return PROBLEMS[self.code].title

    def to_json(self) -> dict[str, Any]:
        return {
            "type": f"urn:gradkeel:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": self.instance,
            "request_id": self.request_id,
            "errors": [error.to_json() for error in self.errors],
        }
