"""`gradkeel up` and `down`: one stack a folder, children that come back, an end within 30 s."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from gradkeel_service.stack.supervisor import is_loopback
from gradkeel_store.records import open_records
from gradkeel_store.settings import Settings
from processes import children_of, eventually

GRADKEEL = [sys.executable, "-m", "gradkeel"]


class Home:
    """A data folder and a profile of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.profile = folder / "config" / "gradkeel" / "profile.json"
        self.env = os.environ | {"XDG_CONFIG_HOME": str(folder / "config"), "OMP_NUM_THREADS": "1"}
        for name in ("GRADKEEL_URL", "GRADKEEL_API_KEY", "GRADKEEL_BROKER_URL", "GRADKEEL_DATA"):
            self.env.pop(name, None)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*GRADKEEL, *arguments, "--data", str(self.data)]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120, check=False)

    @property
    def url(self) -> str:
        url: str = json.loads(self.profile.read_text())["url"]
        return url

    @property
    def key(self) -> str:
        key: str = json.loads(self.profile.read_text())["api_key"]
        return key

    def supervisor(self) -> int:
        pid: int = json.loads((self.data / "up.lock").read_text())["pid"]
        return pid

    def children(self) -> dict[str, int]:
        """Process ids of the supervisor's children by what they are."""
        names = {
            "valkey-server": "broker",
            "redis-server": "broker",
            "gradkeel_worker": "worker",
            "gradkeel_service.consumer": "consumer",
            "gunicorn": "http",
        }
        found = {}
        for pid in children_of(self.supervisor()):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
            found |= {name: pid for mark, name in names.items() if mark in command}
        return found


def answers(url: str, path: str = "/readyz") -> bool:
    try:
        return httpx.get(url + path, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A stack that was started with --detach."""
    place = Home(tmp_path_factory.mktemp("up"))
    try:
        started = place.run("up", "--detach", "--port", "0")
        assert started.returncode == 0, started.stderr
        yield place
    finally:
        stopped = place.run("down")
        assert stopped.returncode == 0, stopped.stderr


def test_it_is_ready_and_its_key_works(home: Home) -> None:
    assert answers(home.url)
    answer = httpx.get(f"{home.url}/v1/jobs", headers={"Authorization": f"Bearer {home.key}"})
    assert answer.status_code == 200


def test_the_profiles_are_private(home: Home) -> None:
    for path in (home.profile, home.data / "profile.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert json.loads(path.read_text()).keys() == {"url", "api_key"}


def test_a_second_one_on_the_same_folder_is_refused(home: Home) -> None:
    second = home.run("up", "--port", "0")
    assert second.returncode == 1
    assert "is running on" in second.stderr
    assert home.url in second.stderr
    assert answers(home.url)


def test_a_taken_port_is_named(home: Home, tmp_path: Path) -> None:
    port = home.url.rpartition(":")[2]
    other = Home(tmp_path).run("up", "--port", port)
    assert other.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in other.stderr


@pytest.mark.parametrize("name", ["broker", "http", "worker", "consumer"])
def test_a_child_that_dies_comes_back(home: Home, name: str) -> None:
    before = home.children()
    assert set(before) == {"broker", "http", "worker", "consumer"}
    os.kill(before[name], signal.SIGKILL)
    eventually(lambda: home.children().get(name) not in (None, before[name]))
    eventually(lambda: answers(home.url))
    after = home.children()
    assert {other: pid for other, pid in after.items() if other != name} == {
        other: pid for other, pid in before.items() if other != name
    }


def test_kill_9_of_the_web_server_in_an_upload(home: Home) -> None:
    """Nothing of it is ever seen, and the next web server removes its temporary file."""
    temporary = home.data / "objects" / "temporary"
    host, port = home.url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/datasets HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {home.key}\r\n"
        "Content-Length: 3000000\r\n\r\na,b\n"
    )
    before = home.children()["http"]
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"1,2\n" * 500_000)
        eventually(lambda: any(path.stat().st_size > 0 for path in temporary.glob("*")))
        os.kill(before, signal.SIGKILL)
        eventually(lambda: home.children().get("http") not in (None, before) and answers(home.url))
    assert list(temporary.iterdir()) == []
    assert not any(path.is_file() for path in (home.data / "objects" / "sha256").rglob("*"))
    seen = httpx.get(f"{home.url}/v1/datasets", headers={"Authorization": f"Bearer {home.key}"})
    assert seen.json()["data"] == []


def test_the_key_stays_over_a_restart(home: Home) -> None:
    key = home.key
    assert home.run("down").returncode == 0
    assert home.run("down").stdout.startswith("Nothing runs")
    assert home.run("up", "--detach", "--port", "0").returncode == 0
    assert home.key == key


def test_a_broker_that_cannot_load_its_data_starts_without_it(home: Home) -> None:
    assert home.run("down").returncode == 0
    for file in (home.data / "broker" / "appendonlydir").glob("*.aof"):
        file.write_bytes(b"no command at all\r\n" * 20)
    assert home.run("up", "--detach", "--port", "0").returncode == 0
    assert answers(home.url)
    assert len(list((home.data / "broker").glob("appendonlydir.corrupt-*"))) == 1


def test_kill_9_of_the_supervisor_leaves_no_child(home: Home) -> None:
    children = home.children().values()
    os.kill(home.supervisor(), signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 30)
    assert home.run("up", "--detach", "--port", "0").returncode == 0
    assert answers(home.url)


def test_sigterm_stops_everything(tmp_path: Path) -> None:
    place = Home(tmp_path)
    command = [*GRADKEEL, "up", "--port", "0", "--data", str(place.data)]
    process = subprocess.Popen(command, env=place.env, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "Gradkeel is ready at http://127.0.0.1:" in process.stdout.readline()
    children = place.children().values()
    process.terminate()
    assert process.wait(30) == 0
    process.stdout.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_serve_refuses_to_listen_beyond_loopback_without_keys(tmp_path: Path) -> None:
    place = Home(tmp_path)
    refused = place.run("serve", "--host", "0.0.0.0", "--port", "1")
    assert refused.returncode == 1
    assert "there is no key" in refused.stderr
    made = place.run("bootstrap-key")
    assert made.stdout.startswith("key_")
    assert place.run("bootstrap-key", "--if-none").stdout == ""


def test_a_second_project_comes_from_the_machine_that_holds_the_records(tmp_path: Path) -> None:
    place = Home(tmp_path)
    first, second = (
        place.run("bootstrap-key", "--project", name).stdout.strip() for name in ("default", "lab")
    )
    again = place.run("bootstrap-key", "--project", "lab").stdout.strip()
    assert place.run("bootstrap-key", "--project", "lab", "--if-none").stdout == ""
    with contextlib.closing(open_records(Settings.load(env={}, data=place.data))) as records:
        owners = [key.project for key in map(records.authenticate, (first, second, again)) if key is not None]
        assert owners == [records.project_named(name) for name in ("default", "lab", "lab")]
    for name in ("", "a\nb", "n" * 201):
        assert place.run("bootstrap-key", "--project", name).returncode == 2


def test_up_beyond_loopback_opens_to_keys_only(tmp_path: Path) -> None:
    place = Home(tmp_path)
    up = place.run("up", "--host", "0.0.0.0", "--port", "0", "--detach")
    assert up.returncode == 0, up.stderr
    try:
        assert place.key  # there was one before anyone was let in
        assert httpx.get(f"{place.url}/v1/jobs").status_code == 401
        assert httpx.get(f"{place.url}/ui/jobs").status_code == 303
        for host in ("evil.example", "10.0.0.1"):
            assert httpx.get(f"{place.url}/v1/jobs", headers={"Host": host}).status_code == 400
        assert httpx.get(f"{place.url}/metrics").status_code == 200
        proxied = httpx.get(f"{place.url}/metrics", headers={"X-Forwarded-For": "203.0.113.9"})
        assert proxied.status_code == 401
    finally:
        assert place.run("down").returncode == 0


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("x", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
