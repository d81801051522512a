"""`gradkeel up`: one supervisor; the broker, the worker, the consumer and the HTTP server are its children.

Runs as `python -m gradkeel_service.stack`, a process that loads nothing heavy. All state is in one data
folder; a lock there keeps a second stack away.
"""

import fcntl
import http.client
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click

from gradkeel_service.errors import StackError
from gradkeel_service.stack import profile
from gradkeel_service.stack.children import Child, stop
from gradkeel_service.stack.embedded import Broker
from gradkeel_store.settings import default_data

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

READY_SECONDS = 60.0
LOOK_SECONDS = 0.05
"""Between two looks while starting."""
WATCH_SECONDS = 5.0
"""Between two looks at a running stack."""
STUCK_SECONDS = 90.0
"""A child that lives but shows no progress for so long is killed, and so started again."""
DEATHS_AT_START = 3
STOP_SECONDS = 20.0
BROKER_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Options:
    """What the user asked for. Port 0 takes a free one; ``workers`` is how many jobs run at a time."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int | None = None


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# ------------------------------------------------------------------------------------------ one at a time


class Lock:
    """DATA/up.lock, held as long as a stack runs; it names the process and the address."""

    def __init__(self, data: Path) -> None:
        self.path = data / "up.lock"
        self._file: TextIO | None = None

    def take(self) -> None:
        """Raises ``StackError`` when another stack holds it."""
        file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            holder = self.holder()
            raise StackError(
                f"gradkeel is running on {self.path.parent} already (process {holder.get('pid', '?')}, "
                f"{holder.get('url', 'starting')}); 'gradkeel down --data {self.path.parent}' stops it"
            ) from error
        self._file = file

    def describe(self, url: str | None) -> None:
        assert self._file is not None
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "url": url or "starting"}))
        self._file.flush()

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()

    def holder(self) -> dict[str, Any]:
        """What the stack that holds the lock wrote; empty where that cannot be read."""
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def is_held(self) -> bool:
        try:
            with self.path.open("r", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True


def stop_running(data: Path, seconds: float = 35.0) -> bool:
    """Stop the stack on ``data``; False when none runs there. ``StackError`` when it does not stop."""
    lock = Lock(data)
    if not lock.is_held():
        return False
    pid = lock.holder().get("pid")
    if not isinstance(pid, int):
        raise StackError(f"{lock.path} is held but names no process; stop it by hand")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while lock.is_held():
        if time.monotonic() > deadline:
            raise StackError(f"process {pid} did not stop within {seconds:.0f} s")
        time.sleep(LOOK_SECONDS)
    return True


# ------------------------------------------------------------------------------------------------- the stack


class Stack:
    """Starts, watches and stops the children."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self.options = options
        self.say = say
        self.logs = options.data / "logs"
        self.broker: Broker | None = None
        self.children: dict[str, Child] = {}
        self._asked_to_stop = False
        self._good: dict[str, float] = {}

    # Starting

    def start(self) -> str:
        """Start everything and wait until jobs would run; the URL. Raises ``StackError``."""
        self.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        listener = _listen(self.options.host, self.options.port)
        self.url = _url(self.options.host, listener.getsockname()[1])
        env = self._environment()
        if self.broker is not None:
            self._start_broker(self.broker, env)
        fd = listener.detach()
        self._add("worker", [sys.executable, "-m", "gradkeel_worker"], env, signal.SIGKILL)
        self._add("consumer", [sys.executable, "-m", "gradkeel_service.consumer"], env, signal.SIGKILL)
        self._add("http", http_command(f"fd://{fd}"), env, signal.SIGTERM, pass_fds=(fd,))
        key = self._own_key(env)
        profile.write(self.options.data / profile.NAME, self.url, key)
        profile.write(profile.user_profile(os.environ), self.url, key)
        self._wait("the service", self._is_ready)
        return self.url

    def _environment(self) -> dict[str, str]:
        env = dict(os.environ) | {"GRADKEEL_DATA": str(self.options.data), "PYTHONUNBUFFERED": "1"}
        if not env.get("GRADKEEL_BROKER_URL"):
            self.broker = Broker.prepare(self.options.data)
            env["GRADKEEL_BROKER_URL"] = self.broker.url
        if not is_loopback(self.options.host) and not env.get("GRADKEEL_TRUSTED_HOSTS"):
            env["GRADKEEL_TRUSTED_HOSTS"] = f"127.0.0.1,localhost,[::1],{self.options.host}"
        if self.options.workers is not None:
            env["GRADKEEL_WORKER_CONCURRENCY"] = str(self.options.workers)
        return env

    def _add(
        self,
        name: str,
        command: list[str],
        env: dict[str, str],
        death_signal: signal.Signals,
        pass_fds: tuple[int, ...] = (),
    ) -> Child:
        child = Child(name, command, env, self.logs / f"{name}.log", death_signal, pass_fds)
        self.children[name] = child
        child.start()
        return child

    def _start_broker(self, broker: Broker, env: dict[str, str]) -> None:
        self._add("broker", broker.command, env, signal.SIGTERM)
        self._wait("the broker", broker.answers)

    def _own_key(self, env: dict[str, str]) -> str:
        command = [sys.executable, "-m", "gradkeel_service.first_key"]
        made = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise StackError(f"the first key could not be made:\n{made.stderr.strip()[-2000:]}")
        return made.stdout.strip()

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            self._handle_signals(LOOK_SECONDS)
            if self._asked_to_stop:
                raise StackError("stopped while starting")
            self._revive()
            for child in self.children.values():
                if child.deaths >= DEATHS_AT_START:
                    raise StackError(f"{child.name} does not start; the end of {child.log}:\n{child.tail()}")
            if time.monotonic() > deadline:
                raise StackError(f"{what} was not ready after {READY_SECONDS:.0f} s; see {self.logs}")

    def _is_ready(self) -> bool:
        status, _ = self._ask("/readyz")
        return status == 200

    def _ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """(status, document) of a probe; status 0 when the server does not answer."""
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            document = json.loads(response.read())
            return response.status, document if isinstance(document, dict) else {}
        except (OSError, ValueError, http.client.HTTPException):
            return 0, {}
        finally:
            connection.close()

    # Watching

    def watch(self) -> None:
        """Keep the children running until a signal asks to stop."""
        self._good = dict.fromkeys(("http", "worker", "consumer"), time.monotonic())
        next_look = time.monotonic() + WATCH_SECONDS
        while not self._asked_to_stop:
            self._handle_signals(max(LOOK_SECONDS, min(next_look - time.monotonic(), WATCH_SECONDS)))
            self._revive()
            if time.monotonic() >= next_look:
                self._check_progress()
                next_look = time.monotonic() + WATCH_SECONDS

    def _handle_signals(self, seconds: float) -> None:
        due = min((c.start_at for c in self.children.values() if not c.alive), default=None)
        if due is not None:
            seconds = max(0.01, min(seconds, due - time.monotonic()))
        caught = signal.sigtimedwait(HANDLED, seconds)
        if caught is not None and caught.si_signo in STOPPING:
            self._asked_to_stop = True

    def _revive(self) -> None:
        for child in self.children.values():
            status = child.revive()
            if status is None:
                continue
            self.say(f"{child.name} ended with status {status}; starting it again (log: {child.log})")
            if child.name == "broker" and child.deaths == 2 and self.broker is not None:
                aside = self.broker.set_aside()
                if aside is not None:
                    self.say(f"the broker cannot load its data; set aside as {aside}")

    def _check_progress(self) -> None:
        """Life is not enough: kill what has shown no progress for a long time."""
        status, document = self._ask("/readyz")
        now = time.monotonic()
        if status:
            self._good["http"] = now
        if "worker" not in document.get("missing", ["worker"]):
            self._good["worker"] = now
        checks = document.get("checks", {})
        if checks.get("consumer") or checks.get("database") is False:  # its signs lie in the database
            self._good["consumer"] = now
        for name, seen in self._good.items():
            if now - seen > STUCK_SECONDS and self.children[name].alive:
                self.say(f"{name} shows no progress for {STUCK_SECONDS:.0f} s; starting it again")
                self.children[name].kill()
                self._good[name] = now

    # Stopping

    def stop(self) -> None:
        """Stop everything within 30 s: first those that use the broker, then the broker."""
        first = [child for name, child in self.children.items() if name != "broker"]
        late = stop(first, STOP_SECONDS)
        if "broker" in self.children:
            late += stop([self.children["broker"]], BROKER_STOP_SECONDS)
        for name in late:
            self.say(f"{name} did not stop in time and was killed")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise StackError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port (0: a free one)"
        ) from error
    return listener


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def http_command(bind: str, threads: int = 32) -> list[str]:
    """The command that serves HTTP on an address that gunicorn understands."""
    return [
        *(sys.executable, "-m", "gunicorn"),
        *("--config", "python:gradkeel_service.gunicorn_settings"),
        *("--bind", bind, "--threads", str(threads)),
        f"gradkeel_service.app:from_environment(threads={threads})",
    ]


def run(options: Options, say: Callable[[str], None], ready: Callable[[str], None]) -> None:
    """Run a stack until a signal stops it. Raises ``StackError`` when it cannot start."""
    options.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    lock = Lock(options.data)
    lock.take()
    lock.describe(None)
    stack = Stack(options, say)
    try:
        url = stack.start()
        lock.describe(url)
        ready(url)
        stack.watch()
    finally:
        stack.stop()
        lock.release()


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False))
@click.option("--host", default="127.0.0.1")
@click.option("--port", default=8080)
@click.option("--workers", type=int)
@click.option("--ready-fd", type=int)
def main(data: Path | None, host: str, port: int, workers: int | None, ready_fd: int | None) -> None:
    """What `gradkeel up` becomes."""
    folder = (data or default_data(os.environ)).expanduser().absolute()

    def ready(url: str) -> None:
        if ready_fd is None:
            click.echo(f"Gradkeel is ready at {url} (docs: {url}/docs). Ctrl-C stops it.")
        else:
            os.write(ready_fd, url.encode())
            os.close(ready_fd)

    try:
        run(Options(folder, host, port, workers), lambda text: click.echo(text, err=True), ready)
    except StackError as error:
        click.echo(f"gradkeel up: {error}", err=True)
        sys.exit(1)
