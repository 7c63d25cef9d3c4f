"""GTFS-Realtime of trips: a validator of the field finds no error in it, and what a record says is in it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict
from google.transit import gtfs_realtime_pb2 as pb
from gtfs_rt_validator import cli
from hypothesis import example, given, settings
from hypothesis import strategies as st
from realtime_rig import FEED, record_of, under_way
from trips_rig import PARTITIONS, Topic, new_fleet, pings, play, unit

from stream.api.trips import realtime
from stream.api.trips.realtime import Kind, Writer
from stream.api.trips.table import TripTable
from stream.transit.schedule import Schedule, read_schedule
from stream.wire.trips import StopAhead, TripUnderWay

CALLS = pb.TripUpdate.StopTimeUpdate


@cache
def schedule() -> Schedule:
    return read_schedule(FEED)


@cache
def trips() -> tuple[TripUnderWay, ...]:
    """Returns the trips of a quarter of an hour in Austin, each at its second stop."""
    made = [under_way(schedule(), schedule().trips[one]) for one in schedule().trips]
    begin_ms = sorted(one.ts for one in made)[len(made) // 2]
    return tuple(one for one in made if abs(one.ts - begin_ms) < 450_000)


@cache
def published() -> tuple[TripUnderWay, ...]:
    """Returns what the member publishes of an hour of real buses, as it stands at the end of that."""
    fleet, topic = new_fleet(), Topic()
    begin_ms = pings()[0].ts
    hour = [ping for ping in pings() if ping.ts < begin_ms + 3_600_000]
    play(fleet, {number: unit(topic, number, fleet) for number in range(PARTITIONS)}, topic, hour)
    table = TripTable()
    table.take(map(record_of, topic.all_values().values()))
    return tuple(table.under_way())


def feed_of(kind: Kind, some: Iterable[TripUnderWay], now_ms: int) -> pb.FeedMessage:
    return pb.FeedMessage.FromString(Writer(kind, as_json=False).write(some, now_ms))


def trip_updates(some: Iterable[TripUnderWay], now_ms: int) -> pb.FeedMessage:
    return feed_of("trip-updates", some, now_ms)


def vehicle_positions(some: Iterable[TripUnderWay], now_ms: int) -> pb.FeedMessage:
    return feed_of("vehicle-positions", some, now_ms)


def errors_of(tmp_path: Path, updates: pb.FeedMessage, positions: pb.FeedMessage) -> dict[str, int]:
    """Returns the rules of severity ERROR that a validator finds broken, and how often."""
    feed = tmp_path / "feed.zip"
    with zipfile.ZipFile(FEED) as ours, zipfile.ZipFile(feed, "w") as flat:  # it wants the files in no folder
        for name in ours.namelist():
            if name.endswith(".txt"):
                flat.writestr(name.rpartition("/")[2], ours.read(name))
    (tmp_path / "tu.pb").write_bytes(updates.SerializeToString())
    (tmp_path / "vp.pb").write_bytes(positions.SerializeToString())
    at = datetime.fromtimestamp(updates.header.timestamp + 1, UTC).isoformat()
    files = ["-tu", str(tmp_path / "tu.pb"), "-vp", str(tmp_path / "vp.pb")]
    assert cli.main(["-gtfs", str(feed), *files, "--at", at, "--out", str(tmp_path)]) == 0
    report: Any = msgspec.json.decode((tmp_path / "report.json").read_bytes())
    assert "summary" in report, report.keys()
    return {one["code"]: one["totalNotices"] for one in report["notices"] if one["severity"] == "ERROR"}


def test_a_validator_finds_no_error(tmp_path: Path) -> None:
    now_ms = max(one.ts for one in published())
    assert len(published()) > 5
    assert errors_of(tmp_path, trip_updates(published(), now_ms), vehicle_positions(published(), now_ms)) == {}


def test_the_validator_notices_times_out_of_order(tmp_path: Path) -> None:
    now_ms = max(one.ts for one in published())
    updates = trip_updates(published(), now_ms)
    calls = updates.entity[0].trip_update.stop_time_update
    calls[1].arrival.time = calls[1].departure.time = calls[0].arrival.time - 60
    assert errors_of(tmp_path, updates, vehicle_positions(published(), now_ms))


@given(
    st.lists(st.tuples(st.integers(-90_000, 90_000), st.integers(-5_000, 90_000), st.sampled_from("puks")), max_size=8)
)
def test_times_of_a_trip_increase_whatever_is_predicted(moves: list[tuple[int, int, str]]) -> None:
    trip = trips()[0]
    names = {"p": "predicted", "u": "unknown", "s": "skipped", "k": "predicted"}
    stops = []
    for number, (off_ms, stays_ms, how) in enumerate(moves):
        at_ms = trip.ts + 30_000 * number + off_ms
        said: dict[str, Any] = {
            "prediction": names[how],
            "scheduled_arrival_ts": trip.ts,
            "scheduled_departure_ts": trip.ts,
        }
        if names[how] == "predicted":
            said |= {"arrival_ts": at_ms, "departure_ts": at_ms + stays_ms, "early_ts": at_ms - 9, "late_ts": at_ms + 9}
        stops.append(StopAhead(sequence=number + 1, stop_id=f"s{number}", lat=30.0, lon=-97.0, **said))
    message = trip_updates([msgspec.structs.replace(trip, stops=tuple(stops))], trip.ts)
    assert len(message.entity) == (1 if stops else 0)
    before_s = 0
    for call, stop in zip(message.entity[0].trip_update.stop_time_update if stops else (), stops, strict=True):
        assert call.stop_sequence == stop.sequence
        if stop.prediction != "predicted":
            expected = CALLS.SKIPPED if stop.prediction == "skipped" else CALLS.NO_DATA
            assert (call.schedule_relationship, call.HasField("arrival")) == (expected, False)
            continue
        assert before_s < call.arrival.time <= call.departure.time
        assert call.arrival.delay == call.arrival.time - stop.scheduled_arrival_ts // 1000
        assert call.arrival.uncertainty >= 1, "0 would say that it is certain"
        before_s = call.departure.time


def test_a_record_comes_back_from_the_message_of_googles_bindings() -> None:
    trip = trips()[0]
    read = trip_updates([trip], trip.ts)
    update = read.entity[0].trip_update
    assert (read.header.timestamp, update.timestamp) == (trip.ts // 1000, trip.ts // 1000)
    assert (update.trip.trip_id, update.trip.start_date, update.vehicle.id) == (
        trip.trip_id,
        trip.start_date,
        trip.entity_id,
    )
    assert [one.stop_id for one in update.stop_time_update] == [one.stop_id for one in trip.stops]
    first = update.stop_time_update[0]
    assert (first.arrival.time, first.arrival.delay, first.arrival.uncertainty) == (trip.ts // 1000 + 30, 60, 60)
    vehicle = vehicle_positions([trip], trip.ts).entity[0].vehicle
    assert vehicle.position.latitude == pytest.approx(trip.lat)
    assert (vehicle.current_stop_sequence, vehicle.current_status) == (
        trip.stops[0].sequence,
        pb.VehiclePosition.IN_TRANSIT_TO,
    )


def test_a_vehicle_on_two_trips_is_shown_once_where_it_was_heard_last() -> None:
    one, other = (msgspec.structs.replace(trip, entity_id="v") for trip in trips()[:2])
    other = msgspec.structs.replace(other, ping_ts=one.ping_ts + 1)
    message = vehicle_positions([other, one], one.ts)
    assert [(entity.id, entity.vehicle.trip.trip_id) for entity in message.entity] == [("v", other.trip_id)]


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("kind", ["trip-updates", "vehicle-positions"])
def test_a_feed_of_kept_parts_is_the_one_that_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, as_json: bool
) -> None:
    """Trips come, change, end, and have no stops left; and what has not changed is not written again."""
    first, second, third, *_ = published()
    moved = msgspec.structs.replace(second, ts=second.ts + 1, delay_s=77.0)
    arrived = msgspec.structs.replace(first, stops=())
    writer, now_ms = Writer(kind, as_json=as_json), max(one.ts for one in published()) + 1
    changes = [
        ([], []),
        ([first, second, third], [first, second, third]),
        ([first, moved, third], [moved]),
        ([moved, third], []),
        ([arrived, moved, third], [arrived]),
        ([], []),
    ]
    due = [Writer(kind, as_json=as_json).write(trips_then, now_ms) for trips_then, _ in changes]
    written: list[str] = []
    for name in ("update_entity", "position_entity"):
        before = getattr(realtime, name)
        monkeypatch.setattr(realtime, name, lambda trip, n, of=before: (written.append(trip.trip_id), of(trip, n))[1])
    for (trips_then, anew), expected in zip(changes, due, strict=True):
        written.clear()
        assert writer.write(trips_then, now_ms) == expected
        assert written == [one.trip_id for one in anew]


_numbers: Final = st.floats(-90, 90) | st.integers(-90, 90).map(float)


@settings(max_examples=40)
@example([(1e-41, 30.1, -7.7, 1)], "stopped", "")  # 6 digits, where 1 would do
@given(
    st.lists(st.tuples(_numbers, _numbers, st.none() | _numbers, st.none() | st.sampled_from((0, 1))), max_size=3),
    st.sampled_from(("incoming", "stopped", "under_way")),
    st.text(max_size=5),
)
def test_the_json_is_protobufs_own_of_the_same_message(
    some: list[tuple[float, float, float | None, int | None]], position: Any, name: str
) -> None:
    """Whoever reads protobuf's JSON refuses a name that it does not know, and takes a wrong number for a true one."""
    made = [
        msgspec.structs.replace(
            trips()[number], entity_id=f"{name}{number}", lat=lat, lon=lon, heading_deg=speed, speed_mps=speed,
            delay_s=speed, direction_id=direction, position=position,
        )
        for number, (lat, lon, speed, direction) in enumerate(some)
    ]  # fmt: skip
    unknown = [msgspec.structs.replace(one, prediction="unknown") for one in trips()[-1].stops]
    skipped = msgspec.structs.replace(trips()[-1].stops[0], prediction="skipped")
    made += [msgspec.structs.replace(trips()[-1], stops=(skipped, *unknown)), *published()[:2]]
    for kind in get_args(Kind):
        ours = Writer(kind, as_json=True).write(made, made[-1].ts)
        message = feed_of(kind, made, made[-1].ts)
        assert msgspec.json.decode(ours) == MessageToDict(message, preserving_proto_field_name=True)
