"""What only S3 can be asked."""

import dataclasses

import obstore
import pytest

from gradkeel_store.errors import ObjectCorrupt, Unavailable
from gradkeel_store.objects import open_objects
from gradkeel_store.settings import Settings
from servers import S3, free_port


@pytest.fixture
def s3_settings(settings: Settings, s3_endpoint: str, s3_bucket: str) -> Settings:
    return dataclasses.replace(
        settings,
        objects_url=f"s3://{s3_bucket}",
        s3_endpoint=s3_endpoint,
        s3_access_key=S3.ACCESS_KEY,
        s3_secret_key=S3.SECRET_KEY,
    )


def test_objects_are_no_files_here(s3_settings: Settings) -> None:
    objects = open_objects(s3_settings)
    assert objects.local_path(objects.put_bytes(b"x")) is None


def test_damaged_bytes_are_never_handed_out(s3_settings: Settings) -> None:
    objects = open_objects(s3_settings)
    digest = objects.put_bytes(b"right")
    obstore.put(objects._store, f"{digest[:2]}/{digest}", b"wrong")
    with pytest.raises(ObjectCorrupt):
        objects.read(digest)


def test_two_prefixes_of_a_bucket_do_not_meet(s3_settings: Settings) -> None:
    bucket = s3_settings.objects_url
    one, two = (
        open_objects(dataclasses.replace(s3_settings, objects_url=f"{bucket}/{name}")) for name in "ab"
    )
    digest = one.put_bytes(b"x")
    assert [name for name, _ in one.list()] == [digest]
    assert list(two.list()) == []
    assert not two.exists(digest)


@pytest.mark.timeout(120)
def test_a_server_that_is_away_is_unavailable(s3_settings: Settings) -> None:
    away = dataclasses.replace(s3_settings, s3_endpoint=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable):
        open_objects(away).put_bytes(b"x")


def test_a_bucket_that_is_not_there_keeps_nothing(s3_settings: Settings) -> None:
    objects = open_objects(dataclasses.replace(s3_settings, objects_url="s3://no-such-bucket"))
    with pytest.raises(Unavailable, match="bucket"):
        objects.put_bytes(b"x")
    assert list(objects.temporary.iterdir()) == []
