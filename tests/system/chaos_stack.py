"""Chaos on a whole stack: many small jobs, while its processes are killed and frozen at random.

Every job has to end exactly once, as succeeded, with its report, and no listener may miss an event unless a
gap says so. Prints the seed, what was done, and the figures; exits 1 where the promise was broken.

    python tests/system/chaos_stack.py --jobs 40 --faults 60 --seed 1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import redis

from gradkeel import Client
from gradkeel_store.settings import redis_url_of
from processes import wait_for_exit
from system.faults.conftest import CONFIG, Victim
from system.faults.followers import Follower, assert_nothing_silent

ATTEMPTS = "50"
LONGEST_SECONDS = 900
RECOVERY_SECONDS = 30.0
FROZEN_SECONDS = 7.0
"""More than the lease of these stacks, which is 5 s."""

Log = Callable[[str], None]


class Chaos:
    """What may happen to a stack, chosen by a seeded generator."""

    def __init__(self, stack: Victim, seed: int, most: int, log: Log) -> None:
        self.stack, self.log, self._most = stack, log, most
        self.done: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._acts: dict[str, tuple[int, Callable[[], object]]] = {
            "training process killed": (5, lambda: os.kill(stack.training(), signal.SIGKILL)),
            "worker killed": (3, lambda: stack.kill("worker")),
            "web server killed": (3, lambda: stack.kill("http")),
            "web server terminated": (1, lambda: os.kill(stack.pid("http"), signal.SIGTERM)),
            "broker killed": (2, lambda: stack.kill("broker")),
            "broker flushed": (1, self._flush),
            "broker frozen": (1, lambda: self._freeze("broker", 3.0)),
            "web server frozen": (1, lambda: self._freeze("http", 3.0)),
            "worker frozen past its lease": (1, lambda: self._freeze("worker", FROZEN_SECONDS)),
        }

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        names = list(self._acts)
        weights = [weight for weight, _ in self._acts.values()]
        while sum(self.done.values()) < self._most and self._recovered():
            (name,) = self._random.choices(names, weights)
            # What is just being started again, or nothing that trains: another time.
            with contextlib.suppress(ValueError, OSError, redis.RedisError, AssertionError):
                self._acts[name][1]()
                self.done[name] += 1
                self.log(name)

    def _recovered(self) -> bool:
        """Wait until something trains again, or has had its time to; and a little more. False: it is over."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while time.monotonic() < deadline and not self._over.wait(0.1):
            with contextlib.suppress(ValueError, OSError):
                self.stack.training()
                break
        return not self._over.wait(self._random.uniform(0.0, 2.0))

    def _flush(self) -> None:
        url = f"redis+socket://{self.stack.data}/broker/broker.sock?virtual_host=0"
        with redis.Redis.from_url(redis_url_of(url), socket_timeout=1) as broker:
            broker.flushall()

    def _freeze(self, name: str, seconds: float) -> None:
        pid = self.stack.pid(name)
        os.kill(pid, signal.SIGSTOP)
        self._over.wait(seconds)
        if not wait_for_exit(pid, 0):
            os.kill(pid, signal.SIGCONT)


def table(folder: Path) -> Path:
    draws = np.random.default_rng(1).normal(size=(300, 3))
    lines = [f"{a:.4f},{b:.4f},{a - 2 * b + 0.1 * e:.4f}" for a, b, e in draws]
    path = folder / "table.csv"
    path.write_text("\n".join(["a,b,y", *lines]) + "\n")
    return path


def submit(client: Client, data: Path, count: int, seed: int) -> list[Any]:
    """Jobs of several lengths, each under its own key, sent again until they are accepted."""
    lengths = random.Random(seed + 1)
    jobs = []
    for number in range(count):
        budget = CONFIG["budget"] | {"epochs": lengths.choice([2, 50, 200, 500])}
        config = CONFIG | {"budget": budget, "seed": number}
        dataset = client.datasets.upload(str(data))
        jobs.append(client.jobs.create(dataset, config=config, idempotency_key=f"chaos-{number}"))
    return jobs


def faults_of(client: Client, jobs: list[Any], followers: list[Follower]) -> Iterator[str]:
    """Every way in which the promise was broken."""
    listed = Counter(job.id for job in client.jobs.list(limit=100))
    if set(listed) != {job.id for job in jobs} or max(listed.values()) != 1:
        yield f"{len(jobs)} jobs were accepted and {len(listed)} are there"
    for job in jobs:
        ends = [event for event in job.stream() if event.name == "end"]
        if (job.state, len(ends)) != ("succeeded", 1):
            yield f"{job.id} ended as {job.state} with {len(ends)} ends: {job.error}"
        elif job.report()["verdict"] != job.verdict:
            yield f"{job.id} has a report of something else"
    for follower in followers:
        try:
            assert_nothing_silent(follower.all())
        except AssertionError as error:
            yield f"a listener was not told: {error}"


def run(folder: Path, count: int, most: int, seed: int) -> list[str]:
    begun = time.monotonic()

    def log(text: str) -> None:
        print(f"{time.monotonic() - begun:7.2f} s  {text}", flush=True)

    stack = Victim(folder, GRADKEEL_MAX_ATTEMPTS=ATTEMPTS)
    try:
        client = Client(stack.client().url, stack.key, max_retries=40)
        chaos = Chaos(stack, seed, most, log)
        chaos.start()
        jobs = submit(client, table(folder), count, seed)
        log(f"{count} jobs are accepted")
        followers = [Follower(job.stream()) for job in jobs[:: max(1, count // 4)][:4]]
        for job in jobs:
            job.wait(timeout=LONGEST_SECONDS, check=False)
        chaos.stop()
        log(f"all jobs have ended; {sum(chaos.done.values())} faults: {dict(chaos.done)}")
        states, interruptions = Counter(str(job.state) for job in jobs), [job.interruptions for job in jobs]
        log(f"states: {dict(states)}; {sum(interruptions)} interruptions, {max(interruptions)} of one job")
        found = list(faults_of(client, jobs, followers))
        gaps = sum(event.name == "gap" for follower in followers for event in follower.seen)
        log(f"{sum(len(f.seen) for f in followers)} events were followed live, {gaps} gaps among them")
        stack.close()
        return found
    finally:
        stack.server.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--faults", type=int, default=60, help="how many at most; then it is quiet")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    print(json.dumps({"seed": chosen.seed, "jobs": chosen.jobs}), flush=True)
    with tempfile.TemporaryDirectory(prefix="gkc-") as folder:
        found = run(Path(folder), chosen.jobs, chosen.faults, chosen.seed)
    for fault in found:
        print(f"BROKEN: {fault}")
    print(f"seed {chosen.seed}: {'broken' if found else 'every job ended once, with its report'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
