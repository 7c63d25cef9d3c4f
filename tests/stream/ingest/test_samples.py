"""The recordings that can be replayed, and their clock."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import feeds_rig
import pytest

from stream.adapters.live.formats import gtfs_realtime
from stream.adapters.live.formats.ais import Receiver
from stream.adapters.live.parsed import Skip
from stream.config.http_access import Address
from stream.ingest.samples import Clock, buses, ships
from stream.up.embedded import free_port
from stream.wire import Ping

NOW_MS = 1_764_490_012_345


def test_a_recording_ends_when_its_replay_begins() -> None:
    clock = Clock(first_ms=1_000_000, last_ms=1_600_000, began_ms=NOW_MS, speedup=60.0)
    assert 0 <= NOW_MS - (1_600_000 + clock.shift_ms) < 60_000
    assert clock.shift_ms % 60_000 == 0, "an AIS message has the second of its minute in it"
    assert [clock.recorded_ms(NOW_MS + ms) for ms in (0, 5_000, 10_000, 99_000)] == [
        1_000_000,
        1_300_000,
        1_600_000,
        1_600_000,
    ]
    assert clock.due_ms(1_300_000) == NOW_MS + 5_000


def test_every_position_of_every_bus_is_in_some_snapshot() -> None:
    recorded = buses.recording()
    times = sorted(bus.ms for of in recorded.values() for bus in of)
    clock = Clock(times[0], times[-1], NOW_MS, speedup=1_000.0)
    seen: set[tuple[str, int]] = set()
    for ms in range(0, times[-1] - times[0] + 20_000, 20_000):
        found = gtfs_realtime.read(buses.render_feed(recorded, clock, NOW_MS + ms // 1_000), NOW_MS)
        assert all(isinstance(one, Ping) for one in found)
        seen |= {(one.entity_id, one.ts) for one in found if isinstance(one, Ping)}
    there = {(who, bus.ms + clock.shift_ms) for who, of in recorded.items() for bus in of}
    assert len(seen & there) == len(seen), "nothing else is"
    assert len(seen) > 0.95 * len(there), "some buses report twice in 20 s"


async def test_the_feed_answers_that_nothing_has_changed() -> None:
    at = Address("127.0.0.1", free_port())
    runner = await buses.serve(at, speedup=1.0)
    async with aiohttp.ClientSession() as client:
        url = f"http://{at}{buses.PATH}"
        async with client.get(url) as first:
            assert first.status == 200
            tag = first.headers["ETag"]
        async with client.get(url, headers={"If-None-Match": tag}) as second:
            assert second.status in (200, 304)
            assert second.status == 304 or second.headers["ETag"] != tag
    with pytest.raises(OSError, match="is the port taken"):
        await buses.serve(at, 1.0)
    await runner.cleanup()


def test_the_ships_are_positions_and_types() -> None:
    receiver, counts = Receiver(), Counter[str]()
    for sentence in ships.recording():
        (found,) = receiver.read(ships.tag_sentence(sentence, 60_000), sentence.ms)
        counts[found.why if isinstance(found, Skip) else type(found).__name__] += 1
        if isinstance(found, Ping):
            assert found.ts == sentence.ms + 60_000
    assert counts == {"Ping": 733, "part": 149, "static_data": 149}


async def test_ships_come_in_order_and_the_connection_stays() -> None:
    at = Address("127.0.0.1", free_port())
    async with await ships.serve(at, speedup=100_000.0):
        reader, writer = await asyncio.open_connection(at.host, at.port)
        lines = [await asyncio.wait_for(reader.readline(), feeds_rig.PATIENCE_S) for _ in ships.recording()]
        assert all(line.endswith(b"\r\n") for line in lines)
        assert not reader.at_eof()
        writer.close()
