"""`make demo`: the whole of Gradkeel on real data, in about two minutes, through its own command line.

Starts a stack of its own (data folder and profile under demo/, a free port), trains on scikit-learn's
diabetes data in raw units with and without stabilisation, shows the reports, applies the proposed patch, and
stops all that it started. Everything it makes lies under demo/.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sklearn.datasets import load_diabetes

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
GRADKEEL = (sys.executable, "-m", "gradkeel")
READY = re.compile(r"ready at (\S+)")
STOP_SECONDS = 40
MOST_PATCHES = 3

COMMON: Json = {
    "target": "progression",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [64, 64]},
    "budget": {"epochs": 100, "batch_size": 64},
}
SGD: Json = {"optimizer": {"kind": "sgd", "lr": 0.01}}
ADAMW: Json = {"optimizer": {"kind": "adamw", "lr": 0.001}}
STABLE: Json = {
    "prepare": {"numeric": {"kind": "standard"}, "target": {"kind": "standard"}},
    "loss": {"kind": "huber", "delta": 1.0},
    "clips": [{"kind": "norm", "max_norm": 1.0}],
}
RAW: Json = {
    "prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}},
    "loss": {"kind": "mse"},
    "clips": [],
}


class DemoFailed(Exception):
    """The demo did not show what it is there to show."""


# ------------------------------------------------------------------------------------------- the stack


def environment(folder: Path) -> dict[str, str]:
    """The caller's environment without Gradkeel's settings; data folder and profile lie under ``folder``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GRADKEEL_")}
    return kept | {
        "GRADKEEL_DATA": str(folder / "stack"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PYTHONUNBUFFERED": "1",
    }


@contextlib.contextmanager
def stack(env: Mapping[str, str]) -> Iterator[str]:
    """A running stack; gives its address, and stops it whatever happens."""
    command = [*GRADKEEL, "up", "--port", "0"]
    process = subprocess.Popen(
        command, env=dict(env), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield _address(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := READY.search(line):
            return found[1]
    raise DemoFailed("the stack did not start")


# -------------------------------------------------------------------------------------------- the runs


class Runs:
    """Runs `gradkeel train` and keeps what came of it."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.table: list[tuple[str, Json]] = []

    def train(self, name: str, config: Json, out: Path, *, quiet: bool = False) -> Json:
        """Train with a config; the words go to the screen unless ``quiet``."""
        file = self.folder / "configs" / f"{name.replace(' ', '-').replace(',', '')}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        return self._run(name, ["--config", str(file), "--out", str(out)], quiet)

    def mend(self, name: str, job_id: str, out: Path) -> Json:
        """Run a job again with the first patch of its report."""
        return self._run(name, ["--apply", job_id, "--out", str(out)], quiet=False)

    def _run(self, name: str, options: Sequence[str], quiet: bool) -> Json:
        file = self.folder / "diabetes.csv"
        command = [*GRADKEEL, "train", str(file), "--json", *options]
        shown = ["gradkeel", "train", file.name, *(_short(option) for option in options)]
        say(f"$ {' '.join(shown)}")
        # The words go where the demo's own go, so that a log of it keeps their order.
        errors = subprocess.DEVNULL if quiet else sys.stdout
        done = subprocess.run(command, env=dict(self.env), stdout=subprocess.PIPE, stderr=errors, text=True)
        if not done.stdout:
            raise DemoFailed(f"'gradkeel train' ended with status {done.returncode} and said nothing")
        document: Json = json.loads(done.stdout)
        if document["job"] is None:
            raise DemoFailed(json.dumps(document.get("error"), indent=2))
        self.table.append((name, document))
        return document


def _short(option: str) -> str:
    return str(Path(option).relative_to(ROOT)) if option.startswith(str(ROOT)) else option


def write_diabetes(path: Path) -> None:
    """scikit-learn's diabetes data in raw units, as CSV."""
    data = load_diabetes(scaled=False)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*data.feature_names, "progression"])
        writer.writerows([*map(float, row), float(y)] for row, y in zip(data.data, data.target, strict=True))


def state(document: Json) -> str:
    return str(document["job"]["state"])


# ------------------------------------------------------------------------------------------- the words


def say(text: str = "") -> None:
    print(text, flush=True)


def head(text: str) -> None:
    say(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}")
    say("─" * min(len(text), 100))


def number(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) else "–"


def part(metrics: Json | None, *path: str) -> Any:
    """A number inside the metrics, or None where it was not measured."""
    found: Any = metrics
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def baseline(metrics: Json | None, name: str) -> Any:
    """The test RMSE of a baseline."""
    values = part(metrics, "baselines", name)
    return part(values, "rmse") if part(values, "test") is None else part(values, "test", "rmse")


def show_table(runs: Sequence[tuple[str, Json]]) -> None:
    """What was measured, in the target's own units: comparable across scalings and losses."""
    names = f"{'test RMSE':>10}{'MAE':>8}{'constant':>10}{'ridge':>8}{'s':>7}"
    say(f"{'run':<28}{'job':<11}{'verdict':<10}{names}")
    for name, document in runs:
        metrics = document["metrics"]
        cells = [part(metrics, "test", "rmse"), part(metrics, "test", "mae")]
        cells += [baseline(metrics, "constant"), baseline(metrics, "ridge"), document["seconds"]]
        widths = (10, 8, 10, 8, 7)
        told = "".join(f"{number(cell):>{width}}" for cell, width in zip(cells, widths, strict=True))
        say(f"{name:<28}{state(document):<11}{document['verdict'] or '–':<10}{told}")


def compare(stabilised: Json, raw: Json) -> str:
    """The AdamW pair in words, whichever way it fell."""
    with_it, without = (part(run["metrics"], "test", "rmse") for run in (stabilised, raw))
    if with_it is None or without is None:
        return f"AdamW: the raw run ended {state(raw)}, the stabilised one {state(stabilised)}."
    better = "the stabilised run is better" if with_it < without else "the raw run is better, on this split"
    return f"AdamW: test RMSE {with_it:.1f} stabilised, {without:.1f} on raw data: {better}."


# --------------------------------------------------------------------------------------------- the demo


def first_pair(runs: Runs, folder: Path) -> Json:
    head("1. Plain SGD, stabilised: standard scaling, Huber loss, gradient norm clipped at 1.0")
    stabilised = runs.train("SGD, stabilised", COMMON | SGD | STABLE, folder)
    if state(stabilised) != "succeeded":
        raise DemoFailed("the stabilised run did not succeed")
    head("2. The same without stabilisation: raw units, squared error, no clipping")
    raw = runs.train("SGD, raw", COMMON | SGD | RAW, folder / "raw")
    if state(raw) != "failed":
        say("This time it did not diverge.")
    return raw


def mended(runs: Runs, raw: Json, folder: Path) -> Json:
    """Apply the first patch of the report; where that is not enough, that of the next report."""
    head("3. The report's own patch, applied")
    last = raw
    for attempt in range(1, MOST_PATCHES + 1):
        name = "SGD, raw, patched" + (f" ×{attempt}" if attempt > 1 else "")
        last = runs.mend(name, last["job"]["id"], folder / "mended")
        if state(last) == "succeeded":
            return last
    raise DemoFailed(f"{MOST_PATCHES} patches did not mend the run")


def adamw_pair(runs: Runs, folder: Path) -> None:
    head("4. AdamW at 1e-3, which survives raw data: is it better off stabilised?")
    stabilised = runs.train("AdamW, stabilised", COMMON | ADAMW | STABLE, folder / "adamw", quiet=True)
    raw = runs.train("AdamW, raw", COMMON | ADAMW | RAW, folder / "adamw-raw", quiet=True)
    say(compare(stabilised, raw))


def fresh(folder: Path) -> None:
    """Remove what an earlier demo left, and nothing else."""
    for name in ("stack", "config", "configs", "raw", "mended", "adamw", "adamw-raw"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("model.gradkeel", "report.html", "report.json", "predictions.csv", "diabetes.csv"):
        (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def demo(folder: Path) -> None:
    """Run it all into ``folder``. Raises ``DemoFailed``."""
    started = time.monotonic()
    fresh(folder)
    write_diabetes(folder / "diabetes.csv")
    env = environment(folder)
    with stack(env) as url:
        say(f"Broker, worker and HTTP server run at {url} ({time.monotonic() - started:.1f} s).")
        runs = Runs(folder, env)
        raw = first_pair(runs, folder)
        if state(raw) == "failed":
            mended(runs, raw, folder)
        adamw_pair(runs, folder)
        head("What was measured (test part, target units)")
        show_table(runs.table)
    say(f"\nAll stopped after {time.monotonic() - started:.0f} s. Left in {folder}:")
    say("  model.gradkeel, report.html, report.json, predictions.csv   (run 1)")
    say("  raw/report.html   why run 2 failed        mended/   what its patch made of it")


def main() -> int:
    """The exit status: 0 where everything was shown."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        demo(ROOT / "demo")
    except (DemoFailed, KeyboardInterrupt) as error:
        say(f"\nThe demo stopped: {error or 'interrupted'}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
