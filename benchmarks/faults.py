"""Seeded faults: ``make bench-faults DATA=folder`` puts known faults into runs and reads the reports.

Every fault is put into a healthy run of each set, with two optimizers where both make sense and one
magnitude a seed. Two seeds of each fault, and some sets, are held out: nobody looked at them while the rules
were made. Healthy runs are the presets and common configs on every set.

Results are kept line by line in ``--results``, so that a run that is cut short goes on where it was; delete
the file to begin anew. Options: --data FOLDER, --faults NAME …, --sets, --seeds, --part tuned|held, --healthy
and --repair on or off, --print (only the tables of what is kept), --confidence (the table of
diagnosis/confidence.py instead).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from seeded import figures, results, runs, wellset
from seeded.kinds import ADAMW, FAULTS, SEEDS, SGD, TUNED_SEEDS
from seeded.results import TWIN, Line
from seeded.tables import Source, sources
from seeded.wellset import SETTINGS, SLOW, names

HERE = Path(__file__).parent
FEW, RUNS_A_PROCESS = 20, 400
REPAIRS = 2


class Task(NamedTuple):
    """One run, by the key of its line."""

    set: str
    kind: str
    optimizer: str
    seed: int
    repair: int


def faults(arguments: argparse.Namespace) -> Iterator[Task]:
    """The runs with faults, all kinds of a seed before those of the next."""
    for seed in arguments.seeds:
        for source in sources(arguments.data):
            if is_part(arguments.part, source.tuned, seed):
                yield from (Task(source.name, TWIN, optimizer, seed, 0) for optimizer in (SGD, ADAMW))
                yield from faults_of(source, seed, arguments.repair)


def faults_of(source: Source, seed: int, repair: bool) -> Iterator[Task]:
    """The runs with faults of one set and seed."""
    for name, fault in FAULTS.items():
        for optimizer in fault.optimizers if source.task in fault.tasks else ():
            yield Task(source.name, name, optimizer, seed, 0)
            if repair and fault.repairable:
                yield Task(source.name, name, optimizer, seed, REPAIRS)


def is_part(part: str | None, tuned: bool, seed: int) -> bool:
    """Whether a run of such a set and seed belongs to the part asked for."""
    return part is None or (part == "tuned") == (tuned and seed in TUNED_SEEDS)


def healthy(arguments: argparse.Namespace) -> Iterator[Task]:
    """The healthy runs."""
    for seed in arguments.seeds:
        for name in names(arguments.data):
            for setting in SETTINGS:
                if not seed or setting not in SLOW:
                    yield Task(name, setting, "", seed, 0)


def done(data: Path | None, task: Task) -> Line:
    """One run."""
    if task.kind in SETTINGS:
        run = wellset.well_set(data, task.set, task.kind, task.seed)
    else:
        source = next(one for one in sources(data) if one.name == task.set)
        run = runs.put_into(source, data, task.kind, task.optimizer, task.seed)
    return runs.line_of(run, task._asdict())


def run(arguments: argparse.Namespace) -> None:
    """Do what is not done yet."""
    have = {line.key for line in results.read(arguments.results)}
    tasks = [task for task in planned(arguments) if task not in have]
    for task, line in zip(tasks, lines_of(arguments.data, tasks), strict=True):
        results.append(arguments.results, line)
        serious = ", ".join(one.rule for one in line.said if one.serious)
        print(f"{' · '.join(map(str, task))}: {line.error or serious or '–'}", file=sys.stderr)


def lines_of(data: Path | None, tasks: Sequence[Task]) -> Iterator[Line]:
    """The tasks' lines in their order. Long suites are run in processes that are renewed now and then."""
    if len(tasks) <= FEW:
        yield from (done(data, task) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=RUNS_A_PROCESS) as pool:
        yield from pool.map(done, [data] * len(tasks), tasks)


def planned(arguments: argparse.Namespace) -> list[Task]:
    """The runs that were asked for."""
    every = [*faults(arguments), *(healthy(arguments) if arguments.healthy else ())]
    return [
        task
        for task in every
        if (not arguments.sets or task.set in arguments.sets)
        and (not arguments.faults or task.kind in arguments.faults)
    ]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path)
    made.add_argument("--faults", nargs="*", default=[], choices=[*FAULTS, TWIN, *SETTINGS], metavar="NAME")
    made.add_argument("--sets", nargs="*", default=[])
    made.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    made.add_argument("--part", choices=["tuned", "held"])
    made.add_argument("--healthy", action=argparse.BooleanOptionalAction, default=True)
    made.add_argument("--repair", action=argparse.BooleanOptionalAction, default=True)
    made.add_argument("--results", type=Path, default=HERE / "seeded" / "results.jsonl")
    made.add_argument("--print", action="store_true", dest="only_print")
    made.add_argument("--confidence", action="store_true")
    return made


def main(given: Sequence[str] | None = None) -> None:
    arguments = parser().parse_args(given)
    if not arguments.only_print:
        run(arguments)
    chosen = set(planned(arguments))
    lines = [line for line in results.read(arguments.results) if line.key in chosen]
    print(figures.precision(lines) if arguments.confidence else figures.page(lines))


if __name__ == "__main__":
    main()
