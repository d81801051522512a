"""A worker of `test_claims_by_processes`: says ready, waits for the word, prints what it did."""

import json
import sys
from collections.abc import Callable

from gradkeel_store.records import Records

CONFIG = {"target": "price"}


def work(records: Records, owner: str, claimed: list[str], finished: list[str]) -> None:
    while job := records.claim_next(owner):
        claimed.append(job.id)
        if records.heartbeat_job(job.id, job.fence) and records.finish_job(job.id, job.fence, "succeeded"):
            finished.append(job.id)


def claim_next(records: Records, owner: str) -> dict[str, list[str]]:
    claimed: list[str] = []
    finished: list[str] = []
    work(records, owner, claimed, finished)
    return {"claimed": claimed, "finished": finished}


def claim_by_id(records: Records, owner: str) -> dict[str, list[str]]:
    claimed = [job_id for job_id in records.queued_older_than(0) if records.claim_job(job_id, owner)]
    finished = [job_id for job_id in claimed if records.finish_job(job_id, 1, "succeeded")]
    return {"claimed": claimed, "finished": finished}


def reap(records: Records, _owner: str) -> dict[str, list[str]]:
    seen = records.leases()
    return {"reaped": [s.id for s in seen if records.requeue_lost(s.id, s.fence, s.heartbeat_seq)]}


def create(records: Records, _owner: str) -> dict[str, list[str]]:
    project, dataset_id = sys.argv[3:5]
    made = [records.create_job(project, dataset_id, CONFIG, CONFIG, idempotency_key="k") for _ in range(5)]
    return {"created": [job.id for job in made]}


TASKS: dict[str, Callable[[Records, str], dict[str, list[str]]]] = {
    "next": claim_next,
    "by-id": claim_by_id,
    "reap": reap,
    "create": create,
}


def main() -> None:
    records = Records.open(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(TASKS[sys.argv[2]](records, sys.argv[-1])))


if __name__ == "__main__":
    main()
