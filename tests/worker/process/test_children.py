"""Child processes: exit codes, bounds, signals, and what dies with whom."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gradkeel_worker import limits, outcome
from gradkeel_worker.folders import LOCK, WorkFolder, sweep
from gradkeel_worker.limits import Bounds
from gradkeel_worker.outcome import Outcome
from gradkeel_worker.processes import Child, start_forkserver
from gradkeel_worker.signals import Stop, StopSignal
from processes import wait_for_exit

from .conftest import training_processes


@pytest.fixture(autouse=True)
def _forkserver() -> None:
    start_forkserver()


def run(work: Path, body: str = "devices") -> int | None:
    work.mkdir()
    child = Child(body, work, Bounds(memory_mb=1024))
    child.wait_for_end()
    return child.close()


def test_a_child_says_how_it_ended(tmp_path: Path) -> None:
    assert run(tmp_path / "w") == 0
    found = Outcome.read(tmp_path / "w")
    assert found is not None and found.metrics is not None
    assert found.metrics["devices"][0] == "cpu"


def test_an_exception_becomes_an_error_and_a_traceback(tmp_path: Path) -> None:
    assert run(tmp_path / "w", "ingest") == 0  # there is no job.json
    found = Outcome.read(tmp_path / "w")
    assert found is not None and found.error is not None
    assert found.error["code"] == "internal"
    assert "Traceback" in (tmp_path / "w" / "output.txt").read_text()


def test_exit_codes_are_right_when_many_threads_start_children(tmp_path: Path) -> None:
    """Without the lock around start and join, a few of these would read as 255."""
    codes: list[int | None] = []

    def several(name: str) -> None:
        codes.extend(run(tmp_path / f"{name}-{index}") for index in range(15))

    threads = [threading.Thread(target=several, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 60


def test_a_killed_child_is_seen_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / outcome.JOB)  # which holds the child for as long as nobody writes
    child = Child("train", tmp_path, Bounds(memory_mb=1024))
    child.kill()
    child.wait_for_end()
    assert child.close() == -signal.SIGKILL


def test_what_a_process_group_started_dies_with_it(tmp_path: Path) -> None:
    """An orphan test from outside: a worker process is killed, forkserver and child go with it."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from gradkeel_worker.limits import Bounds\n"
        "from gradkeel_worker.processes import Child, start_forkserver\n"
        "if __name__ == '__main__':\n"
        "    start_forkserver()\n"
        "    work = Path(sys.argv[1])\n"
        "    (work / 'job.json').write_text('{\"options\": {}, \"limits\": {}}')\n"
        "    import os\n"
        "    os.mkfifo(work / 'upload')\n"  # reading it waits for ever
        "    child = Child('ingest', work, Bounds(memory_mb=1024))\n"
        "    print(child.pid, flush=True)\n"
        "    threading.Event().wait()\n"
    )
    work = tmp_path / "work"
    work.mkdir()
    parent = subprocess.Popen([sys.executable, str(script), str(work)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert pid in training_processes(parent.pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_for_exit(pid)


def test_the_celery_side_stays_light() -> None:
    """The process that supervises must not hold what only children need."""
    code = (
        "import sys, gradkeel_worker.tasks; print({'torch', 'numpy', 'duckdb', 'pyarrow'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_memory_is_bounded_and_the_child_can_still_say_so(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "job.json").write_text('{"options": {}, "limits": {"memory_mb": 64}}')
    wide = b"x" * 1_900_000  # one record that fits, many of which do not
    (tmp_path / "w" / "upload").write_bytes(b"a,b\n" + b"".join(b"%d,%s\n" % (n, wide) for n in range(40)))
    child = Child("ingest", tmp_path / "w", Bounds(memory_mb=24))
    child.wait_for_end()
    assert child.close() == 0
    found = Outcome.read(tmp_path / "w")
    assert found is not None and found.error is not None
    assert found.error["code"] == "out_of_memory"


def test_a_stronger_reason_to_stop_replaces_a_weaker_one() -> None:
    stop = StopSignal()
    stop.request(Stop.CANCELLED)
    stop.request(Stop.DEADLINE)
    assert stop.reason is Stop.CANCELLED
    stop.request(Stop.LOST)
    assert stop.reason is Stop.LOST
    stop.clear()
    stop.close()
    stop.request(Stop.LOST)  # too late, and no error


def test_work_folders_of_dead_workers_are_swept(tmp_path: Path) -> None:
    living = WorkFolder(tmp_path, "living")
    dead = tmp_path / "dead"
    dead.mkdir()
    (dead / LOCK).touch()
    (tmp_path / "not ours").mkdir()
    assert sweep(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["living", "not ours"]
    living.close()
    assert [path.name for path in tmp_path.iterdir()] == ["not ours"]


def test_data_bytes_are_read_from_the_kernel() -> None:
    before = limits.data_bytes()
    ballast = bytearray(64 << 20)
    assert limits.data_bytes() - before >= len(ballast) // 2
    assert limits.kernel_kills() >= 0
    assert os.getpid()
