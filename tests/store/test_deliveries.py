"""Messages from outside, by one set of tests on Valkey and on RabbitMQ; and what can be read in them."""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu import Connection

from gradkeel_store.deliveries import (
    AmqpDeliveries,
    Call,
    Deliveries,
    Delivery,
    RedisDeliveries,
    Unreadable,
    call_of,
    open_deliveries,
)
from gradkeel_store.deliveries.envelope import delivery_of_item
from gradkeel_store.errors import Unavailable
from gradkeel_store.settings import Settings
from servers import Rabbit, Valkey

LIMIT = 10_000
WAIT = 20.0
MOST = 3


class Line:
    """A queue of the test's own, filled in the broker's own way."""

    def __init__(self, broker: Valkey | Rabbit, settings: Settings) -> None:
        self.broker = broker
        self.queue = f"test.{secrets.token_hex(4)}"
        self.settings = dataclasses.replace(settings, broker_url=broker.url)
        self._opened: list[Deliveries] = []

    def taker(self, owner: str = "one") -> Deliveries:
        made = open_deliveries(self.settings, self.queue, owner, MOST)
        made.waiting()
        self._opened.append(made)
        return made

    def send(self, *names: str) -> None:
        if isinstance(self.broker, Valkey):
            with redis.Redis.from_url(self.broker.url) as client:
                for name in names:
                    client.lpush(self.queue, json.dumps({"body": name, "content-type": "application/json"}))
            return
        with Connection(self.broker.url) as connection:
            channel = connection.channel()
            for name in names:
                message = channel.prepare_message(name.encode(), content_type="application/json")
                channel.basic_publish(message, "", self.queue)

    def close(self) -> None:
        for taker in self._opened:
            taker.close()
        if isinstance(self.broker, Rabbit):
            with Connection(self.broker.url) as connection:
                connection.channel().queue_delete(self.queue)


@pytest.fixture(params=["valkey", "rabbit"])
def line(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Line]:
    made = Line(request.getfixturevalue(request.param), settings)
    yield made
    made.close()


def bodies(deliveries: list[Delivery]) -> list[str]:
    return [delivery.body.decode() for delivery in deliveries]


def take(taker: Deliveries, count: int) -> list[str]:
    """So many messages, each batch settled."""
    found: list[str] = []
    while len(found) < count:
        batch = bodies(taker.take(WAIT, LIMIT))
        assert batch, f"only {found} came"
        found += batch
        taker.settle()
    return found


def gone(taker: Deliveries) -> None:
    """As if its process had been killed: nothing is put back in order."""
    if isinstance(taker, RedisDeliveries):
        taker._redis.delete(taker._sign_of(taker._owner))
        taker._redis.close()
    else:
        taker._connection.collect()
        taker._connection = None


def test_in_the_order_of_sending_and_no_more_than_may_be_in_hand(line: Line) -> None:
    taker = line.taker()
    line.send("a", "b", "c", "d", "e")
    first = bodies(taker.take(WAIT, LIMIT))
    assert first == ["a", "b", "c"][: len(first)]
    taker.settle()
    assert take(taker, 5 - len(first)) == ["a", "b", "c", "d", "e"][len(first) :]
    assert taker.take(0.05, LIMIT) == []


def test_what_is_put_back_comes_again_behind_the_others(line: Line) -> None:
    taker = line.taker()
    line.send("waits", "b")
    held = taker.take(WAIT, LIMIT)
    taker.settle([delivery for delivery in held if delivery.body == b"waits"])
    if len(held) == 1:
        assert take(taker, 1) == ["b"]
    assert take(taker, 1) == ["waits"]
    assert taker.take(0.05, LIMIT) == []


def test_what_a_dead_taker_had_in_hand_comes_to_another(line: Line) -> None:
    dead = line.taker("dead")
    line.send("a")
    assert bodies(dead.take(WAIT, LIMIT)) == ["a"]
    gone(dead)
    heir = line.taker("heir")
    assert take(heir, 1) == ["a"]
    assert heir.take(0.05, LIMIT) == []


def test_what_a_living_taker_has_in_hand_comes_to_nobody_else(line: Line) -> None:
    one, two = line.taker("one"), line.taker("two")
    line.send("a")
    while not (held := one.take(0.2, LIMIT)):
        two.settle(two.take(0.05, LIMIT))
    one.hold()
    assert two.take(0.2, LIMIT) == []
    one.settle()
    assert bodies(held) == ["a"]


def test_closing_puts_back_what_is_in_hand(line: Line) -> None:
    taker = line.taker("closes")
    line.send("a", "b")
    held = bodies(taker.take(WAIT, LIMIT))
    taker.close()
    assert take(line.taker("next"), 2) == ["a", "b"]
    assert held


def test_a_broker_that_dies_and_comes_back(line: Line) -> None:
    taker = line.taker()
    line.broker.kill()
    with pytest.raises(Unavailable):
        taker.take(0.05, LIMIT)
    line.broker.start()
    assert taker.take(0.05, LIMIT) == []
    line.send("a")
    assert take(taker, 1) == ["a"]


def test_an_answer_that_is_lost_loses_no_message(valkey: Valkey, settings: Settings) -> None:
    """The server has moved the message, and the connection breaks before its name comes."""
    line = Line(valkey, settings)
    taker = line.taker()
    assert isinstance(taker, RedisDeliveries)
    line.send("a")
    with redis.Redis.from_url(valkey.url) as client:
        client.lmove(line.queue, taker._hand, "RIGHT", "LEFT")
    taker._unsure = True
    assert take(taker, 1) == ["a"]
    line.close()


def test_celerys_lists_of_other_priorities_are_read_too(valkey: Valkey, settings: Settings) -> None:
    line = Line(valkey, settings)
    with redis.Redis.from_url(valkey.url) as client:
        client.lpush(line.queue + "\x06\x169", '{"body": "last"}')
        client.lpush(line.queue + "\x06\x163", '{"body": "first"}')
    assert take(line.taker(), 2) == ["first", "last"]
    line.close()


def test_a_queue_that_a_producer_declared_in_its_own_way(rabbit: Rabbit, settings: Settings) -> None:
    line = Line(rabbit, settings)
    with Connection(rabbit.url) as connection:
        connection.channel().queue_declare(
            line.queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
        )
    taker = line.taker()
    assert isinstance(taker, AmqpDeliveries)
    line.send("a")
    assert take(taker, 1) == ["a"]
    line.close()


# ------------------------------------------------------------------------------------- what can be read


def envelope(body: str, **change: Any) -> dict[str, Any]:
    return {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "t"},
        "properties": {},
    } | change


READABLE: dict[str, tuple[dict[str, Any], Call]] = {
    "plain": (envelope('[[], {"a": 1}, {}]'), Call("t", [], {"a": 1})),
    "no encoding": (envelope("[[1], {}, null]", **{"content-encoding": None}), Call("t", [1], {})),
    "base64": (
        envelope(base64.b64encode(b'[[], {"a": 1}, {}]').decode(), properties={"body_encoding": "base64"}),
        Call("t", [], {"a": 1}),
    ),
    "protocol 1": (envelope('{"task": "old", "kwargs": {"a": 1}}', headers={}), Call("old", [], {"a": 1})),
    "NaN": (
        envelope('[[], {"a": "b", "b": [1e999]}, {}]'),
        Call("t", [], {"a": "b", "b": [float("inf")]}, "…"),
    ),
}


@pytest.mark.parametrize("name", READABLE)
def test_a_call_is_read(name: str) -> None:
    written, expected = READABLE[name]
    found = call_of(delivery_of_item(json.dumps(written).encode(), None, LIMIT), LIMIT)
    assert (found.task, found.args, found.kwargs) == (expected.task, expected.args, expected.kwargs)
    assert bool(found.fault) == bool(expected.fault)


UNREADABLE: dict[str, str | bytes | dict[str, Any]] = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe",
    "a list": "[]",
    "a number": "1",
    "too deep": "[" * 50_000,
    "no body": "{}",
    "a body that is no text": {"body": 1},
    "headers that are no object": envelope("[[], {}, {}]", headers=[1]),
    "an unknown encoding of the body": envelope("x", properties={"body_encoding": "rot13"}),
    "bad base64": envelope("!", properties={"body_encoding": "base64"}),
    "a pickle": envelope("x", **{"content-type": "application/x-python-serialize"}),
    "compressed": envelope("x", headers={"task": "t", "compression": "application/x-gzip"}),
    "another charset": envelope("[[], {}, {}]", **{"content-encoding": "utf-16"}),
    "no JSON": envelope("{"),
    "deep JSON": envelope("[" * 5000),
    "long digits": envelope("[[], {}, " + "9" * 5000 + "]"),
    "two parts": envelope("[[], {}]"),
    "text": envelope('"x"'),
    "arguments by the wrong types": envelope("[{}, [], {}]"),
    "no task": envelope("[[], {}, {}]", headers={}),
    "a task that is no text": envelope("[[], {}, {}]", headers={"task": 5}),
    "too long": envelope("x" * (LIMIT + 1)),
    "far too long": envelope("x" * (3 * LIMIT)),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_anything_else_is_refused_without_showing_it(name: str) -> None:
    written = UNREADABLE[name]
    raw = written if isinstance(written, bytes) else written.encode() if isinstance(written, str) else None
    delivery = delivery_of_item(raw if raw is not None else json.dumps(written).encode(), None, LIMIT)
    with pytest.raises(Unreadable) as refused:
        call_of(delivery, LIMIT)
    assert len(str(refused.value)) < 300


def test_a_delivery_shows_no_content() -> None:
    shown: Callable[[object], str] = repr
    assert "secret" not in shown(Delivery(None, b"secret", headers={"secret": 1}))
    assert "secret" not in shown(Call("t", ["secret"], {"secret": 1}))
