"""The body of a preflight's child: a table and a config in, a report out, and no model."""

import json
from pathlib import Path

import torch

from gradkeel.contract.report import preflight_report
from gradkeel.contract.resolve import resolve, shape_of
from gradkeel.contract.states import JobErrorCode, Phase
from gradkeel_worker import outcome
from gradkeel_worker.child import Channel
from gradkeel_worker.diagnosis.evidence import Evidence
from gradkeel_worker.diagnosis.report import data_of
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.interrupts import Interrupted
from gradkeel_worker.outcome import Outcome
from gradkeel_worker.preflight import preflight
from gradkeel_worker.training import decided_config, table_of

_LATE = "the preflight ran longer than this worker allows"


def look(work: Path, channel: Channel) -> Outcome:
    """Look at the config that `job.json` describes on `table.parquet`.

    Raises:
        ConfigError, DataError: the data cannot be used as the config asks.
    """
    job = json.loads((work / outcome.JOB).read_text(encoding="utf-8"))
    submitted, profile = job["submitted"], job["profile"]
    config = decided_config(submitted, profile, job["max_parameters"])
    torch.set_num_threads(1)  # what is planned here is small, and the same on every machine
    channel.event("progress", {"phase": Phase.PREPARE, "fraction": 0.0})
    try:
        with channel.interruptible():
            table = table_of(work, job, config)
            shape = shape_of(resolve(submitted), profile)
            found = preflight(
                table, submitted, shape, on_event=channel.event, should_stop=channel.should_stop
            )
    except Interrupted as stop:
        return _stopped(str(stop))
    if (asked := channel.should_stop()) is not None:
        return _stopped(asked)
    evidence = Evidence(config, submitted, Readings(), prepared=found.prepared, profile=profile)
    report = preflight_report(found.entries, data_of(evidence), summary=found.summary)
    outcome.write_json(work / outcome.REPORT, report)
    return Outcome("succeeded")


def _stopped(why: str) -> Outcome:
    """Nothing of it is kept: it takes seconds, and one that was released begins anew elsewhere."""
    late = {"code": JobErrorCode.DEADLINE.value, "message": _LATE, "where": {}}
    return Outcome(why, error=late if why == JobErrorCode.DEADLINE else None)
