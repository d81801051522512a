"""An object store that fails, drags, cuts its answers short or changes them: retried, never believed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradkeel_store.errors import ObjectCorrupt, ObjectError, Unavailable
from gradkeel_store.objects import Objects, open_objects
from gradkeel_store.settings import Settings
from object_store_proxy import Fault, ObjectStoreProxy
from servers import S3

CONTENT = os.urandom(3_000_000)


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[ObjectStoreProxy]:
    with contextlib.closing(ObjectStoreProxy(s3_endpoint)) as between:
        yield between


@pytest.fixture
def objects(settings: Settings, s3_bucket: str, proxy: ObjectStoreProxy) -> Objects:
    return open_objects(
        dataclasses.replace(
            settings,
            objects_url=f"s3://{s3_bucket}",
            s3_endpoint=proxy.url,
            s3_access_key=S3.ACCESS_KEY,
            s3_secret_key=S3.SECRET_KEY,
        )
    )


def test_errors_of_the_server_are_tried_again(objects: Objects, proxy: ObjectStoreProxy) -> None:
    proxy.next("PUT", Fault(status=503), Fault(status=500))
    digest = objects.put_bytes(CONTENT)
    proxy.next("HEAD", Fault(status=500))
    proxy.next("GET", Fault(status=502), Fault(status=503))
    assert objects.read(digest) == CONTENT
    assert proxy.seen.count("PUT") == 3
    assert proxy.seen.count("GET") == 3


def test_a_server_that_only_fails_is_unavailable_and_holds_nothing(
    objects: Objects, proxy: ObjectStoreProxy
) -> None:
    proxy.next("PUT", *[Fault(status=500)] * 50)
    with pytest.raises(Unavailable):
        objects.put_bytes(CONTENT)
    assert list(objects.list()) == []
    proxy.next("PUT")
    assert objects.read(objects.put_bytes(CONTENT)) == CONTENT


def test_a_slow_server_is_waited_for(objects: Objects, proxy: ObjectStoreProxy) -> None:
    proxy.next("PUT", Fault(seconds=1.0))
    proxy.next("GET", Fault(seconds=1.0))
    assert objects.read(objects.put_bytes(CONTENT)) == CONTENT


def test_an_answer_cut_short_is_taken_up_or_refused(
    objects: Objects, proxy: ObjectStoreProxy, tmp_path: Path
) -> None:
    digest = objects.put_bytes(CONTENT)
    target = tmp_path / "fetched"
    proxy.next("GET", *[Fault(cut=1_500_000)] * 20)
    with contextlib.suppress(Unavailable, ObjectError):
        objects.fetch(digest, target)
        assert target.read_bytes() == CONTENT
    assert not target.exists() or target.read_bytes() == CONTENT
    proxy.next("GET")
    objects.fetch(digest, target)
    assert target.read_bytes() == CONTENT


def test_changed_bytes_are_never_handed_out_whole(
    objects: Objects, proxy: ObjectStoreProxy, tmp_path: Path
) -> None:
    digest = objects.put_bytes(CONTENT)
    wrong = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    proxy.next("GET", Fault(body=wrong), Fault(body=wrong))
    handed_out = b""
    with pytest.raises(ObjectCorrupt):
        for chunk in objects.open(digest):
            handed_out += chunk
    assert len(handed_out) < len(CONTENT)
    with pytest.raises(ObjectCorrupt):
        objects.fetch(digest, tmp_path / "fetched")
    assert list(tmp_path.glob("*fetched*")) == []
