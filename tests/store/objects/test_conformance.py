"""What every object store must do; run on a local folder and on S3."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gradkeel_store.errors import ObjectCorrupt, ObjectMissing
from gradkeel_store.objects import Objects, open_objects
from gradkeel_store.settings import Settings

BIG = bytes(range(256)) * 4096 * 12 + b"tail"  # 12 MiB: a multipart upload on S3
ABSENT = "0" * 64


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def listed(objects: Objects) -> set[str]:
    return {digest for digest, _ in objects.list()}


@pytest.mark.parametrize("data", [b"", b"x", b"hello\r\n\x00\xff", BIG], ids=["empty", "one", "odd", "big"])
def test_bytes_come_back_under_their_digest(objects: Objects, data: bytes) -> None:
    digest = objects.put_bytes(data)
    assert digest == sha256(data)
    assert objects.size(digest) == len(data)
    assert objects.exists(digest)
    assert b"".join(objects.open(digest)) == objects.read(digest) == data
    assert listed(objects) == {digest}


def test_digests_may_carry_their_kind(objects: Objects) -> None:
    digest = objects.put_bytes(b"x")
    assert objects.read(f"sha256:{digest}") == b"x"


def test_a_file_comes_back(objects: Objects, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(BIG)
    digest = objects.put_file(source)
    assert source.read_bytes() == BIG
    objects.fetch(digest, target)
    assert target.read_bytes() == BIG
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["in", "out"]


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (5, 10), (0, len(BIG)), (len(BIG) - 3, None), (7, len(BIG) + 99), (4, 4)]
)
def test_a_part_comes_back(objects: Objects, start: int, end: int | None) -> None:
    digest = objects.put_bytes(BIG)
    assert b"".join(objects.open(digest, start, end)) == BIG[start:end]


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (5, 4), (len(BIG) + 1, None)])
def test_a_part_outside_is_refused(objects: Objects, start: int, end: int | None) -> None:
    digest = objects.put_bytes(BIG)
    with pytest.raises(ValueError, match="outside"):
        objects.open(digest, start, end)


def test_large_objects_come_in_pieces(objects: Objects) -> None:
    pieces = list(objects.open(objects.put_bytes(BIG)))
    assert len(pieces) > 4
    assert max(map(len, pieces)) <= 4 * 1024**2


def test_an_absent_one_is_missing(objects: Objects, tmp_path: Path) -> None:
    assert not objects.exists(ABSENT)
    for attempt in (objects.size, objects.open, objects.read):
        with pytest.raises(ObjectMissing):
            attempt(ABSENT)
    with pytest.raises(ObjectMissing):
        objects.fetch(ABSENT, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    objects.delete(ABSENT)


@pytest.mark.parametrize(
    "name", ["", "x", "../../etc/passwd", ABSENT[:-1], ABSENT.replace("0", "A"), "md5:" + ABSENT]
)
def test_other_names_are_refused(objects: Objects, name: str) -> None:
    for attempt in (objects.size, objects.exists, objects.delete, objects.open, objects.local_path):
        with pytest.raises(ValueError, match="digest"):
            attempt(name)


def test_nothing_is_seen_before_the_commit(objects: Objects) -> None:
    with objects.writer() as writer:
        writer.write(b"ab")
        writer.write(memoryview(b"cd"))
        assert (writer.size, writer.digest) == (4, sha256(b"abcd"))
        assert listed(objects) == set()
        assert not objects.exists(sha256(b"abcd"))
        assert writer.commit() == sha256(b"abcd")
        assert listed(objects) == {sha256(b"abcd")}


def test_what_is_not_committed_is_dropped(objects: Objects) -> None:
    with pytest.raises(RuntimeError, match="client went away"), objects.writer() as writer:
        writer.write(BIG)
        raise RuntimeError("the client went away")
    assert listed(objects) == set()
    assert list(objects.temporary.iterdir()) == []


def test_a_wrong_expectation_keeps_nothing(objects: Objects) -> None:
    with objects.writer() as writer:
        writer.write(b"abc")
        with pytest.raises(ObjectCorrupt):
            writer.commit(expected="sha256:" + ABSENT)
    with objects.writer() as writer:
        writer.write(b"abc")
        writer.commit(expected=sha256(b"abc"))
    assert listed(objects) == {sha256(b"abc")}
    assert list(objects.temporary.iterdir()) == []


def test_the_same_bytes_twice_are_one_object(objects: Objects) -> None:
    assert objects.put_bytes(b"x") == objects.put_bytes(b"x")
    assert len(list(objects.list())) == 1


def test_a_deleted_one_is_gone(objects: Objects) -> None:
    digest = objects.put_bytes(b"x")
    objects.delete(digest)
    assert not objects.exists(digest)
    assert listed(objects) == set()


def test_what_no_record_names_is_collected_when_it_is_old(objects: Objects) -> None:
    kept, dropped = objects.put_bytes(b"kept"), objects.put_bytes(b"dropped")
    assert objects.collect(lambda _: set(), min_age=3600) == 0
    assert listed(objects) == {kept, dropped}
    # S3 tells times in whole seconds: an age below zero makes both old, whatever the clock shows.
    assert objects.collect(lambda digests: digests & {kept}, min_age=-60) == 1
    assert listed(objects) == {kept}


def test_bytes_stored_again_are_young_again(objects: Objects) -> None:
    digest = objects.put_bytes(b"x")

    def stored_again(digests: set[str]) -> set[str]:
        objects.put_bytes(b"x")
        return set()

    now = datetime.now(UTC)
    [(_, written)] = objects.list()
    objects.collect(stored_again, min_age=(now - written).total_seconds() + 3600)
    assert objects.exists(digest)


WRITE = """
import sys
from pathlib import Path
from gradkeel_store.objects import open_objects
from gradkeel_store.settings import Settings
settings = Settings(**eval(sys.argv[1], {"Path": Path}))
writer = open_objects(settings).writer()
writer.write(b"half of it" * 1000000)
writer._file.flush()
print("half", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def half_written(objects_settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of writing an object."""
    given = repr({name: getattr(objects_settings, name) for name in objects_settings.__dataclass_fields__})
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, given.replace("PosixPath", "Path")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    yield process
    process.kill()
    process.communicate()


def test_a_killed_write_leaves_nothing(
    objects_settings: Settings, half_written: subprocess.Popen[str]
) -> None:
    half_written.kill()
    half_written.wait()
    objects = open_objects(objects_settings)
    assert listed(objects) == set()
    assert len(list(objects.temporary.iterdir())) == 1
    assert objects.sweep() == 1
    assert list(objects.temporary.iterdir()) == []


def test_a_live_write_is_not_swept(objects_settings: Settings, half_written: subprocess.Popen[str]) -> None:
    objects = open_objects(objects_settings)
    assert objects.sweep() == 0
    assert len(list(objects.temporary.iterdir())) == 1


def test_a_space_keeps_to_itself_and_goes_at_once(objects: Objects) -> None:
    kept = objects.put_bytes(b"both")
    one, two = objects.apart("upl_1"), objects.apart("upl_2")
    for space in (one, two):
        space.put_bytes(b"both")
        space.put_bytes(b"mine")
    assert listed(objects) == {kept}
    assert listed(one) == listed(two) == {kept, sha256(b"mine")}
    assert one.read(sha256(b"mine")) == b"mine"
    assert sorted(objects.spaces()) == ["upl_1", "upl_2"]
    one.discard()
    one.discard()
    assert list(objects.spaces()) == ["upl_2"]
    assert (listed(one), listed(objects)) == (set(), {kept})
    assert objects.collect(lambda digests: set(), min_age=-60.0) == 1
    assert two.read(kept) == b"both"
    with pytest.raises(ValueError, match="space"):
        objects.apart("../x")
