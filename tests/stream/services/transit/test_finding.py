"""A member whose vehicles name no trips: it knows them again after a restart, and goes on while it makes its index."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from trips_rig import PARTITIONS, TOPICS, Topic, fold, new_fleet, pings, play, unit

from stream.config.security import PLAIN_KAFKA
from stream.services.plan import answer
from stream.services.transit.following import Follower, InOrder, Waiting
from stream.services.transit.snapshot import Snapshots, dump
from stream.storage import open_storage
from stream.transit.assigning import assigner
from stream.transit.assigning.candidates import Candidates
from stream.wire.trips import dumps_trip

HALF = len(pings()) // 2


@pytest.mark.parametrize("from_snapshot", [True, False])
def test_a_vehicle_that_names_no_trip_has_its_own_again_at_its_first_ping_after_a_restart(
    tmp_path: Path, from_snapshot: bool
) -> None:
    """The topic says which trip was found for it: without that it takes some pings to find it again."""
    first, second, topic = new_fleet(), new_fleet(), Topic()
    units = {number: unit(topic, number, first) for number in range(PARTITIONS)}
    bare = [msgspec.structs.replace(ping, trip_id=None) for ping in pings()[: HALF + 200]]
    play(first, units, topic, bare[:HALF])
    if from_snapshot:
        kept = Snapshots(open_storage(tmp_path, "the state"), TOPICS.pings)
        kept.write(dump(first, TOPICS.pings, "id", 5), 5)
        body = kept.read()
        assert body is not None
        assert kept.restore(second, body, with_trips=True)
    for number in range(PARTITIONS):
        unit(topic, number, second)
    on_path = []
    for fleet in (first, second):
        before = fleet.counts["on_path"]
        fold(fleet, bare[HALF:])
        on_path.append(fleet.counts["on_path"] - before)
    assert on_path[0] > 30
    assert on_path[1] >= 0.95 * on_path[0], on_path


def test_a_record_of_a_stranger_spoils_no_takeover() -> None:
    fleet, topic = new_fleet(), Topic()
    units = {number: unit(topic, number, fleet) for number in range(PARTITIONS)}
    bare = [msgspec.structs.replace(ping, trip_id=None) for ping in pings()[:HALF]]
    play(fleet, units, topic, bare)
    number, key, one = next((number, key, one) for number in topic.values for key, one in topic.values[number].items())
    changes: list[dict[str, Any]] = [
        {"start_date": "soon"},
        {"trip_id": "none"},
        {"feed": "another"},
        {"along_m": 1e12},
    ]
    for change in changes:
        changed = dumps_trip(msgspec.structs.replace(one, **change))
        topic.add(number, [answer(TOPICS.trips, number, key, changed)])
        other = new_fleet()
        unit(topic, number, other)
        fold(other, bare[HALF // 2 :])


async def test_the_loop_goes_on_while_the_index_is_made_for_vehicles_without_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes 4 s of a national feed, in which a member answered no broker and no probe."""
    monkeypatch.setattr(assigner, "Candidates", lambda schedule: (time.sleep(0.3), Candidates(schedule))[1])
    fleet, merged = new_fleet(), InOrder([0])
    for offset, ping in enumerate(pings()[:20]):
        merged.add(0, Waiting(offset, ping.ts, msgspec.structs.replace(ping, trip_id=None), None))
    follower = Follower("nowhere", TOPICS.pings, PLAIN_KAFKA, fleet, 1, 0)
    folding = asyncio.create_task(follower._fold(merged, [0]))
    turns = 0
    while not folding.done():
        await asyncio.sleep(0.02)
        turns += 1
    assert turns >= 8
    assert fleet.offsets == {0: 20}
    assert fleet.feed.assigner.has_index
