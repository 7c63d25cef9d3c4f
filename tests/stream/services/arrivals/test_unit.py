"""What is published of a partition's forecasts."""

from __future__ import annotations

import pytest
from arrivals_rig import NOON_MS, forecast, place, record
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.kafka.records.record_columns import Records
from stream.services.arrivals.destinations import InForce
from stream.services.arrivals.unit import ArrivalUnit
from stream.wire import Forecast, Outgoing, Record, Topics
from stream.wire.arrivals import (
    Arrival,
    ArrivalRecord,
    Arrived,
    Circle,
    Destination,
    Geofence,
    Inside,
    dumps_arrivals,
    loads_arrival,
)

TOPICS = Topics.of("fleet")


def in_force(*, deadline_ts: int | None = None, radius_m: float = 150.0) -> InForce:
    """Entity 12 is to go to a depot 3 km to the east."""
    known = InForce()
    lat, lon = place(3_000)
    goal = Destination(
        entity_id="12",
        destination_id="depot",
        lat=lat,
        lon=lon,
        radius_m=radius_m,
        set_ts=NOON_MS,
        deadline_ts=deadline_ts,
    )
    known.put(b"12", dumps_arrivals(goal))
    return known


def unit(known: InForce, every_s: float = 15.0) -> ArrivalUnit:
    return ArrivalUnit(0, TOPICS, known, None, every_s)


def told(of: ArrivalUnit, *forecasts: Forecast, published_ms: int = NOON_MS) -> list[ArrivalRecord]:
    of.fold(Records.of([record(one, n, published_ms=published_ms) for n, one in enumerate(forecasts)]))
    return [loads_arrival(one.value or b"") for one in of.take_outgoing(None) if one.topic == TOPICS.arrivals]


def test_what_is_no_forecast_or_no_destination_is_left_out() -> None:
    deep, known = b'{"kind":"destination","x":' + b"[" * 100_000, in_force()
    known.put(b"13", deep)
    odd = record(forecast(), 0, published_ms=NOON_MS)._replace(value=deep)
    of = unit(known)
    of.fold(Records.of([odd]))
    assert of.counts["unread"] == 1
    assert len(told(of, forecast())) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"h_s":900.0', b'"h_s":-1e15'),
        (b'"h_s":900.0', b'"h_s":1e308'),
        (b'"lat":30.2672', b'"lat":1e308'),
        (b'"dt_s":30.0', b'"dt_s":-1e308'),
        (b'"d_lat":0.0', b'"d_lat":1e308'),
        (b'"ts":1490119200000', b'"ts":1000000000000000000000'),
    ],
)
def test_numbers_that_no_worker_writes_are_left_out(old: bytes, new: bytes) -> None:
    """Some ended as NaN in an estimate's time, and the member at each start."""
    good, of = record(forecast(), 0, published_ms=NOON_MS), unit(in_force())
    assert old in (good.value or b"")
    of.fold(Records.of([good._replace(value=(good.value or b"").replace(old, new))]))
    assert (of.counts["unread"], of.take_outgoing(None)) == (1, [])


def test_an_entity_on_its_way_gets_an_estimate() -> None:
    (one,) = told(unit(in_force(deadline_ts=NOON_MS + 900_000)), forecast())
    assert isinstance(one, Arrival)
    assert (one.entity_id, one.destination_id, one.anchor_ts) == ("12", "depot", NOON_MS)
    assert one.early_s <= one.early_80_s <= one.in_s <= one.late_80_s <= one.late_s
    assert one.eta_ts == NOON_MS + round(1000 * one.in_s)
    assert abs(one.distance_m - 2_850) < 2
    assert one.chance_by_deadline is not None
    assert 0.5 < one.chance_by_deadline <= 1


def test_nothing_is_said_of_who_is_asked_nothing() -> None:
    of = unit(in_force())
    assert told(of, forecast("13")) == []
    assert of.counts["unasked"] == 1


def test_a_ping_inside_is_an_arrival_and_once() -> None:
    of = unit(in_force(deadline_ts=NOON_MS + 100_000))
    near, there = forecast(at_m=2_900, ts_ms=NOON_MS + 200_000), forecast(at_m=3_000, ts_ms=NOON_MS + 230_000)
    of.fold(Records.of([record(one, n) for n, one in enumerate([forecast(), near, there])]))
    made = of.take_outgoing(None)
    assert [one.topic for one in made] == [TOPICS.arrivals, TOPICS.arrivals, TOPICS.destinations]
    arrived = loads_arrival(made[1].value or b"")
    assert isinstance(arrived, Arrived)
    assert (arrived.ts, arrived.late_s) == (NOON_MS + 200_000, 100.0)
    assert of.take_outgoing(None) == []


def test_a_successor_that_has_read_the_note_says_nothing_again() -> None:
    known = in_force()
    there = forecast(at_m=3_000)
    first = unit(known)
    first.fold(Records.of([record(there, 0)]))
    _, note = first.take_outgoing(None)
    assert len(told(unit(known), there)) == 1, "without the note it would"
    known.put(note.key, note.value)
    assert told(unit(known), there) == []


def test_a_forecast_of_before_the_setting_is_no_arrival() -> None:
    assert told(unit(in_force()), forecast(at_m=3_000), published_ms=NOON_MS - 1) == []


def test_a_late_ping_gets_no_estimate_but_can_be_an_arrival() -> None:
    of = unit(in_force())
    assert told(of, forecast(status="stale")) == []
    assert of.counts["stale"] == 1
    (one,) = told(of, forecast(at_m=3_000, status="stale"))
    assert isinstance(one, Arrived)


def test_an_entity_is_spoken_of_every_so_often() -> None:
    of = unit(in_force(), every_s=30)
    pings = [forecast(ts_ms=NOON_MS + 1000 * s) for s in (0, 10, 20, 30, 40, 70)]
    assert [one.anchor_ts - NOON_MS for one in told(of, *pings) if isinstance(one, Arrival)] == [0, 30_000, 70_000]
    assert of.counts["too_soon"] == 3


def test_fences_are_told_at_each_horizon() -> None:
    known = InForce()
    known.put(b"f", dumps_arrivals(Geofence(geofence_id="yard", circle=Circle(*place(2_400), 300.0))))
    known.put(b"g", dumps_arrivals(Geofence(geofence_id="far", circle=Circle(*place(-900_000), 300.0))))
    (one,) = told(unit(known), forecast())
    assert isinstance(one, Inside)
    (yard,) = one.geofences
    assert (yard.geofence_id, yard.now, [chance.h_s for chance in yard.chances]) == ("yard", False, [60, 300, 900])
    assert yard.chances[1].chance > 0.8


def test_a_record_that_is_no_forecast_is_counted() -> None:
    of = unit(in_force())
    of.fold(Records.of([Record("f", 0, 0, NOON_MS, b"12", b"no JSON"), Record("f", 0, 1, NOON_MS, b"12", None)]))
    assert of.take_outgoing(None) == []
    assert (of.counts["unread"], of.counts["unasked"]) == (1, 1)


def test_records_say_what_they_are() -> None:
    of = unit(in_force())
    of.fold(Records.of([record(forecast(), 0, number=3)]))
    (one,) = of.take_outgoing(None)
    headers = dict(one.headers)
    assert headers["ce_type"] == b"pathcast.arrival.v1"
    assert headers["ce_id"] == loads_arrival(one.value or b"").arrival_id.encode()
    assert one.key == b"12"


@given(
    st.lists(st.tuples(st.floats(-500, 4_000), st.floats(0, 30), st.integers(0, 900)), min_size=1, max_size=20),
    st.integers(0, 19),
)
@settings(max_examples=60, deadline=None)
def test_a_crash_loses_no_arrival_and_doubles_no_id(steps: list[tuple[float, float, int]], crash: int) -> None:
    """A unit that is dropped after `crash` forecasts, with all that it had not given away, and made anew there: what it
    gave away was committed with the offset, as `stream.services.member` does it."""
    pings = [forecast(at_m=at, mps=mps, ts_ms=NOON_MS + 1000 * s) for at, mps, s in steps]
    once, again = _run(pings, None), _run(pings, crash)
    arrivals = [{loads_arrival(o.value or b"").arrival_id for o in made if _is_arrived(o)} for made in (once, again)]
    assert arrivals[0] == arrivals[1]
    ids = [loads_arrival(one.value or b"").arrival_id for one in again if one.topic == TOPICS.arrivals]
    distinct_pings = len({one.forecast_id for one in pings}) == len(pings)
    assert not distinct_pings or len(ids) == len(set(ids))


def _run(pings: list[Forecast], crash: int | None) -> list[Outgoing]:
    known, committed = in_force(), []
    of = unit(known)
    for number, one in enumerate(pings):
        if number == crash:
            of.fold(Records.of([record(one, number)]))  # it is folded, and lost
            of = unit(known)
        of.fold(Records.of([record(one, number)]))
        made = of.take_outgoing(None)
        for out in made:
            if out.topic == TOPICS.destinations:
                known.put(out.key, out.value)
        committed += made
    return committed


def _is_arrived(one: Outgoing) -> bool:
    return one.topic == TOPICS.arrivals and isinstance(loads_arrival(one.value or b""), Arrived)
