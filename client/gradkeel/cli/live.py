"""A running job on the screen: a bar with loss and gradient norm, or lines where there is no terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from gradkeel.cli.screen import number
from gradkeel.client import Client
from gradkeel.resources.datasets import Dataset, goes_resumably
from gradkeel.sansio.flows import Event

LINES_A_RUN = 10
REMARKS_A_KIND = 3  # a guard may step in thousands of times; the report lists them
WIDE = 110
ACTIONS = {
    "skip_step": "skipped",
    "roll_back": "went back to earlier weights",
    "lower_scale": "lowered the loss scale",
    "stop": "training stopped",
}
READ_KEYS = {
    "phase": "phase",
    "epoch": "epoch",
    "epochs": "epochs",
    "fraction": "fraction",
    "eta_seconds": "eta",
    "global_norm": "norm",
    "lr": "lr",
    "train_loss": "loss",
    "loss": "loss",
    "validation_loss": "validation",
}


@dataclass(frozen=True)
class Readout:
    """The latest of what the events said. Loss and gradient norm are those of training, before clipping."""

    phase: str = "queued"
    epoch: int | None = None
    epochs: int | None = None
    fraction: float = 0.0
    eta: float | None = None
    loss: float | None = None
    validation: float | None = None
    norm: float | None = None
    lr: float | None = None

    def after(self, event: Event) -> Readout:
        """The readout with one more event taken in."""
        if event.name == "state":
            return replace(self, phase=str(event.data.get("state", self.phase)))
        if event.name not in {"progress", "epoch", "reading"}:
            return self
        told = {READ_KEYS[key]: value for key, value in event.data.items() if key in READ_KEYS}
        if isinstance(told.get("epoch"), int):
            told["epoch"] += 1  # people count epochs from one
        return replace(self, **{key: value for key, value in told.items() if value is not None})

    def words(self, brief: bool = False) -> str:
        """One line of what is known; ``brief`` leaves out what a narrow terminal has no room for."""
        epochs = f"{self.epoch}/{self.epochs}" if self.epochs else self.epoch
        parts = [
            ("epoch", None if self.epoch is None else str(epochs)),
            ("loss", _text(self.loss)),
            ("validation", None if brief else _text(self.validation)),
            ("gradient norm", _text(self.norm)),
            ("lr", None if brief else _text(self.lr)),
        ]
        return "  ".join(f"{name} {value}" for name, value in parts if value is not None)


def _text(value: float | None) -> str | None:
    return None if value is None else number(value)


class Remarks:
    """What is worth a line of its own: interventions, and holes in the stream."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def on(self, event: Event) -> str | None:
        """The line for an event; the same kind is told a few times, then no more."""
        if event.name == "gap":
            return "(some events may be missing here; the job is not affected)"
        if event.name == "log" and "counterfactual" in event.data:
            return str(event.data.get("message"))
        if is_repair(event):
            return str(event.data.get("message") or "")
        if event.name != "intervention":
            return None
        kind = f"{event.data.get('action')}: {event.data.get('reason')}"
        self._seen[kind] += 1
        if self._seen[kind] > REMARKS_A_KIND:
            return None
        line = intervention_line(event.data)
        return line if self._seen[kind] < REMARKS_A_KIND else f"{line} (more of these are not shown)"


def is_repair(event: Event) -> bool:
    """Whether an event tells that a repair begins, or what came of one."""
    return event.name == "log" and "repair" in event.data


def intervention_line(data: Mapping[str, Any]) -> str:
    """A guard's doing in words."""
    action = str(data.get("action") or "").replace("_", " ")
    told = ACTIONS.get(str(data.get("action")), action)
    return f"step {data.get('step')}: {told}" + (f", {data['reason']}" if data.get("reason") else "")


class View(Protocol):
    """Shows events. A context manager, so that the screen is left in order whatever happens."""

    def __enter__(self) -> View: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, event: Event) -> None:
        """Take in one event."""


class BarView:
    """A progress bar that stays in its line; interventions scroll by above it."""

    def __init__(self, console: Console) -> None:
        self._readout = Readout()
        self._remarks = Remarks()
        self._wide = console.width >= WIDE
        columns = [
            SpinnerColumn(),
            TextColumn("{task.fields[phase]:<8}"),
            BarColumn(bar_width=24 if self._wide else 10),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[left]}"),
        ]
        self._progress = Progress(*columns, console=console, transient=True)
        self._task: TaskID = self._progress.add_task("", total=1.0, phase="queued", left="")

    def __enter__(self) -> BarView:
        self._progress.start()
        return self

    def __exit__(self, *ended: Any) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        self._readout = self._readout.after(event)
        read = self._readout
        if line := self._remarks.on(event):
            self._progress.console.print(Text(line))
        left = f"{read.eta:.0f} s left" if self._wide and read.eta is not None else ""
        self._progress.update(
            self._task,
            completed=read.fraction,
            description=read.words(brief=not self._wide),
            phase=read.phase,
            left=left,
        )


class LineView:
    """About ten lines a run, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._readout = Readout()
        self._remarks = Remarks()
        self._shown = -1

    def __enter__(self) -> LineView:
        return self

    def __exit__(self, *ended: Any) -> None:
        return None

    def show(self, event: Event) -> None:
        before, self._readout = self._readout, self._readout.after(event)
        if is_repair(event):
            self._shown = -1  # another training begins, and its epochs count from one
        if line := self._remarks.on(event):
            self._print(line)
        elif event.name == "epoch" and self._due():
            self._print(self._readout.words())
        elif event.name == "progress" and self._readout.phase not in {before.phase, "train"}:
            self._print(self._readout.phase)

    def _due(self) -> bool:
        """Whether a tenth of the epochs has passed since the last line."""
        read = self._readout
        tenth = int(LINES_A_RUN * (read.epoch or 0) / read.epochs) if read.epochs else read.epoch or 0
        due = tenth > self._shown
        self._shown = max(self._shown, tenth)
        return due

    def _print(self, line: str) -> None:
        self._console.print(Text(f"  {line}"), soft_wrap=True)


def view_on(console: Console) -> View:
    """The bar on a terminal, lines elsewhere."""
    return BarView(console) if console.is_terminal else LineView(console)


def upload_bar(console: Console, name: str) -> Progress:
    """A bar of bytes for one upload."""
    bar = bytes_bar(console)
    bar.add_task(f"Sending {name}", total=None)
    return bar


def bytes_bar(console: Console) -> Progress:
    """Bars of bytes, with their rate and the time left; nothing is shown where there is no terminal."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def send_file(client: Client, console: Console, file: Path, **options: Any) -> Dataset:
    """Upload a file and wait until it is read, with a bar for its digest and one for its bytes.

    Ctrl-C says that a large one goes on where it was, when the same command is run again.
    """
    with bytes_bar(console) as bar:
        try:
            return client.datasets.upload(
                file,
                hashing=_counted(bar, f"Reading {file.name}"),
                progress=_counted(bar, f"Sending {file.name}"),
                **options,
            )
        except KeyboardInterrupt:
            if goes_resumably(file.stat().st_size, options.get("resumable")):
                bar.stop()
                console.print(Text("What was sent is kept for a while: run the same command again to go on."))
            raise


def _counted(bar: Progress, description: str) -> Callable[[int, int], None]:
    """A callback that shows its counts under ``description``, from its first call on."""
    tasks: list[TaskID] = []

    def count(done: int, total: int) -> None:
        if not tasks:
            for former in bar.task_ids:
                bar.update(former, visible=False)
            tasks.append(
                bar.add_task(description, total=total, completed=done)
            )  # no rate from what was there
        bar.update(tasks[0], completed=done, total=total)

    return count
