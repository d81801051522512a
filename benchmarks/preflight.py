"""What preflight recommends on every set, and whether a training with that is stable.

``python benchmarks/preflight.py --data FOLDER`` looks at each set of regression and classification under
the presets ``standard`` (with AdamW, and with plain SGD) and ``best`` and prints, for each, the CPU seconds
of the look and the learning rate that it recommends. What is recommended under ``standard`` is then trained
for a while. A training is *stable* where it succeeded, no finding tells of a gradient that exploded, of a
number that is not finite or of a learning rate that is too high, and the loss of its last tenth is below that
of its first.

``raw`` and ``scaled`` are the largest stable rates that preflight finds for a plain network (custom, SGD,
squared loss for numbers) with the columns as they stand, and with inputs and target scaled.

Options: --sets NAME …, --steps (of each training, at least an epoch), --results FILE (what is there is kept).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contest.sets import CLASSIFICATION, SETS, Set
from gradkeel.contract.patch import merge_patch
from gradkeel.contract.resolve import resolve, shape_of
from gradkeel_worker.data import Table, read_table
from gradkeel_worker.engine import train
from gradkeel_worker.ingest import Limits, Options, ingest
from gradkeel_worker.preflight import Preflight, preflight

Json = dict[str, Any]

STEPS, MOST_EPOCHS = 400, 40
UNSTABLE = frozenset({"exploding_gradient", "non_finite", "lr_too_high"})
RUNS: dict[str, Json] = {
    "adamw": {"preset": "standard"},
    "sgd": {"preset": "standard", "optimizer": {"kind": "sgd"}},
    "best": {"preset": "best"},
    "plain": {"preset": "custom", "optimizer": {"kind": "sgd"}},
}
TRAINED = ("adamw", "sgd")


def asked(one: Set, run: str) -> Json:
    """The config as a user would submit it."""
    types = {one.target: "categorical"} if one.task == CLASSIFICATION else {}
    loss = {"loss": {"kind": "mse"}} if run == "plain" and not types else {}
    return (
        loss | RUNS[run] | {"target": one.target, "columns": {"exclude": list(one.without), "types": types}}
    )


def looked(table: Table, profile: Json, submitted: Json) -> tuple[Preflight, Json]:
    """What a preflight finds, and its seconds."""
    wall, cpu = time.monotonic(), time.process_time()
    found = preflight(table, submitted, shape_of(resolve(submitted), profile))
    return found, {"seconds": time.monotonic() - wall, "cpu": time.process_time() - cpu}


def limits(found: Preflight) -> Json:
    """The limits with the columns as they stand and with both scaled, of the config's own loss."""
    own = [entry for entry in found.entries if entry["dry_run"] is not None]
    named = {"raw": r"\bnone\b", "scaled": r"inputs and target|as configured"}
    told: Json = {}
    for key, word in named.items():
        for entry in own:
            known = [entry[name] for name in ("local_stability_limit", "gauss_newton_limit") if entry[name]]
            if re.search(word, entry["scaling"]) and key not in told and known:
                told[key] = min(known)
    return told


def trained(table: Table, profile: Json, submitted: Json, patch: Json, steps: int) -> Json:
    """How a training with the patch goes."""
    patched = merge_patch(submitted, patch)
    shape = shape_of(resolve(patched), profile)
    batches = math.ceil(0.7 * len(table) / resolve(patched, shape).budget.batch_size)
    epochs = max(1, min(MOST_EPOCHS, round(steps / batches)))
    budget = {"epochs": epochs, "patience": 0, "max_seconds": None}
    patched = merge_patch(patched, {"budget": budget})
    result = train(table, resolve(patched, shape), profile=profile, submitted=patched)
    losses = result.readings.loss
    tenth = max(1, len(losses) // 10)
    first, last = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
    rules = sorted({finding["rule"] for finding in result.report["findings"]} & UNSTABLE)
    stable = result.status == "succeeded" and not rules and last < first
    return {"stable": stable, "rules": rules, "first": first, "last": last, "steps": len(losses)}


def measured(one: Set, data: Path, steps: int) -> Json:
    """Everything of one set."""
    with tempfile.TemporaryDirectory() as work:
        read = ingest(data / one.file, Path(work), Options.from_json({}), Limits())
        record: Json = {"set": one.name, "rows": read.profile["rows"]}
        for run in RUNS:
            submitted = asked(one, run)
            config = resolve(submitted, shape_of(resolve(submitted), read.profile))
            table = read_table(read.path, read.profile, config)
            found, told = looked(table, read.profile, submitted)
            best = next((entry for entry in found.entries if entry["recommended"]), None)
            told |= {"summary": found.summary, **limits(found)}
            if best is not None:
                told |= {"lr": best["lr"], "scaling": best["scaling"]}
                if run in TRAINED:
                    told |= trained(table, read.profile, submitted, best["patch"], steps)
            record[run] = told
    return record


def lines(records: list[Json]) -> Iterator[str]:
    """The table."""
    yield (
        f"{'set':22} {'rows':>7} {'CPU s':>6} {'best':>6} | {'adamw lr':>8} {'stable':>6} {'loss':>16} | "
        f"{'sgd lr':>8} {'stable':>6} {'loss':>16} | {'raw':>8} {'scaled':>8}"
    )
    for record in records:
        runs = " | ".join(_run(record[run]) for run in TRAINED)
        plain = record["plain"]
        yield (
            f"{record['set'][:22]:22} {record['rows']:>7} {record['adamw']['cpu']:>6.1f} "
            f"{record['best']['cpu']:>6.1f} | {runs} | {_number(plain.get('raw')):>8} "
            f"{_number(plain.get('scaled')):>8}"
        )
    for run in TRAINED:
        good = sum(bool(record[run].get("stable")) for record in records)
        yield f"{run}: {good} of {len(records)} stable"
    for run in RUNS:
        seconds = sorted(record[run]["cpu"] for record in records)
        yield f"look, {run}: median {seconds[len(seconds) // 2]:.1f}, longest {seconds[-1]:.1f} CPU s"


def _run(told: Json) -> str:
    if "lr" not in told:
        return f"{'none':>8} {'':>6} {'':>16}"
    course = f"{told['first']:.3g} → {told['last']:.3g}"
    word = "yes" if told["stable"] else ",".join(told["rules"]) or "no"
    return f"{told['lr']:>8.2g} {word:>6} {course:>16}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=[one.name for one in SETS])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = [] if options.results is None else _kept(options.results)
    records = [record for record in kept if record["set"] in options.sets]
    for one in SETS:
        if one.name in options.sets and one.name not in {record["set"] for record in records}:
            records.append(measured(one, options.data, options.steps))
            if options.results is not None:
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(records[-1]) + os.linesep)
    for line in lines(sorted(records, key=lambda record: str(record["set"]))):
        print(line)


def _kept(path: Path) -> list[Json]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
