"""The container files, as far as they can be checked without a container engine."""

from __future__ import annotations

import platform
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gradkeel_store.records import open_records
from gradkeel_store.settings import SETTINGS, Settings

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def stage(name: str) -> str:
    """The instructions of one build stage."""
    found = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
    assert found, f"there is no stage {name}"
    return found[1]


@pytest.mark.parametrize("target", ["service", "worker"])
def test_images_run_as_an_ordinary_user_and_are_watched(target: str) -> None:
    instructions = stage(target)
    assert re.search(r"^USER gradkeel$", instructions, re.M)
    assert re.search(r"^HEALTHCHECK ", instructions, re.M)
    assert instructions.index("USER gradkeel") > instructions.index("pip install")
    assert SERVICES[target]["build"]["target"] == target


def test_the_service_has_no_torch_and_the_worker_takes_its_build_by_an_argument() -> None:
    assert "torch" not in stage("service").lower()
    assert re.search(r"^ARG TORCH=", stage("worker"), re.M)
    assert {"TORCH", "TORCH_INDEX"} <= set(SERVICES["worker"]["build"]["args"])


def test_what_the_dockerfile_copies_is_let_through_and_is_there() -> None:
    through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?:--\S+ )*(.+) \S+$", DOCKERFILE, re.M)
    names = {name for line in copied for name in line.split()}
    assert names == through
    assert all((ROOT / name).exists() for name in names)


def test_the_parts_of_the_composition() -> None:
    assert set(SERVICES) == {"valkey", "postgres", "service", "consumer", "worker"}
    watched = {name for name, service in SERVICES.items() if "healthcheck" in service or "build" in service}
    assert watched == set(SERVICES)
    for name in ("service", "consumer", "worker"):
        assert SERVICES[name]["read_only"]
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["stop_grace_period"] == "40s"


def test_every_secret_is_required_and_none_has_a_default() -> None:
    text = (ROOT / "compose.yaml").read_text()
    asked = re.findall(r"\$\{(\w+)([^}]*)\}", text)
    secret = {name for name, _ in asked if re.search("PASSWORD|PEPPER|SECRET|KEY", name)}
    assert secret == {"POSTGRES_PASSWORD", "VALKEY_PASSWORD", "GRADKEEL_PEPPER"}
    assert all(rest.startswith(":?") for name, rest in asked if name in secret)


def test_every_setting_of_the_composition_exists() -> None:
    known = {setting.env for setting in SETTINGS}
    for service in SERVICES.values():
        given = {name for name in service.get("environment", {}) if name.startswith("GRADKEEL_")}
        assert given <= known


def test_fresh_environment_files_hold_every_secret_and_never_the_same() -> None:
    first, second = (
        dict(
            line.split("=", 1)
            for line in subprocess.run(
                ["sh", ROOT / "deploy/new_env.sh"], capture_output=True, text=True, check=True
            ).stdout.splitlines()
            if not line.startswith("#")
        )
        for _ in range(2)
    )
    for name in ("POSTGRES_PASSWORD", "VALKEY_PASSWORD", "GRADKEEL_PEPPER"):
        assert re.fullmatch("[0-9a-f]{64}", first[name])
        assert first[name] != second[name]
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    assert asked == set(first)


def test_a_workers_health_is_its_recent_sign_of_life(tmp_path: Path) -> None:
    settings = Settings.load(env={}, data=tmp_path)
    records = open_records(settings)
    command = [sys.executable, str(ROOT / "deploy/worker_health.py")]
    env = {"GRADKEEL_DATA": str(tmp_path), "PATH": "/usr/bin:/bin"}
    assert subprocess.run(command, env=env).returncode == 1
    records.worker_heartbeat("elsewhere", {"host": "elsewhere"})
    assert subprocess.run(command, env=env).returncode == 1
    records.worker_heartbeat("here", {"host": platform.node()})
    assert subprocess.run(command, env=env).returncode == 0
    assert subprocess.run([*command, "consumer"], env=env).returncode == 1
    records.worker_heartbeat("consumer", {"host": platform.node()}, "consumer")
    assert subprocess.run([*command, "consumer"], env=env).returncode == 0
    records.close()


def test_the_profile_of_a_stack_is_its_owners_alone(stack: Any) -> None:
    for path in (stack.data / "profile.json", Path(stack.env["XDG_CONFIG_HOME"]) / "gradkeel/profile.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
