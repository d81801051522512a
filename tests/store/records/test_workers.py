from gradkeel_store.records import Records
from making import Clock


def test_a_worker_lives_while_it_gives_signs(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    assert records.live_workers() == []
    records.worker_heartbeat("host:1", {"devices": ["cpu"]})
    clock.forward(seconds=20)
    records.worker_heartbeat("host:2", {"devices": ["cpu", "cuda:0"]})
    assert [worker.info["devices"] for worker in records.live_workers(30)] == [["cpu"], ["cpu", "cuda:0"]]
    clock.forward(seconds=20)
    assert [worker.id for worker in records.live_workers(30)] == ["host:2"]
    records.worker_heartbeat("host:1", {"devices": []})
    assert [worker.info for worker in records.live_workers(10)] == [{"devices": []}]


def test_one_that_stops_in_good_order_is_gone(records: Records) -> None:
    records.worker_heartbeat("host:1", {})
    records.remove_worker("host:1")
    assert records.live_workers() == []
