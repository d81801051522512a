"""What only the local folder can be asked."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gradkeel_store.errors import ObjectCorrupt, SettingsError, StorageFull
from gradkeel_store.objects import Objects, open_objects
from gradkeel_store.settings import Settings

BIG = bytes(range(256)) * 4096 * 3


@pytest.fixture
def folder(settings: Settings) -> Objects:
    return open_objects(settings)


def stored(folder: Objects, data: bytes) -> tuple[str, Path]:
    digest = folder.put_bytes(data)
    path = folder.local_path(digest)
    assert path is not None
    return digest, path


def test_it_is_a_plain_file(folder: Objects) -> None:
    digest, path = stored(folder, b"x")
    assert path.read_bytes() == b"x"
    assert path.name == digest
    assert folder.local_path("0" * 64) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "longer"])
def test_damaged_bytes_are_never_handed_out_whole(folder: Objects, tmp_path: Path, damage: str) -> None:
    digest, path = stored(folder, BIG)
    damaged = {"flip": b"\xff" + BIG[1:], "cut": BIG[:-1], "empty": b"", "longer": BIG + b"x"}[damage]
    path.write_bytes(damaged)
    received = b""
    with pytest.raises(ObjectCorrupt):
        for chunk in folder.open(digest):
            received += chunk
    assert len(received) < len(damaged) or not damaged
    with pytest.raises(ObjectCorrupt):
        folder.fetch(digest, tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == []


def test_storing_the_bytes_again_heals_it(folder: Objects) -> None:
    digest, path = stored(folder, BIG)
    path.write_bytes(b"damaged")
    folder.put_bytes(BIG)
    assert folder.read(digest) == BIG


def test_many_writers_of_the_same_bytes(folder: Objects) -> None:
    digests: list[str] = []
    threads = [threading.Thread(target=lambda: digests.append(folder.put_bytes(BIG))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(digests)) == 1
    assert len(digests) == 8
    assert folder.read(digests[0]) == BIG
    assert list(folder.temporary.iterdir()) == []


def test_foreign_files_are_not_listed(folder: Objects) -> None:
    digest, path = stored(folder, b"x")
    path.with_name("notes.txt").write_text("mine")
    assert [name for name, _ in folder.list()] == [digest]


FULL = """
import sys
from pathlib import Path
from gradkeel_store.errors import StorageFull
from gradkeel_store.objects import LocalObjects
objects = LocalObjects(Path(sys.argv[1]))
try:
    with objects.writer() as writer:
        for _ in range(64):
            writer.write(bytes(1024 * 1024))
        writer.commit()
except StorageFull:
    print("full", len(list(objects.list())), len(list(objects.temporary.iterdir())))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small tmpfs")
def test_a_full_disk_keeps_nothing(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        said = subprocess.run([sys.executable, "-c", FULL, str(place)], capture_output=True, text=True)
        assert said.stdout.split() == ["full", "0", "0"], said.stderr
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_no_room_is_told_apart(folder: Objects) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, folder.writer() as writer:
        os.dup2(full.fileno(), writer._file.fileno())
        with pytest.raises(StorageFull):
            for _ in range(3):
                writer.write(BIG)
    assert list(folder.temporary.iterdir()) == []


@pytest.mark.parametrize("url", ["", "/just/a/path", "ftp://x/y", "s3://"])
def test_other_places_are_refused(settings: Settings, url: str) -> None:
    with pytest.raises(SettingsError, match="GRADKEEL_OBJECTS_URL"):
        open_objects(dataclasses.replace(settings, objects_url=url))


def test_odd_folder_names_work(settings: Settings, tmp_path: Path) -> None:
    place = tmp_path / "with space & ümlaut #1"
    objects = open_objects(dataclasses.replace(settings, objects_url=f"file://{place}"))
    digest = objects.put_bytes(b"x")
    assert objects.read(digest) == b"x"
    assert [name for name, _ in objects.list()] == [digest]
