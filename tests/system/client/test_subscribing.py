"""`Forecasts` and `GapFills` against a real broker: what comes, once, from when on, and through outages."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bus_feed
import pytest
from client_rig import forecast, gap_fill
from kafka import KafkaProducer, TopicPartition
from kafka.admin import NewPartitions

from stream.client import Forecasts, GapFills, connecting, reader
from stream.kafka import admin
from stream.up import embedded
from stream.wire import Forecast, GapFill, Topics, dumps

LIMIT_S = 240.0  # of waiting; a test that needs it has failed
QUIET_S = 1.0


@pytest.fixture
def topics(kafka: str, topic_prefix: str) -> Topics:
    made = Topics.of(topic_prefix)
    bus_feed.create_topics(kafka, made, partitions=2)
    return made


def publish(
    bootstrap: str, topic: str, records: Iterable[Forecast | GapFill | bytes], *, at_ms: int | None = None, **where: Any
) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for one in records:
        value = one if isinstance(one, bytes) else dumps(one)
        key = b"x" if isinstance(one, bytes) else one.entity_id.encode()
        producer.send(topic, value, key=key, timestamp_ms=at_ms, **where)
    producer.flush()
    producer.close()


def fleet(count: int, buses: int = 5) -> list[Forecast]:
    return [forecast(f"bus-{n % buses}", n // buses) for n in range(count)]


def ids(found: Iterable[Forecast]) -> list[str]:
    return sorted(one.forecast_id for one in found)


def all_of(bootstrap: str, topics: Topics, **how: Any) -> list[Forecast]:
    with Forecasts(bootstrap, prefix=topics.prefix, **{"since": "earliest", "follow": False, **how}) as found:
        return list(found)


@pytest.mark.promise("`Forecasts` gives every forecast once, in its entity's order")
def test_every_forecast_comes_once_and_in_its_entitys_order(kafka: str, topics: Topics) -> None:
    """All are published twice, as after a crash of a worker."""
    sent = fleet(60)
    publish(kafka, topics.forecasts, sent + sent)
    with Forecasts(kafka, prefix=topics.prefix, since="earliest", follow=False) as forecasts:
        found = list(forecasts)
    assert ids(found) == ids(sent)
    assert forecasts.copies == 60
    for bus in range(5):
        times = [one.anchor.ts for one in found if one.entity_id == f"bus-{bus}"]
        assert times == sorted(times)
    assert found[0] in sent, "whole records, as they were sent"
    assert len(all_of(kafka, topics, remember=0)) == 120


async def test_an_async_loop_gives_the_same(kafka: str, topics: Topics) -> None:
    sent = fleet(20)
    await asyncio.to_thread(publish, kafka, topics.forecasts, sent + sent)
    async with Forecasts(kafka, prefix=topics.prefix, since="earliest", follow=False) as forecasts:
        found = [one async for one in forecasts]
    assert ids(found) == ids(sent)
    assert forecasts.copies == 20


def test_since_is_by_publication(kafka: str, topics: Topics) -> None:
    now_ms = time.time_ns() // 1_000_000
    sent = [forecast(f"bus-{n}") for n in range(3)]
    for one, minutes in zip(sent, (600, 100, 0), strict=True):
        publish(kafka, topics.forecasts, [one], at_ms=now_ms - 60_000 * minutes)
    assert ids(all_of(kafka, topics, since="200m")) == ids(sent[1:])
    assert ids(all_of(kafka, topics, since=timedelta(hours=20))) == ids(sent)
    assert ids(all_of(kafka, topics, since=datetime.now(UTC) - timedelta(minutes=50))) == ids(sent[2:])
    assert all_of(kafka, topics, since=datetime.now(UTC) + timedelta(minutes=2)) == []
    assert all_of(kafka, topics, since=None) == []


def test_without_since_only_what_comes_now_comes(kafka: str, topics: Topics) -> None:
    publish(kafka, topics.forecasts, fleet(10))
    found: list[Forecast] = []
    subscription = Forecasts(kafka, prefix=topics.prefix, limit=3, timeout_s=LIMIT_S)
    thread = threading.Thread(target=lambda: found.extend(subscription))
    thread.start()
    for step in range(1, 300):
        publish(kafka, topics.forecasts, [forecast("new", step)])
        if not thread.is_alive():
            break
        time.sleep(0.1)
    thread.join(LIMIT_S)
    assert [one.entity_id for one in found] == ["new"] * 3


def test_entities_and_boxes_choose(kafka: str, topics: Topics) -> None:
    there = [
        forecast("a", lat=30.5, lon=-97.5),
        forecast("b", lat=10.0, lon=179.9),
        forecast("c", lat=10.0, lon=-179.9),
    ]
    publish(kafka, topics.forecasts, there)
    assert ids(all_of(kafka, topics, entity="b")) == ids(there[1:2])
    assert ids(all_of(kafka, topics, entity={"a", "c"})) == ids([there[0], there[2]])
    assert ids(all_of(kafka, topics, bbox=(-98.0, 30.0, -97.0, 31.0))) == ids(there[:1])
    assert ids(all_of(kafka, topics, bbox=(179.0, 0.0, -179.0, 20.0))) == ids(there[1:])
    assert all_of(kafka, topics, entity="nobody") == []


def test_what_was_aborted_is_not_seen_and_an_end_behind_it_is_found(kafka: str, topics: Topics) -> None:
    sent = fleet(4)
    publish(kafka, topics.forecasts, sent, partition=0)
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=topics.prefix)
    producer.init_transactions()
    producer.begin_transaction()
    for partition in range(2):
        producer.send(topics.forecasts, dumps(forecast("aborted")), key=b"aborted", partition=partition)
    producer.flush()
    producer.abort_transaction()
    producer.close()
    assert ids(all_of(kafka, topics)) == ids(sent)


@pytest.mark.promise("a group goes on where its loop was")
def test_a_group_goes_on_where_the_loop_was(kafka: str, topics: Topics) -> None:
    """A record is done when the loop asks for the next one: what it had in hand comes again, and nothing is missed."""
    sent = fleet(30)
    publish(kafka, topics.forecasts, sent, partition=0)

    def member() -> Forecasts:
        return Forecasts(kafka, prefix=topics.prefix, group=topics.prefix, since="earliest", timeout_s=LIMIT_S)

    with member() as first:
        for one in first:
            if one == sent[9]:
                break
    with member() as second:
        assert next(second) == sent[9]
        assert next(second) == sent[10]
        second.commit()
    with member() as third:
        assert next(third) == sent[11]
    with Forecasts(kafka, prefix=topics.prefix, group=topics.prefix, since="earliest", follow=False) as rest:
        assert list(rest) == sent[11:]
    assert all_of(kafka, topics, group=topics.prefix) == []


def test_members_of_a_group_share_the_partitions(apache_kafka: str, topics: Topics) -> None:
    """And when one leaves, the other goes on with its share."""
    how: dict[str, Any] = {"prefix": topics.prefix, "group": topics.prefix, "since": "earliest", "timeout_s": LIMIT_S}
    found: dict[str, list[Forecast]] = {"a": [], "b": []}
    stop = threading.Event()

    def read(name: str) -> None:
        with Forecasts(apache_kafka, **how) as forecasts:
            for one in forecasts:
                if one.entity_id == "stop":
                    return
                found[name].append(one)
                if name == "a" and stop.is_set():
                    return

    threads = {name: threading.Thread(target=read, args=(name,)) for name in found}
    sent: list[Forecast] = []

    def send_until(holds: Callable[[], bool], partitions: tuple[int, ...] = (0, 1)) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not holds() and time.monotonic() < deadline:
            for partition in partitions:
                one = forecast(f"bus-{partition}", len(sent))
                sent.append(one)
                publish(apache_kafka, topics.forecasts, [one], partition=partition)
            time.sleep(0.1)
        assert holds()

    threads["a"].start()
    send_until(lambda: len(found["a"]) > 2)
    threads["b"].start()
    send_until(lambda: len(found["b"]) > 2)
    stop.set()
    send_until(lambda: not threads["a"].is_alive())
    last = [forecast("last", n) for n in range(2)]
    for partition, one in enumerate(last):
        publish(apache_kafka, topics.forecasts, [one], partition=partition)
    deadline = time.monotonic() + LIMIT_S
    while not set(ids(last)) <= set(ids(found["b"])) and time.monotonic() < deadline:
        time.sleep(0.1)
    publish(apache_kafka, topics.forecasts, [forecast("stop")])
    threads["b"].join(LIMIT_S)
    assert set(ids(found["a"] + found["b"])) == set(ids(sent + last)), "none is missed"


def test_a_log_that_lost_its_beginning_is_read_from_its_oldest_record(
    kafka: str, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    sent = fleet(30)
    publish(kafka, topics.forecasts, sent, partition=0)
    assert len(all_of(kafka, topics, group=topics.prefix, follow=True, limit=5)) == 5
    with admin.connect(kafka) as client:
        try:
            client.delete_records({TopicPartition(topics.forecasts, 0): 20})
        except Exception as error:  # the embedded broker deletes no records
            pytest.skip(f"this broker deletes no records: {error!r}")
    assert ids(all_of(kafka, topics, group=topics.prefix)) == ids(sent[20:])
    assert "no longer has offset" in caplog.text


def test_a_partition_that_comes_later_is_read_from_its_beginning(
    apache_kafka: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHECK_S", 0.2)
    monkeypatch.setattr(reader, "NEWS_S", 0.2)
    publish(apache_kafka, topics.forecasts, fleet(2), partition=0)
    with Forecasts(apache_kafka, prefix=topics.prefix, since="earliest", timeout_s=LIMIT_S) as forecasts:
        assert {next(forecasts).entity_id for _ in range(2)} == {"bus-0", "bus-1"}
        with admin.connect(apache_kafka) as client:
            client.create_partitions({topics.forecasts: NewPartitions(3)})
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                publish(apache_kafka, topics.forecasts, [forecast("late")], partition=2)
                break
            except AssertionError:  # this producer has not heard of it
                assert time.monotonic() < deadline
        assert next(forecasts).entity_id == "late"


def test_limits_and_times_end_the_loop(kafka: str, topics: Topics) -> None:
    publish(kafka, topics.forecasts, fleet(10))
    assert len(all_of(kafka, topics, follow=True, limit=3)) == 3
    with Forecasts(kafka, prefix=topics.prefix, since="earliest", timeout_s=LIMIT_S) as forecasts:
        assert len([next(forecasts) for _ in range(10)]) == 10
        forecasts._timeout_s = QUIET_S  # not earlier: a slow broker would be quiet for so long at the beginning
        began_s = time.monotonic()
        assert list(forecasts) == []
        assert time.monotonic() - began_s >= QUIET_S
    closed = Forecasts(kafka, prefix=topics.prefix, since="earliest")
    next(closed)
    closed.close()
    assert list(closed) == []
    closed.close()


def test_errors_say_what_is_wrong(kafka: str, topics: Topics) -> None:
    with pytest.raises(ValueError, match=r"no topic nowhere\.forecasts\.v1"):
        next(Forecasts(kafka, prefix="nowhere"))
    with pytest.raises(ConnectionError, match="no Kafka broker answers at 127"):
        next(Forecasts(f"127.0.0.1:{embedded.free_port()}", connect_s=0.5))
    publish(kafka, topics.forecasts, [b"\x00\x00\x00\x00\x01\x02abc"])
    with pytest.raises(ValueError, match="Avro"):
        all_of(kafka, topics)
    one = Forecasts(kafka, prefix=topics.prefix)
    one.commit()  # in a plain loop it has a thread of its own
    with pytest.raises(RuntimeError, match="plain loop"):
        asyncio.run(anext(one))  # type: ignore[arg-type]  # it is a coroutine
    one.close()


def test_what_is_no_forecast_is_left_out_and_counted(
    kafka: str, topics: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    publish(kafka, topics.forecasts, [b"{}", *fleet(2), b"no json"])
    with Forecasts(kafka, prefix=topics.prefix, since="earliest", follow=False) as forecasts:
        assert ids(forecasts) == ids(fleet(2))
    assert forecasts.unreadable == 2
    assert caplog.text.count("is no forecast") == 1


def test_gap_fills_and_tables(kafka: str, topics: Topics) -> None:
    publish(kafka, topics.gapfills, [gap_fill(), gap_fill(), gap_fill(revision=1), gap_fill("bus-2", lat=50.0)])
    publish(kafka, topics.forecasts, fleet(4))
    with GapFills(kafka, prefix=topics.prefix, since="earliest", follow=False, bbox=(-98, 29, -96, 31)) as fills:
        assert [(one.entity_id, one.revision) for one in fills] == [("bus-1", 0), ("bus-1", 1)]
    pytest.importorskip("geopandas", reason="the extra pandas is not installed")
    assert len(GapFills(kafka, prefix=topics.prefix, since="earliest").to_pandas()) == 12
    assert len(Forecasts(kafka, prefix=topics.prefix, since="earliest").to_pandas()) == 12
    regions = Forecasts(kafka, prefix=topics.prefix, since="earliest", limit=2).to_geopandas(region=0.9)
    assert len(regions) == 6
    assert (regions.geometry.geom_type == "Polygon").all()


@pytest.fixture(scope="module")
def small_broker() -> Iterator[tuple[str, int]]:
    """Its address and the id of its process."""
    with embedded.broker_process() as found:
        yield found.address, found.pid


@pytest.fixture
def frozen(small_broker: tuple[str, int]) -> Iterator[tuple[str, Callable[[signal.Signals], None]]]:
    """A small broker, which can be stopped as a machine that hangs, and let go on."""
    bootstrap, pid = small_broker
    yield bootstrap, lambda number: os.kill(pid, number)
    os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("group", [None, "readers"])
def test_an_outage_is_said_and_waited_out(
    frozen: tuple[str, Callable[[signal.Signals], None]],
    topic_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    group: str | None,
) -> None:
    """Nothing is missed and nothing comes twice."""
    bootstrap, tell = frozen
    topics = Topics.of(topic_prefix)
    bus_feed.create_topics(bootstrap, topics, partitions=2)
    for name, value in {"CHECK_S": 0.3, "ANSWER_S": 3.0, "FIRST_PAUSE_S": 0.2}.items():
        monkeypatch.setattr(reader, name, value)
    monkeypatch.setattr(connecting, "STOP_S", 0.3)
    before, after = fleet(20), [forecast("later", step) for step in range(20)]
    publish(bootstrap, topics.forecasts, before)
    found: list[Forecast] = []
    how: dict[str, Any] = {"prefix": topic_prefix, "since": "earliest", "group": group, "timeout_s": LIMIT_S}
    with Forecasts(bootstrap, limit=40, **how) as forecasts:
        thread = threading.Thread(target=lambda: found.extend(forecasts))
        thread.start()
        wait(lambda: len(found) == 20)
        tell(signal.SIGSTOP)
        wait(lambda: "is away" in caplog.text)
        tell(signal.SIGCONT)
        publish(bootstrap, topics.forecasts, after)
        thread.join(LIMIT_S)
    assert ids(found) == ids(before + after)
    assert caplog.text.count("is away") == caplog.text.count("answers again") == 1


def test_an_outage_that_outlasts_the_time_is_no_end(
    frozen: tuple[str, Callable[[signal.Signals], None]], topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap, tell = frozen
    bus_feed.create_topics(bootstrap, Topics.of(topic_prefix), partitions=1)
    for name, value in {"CHECK_S": 0.2, "ANSWER_S": 0.5}.items():
        monkeypatch.setattr(reader, name, value)
    monkeypatch.setattr(connecting, "STOP_S", 0.3)
    publish(bootstrap, Topics.of(topic_prefix).forecasts, fleet(1))
    with Forecasts(bootstrap, prefix=topic_prefix, since="earliest", timeout_s=4.0) as forecasts:
        next(forecasts)
        tell(signal.SIGSTOP)
        with pytest.raises(ConnectionError, match="did not answer"):
            next(forecasts)


def test_a_broker_that_looks_no_times_up_is_read_from_its_beginning(
    frozen: tuple[str, Callable[[signal.Signals], None]], topic_prefix: str
) -> None:
    bootstrap, _ = frozen
    topics = Topics.of(topic_prefix)
    bus_feed.create_topics(bootstrap, topics, partitions=1)
    now_ms = time.time_ns() // 1_000_000
    publish(bootstrap, topics.forecasts, [forecast("old")], at_ms=now_ms - 3_600_000)
    publish(bootstrap, topics.forecasts, [forecast("new")], at_ms=now_ms)
    assert [one.entity_id for one in all_of(bootstrap, topics, since="10m")] == ["new"]


def wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
