"""One process of `test_chaos`: claims and ends jobs, or takes back what the dead have left, until killed.

Every step is a line on stdout before it is taken, so that a kill falls anywhere.
"""

import random
import sys
import time
from collections.abc import Callable

from gradkeel_store.leases import LeaseWatch
from gradkeel_store.records import Records

LEASE_SECONDS = 0.5
PAUSE_SECONDS = 0.05
MODEL = {"target": "y", "task": "regression", "columns": [], "digests": {}}


def work(records: Records, dice: random.Random, owner: str) -> None:
    """Claim a job, give signs of life, end it; now and then give it back."""
    while True:
        job = records.claim_next(owner)
        if job is None:
            time.sleep(PAUSE_SECONDS)
            continue
        for step in range(dice.randrange(3)):
            if not records.heartbeat_job(job.id, job.fence, {"step": step}):
                break
        if dice.random() < 0.05:
            records.release_job(job.id, job.fence)
        else:
            records.finish_job(job.id, job.fence, "succeeded", model=MODEL)


def reap(records: Records, _dice: random.Random, _owner: str) -> None:
    """Requeue what gave no sign for the length of a lease, by this process's own clock."""
    watch = LeaseWatch(LEASE_SECONDS)
    while True:
        for lease in watch.expired(records.leases()):
            records.requeue_lost(lease.id, lease.fence, lease.heartbeat_seq)
        time.sleep(PAUSE_SECONDS)


ROLES: dict[str, Callable[[Records, random.Random, str], None]] = {"work": work, "reap": reap}


def main() -> None:
    url, role, owner, seed = sys.argv[1:5]
    records = Records.open(url, migrate=False, max_attempts=1_000_000)
    print("ready", flush=True)
    ROLES[role](records, random.Random(seed), owner)


if __name__ == "__main__":
    main()
