"""Which service is spoken to, and with which key."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fault_server import FaultServer, Reply
from gradkeel import APIConnectionError, APIStatusError, Client
from gradkeel.profile import find_access, is_loopback

PAGE = {"data": [], "has_more": False, "next_cursor": None}


def write_profile(folder: Path, url: str, key: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "profile.json"
    path.write_text(json.dumps({"url": url, "api_key": key}))
    path.chmod(0o600)
    return path


def test_arguments_stand_over_the_environment_and_that_over_the_profile(bare_home: Path) -> None:
    write_profile(bare_home / "gradkeel", "http://127.0.0.1:8080", "profile-key")
    env = {"XDG_CONFIG_HOME": str(bare_home)}
    assert find_access(env=env).api_key == "profile-key"
    env |= {"GRADKEEL_URL": "http://env:1", "GRADKEEL_API_KEY": "env-key"}
    assert (find_access(env=env).url, find_access(env=env).api_key) == ("http://env:1", "env-key")
    given = find_access("http://argument:2", "argument-key", env)
    assert (given.url, given.api_key) == ("http://argument:2", "argument-key")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/", "HTTP://127.0.0.1:8080"])
def test_the_profiles_key_goes_to_its_own_address_however_it_is_spelt(bare_home: Path, url: str) -> None:
    write_profile(bare_home / "gradkeel", "http://127.0.0.1:8080", "profile-key")
    assert find_access(url, env={"XDG_CONFIG_HOME": str(bare_home)}).api_key == "profile-key"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8081",
        "https://127.0.0.1:8080",
        "http://example.org:8080",
        "http://127.0.0.1:8080@example.org",
        "http://127.0.0.1:8080/elsewhere",
    ],
)
def test_the_profiles_key_goes_nowhere_else(bare_home: Path, url: str) -> None:
    write_profile(bare_home / "gradkeel", "http://127.0.0.1:8080", "profile-key")
    for access in (
        find_access(url, env={"XDG_CONFIG_HOME": str(bare_home)}),
        find_access(env={"XDG_CONFIG_HOME": str(bare_home), "GRADKEEL_URL": url}),
    ):
        assert (access.url, access.api_key) == (url, None)


def test_the_key_is_not_on_the_wire_to_another_service(
    bare_home: Path, fault_server: Callable[..., FaultServer]
) -> None:
    write_profile(bare_home / "gradkeel", "http://127.0.0.1:1", "profile-key")
    server = fault_server(Reply(200, PAGE))
    with Client(server.url) as client:
        assert list(client.jobs.list()) == []
    assert "authorization" not in server.seen[0].headers


def test_a_redirect_is_not_followed(bare_home: Path, fault_server: Callable[..., FaultServer]) -> None:
    other = fault_server(Reply(200, PAGE))
    server = fault_server(Reply(302, headers={"Location": other.url + "/v1/jobs"}))
    with Client(server.url, "secret") as client, pytest.raises(Exception, match="302"):
        list(client.jobs.list())
    assert other.seen == []


def test_the_data_folder_that_the_environment_names_comes_first(bare_home: Path, tmp_path: Path) -> None:
    write_profile(bare_home / "gradkeel", "http://user:1", "user-key")
    write_profile(tmp_path / "data", "http://data:2", "data-key")
    env = {"XDG_CONFIG_HOME": str(bare_home), "GRADKEEL_DATA": str(tmp_path / "data")}
    assert find_access(env=env).url == "http://data:2"


def test_without_any_address_the_error_says_what_to_do() -> None:
    with pytest.raises(APIConnectionError, match="gradkeel up"):
        Client()


def test_a_damaged_profile_is_named(bare_home: Path) -> None:
    path = write_profile(bare_home / "gradkeel", "x", "y")
    path.write_text("{")
    with pytest.raises(ValueError, match=r"profile\.json"):
        find_access(env={"XDG_CONFIG_HOME": str(bare_home)})


def test_keys_stay_out_of_reprs(bare_home: Path) -> None:
    assert "secret" not in repr(find_access("http://here:1", "secret"))


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.0.0.1", "http://[::1]:80"])
def test_loopback_uses_no_proxy(url: str) -> None:
    assert is_loopback(url)
    assert not is_loopback("http://example.org")


def test_one_client_serves_many_threads(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(200, {"data": [{"id": "job_1"}], "has_more": False, "next_cursor": None}))
    found: list[str] = []
    with Client(server.url, "k") as client:
        threads = [
            threading.Thread(target=lambda: found.extend(job.id for job in client.jobs.list()))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["job_1"] * 8


def test_another_kind_of_server_is_told_as_such(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(200, content=b"<html>hello</html>"))
    with Client(server.url, "k") as client, pytest.raises(APIStatusError, match="Gradkeel service"):
        client.jobs.get("job_1")
