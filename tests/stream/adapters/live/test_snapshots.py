"""What was sent of a feed of snapshots is not sent again, and memory is bounded."""

from __future__ import annotations

import random

from stream.adapters.live.parsed import Skip, reject
from stream.adapters.live.snapshots import UNCHANGED, SentSightings, Sighting
from stream.wire import Ping

T0 = 1_764_490_000_000


def at(who: str, ms: int) -> Sighting:
    return Sighting(who, ms, Ping(entity_id=who, ts=ms, lat=1.0, lon=2.0))


def sent(seen: SentSightings, *sightings: Sighting) -> list[tuple[str, int | str]]:
    """Which of a snapshot go to Kafka, which has them afterwards."""
    news = seen.skip_sent(sightings)
    assert len(news) == len(sightings)
    seen.remember(news)
    return [(one.who, one.mark) for one in news if one.parsed != UNCHANGED]


def test_an_unchanged_vehicle_is_sent_once() -> None:
    seen = SentSightings()
    assert sent(seen, at("a", T0), at("b", T0)) == [("a", T0), ("b", T0)]
    assert sent(seen, at("a", T0), at("b", T0 + 1)) == [("b", T0 + 1)]
    assert sent(seen, at("a", T0), at("b", T0 + 1)) == []


def test_nothing_counts_as_sent_until_it_was() -> None:
    seen = SentSightings()
    assert seen.skip_sent([at("a", T0)]) == [at("a", T0)]
    assert seen.skip_sent([at("a", T0)]) == [at("a", T0)]


def test_a_vehicle_that_is_there_twice_is_sent_once() -> None:
    assert sent(SentSightings(), at("a", T0), at("a", T0), at("a", T0 + 1)) == [("a", T0), ("a", T0 + 1)]


def test_servers_that_are_a_snapshot_apart_send_nothing_twice() -> None:
    seen = SentSightings()
    times = [T0, T0 - 15_000, T0, T0 - 15_000, T0 + 15_000, T0, T0 + 15_000]
    assert [sent(seen, at("a", ms)) != [] for ms in times] == [True, True, False, False, True, False, False]


def test_a_reject_is_sent_once_per_time_too() -> None:
    bad = Sighting("a", T0, reject("null_island", "x"), b"raw")
    seen = SentSightings()
    assert sent(seen, bad) == [("a", T0)]
    assert sent(seen, bad) == []
    assert sent(seen, bad._replace(mark=T0 + 1)) == [("a", T0 + 1)]


def test_skips_are_counted_each_time_and_not_remembered() -> None:
    seen, none = SentSightings(), Sighting("a", 0, Skip("no_position"))
    assert seen.skip_sent([none]) == [none]
    seen.remember([none])
    assert len(seen) == 0


def test_rounded_ages_do_not_make_a_position_new() -> None:
    """readsb gives the age of a position to 0.1 s: the same position seems to be 80 ms older in the next snapshot."""
    seen = SentSightings(tolerance_ms=250)
    assert sent(seen, at("a", T0)) == [("a", T0)]
    assert sent(seen, at("a", T0 - 80)) == []
    assert sent(seen, at("a", T0 + 500)) == [("a", T0 + 500)]


def test_what_was_not_seen_for_longest_is_forgotten_first() -> None:
    seen = SentSightings(most=3)
    sent(seen, at("a", T0), at("b", T0), at("c", T0))
    sent(seen, at("a", T0))  # unchanged, and seen all the same
    sent(seen, at("d", T0))
    assert len(seen) == 3
    assert sent(seen, at("a", T0), at("c", T0), at("d", T0)) == []
    assert sent(seen, at("b", T0)) == [("b", T0)]


def test_memory_is_bounded_whatever_comes() -> None:
    rng = random.Random(7)
    seen = SentSightings(most=100)
    for _ in range(2_000):
        sent(seen, *(at(str(rng.randrange(10_000)), T0 + rng.randrange(1_000)) for _ in range(5)))
        assert len(seen) <= 100
    assert all(len(marks) <= 4 for marks in seen._marks.values())
