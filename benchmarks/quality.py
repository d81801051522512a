"""Quality on real tables beside the usual peers: ``make bench-quality DATA=folder``.

Every contestant gets the same rows in the same parts (64 % training, 16 % validation, 20 % test) and its
own defaults, with early stopping on the validation part; five seeds, each with a split of its own. Dirty
rows: 5 % of a regression's training and validation targets × 20 and 1 % of their feature cells × 1000; the
test part is clean.

Results are kept line by line in ``--results``, so that a run that is cut short goes on where it was; delete
the file to begin anew. Options: --data FOLDER, --seeds, --rows (more are sampled), --sets, --models, --dirty,
--print (only the tables of what is kept), --chart FILE.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contest import results
from contest.results import Line
from contest.sets import REGRESSION, SETS, Set, load, soiled

MODELS = (
    "linear",
    "sklearn MLP",
    "sklearn HGB",
    "XGBoost",
    "LightGBM",
    "CatBoost",
    "Gradkeel fast",
    "Gradkeel standard",
    "Gradkeel best",
)
HERE = Path(__file__).parent


def contested(
    folder: Path, one: Set, seed: int, dirty: bool, models: Sequence[str], kept: Path, rows: int
) -> None:
    """Have the models answer one split of one set; runs in a process of its own."""
    from contest.peers import PEERS, Contest  # noqa: PLC0415 - boosters and torch stay out of the parent

    warnings.filterwarnings("ignore")
    table = load(folder, one, rows, seed)
    contest = Contest.of(one, soiled(table, one, seed) if dirty else table, seed)
    for model in models:
        line = tried(PEERS[model], contest, model, dirty)
        results.append(kept, line)
        told = line.error or "  ".join(f"{k} {v:.5g}" for k, v in line.metrics.items() if v is not None)
        print(f"{one.name} seed {seed} {dirty=} {model}: {told}  {line.seconds:.1f} s", file=sys.stderr)


def tried(peer: Any, contest: Any, model: str, dirty: bool) -> Line:
    """One contestant's line; one that fails is told in the table."""
    metrics: dict[str, float | None] = {}
    error = None
    started, cpu = time.perf_counter(), time.process_time()
    try:
        answer = peer(contest)
    except Exception as failure:
        error = f"{type(failure).__name__}: {str(failure)[:120]}"
        traceback.print_exc()
    spent = round(time.perf_counter() - started, 2), round(time.process_time() - cpu, 2)
    if error is None:
        metrics = results.judged(contest.one.task, contest.part("test")[1].to_numpy(), answer)
    return Line(contest.one.name, contest.seed, dirty, model, len(contest.table), *spent, metrics, error)


def run(arguments: argparse.Namespace) -> None:
    """Hold what is not held yet, one process for each split of each set."""
    done = {line.key for line in results.read(arguments.results)}
    context = multiprocessing.get_context("spawn")
    for seed in arguments.seeds:
        for one in chosen(arguments.sets):
            for dirty in (False, True) if arguments.dirty and one.task == REGRESSION else (False,):
                missing = [m for m in arguments.models if (one.name, seed, dirty, m) not in done]
                if missing:
                    given = (arguments.data, one, seed, dirty, missing, arguments.results, arguments.rows)
                    process = context.Process(target=contested, args=given)
                    process.start()
                    process.join()


def chosen(names: Sequence[str]) -> list[Set]:
    """The sets of these names, all without names."""
    return [one for one in SETS if not names or one.name in names]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--dirty", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--results", type=Path, default=HERE / "contest" / "results.jsonl")
    parser.add_argument("--print", action="store_true", dest="only_print")
    parser.add_argument("--chart", type=Path)
    arguments = parser.parse_args()
    if not arguments.only_print:
        if arguments.data is None:
            parser.error("--data FOLDER: the folder with the data sets")
        run(arguments)
    lines = [line for line in results.read(arguments.results) if line.model in arguments.models]
    print(results.tables(lines, arguments.models))
    if arguments.chart is not None:
        results.chart(lines, arguments.models, arguments.chart)


if __name__ == "__main__":
    main()
