"""Writing a job's lifecycle events, and ending jobs that never ran. Shared by jobs and data sets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gradkeel.contract.states import EventName, JobState
from gradkeel_store import event_ids
from gradkeel_store.records import tables

jobs = tables.jobs


def write_event(
    connection: Connection,
    job_id: str,
    event_id: int,
    now: datetime,
    data: dict[str, Any],
    *,
    terminal: bool = False,
) -> None:
    """Append one lifecycle event; a second terminal one violates an index."""
    row = event_row(job_id, event_id, now, data, terminal=terminal)
    connection.execute(tables.job_events.insert().values(row))


def event_row(
    job_id: str, event_id: int, now: datetime, data: dict[str, Any], *, terminal: bool = False
) -> dict[str, Any]:
    """The row of a lifecycle event."""
    return {
        "job_id": job_id,
        "id": event_id,
        "name": (EventName.END if terminal else EventName.STATE).value,
        "data": {"job_id": job_id, "fence": event_ids.fence_of(event_id)} | data,
        "terminal": terminal,
        "created_at": now,
    }


def end_queued_jobs(
    connection: Connection, now: datetime, state: JobState, *which: Any, error: dict[str, Any] | None = None
) -> list[Any]:
    """End the queued jobs that ``which`` selects; their rows."""
    change = jobs.update().where(jobs.c.state == JobState.QUEUED.value, *which)
    change = change.values(
        state=state.value,
        ended_at=now,
        error=error,
        cancel_requested=_requested(state),
        checkpoint=None,
    )
    rows = connection.execute(change.returning(*jobs.c)).mappings().all()
    events = [
        event_row(row["id"], event_ids.ended(row["fence"]), now, ending(row), terminal=True) for row in rows
    ]
    if events:
        connection.execute(tables.job_events.insert(), events)
    return list(rows)


def _requested(state: JobState) -> Any:
    return sa.true() if state is JobState.CANCELLED else jobs.c.cancel_requested


def counted(events: int | None) -> dict[str, Any]:
    """How many step events a run has numbered, for the event of its end; nothing where that is not told."""
    return {} if events is None else {"events": events}


def ending(row: Any) -> dict[str, Any]:
    """The data of a terminal event."""
    names = ("state", "verdict", "model_id", "error", "interruptions")
    return {name: row[name] for name in names} | {"attempts": row["attempt"]}
