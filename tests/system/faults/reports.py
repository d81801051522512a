"""What holds of the report of every job that ended, however it ended."""

from __future__ import annotations

import html
from typing import Any

import httpx2 as httpx
import jsonschema
import numpy as np

from gradkeel.contract.report import empty_report
from gradkeel.resources.jobs import Job
from gradkeel_store.page.wording import VERDICTS, prose

Json = dict[str, Any]


def assert_whole_report(url: str, job: Job, status: str) -> Json:
    """Every key and every form of it are there, and they tell the same of the job; its JSON.

    ``status``: succeeded, cancelled or the code of the job's error.
    """
    report = job.report().raw
    page = job.report_html()
    with httpx.Client(base_url=url) as plain:
        jsonschema.validate(report, plain.get("/v1/schemas/report.json").json())
    assert list(report) == list(empty_report())
    assert page.startswith("<!doctype html>") and len(page.encode()) <= 1_000_000
    assert html.escape(prose(report["summary"])) in page
    assert f"Verdict: {VERDICTS[report['verdict'] or 'none'][0]}" in page
    assert job.report_markdown().splitlines()[0].startswith("# ")
    assert job.report_png().startswith(b"\x89PNG\r\n")
    _assert_true(job, report, status)
    return report


def _assert_true(job: Job, report: Json, status: str) -> None:
    """Verdict and provenance are the job's, and a model that it names is there and is told of."""
    told = report["provenance"]
    assert job.verdict == report["verdict"]
    assert (report["verdict"] is None) == (not report["series"]["steps"])
    assert told["status"] == status
    assert (told["error"] or {}).get("code") == (job.error or {}).get("code")
    assert (told["error"] or {}).get("message") == (job.error or {}).get("message")
    read = f"readings of {len(report['series']['steps']):,} step"
    assert any(one.startswith("readings") for one in told["rests_on"]) is bool(report["series"]["steps"]), (
        read
    )
    if job.state != "succeeded" and report["series"]["steps"]:
        assert (", was kept." in report["summary"]) == (job.model_id is not None)
        assert ("No model was kept" in report["summary"]) == (job.model_id is None)
    if job.model_id is not None:
        row = {column.name: [0.5] for column in job.model().columns}
        assert np.isfinite(job.model().predict(row).values).all()
        assert report["fit"]["metrics"]["test"] == (job.metrics or {})["test"]
