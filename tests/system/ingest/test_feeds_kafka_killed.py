"""Kafka killed under feeds: what a source that can be held back sent is there, by count; for UDP, all but what was said
to be lost."""

from __future__ import annotations

import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import bus_feed
import feed_sources
import pytest
from feed_sources import ais_line, gtfs_feed, ingest
from mortal_kafka import MortalKafka
from pathcast_process import PATIENCE_S, eventually
from worker_process import Worker

from stream.adapters.live.formats import gtfs_realtime
from stream.up.embedded import HOST, free_port
from stream.wire import Ping, Topics

T0_S = 1_764_489_600
AWAY = "takes no records"
BACK = "takes records again"


@pytest.fixture
def prefix(mortal: MortalKafka) -> str:
    made = f"t{uuid.uuid4().hex[:12]}"
    bus_feed.create_topics(mortal.bootstrap, Topics.of(made), partitions=2)
    return made


@pytest.fixture
def start(mortal: MortalKafka, prefix: str, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    with_logs: list[Worker] = []

    def run(*command: object) -> Worker:
        with_logs.append(ingest(tmp_path / "ingest.log", *command, kafka=mortal.bootstrap, prefix=prefix))
        return with_logs[-1]

    yield run
    for process in with_logs:
        process.__exit__(None, None, None)


def taken(mortal: MortalKafka, prefix: str) -> set[tuple[str, int]]:
    """Which pings the topic holds: entity and time."""
    found = feed_sources.pings_by_entity(bus_feed.read(mortal.bootstrap, Topics.of(prefix).pings))
    return {(who, ping.ts) for who, pings in found.items() for ping in pings}


def kill_and_start_again(mortal: MortalKafka, process: Worker) -> None:
    mortal.kill()
    process.wait_for(AWAY, PATIENCE_S)
    mortal.start()
    process.wait_for(BACK, PATIENCE_S)


def test_nothing_that_was_sent_over_tcp_is_lost(mortal: MortalKafka, prefix: str, start: Callable[..., Worker]) -> None:
    """The peer never stops sending: it is held back, and has not noticed more."""
    count = 20_000
    lines = [ais_line(366_000_000 + n % 100, T0_S + n // 100, n % 100) for n in range(count)]
    sent = {(str(366_000_000 + n % 100), (T0_S + n // 100) * 1000) for n in range(count)}
    halfway = threading.Event()
    with feed_sources.tcp_peer() as (address, accept):
        process = start("ais", "--tcp", address)
        peer = accept()

        def send() -> None:
            with peer:
                for number, line in enumerate(lines):
                    peer.sendall(line)
                    if number == count // 4:
                        halfway.set()
                    if number % 100 == 0:
                        time.sleep(0.01)

        sender = threading.Thread(target=send)
        sender.start()
        assert halfway.wait(PATIENCE_S)
        kill_and_start_again(mortal, process)
        sender.join(PATIENCE_S)
        assert not sender.is_alive()
        assert eventually(lambda: taken(mortal, prefix) == sent), f"{len(sent - taken(mortal, prefix))} are lost"
        assert process.stop() == 0


def test_every_snapshot_that_was_polled_is_sent(mortal: MortalKafka, prefix: str, start: Callable[..., Worker]) -> None:
    """Each poll finds 200 vehicles at a new time."""

    def snapshot(number: int) -> bytes:
        return gtfs_feed(T0_S + number, [(f"bus-{n}", n) for n in range(200)])

    with feed_sources.HttpFeed(snapshot) as feed:
        process = start("gtfs-rt", "--url", feed.url, "--every", "1s")
        assert eventually(lambda: len(feed.served) >= 2)
        kill_and_start_again(mortal, process)
        before = len(feed.served)
        assert eventually(lambda: len(feed.served) >= before + 2)
        assert process.stop() == 0
        served = feed.served[:-1]  # the last may have been on its way when we stopped
    shown = [one for body in served for one in gtfs_realtime.read(body, T0_S * 1000)]
    pings = {(one.entity_id, one.ts) for one in shown if isinstance(one, Ping)}
    assert len(pings) == 200 * len(served)
    assert pings - taken(mortal, prefix) == set()


def test_of_udp_what_was_not_taken_was_said_to_be_lost(
    mortal: MortalKafka, prefix: str, start: Callable[..., Worker]
) -> None:
    port, count = free_port(), 6_000
    process = start("ais", "--listen-udp", port, "--hold", 1_000)
    process.wait_for("listening on UDP", PATIENCE_S)
    lines = [ais_line(366_000_000 + n % 100, T0_S + n // 100, n % 100) for n in range(count)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:

        def send(some: list[bytes]) -> None:
            for number, line in enumerate(some):
                sender.sendto(line, (HOST, port))
                if number % 20 == 0:
                    time.sleep(0.01)  # what the kernel drops is not what is tested

        send(lines[:500])
        assert eventually(lambda: len(taken(mortal, prefix)) == 500)
        mortal.kill()
        send(lines[500:])
        process.wait_for(AWAY, PATIENCE_S)
        mortal.start()
        process.wait_for(BACK, PATIENCE_S)
        newest = (str(366_000_000 + (count - 1) % 100), (T0_S + (count - 1) // 100) * 1000)
        assert eventually(lambda: newest in taken(mortal, prefix))
    assert process.stop() == 0
    lost = int(re.findall(r"ended: .*, ([\d,]+) lost", process.log())[-1].replace(",", ""))
    assert lost > 0
    assert len(taken(mortal, prefix)) + lost == count
