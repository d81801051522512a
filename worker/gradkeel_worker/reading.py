"""The body of an ingest child: one upload in the work folder, read and described."""

import json
import tempfile
from pathlib import Path

from gradkeel_worker import outcome
from gradkeel_worker.ingest import Limits, Options, Rejected, ingest
from gradkeel_worker.outcome import Outcome


def read(work: Path) -> Outcome:
    """Read `upload` as `job.json` says; leaves `table.parquet` beside it, or says why not."""
    job = json.loads((work / outcome.JOB).read_text(encoding="utf-8"))
    tempfile.tempdir = str(work)
    try:
        found = ingest(
            work / outcome.UPLOAD, work, Options.from_json(job["options"]), Limits(**job["limits"])
        )
    except Rejected as refusal:
        return Outcome("rejected", problem=refusal.to_problem().to_json())
    return Outcome("succeeded", profile=found.profile)
