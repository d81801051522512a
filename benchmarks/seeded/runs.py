"""One run from an uploaded file to its report, and what is kept of it."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from gradkeel.contract.patch import merge_patch
from gradkeel.contract.resolve import resolve, shape_of
from gradkeel_worker.data import read_table
from gradkeel_worker.engine import Result, train
from gradkeel_worker.ingest import Limits, Options, ingest
from seeded.kinds import FAULTS, Run, healthy
from seeded.results import TWIN, Line, Said
from seeded.tables import Source

Json = dict[str, Any]


def put_into(source: Source, folder: Path | None, name: str, optimizer: str, seed: int) -> Run:
    """The healthy run of this set, seed and optimizer with the fault of this name put into it, or TWIN: the
    run as it is.
    """
    run = healthy(source.load(folder, seed), source.task, optimizer, seed)
    if name == TWIN:
        return run
    return FAULTS[name].put(run, FAULTS[name].magnitudes[seed])


def line_of(run: Run, key: Json) -> Line:
    """The run's line; a failure of the program itself is kept as its error."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    started = time.process_time()
    try:
        result = trained(run, key["repair"])
    except Exception as failure:
        error = f"{type(failure).__name__}: {str(failure)[:200]}"
        return Line(**key, error=error, cpu_seconds=round(time.process_time() - started, 2))
    return Line(
        **key,
        verdict=result.report["verdict"],
        said=[said(finding, run) for finding in result.report["findings"]],
        metric=metric_of(result, run, "model"),
        constant=metric_of(result, run, "constant"),
        repairs=[[one["rule"], one["status"]] for one in result.report["repair"]],
        cpu_seconds=round(time.process_time() - started, 2),
    )


def trained(run: Run, repair: int = 0) -> Result:
    """The run as a user's: its table as a file, read and typed by ingest."""
    config = merge_patch(run.config, {"health": {"repair": repair}}) if repair else run.config
    with TemporaryDirectory() as folder:
        source, work = Path(folder) / "table.csv", Path(folder) / "work"
        work.mkdir()
        run.table.to_csv(source, index=False)
        ingested = ingest(source, work, Options.from_json({}), Limits())
        resolved = resolve(config, shape_of(resolve(config), ingested.profile))
        table = read_table(ingested.path, ingested.profile, resolved)
        return train(table, resolved, loss=run.loss, profile=ingested.profile, submitted=config)


def said(finding: Json, run: Run) -> Said:
    """What a line keeps of a finding. ``placed``: it names the seeded place."""
    where, evidence = finding["where"], finding["evidence"]
    row = run.row is None or where["row"] in (None, run.row)
    return Said(
        finding["rule"],
        finding["severity"],
        str(finding["confidence"]),
        evidence.get("issue") or evidence.get("most_likely_cause"),
        where["column"] == run.column and row,
    )


def metric_of(result: Result, run: Run, who: str) -> float | None:
    """Test error of the model or of the best constant: mean absolute error in the file's own units of a
    number, else log loss.
    """
    told = result.metrics["test"] if who == "model" else result.metrics["baselines"].get(who)
    value = (told or {}).get("mae" if run.task != "binary" and "mae" in (told or {}) else "log_loss")
    return None if value is None else float(value) / run.unit
