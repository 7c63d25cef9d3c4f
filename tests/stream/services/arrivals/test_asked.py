"""What is in force after the records of the destinations topic."""

from __future__ import annotations

from arrivals_rig import NOON_MS, place
from hypothesis import given
from hypothesis import strategies as st

from stream.services.arrivals.destinations import InForce
from stream.wire import NO_TIME_MS
from stream.wire.arrivals import Circle, Destination, Geofence, Reached, dumps_arrivals


def goal(entity: str = "12", name: str = "depot", set_ts: int = NOON_MS) -> Destination:
    lat, lon = place(3_000)
    return Destination(entity_id=entity, destination_id=name, lat=lat, lon=lon, radius_m=100.0, set_ts=set_ts)


def area(entity: str | None = None) -> Geofence:
    return Geofence(geofence_id="yard", circle=Circle(*place(0), 100.0), entity_id=entity)


def test_a_destination_counts_until_it_is_taken_back() -> None:
    known = InForce()
    known.put(b"12", dumps_arrivals(goal()))
    assert known.destinations("12", NOON_MS) == [goal()]
    assert known.destinations("13", NOON_MS) == []
    known.put(b"12", None)
    assert not known.has("12")
    assert len(known) == 0


def test_a_destination_does_not_count_for_forecasts_of_before_it_was_set() -> None:
    known = InForce()
    known.put(b"12", dumps_arrivals(goal()), NOON_MS + 500)
    assert known.destinations("12", NOON_MS - 1) == []
    assert known.destinations("12", NOON_MS) == [goal()]
    assert known.destinations("12", NO_TIME_MS) == [goal()]


def test_a_clock_that_is_ahead_delays_no_destination() -> None:
    known = InForce()
    known.put(b"12", dumps_arrivals(goal(set_ts=NOON_MS + 86_400_000)), NOON_MS)
    assert len(known.destinations("12", NOON_MS)) == 1


def test_who_has_arrived_has_to_be_sent_anew() -> None:
    known = InForce()
    known.put(b"12", dumps_arrivals(goal()))
    known.put(b"reached:12", dumps_arrivals(Reached(entity_id="12", destination_id="depot", set_ts=NOON_MS)))
    assert known.destinations("12", NOON_MS) == []
    known.put(b"12", dumps_arrivals(goal(set_ts=NOON_MS + 1)))
    assert len(known.destinations("12", NOON_MS + 1)) == 1
    known.put(b"reached:12", dumps_arrivals(Reached(entity_id="12", destination_id="depot", set_ts=NOON_MS)))
    assert len(known.destinations("12", NOON_MS + 1)) == 1, "a record that comes again is of the former one"


def test_fences_are_for_one_or_for_all() -> None:
    known = InForce()
    known.put(b"a", dumps_arrivals(area("12")))
    assert (len(known.areas("12", NOON_MS)), len(known.areas("13", NOON_MS)), known.has("13")) == (1, 0, False)
    known.put(b"b", dumps_arrivals(area()))
    assert (len(known.areas("12", NOON_MS)), len(known.areas("13", NOON_MS)), known.has("13")) == (2, 1, True)
    known.put(b"a", dumps_arrivals(goal("13")))  # the key is another thing's now
    assert (len(known.areas("12", NOON_MS)), len(known.destinations("13", NOON_MS))) == (1, 1)


def test_what_cannot_be_read_takes_back_what_it_replaced() -> None:
    known = InForce()
    known.put(b"12", dumps_arrivals(goal()))
    known.put(b"12", b'{"kind":"destination","entity_id":"12","lat":91}')
    assert known.refused == 1
    assert known.destinations("12", NOON_MS) == []


def test_more_than_the_bound_is_refused() -> None:
    known = InForce(most=2)
    for number in range(4):
        known.put(b"%d" % number, dumps_arrivals(goal(str(number))))
    assert (len(known), known.refused) == (2, 2)
    known.put(b"0", dumps_arrivals(goal("0", set_ts=NOON_MS + 1)))
    assert (len(known), known.refused) == (2, 2), "to replace one needs no room"


ENTITIES, KEYS = ("a", "b", None), (b"1", b"2", b"3")
things = st.one_of(
    st.none(),
    st.just(b"{}"),
    st.builds(lambda e, n: dumps_arrivals(goal(e, n)), st.sampled_from("ab"), st.sampled_from("xy")),
    st.builds(lambda e: dumps_arrivals(area(e)), st.sampled_from(ENTITIES)),
)


@given(st.lists(st.tuples(st.sampled_from(KEYS), things)))
def test_only_the_last_record_of_a_key_counts(records: list[tuple[bytes, bytes | None]]) -> None:
    known, compacted = InForce(), InForce()
    for key, value in records:
        known.put(key, value)
    last = dict(records)
    for key, value in last.items():
        compacted.put(key, value)
    for entity in "ab":
        assert set(known.destinations(entity, NO_TIME_MS)) == set(compacted.destinations(entity, NO_TIME_MS))
        assert len(known.areas(entity, NO_TIME_MS)) == len(compacted.areas(entity, NO_TIME_MS))
        assert known.has(entity) == compacted.has(entity)
    assert len(known) == len(compacted)


@given(st.binary() | st.none(), st.binary())
def test_no_bytes_raise(key: bytes | None, value: bytes) -> None:
    InForce().put(key, value)
