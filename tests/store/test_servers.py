import urllib.request

import psycopg
import redis

from servers import Valkey


def test_a_killed_broker_comes_back_with_its_data(valkey: Valkey) -> None:
    redis.Redis.from_url(valkey.url).set("kept", "yes")
    valkey.kill()
    assert valkey.process.poll() is not None
    valkey.start()
    assert redis.Redis.from_url(valkey.url).get("kept") == b"yes"


def test_each_database_is_fresh(postgres_url: str) -> None:
    dsn = postgres_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(dsn) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'")
        assert tables.fetchall() == []


def test_each_bucket_is_fresh(s3_endpoint: str, s3_bucket: str) -> None:
    with urllib.request.urlopen(f"{s3_endpoint}/{s3_bucket}?list-type=2", timeout=10) as answer:
        assert b"<Contents>" not in answer.read()
