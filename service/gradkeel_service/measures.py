"""Prometheus measures of one process."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from gradkeel.contract.states import JobState
from gradkeel_store.records import WorkerRow

SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0)


class _Submissions(Collector):
    """What became of the messages of the queue, as the consumers tell along with their signs of life."""

    def __init__(self) -> None:
        self.consumers: Sequence[WorkerRow] = ()

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "gradkeel_submissions",
            "Messages of the queue by what became of them.",
            labels=["consumer", "outcome"],
        )
        for consumer in self.consumers:
            for outcome, count in consumer.info.get("submissions", {}).items():
                family.add_metric([consumer.id, outcome], count)
        yield family


class Measures:
    """Counts and times of requests, and the length of the queue when asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "gradkeel_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "gradkeel_http_request_seconds",
            "Seconds from the request's first byte to the start of its answer.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._workers = Gauge(
            "gradkeel_workers_live", "Workers with a recent heartbeat.", registry=self.registry
        )
        self._jobs = Gauge("gradkeel_jobs", "Jobs by state.", ["state"], registry=self.registry)
        self._submissions = _Submissions()
        self.registry.register(self._submissions)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def expose(self, live_workers: int, consumers: Sequence[WorkerRow], jobs: Mapping[str, int]) -> bytes:
        """The text exposition format. ``jobs``: how many stand in each state."""
        self._workers.set(live_workers)
        for state in JobState:
            self._jobs.labels(state.value).set(jobs.get(state.value, 0))
        self._submissions.consumers = consumers
        return generate_latest(self.registry)
