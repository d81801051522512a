"""Preflights from claim to end, each with a real child: a report, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jsonschema import Draft202012Validator

from gradkeel.contract.patch import merge_patch
from gradkeel.contract.report import REPORT_SCHEMA
from gradkeel.contract.resolve import resolve, to_json
from gradkeel_store.records import DatasetRow, JobRow
from gradkeel_store.settings import Settings
from gradkeel_worker.worker import Worker

from .conftest import SMALL, Desk, numbers

Start = Callable[[Settings], Worker]


def submit(desk: Desk, dataset: DatasetRow, **config: Any) -> JobRow:
    submitted = {"dataset_id": dataset.id, "target": "y"} | SMALL | {"budget": {"batch_size": 16}} | config
    resolved = to_json(resolve(submitted))
    return desk.records.create_job(desk.project, dataset.id, submitted, resolved, kind="preflight")


def check(report: dict[str, Any]) -> None:
    Draft202012Validator(REPORT_SCHEMA).validate(report)
    others = report.keys() - {"schema_version", "summary", "preflight", "data"}
    assert all(report[key] in (None, []) for key in others)


def test_it_leaves_a_report_and_no_model(lonely: Settings, start_worker: Start) -> None:
    desk = Desk(lonely)
    job = submit(desk, desk.upload(numbers()))
    constant = submit(desk, desk.upload("a,b,y\n" + "1,2,5\n" * 30))
    start_worker(lonely)
    ended = desk.end(job)
    assert (ended.state, ended.error, ended.verdict, ended.metrics) == ("succeeded", None, None, None)
    assert (ended.model_id, ended.checkpoint) == (None, None)
    assert (ended.series_digest, ended.predictions_digest) == (None, None)
    report = desk.report(ended)
    check(report)
    assert report["data"]["columns"].keys() == {"a", "b", "y"}
    [chosen] = [entry for entry in report["preflight"] if entry["recommended"]]
    assert resolve(merge_patch(ended.submitted, chosen["patch"])).optimizer.lr == chosen["lr"]

    failed = desk.end(constant)
    assert (failed.state, (failed.error or {})["code"]) == ("failed", "bad_data")
    report = desk.report(failed)
    check(report)
    assert report["preflight"] == [] and report["summary"].startswith("The preflight failed: ")


def test_one_that_runs_tells_where_it_is_and_can_be_cancelled(desk: Desk, worker: Worker) -> None:
    slow = {"model": {"kind": "mlp", "widths": [2000, 2000]}, "budget": {"batch_size": 128}}
    job = submit(desk, desk.upload(numbers(400)), **slow)
    desk.until(job, lambda event: event.name == "progress" and event.data["phase"] == "diagnose")
    desk.records.request_cancel(desk.project, job.id)
    ended = desk.end(job)
    assert (ended.state, ended.model_id) == ("cancelled", None)
    report = desk.report(ended)
    check(report)
    assert report["summary"] == "The preflight was cancelled before it was done."
