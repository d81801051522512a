"""What the report of a job that did not succeed says of its model."""

from typing import Any

Json = dict[str, Any]

STOPPED = {"cancelled": "The job was cancelled", "deadline": "The job ran out of time"}
"""Ways to be stopped, as words."""

UNFINISHED = (*STOPPED, "diverged", "out_of_memory", "worker_lost")
"""Endings after which a last good model may be there."""


def with_model_told(report: Json, status: str, kept: bool) -> Json:
    """The report of a job that ended as `status`, its first paragraph saying whether a model was kept."""
    provenance = report["provenance"] or {}
    ended_by_itself = status in STOPPED and provenance.get("status", status) not in STOPPED
    late = [f"{STOPPED[status]} after the training, before everything was done."] if ended_by_itself else []
    summary = " ".join([report["summary"], *late, _model(report, kept)]).strip()
    return report | {"summary": summary, "provenance": provenance | {"status": status}}


def _model(report: Json, kept: bool) -> str:
    best = (report["fit"] or {}).get("best_epoch")
    if best is None:
        return "No model was kept, for none was ready."
    if kept:
        return f"The last good model, that of epoch {best + 1}, was kept."
    return f"No model was kept, for that of epoch {best + 1} was not exported in time."
