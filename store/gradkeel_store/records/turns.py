"""Whose turn it is: projects share the workers fairly, and within a project priority and age decide.

The project with the fewest running jobs comes first; of those that are level, the one whose last claim is
longest ago. Within a project the job of the highest priority comes first, then the oldest. So a priority
orders the jobs of its own project only, and however many jobs one project queues, another's next job waits
for no more than one to end.

Each look costs a few steps into an index for every project that has queued jobs, however many those are.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gradkeel.contract.states import JobState
from gradkeel_store.records import tables

jobs = tables.jobs

IS_QUEUED = jobs.c.state == sa.literal_column(f"'{JobState.QUEUED.value}'")
"""With the state spelt out, for a partial index is not found by a parameter."""

IN_TURN = (jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id)


def projects_in_turn(connection: Connection) -> list[str]:
    """The projects with queued jobs, in the order in which they may claim one."""
    waiting = _waiting_projects()
    running = (
        sa.select(sa.func.count())
        .where(jobs.c.project == waiting.c.project, jobs.c.state == JobState.RUNNING.value)
        .scalar_subquery()
    )
    last_claim = (
        sa.select(sa.func.max(jobs.c.claimed_at)).where(jobs.c.project == waiting.c.project).scalar_subquery()
    )
    query = sa.select(waiting.c.project).where(waiting.c.project.is_not(None))
    query = query.order_by(running, last_claim.nulls_first(), waiting.c.project)
    return list(connection.scalars(query))


def _waiting_projects() -> sa.CTE:
    """Each project that has queued jobs, by one step into the index a project; its last row is null."""
    first = sa.select(_first_project().label("project")).cte("waiting", recursive=True)
    following = sa.select(_first_project(jobs.c.project > first.c.project)).where(
        first.c.project.is_not(None)
    )
    return first.union_all(following)


def _first_project(*beyond: Any) -> Any:
    """In the order of the index of queued jobs, so that no step goes through a project's ended ones."""
    query = sa.select(jobs.c.project).where(IS_QUEUED, *beyond)
    return query.order_by(jobs.c.project, *IN_TURN).limit(1).scalar_subquery()


def next_of_project(project: str, claimable: tuple[Any, ...]) -> sa.Select[Any]:
    """The id of the project's job that comes first, of those that are ``claimable``."""
    query = sa.select(jobs.c.id).where(IS_QUEUED, jobs.c.project == project, *claimable)
    return query.order_by(*IN_TURN).limit(1)
