"""The trips of a morning in Austin: each has one record, and none is left of what is over, whoever publishes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from trips_rig import (
    AUSTIN,
    PARTITIONS,
    TOPICS,
    Topic,
    fold,
    minutes,
    new_fleet,
    partition_of,
    pings,
    play,
    schedule,
    swapped_feed,
    unit,
)

from stream.services.transit.feeds import Zip, read_feed
from stream.services.transit.fleet import Feed, Fleet
from stream.services.transit.following import InOrder, Waiting
from stream.services.transit.snapshot import Snapshots, dump
from stream.storage import open_storage
from stream.transit.predicting.predictor import LOST_S, Predictor
from stream.wire import Ping
from stream.wire.trips import dumps_trip, trip_key

HALF = len(pings()) // 2
SILENT_MS = int(1000 * LOST_S)


def named(some: Iterable[Ping], now_ms: int) -> dict[str, Ping]:
    """Returns the newest ping of each vehicle that was heard within LOST_S and names a trip of the feed."""
    newest = {ping.entity_id: ping for ping in some}
    heard = {entity: ping for entity, ping in newest.items() if now_ms - ping.ts <= SILENT_MS}
    return {entity: ping for entity, ping in heard.items() if ping.trip_id in schedule().trips}


def test_each_vehicle_has_the_record_of_the_trip_that_it_names_and_of_no_other() -> None:
    fleet, topic = new_fleet(), Topic()
    units = {number: unit(topic, number, fleet) for number in range(PARTITIONS)}
    newest: dict[str, Ping] = {}
    seen = ended = 0
    for _, each in minutes(pings()):
        play(fleet, units, topic, each)
        newest |= {ping.entity_id: ping for ping in each}
        expected = named(newest.values(), fleet.look())
        for number in range(PARTITIONS):
            for key, one in topic.values[number].items():
                assert one.trip_id == expected[one.entity_id].trip_id, "it is of a trip that is over"
                assert (key, number) == (
                    trip_key(one.start_date, one.trip_id, one.entity_id),
                    partition_of(one.entity_id),
                )
                assert one.start_date == "20161216"
                assert [stop.sequence for stop in one.stops] == sorted(stop.sequence for stop in one.stops)
                seen += 1
        gone = {one.entity_id for one in topic.all_values().values()} ^ expected.keys()
        # Those without a record have reached their last stop, or were never on their path.
        assert all(_has_arrived(fleet, entity) for entity in gone)
        ended += len(gone)
    assert seen > 1_000
    assert ended > 0
    assert sum(one.counts["ended"] for one in units.values()) > 10


def _has_arrived(fleet: Fleet, entity: str) -> bool:
    vehicle = fleet.vehicles[partition_of(entity)][entity]
    run = fleet.feed.predictor.runs[vehicle.trip_id, entity]
    return run.progress.at_s is None or run.progress.along_m >= run.pattern.reached_N[-1] - 40


def test_a_trip_whose_vehicle_is_silent_is_over_also_when_nobody_is_heard_any_more() -> None:
    fleet, topic = new_fleet(), Topic()
    units = {number: unit(topic, number, fleet) for number in range(PARTITIONS)}
    play(fleet, units, topic, pings()[:HALF])
    assert len(topic.all_values()) > 10
    fleet.time = msgspec.structs.replace(fleet.time, published_ms=1)
    for quiet_ms, left in ((SILENT_MS // 2, True), (SILENT_MS + 60_000, False)):
        fleet.quiet_ms = quiet_ms
        for number, one in units.items():
            topic.add(number, one.take_outgoing(None))
        assert bool(topic.all_values()) is left


def test_whoever_takes_a_partition_over_repeats_nothing_and_ends_what_is_over() -> None:
    """The owner before dies with trips under way, some of which end before anybody has its partition."""
    first, second, topic = new_fleet(), new_fleet(), Topic()
    units = {number: unit(topic, number, first) for number in range(PARTITIONS)}
    play(first, units, topic, pings()[:HALF])
    fold(second, pings()[:HALF])
    heir = {number: unit(topic, number, second) for number in range(PARTITIONS)}
    assert [heir[number].take_outgoing(None) for number in heir] == [[]] * PARTITIONS
    before = set(topic.all_values())
    fold(second, pings()[HALF : HALF + HALF // 3])
    heir = {number: unit(topic, number, second) for number in range(PARTITIONS)}
    for number, one in heir.items():
        topic.add(number, one.take_outgoing(None))
    after = topic.all_values()
    assert before - set(after), "no trip has ended meanwhile"
    assert {one.entity_id: one.trip_id for one in after.values()}.items() <= {
        entity: ping.trip_id for entity, ping in named(pings()[: HALF + HALF // 3], second.look()).items()
    }.items()


def test_a_member_that_has_not_read_as_far_as_the_owner_before_is_silent() -> None:
    first, second, topic = new_fleet(), new_fleet(), Topic()
    units = {number: unit(topic, number, first) for number in range(PARTITIONS)}
    play(first, units, topic, pings()[:HALF])
    fold(second, pings()[: HALF // 2])
    slow = {number: unit(topic, number, second, needs=first.offsets[number]) for number in range(PARTITIONS)}
    assert [one.take_outgoing(None) for one in slow.values()] == [[]] * PARTITIONS
    assert [one.needed[TOPICS.pings] for one in slow.values()] == [first.offsets[n] for n in slow]
    fold(second, pings()[HALF // 2 : HALF])
    assert [one.take_outgoing(None) for one in slow.values()] == [[]] * PARTITIONS, "all is published already"


def test_a_trip_is_published_again_after_a_ping_but_no_sooner_than_a_third_of_the_time() -> None:
    fleet, topic = new_fleet(), Topic()
    one = unit(topic, 0, fleet, every_s=90.0)
    some = [ping for ping in pings() if partition_of(ping.entity_id) == 0][:2_000]
    times: dict[str, list[int]] = {}
    for ping in some:
        fold(fleet, [ping])
        for sent in one.take_outgoing(None):
            if sent.value is not None:
                key = (sent.key or b"").decode()
                times.setdefault(key, []).append(fleet.look())
    steps = [step for each in times.values() for step in (b - a for a, b in pairwise(each))]
    assert len(steps) > 100
    assert min(steps) >= 30_000


def test_an_entity_that_is_forgotten_has_no_trip_any_more() -> None:
    fleet, topic = new_fleet(), Topic()
    units = {number: unit(topic, number, fleet) for number in range(PARTITIONS)}
    play(fleet, units, topic, pings()[:HALF])
    entity = next(iter(topic.all_values().values())).entity_id
    fleet.forget(entity)
    for number, one in units.items():
        topic.add(number, one.take_outgoing(None))
    assert entity not in {one.entity_id for one in topic.all_values().values()}
    assert entity not in fleet.feed.predictor._late


def test_on_a_detour_nobody_knows_when_a_vehicle_reaches_its_stops_until_it_is_back() -> None:
    fleet, topic = new_fleet(), Topic()
    units = {number: unit(topic, number, fleet) for number in range(PARTITIONS)}
    play(fleet, units, topic, pings()[:HALF])
    one = max(topic.all_values().values(), key=lambda trip: len(trip.stops))
    assert {stop.prediction for stop in one.stops} == {"predicted"}
    place = one.ts, one.lat, one.lon

    def drive(count: int, off_deg: float) -> set[str]:
        """Returns what is said of its stops after some pings, half a minute apart, so far in the north of its place."""
        nonlocal place
        for _ in range(count):
            place = place[0] + 30_000, *place[1:]
            ping = Ping(entity_id=one.entity_id, ts=place[0], lat=place[1] + off_deg, lon=place[2], trip_id=one.trip_id)
            play(fleet, units, topic, [ping, msgspec.structs.replace(ping, entity_id="another", trip_id=None)])
        return {stop.prediction for stop in topic.all_values()[key].stops}

    key = trip_key(one.start_date, one.trip_id, one.entity_id)
    assert drive(2, 0.01) == {"predicted"}, "two pings may be wrong"
    assert drive(3, 0.01) == {"unknown"}
    assert drive(3, 0.0) == {"predicted"}


# -- snapshots


def snapshots(folder: Path) -> Snapshots:
    return Snapshots(open_storage(folder, "the state"), TOPICS.pings)


def test_a_fleet_from_a_snapshot_says_what_the_one_before_says(tmp_path: Path) -> None:
    """To the byte, for all that follows; only questions whose answers were awaited are not learnt from."""
    first, second = new_fleet(), new_fleet()
    fold(first, pings()[:HALF])
    snapshots(tmp_path).write(dump(first, TOPICS.pings, "id", 5), 5)
    body = snapshots(tmp_path).read()
    assert body is not None
    assert snapshots(tmp_path).restore(second, body, with_trips=True)
    assert second.offsets == first.offsets
    assert second.look() == first.look()
    told = []
    for fleet in (first, second):
        topic = Topic()
        for number in range(PARTITIONS):
            topic.add(number, unit(topic, number, fleet).take_outgoing(None))
        told.append({key: dumps_trip(one) for key, one in topic.all_values().items()})
    assert len(told[0]) > 10
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: b"no snapshot at all, but long enough", "no snapshot"),
        (lambda raw: raw[:40], "broken"),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "broken"),
        (lambda raw: raw[:4] + b"\x01\x00" + raw[6:], "version 1"),
    ],
)
def test_a_snapshot_that_is_none_or_broken_or_of_another_version_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: object, told: str
) -> None:
    fleet = new_fleet()
    fold(fleet, pings()[:300])
    kept = snapshots(tmp_path)
    kept.write(dump(fleet, TOPICS.pings, "id", 5), 5)
    (file,) = tmp_path.iterdir()
    file.write_bytes(change(file.read_bytes()))  # type: ignore[operator]
    assert kept.read() is None
    assert told in caplog.text
    assert len(caplog.messages) == 1


def test_a_snapshot_of_another_log_keeps_what_was_learnt_and_no_trip(tmp_path: Path) -> None:
    first, second = new_fleet(), new_fleet()
    fold(first, pings()[:HALF])
    kept = snapshots(tmp_path)
    kept.write(dump(first, TOPICS.pings, "id", 5), 5)
    body = kept.read()
    assert body is not None
    assert not kept.restore(second, body, with_trips=False)
    assert not second.offsets
    assert second.trips == 0
    assert (second.feed.predictor.paces._driven_s == first.feed.predictor.paces._driven_s).all()
    assert first.feed.predictor.paces._driven_s.sum() > 0


# -- a new feed


def test_trips_under_way_keep_their_feed_and_new_ones_are_of_the_new_one(tmp_path: Path) -> None:
    """Each trip's id is another trip's in the new feed: who took that for a trip under way would tell other stops."""
    fleet, topic = new_fleet(), Topic()
    units = {number: unit(topic, number, fleet) for number in range(PARTITIONS)}
    play(fleet, units, topic, pings()[:HALF])
    before = topic.all_values()
    learnt = fleet.feed.predictor.paces._driven_s.sum()
    new = read_feed(swapped_feed(tmp_path))
    fleet.adopt(new)
    assert new.predictor.paces._driven_s.sum() == pytest.approx(learnt)
    play(fleet, units, topic, pings()[HALF : HALF + 200])
    kept = [one for key, one in topic.all_values().items() if key in before]
    assert len(kept) > 10
    for one in kept:
        assert one.feed == "austin"
        assert {stop.stop_id for stop in one.stops} <= {*schedule().trips[one.trip_id].stops_N}
    fold(fleet, pings()[HALF + 200 :])
    for number, each in units.items():
        topic.add(number, each.take_outgoing(None))
    for one in topic.all_values().values():
        feed = new.predictor.schedule if one.feed == new.hash else schedule()
        assert {stop.stop_id for stop in one.stops} <= {*feed.trips[one.trip_id].stops_N}
    assert [feed.hash for feed in fleet.older] == ["austin"]
    fleet.time = msgspec.structs.replace(fleet.time, now_ms=fleet.look() + SILENT_MS + 60_000)
    fleet.look()
    assert not fleet.older, "its trips have ended"


def test_trips_of_a_feed_that_was_replaced_go_on_after_a_restart(tmp_path: Path) -> None:
    zip_ = tmp_path / "feed.zip"
    zip_.write_bytes(AUSTIN.read_bytes())
    first = Fleet(read_feed(zip_))
    fold(first, pings()[:HALF])
    kept = snapshots(tmp_path / "state")
    kept.keep_zip(zip_, first.feed.hash)
    before = {one.entity_id: one.vehicle.feed.hash for number in range(PARTITIONS) for one in first.under_way(number)}
    first.adopt(read_feed(swapped_feed(tmp_path)))
    kept.write(dump(first, TOPICS.pings, "id", 5), 5)
    kept.drop_zips({feed.hash for feed in (first.feed, *first.older)})
    second = Fleet(read_feed(swapped_feed(tmp_path)))
    body = kept.read()
    assert body is not None
    assert kept.restore(second, body, with_trips=True)
    after = {one.entity_id: one.vehicle.feed.hash for number in range(PARTITIONS) for one in second.under_way(number)}
    assert len(before) > 10
    assert after == before


def test_a_broken_new_zip_is_told_once_and_the_feed_before_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "feed.zip"
    path.write_bytes(AUSTIN.read_bytes())
    zip_ = Zip(path)
    assert zip_.look() is None
    path.write_bytes(b"half a feed")
    caplog.clear()
    assert zip_.look() is None
    assert zip_.look() is None
    assert [one.levelname for one in caplog.records] == ["ERROR"]
    assert "not a zip" in caplog.text
    path.write_bytes(swapped_feed(tmp_path).read_bytes())
    found = zip_.look()
    assert found is not None
    assert isinstance(found, Feed)
    assert isinstance(found.predictor, Predictor)


# -- the order of what is read


def test_partitions_are_merged_by_time_up_to_where_one_has_nothing_more() -> None:
    merged = InOrder([0, 1])
    for number, times in ((0, (1, 4, 6)), (1, (2, 3))):
        for at_ms in times:
            merged.add(number, Waiting(at_ms, at_ms, None, None))
    assert [one.offset for _, one in merged.take(())] == [1, 2, 3], "partition 1 may have an earlier one still"
    assert [one.offset for _, one in merged.take(())] == []
    merged.add(1, Waiting(5, 5, None, None))
    assert [one.offset for _, one in merged.take((0, 1))] == [4, 5, 6]
