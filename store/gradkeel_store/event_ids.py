"""Ids of a job's events: one growing integer over two places.

The upper bits are the fence, the lower 32 the place within that run of the job. A run begins with its
claim, then come the step events, numbered by their one writer, and last the run's end. So events from
SQL and from Redis sort into one order without a shared counter, a missing number shows a hole, and ids
stay below 2^53, which JavaScript reads exactly.
"""

BITS = 32
LAST = (1 << BITS) - 1


def claimed(fence: int) -> int:
    """The begin of a run; with fence 0, the creation of the job."""
    return (fence << BITS) + (1 if fence == 0 else 0)


def step(fence: int, number: int) -> int:
    """The ``number``-th step event of a run, from 0."""
    return (fence << BITS) + 1 + number


def requeued(fence: int) -> int:
    """The end of a run that did not end the job. One below is left for a gap."""
    return (fence << BITS) + LAST - 2


def ended(fence: int) -> int:
    """The end of the job. One below is left for a gap."""
    return (fence << BITS) + LAST


def fence_of(event_id: int) -> int:
    return event_id >> BITS


def number_of(event_id: int) -> int:
    """The number of a step event within its run, from 0; -1 for the run's begin."""
    return (event_id & LAST) - 1
