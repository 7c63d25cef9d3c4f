"""The latest topic holds what its definition says, wherever its writer is restarted."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest
from services_rig import LAG_MS, NUMBER, TOPICS, Latest, forecast, gap, logs, newest, record, undisturbed

from stream.kafka.log import History, Log
from stream.services.latest.map_view import ellipse
from stream.services.latest.unit import LatestRules
from stream.wire import Window, loads_forecast
from stream.wire.ids import EVENT_ID, gap_id
from stream.wire.latest import Gap, loads_latest
from stream.wire.positions import mahalanobis2, radius2

T0 = 1_700_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
FORECASTS, GAPFILLS = TOPICS.forecasts, TOPICS.gapfills


def test_a_record_begins_with_the_forecast_as_it_was_published() -> None:
    raw = forecast("a", T0, 7)
    latest = Latest()
    (made,) = latest.take([record(FORECASTS, 5, raw)])
    assert (made.topic, made.key, made.src.partition) == (TOPICS.latest, b"a", NUMBER)
    assert made.value is not None
    assert made.value.startswith(raw[:-1] + b",")
    assert loads_forecast(made.value) == loads_forecast(raw)
    view = loads_latest(made.value).map
    assert [one.h_s for one in view.regions] == [None, 60, 300, 900]
    assert (view.offset, view.gap) == (5, None)
    assert dict(made.headers)["ce_type"] == b"pathcast.latest.v1"


def test_several_changes_between_two_transactions_are_one_update() -> None:
    latest = Latest()
    (made,) = latest.take([record(FORECASTS, n, forecast("a", T0 + n * MINUTE, n)) for n in range(9)])
    assert made.value is not None
    assert loads_forecast(made.value).anchor.ts == T0 + 8 * MINUTE
    assert latest.flush() == []


def test_a_value_that_comes_again_when_a_gap_fill_is_retracted_has_another_id() -> None:
    """Consumers drop what has an id that they have seen, and would go on to draw the path that was retracted."""
    latest, end = Latest(), T0 + 9 * MINUTE
    made = [
        *latest.take([record(FORECASTS, 0, forecast("a", end, 1))]),
        *latest.take([record(GAPFILLS, 0, gap("a", T0, end))]),
        *latest.take([record(GAPFILLS, 1, gap("a", T0, end, revision=1, status="retracted"))]),
    ]
    assert made[0].value == made[2].value != made[1].value
    assert len({dict(one.headers)[EVENT_ID] for one in made}) == 3


def test_copies_and_late_pings_change_no_forecast() -> None:
    first, second = forecast("a", T0, 1), forecast("a", T0 + MINUTE, 2)
    late = forecast("a", T0 + 30_000, 3, status="stale")
    latest = Latest()
    latest.take(record(FORECASTS, n, raw) for n, raw in enumerate([first, second, late, first, second]))
    assert newest(latest.values) == {"a": loads_forecast(second)}
    counts = latest.unit.counts
    assert (counts["newest"], counts["stale"], counts["copy"]) == (2, 1, 2)


def test_a_silence_from_before_it_was_forgotten_is_not_drawn_when_the_entity_comes_again() -> None:
    """`pathcast forget` writes a null value, of which this member hears nothing: it has the path still in memory."""
    latest, first = Latest(), Window(n=1, from_ts=T0 + 2 * MINUTE, to_ts=T0 + 2 * MINUTE)
    latest.take([record(FORECASTS, 0, forecast("a", T0 + MINUTE, 0)), record(GAPFILLS, 0, gap("a", T0, T0 + MINUTE))])
    assert _drawn(latest) is not None
    latest.take([record(FORECASTS, 1, forecast("a", T0 + 2 * MINUTE, 2, cache="none", window=first))])
    assert _drawn(latest) is None


def test_a_silence_that_ends_with_the_first_ping_of_a_session_is_drawn() -> None:
    latest, first = Latest(), Window(n=1, from_ts=T0 + MINUTE, to_ts=T0 + MINUTE)
    latest.take([record(GAPFILLS, 0, gap("a", T0, T0 + MINUTE))])
    latest.take([record(FORECASTS, 0, forecast("a", T0 + MINUTE, 0, cache="none", window=first))])
    assert _drawn(latest) is not None


def _drawn(latest: Latest) -> Gap | None:
    return loads_latest(latest.values["a"]).map.gap


def test_an_entity_expires_when_the_fleet_has_gone_on_without_it() -> None:
    latest = Latest(LatestRules(expire_ms=HOUR))
    at = iter(range(1000))
    latest.take([record(FORECASTS, next(at), forecast(name, T0, 0)) for name in "abc"])
    for minute in range(1, 61):
        latest.fold([record(FORECASTS, next(at), forecast(name, T0 + minute * MINUTE, minute)) for name in "bc"])
    latest.flush()
    assert set(latest.values) == {"a", "b", "c"}, "it was silent for an hour, and not longer"
    made = latest.take([record(FORECASTS, next(at), forecast(name, T0 + 61 * MINUTE, 61)) for name in "bc"])
    gone = [one for one in made if one.value is None]
    assert [(one.topic, one.key) for one in gone] == [(TOPICS.latest, b"a")]
    assert latest.unit.counts["expired"] == 1
    latest.take([record(FORECASTS, next(at), forecast("a", T0 + 62 * MINUTE, 62))])
    assert set(latest.values) == {"a", "b", "c"}, "it comes back"


def test_clocks_that_are_ahead_end_nobody() -> None:
    """A ping may be a day ahead. Even several of them do not count for later than they were published."""
    latest = Latest(LatestRules(expire_ms=HOUR))
    day = 24 * HOUR - 1
    latest.take(
        record(FORECASTS, n, forecast(name, T0 + (day if name in "xyz" else 0), n), published_ms=T0 + LAG_MS)
        for n, name in enumerate("abxyz")
    )
    assert set(latest.values) == set("abxyz")
    latest.take(
        record(FORECASTS, 10 + n, forecast(name, T0 + 2 * HOUR, 9), published_ms=T0 + 2 * HOUR)
        for n, name in enumerate("ab")
    )
    assert set(latest.values) == set("ab"), "and they are kept no longer than others"


def test_one_clock_of_a_recording_that_is_ahead_ends_nobody() -> None:
    """It is published years later, so that only the others can tell that one of them is ahead."""
    latest = Latest(LatestRules(expire_ms=HOUR))
    for n, (name, ts) in enumerate([("a", T0), ("b", T0), ("x", T0 + 5 * HOUR), ("x", T0 + 6 * HOUR), ("a", T0 + 1)]):
        latest.take([record(FORECASTS, n, forecast(name, ts, n), published_ms=T0 + 9_999 * HOUR)])
    assert set(latest.values) == {"a", "b", "x"}


def test_a_recording_that_is_fed_twice_expires_nobody() -> None:
    latest = Latest(LatestRules(expire_ms=HOUR))
    at = iter(range(10_000))
    for again in range(2):
        for minute in range(180):
            ts = T0 + minute * MINUTE
            latest.take(
                record(FORECASTS, next(at), forecast(name, ts, 180 * again + minute), published_ms=T0 + 999 * HOUR)
                for name in "ab"
            )
            assert all(one.value is not None for one in latest.records)
    assert set(latest.values) == {"a", "b"}


@pytest.mark.parametrize("names", ["a", "abc"])
def test_a_fleet_that_falls_silent_together_expires_by_the_clock(names: str) -> None:
    """No record tells the time any more, so that it goes on as the clock does, but only while nothing is unread."""
    latest = Latest(LatestRules(expire_ms=HOUR))
    latest.take(record(FORECASTS, n, forecast(name, T0, n)) for n, name in enumerate(names))
    published = T0 + LAG_MS
    for quiet_ms in (None, published - HOUR, published + HOUR):
        latest.flush(quiet_ms)
        assert set(latest.values) == set(names)
    latest.restarted()
    latest.flush(None)
    assert set(latest.values) == set(names), "a successor that has not read all yet ends nobody"
    latest.flush(published + HOUR + MINUTE)
    assert latest.values == {}


def test_no_more_entities_are_kept_than_allowed() -> None:
    latest = Latest(LatestRules(max_entities=10))
    latest.take(record(FORECASTS, n, forecast(f"e{n}", T0 + n * 1000, n)) for n in range(25))
    assert set(latest.values) == {f"e{n}" for n in range(15, 25)}
    assert latest.unit.counts["evicted"] == 15
    assert all(one.value is None for one in latest.records if one.key in {b"e0", b"e14"})


def test_a_silence_is_drawn_until_ten_minutes_after_its_end() -> None:
    def drawn(latest: Latest) -> list[int] | None:
        found = loads_latest(latest.values["a"]).map.gap
        return None if found is None else [point[0] for point in found.path]

    end = T0 + 20 * MINUTE
    latest = Latest()
    latest.fold([record(FORECASTS, 0, forecast("a", T0, 0)), record(FORECASTS, 1, forecast("a", end, 1))])
    latest.take([record(GAPFILLS, 0, gap("a", T0, end))])
    assert drawn(latest) == [T0, *(T0 + n * 5 * MINUTE for n in (1, 2, 3)), end]
    latest.take([record(FORECASTS, 2, forecast("a", end + 10 * MINUTE, 2))])
    assert drawn(latest) is not None
    latest.take([record(FORECASTS, 3, forecast("a", end + 10 * MINUTE + 1, 3))])
    assert drawn(latest) is None
    latest.take([record(GAPFILLS, 1, gap("a", end, end + 9 * MINUTE))])
    assert drawn(latest) is not None
    latest.fold([record(GAPFILLS, 2, gap("a", T0, end, revision=1, status="retracted"))])
    assert drawn(latest) is not None, "another gap's retraction"
    latest.take([record(GAPFILLS, 3, gap("a", end, end + 9 * MINUTE, revision=1, status="retracted"))])
    assert drawn(latest) is None


def test_a_gap_fill_that_comes_before_its_forecast_is_read_again_by_a_successor() -> None:
    latest = Latest()
    fills = [record(GAPFILLS, 0, gap("b", T0, T0 + MINUTE)), record(GAPFILLS, 1, gap("a", T0, T0 + 9 * MINUTE))]
    assert latest.take(fills) == []
    assert latest.committed[GAPFILLS][0] == 0
    latest.restarted()
    latest.fold([record(FORECASTS, 0, forecast("a", T0 + 9 * MINUTE, 0))])
    latest.take(fills)
    assert loads_latest(latest.values["a"]).map.gap is not None


def test_a_gap_fill_outlives_the_end_of_its_entity_if_its_forecast_comes_later() -> None:
    """A member that catches up has read all gap fills before it reads that the entity was silent, ended, and came
    again."""
    latest = Latest(LatestRules(expire_ms=10 * MINUTE))
    latest.take([record(FORECASTS, 0, forecast("a", T0, 0)), record(GAPFILLS, 0, gap("a", T0, T0 + 30 * MINUTE))])
    made = latest.take([record(FORECASTS, n, forecast(name, T0 + 29 * MINUTE, n)) for n, name in ((1, "b"), (2, "c"))])
    assert [one.key for one in made if one.value is None] == [b"a"]
    latest.restarted()
    latest.fold([record(GAPFILLS, 0, gap("a", T0, T0 + 30 * MINUTE))])
    latest.take([record(FORECASTS, 3, forecast("a", T0 + 30 * MINUTE, 3))])
    assert loads_latest(latest.values["a"]).map.gap is not None


@pytest.mark.parametrize("seed", range(12))
def test_how_far_ahead_one_topic_is_read_does_not_matter(seed: int) -> None:
    rules = LatestRules(expire_ms=10 * MINUTE, max_entities=1_000)
    records = logs(seed)
    by_topic = [[one for one in records if one.topic == topic] for topic in (FORECASTS, GAPFILLS)]
    rng, latest = random.Random(seed), Latest(rules)
    while any(by_topic):
        some = rng.choice([one for one in by_topic if one])
        upto = rng.choice([1, 5, 50, len(some)])
        latest.fold(some[:upto])
        del some[:upto]
        if rng.random() < 0.6:
            latest.flush()
    latest.flush()
    assert latest.values == undisturbed(logs(seed), rules)


@pytest.mark.parametrize("seed", range(6))
def test_wherever_it_is_restarted_the_values_are_those_of_an_undisturbed_run(seed: int) -> None:
    """Also what was folded and not committed is lost at each restart."""
    rules = LatestRules(expire_ms=30 * MINUTE, max_entities=1_000)
    records = logs(seed)
    rng, latest = random.Random(seed), Latest(rules)
    at, restarts = 0, 0
    while at < len(records):
        upto = at + rng.randint(1, 60)
        latest.fold(records[at:upto])
        if rng.random() < 0.6:
            latest.flush()
            at = upto
        if rng.random() < 0.3:
            latest.restarted()
            restarts += 1
            at = next((n for n, one in enumerate(records) if one.offset >= latest.folded[one.topic]), len(records))
        else:
            at = upto
    latest.flush()
    expected = undisturbed(records, rules)
    assert restarts > 10
    assert len(expected) > 3
    assert latest.values == expected
    assert latest.unit.counts["expired"] + len(expected) > 3


def test_offsets_that_somebody_has_set_back_bring_nothing_back() -> None:
    records = logs(99, minutes=60)
    latest = Latest()
    latest.take(records)
    before = {key: loads_latest(value).forecast_id for key, value in latest.values.items()}
    latest.committed = dict.fromkeys(latest.committed, (0, ""))
    latest.restarted()
    latest.take(records[: len(records) // 2])
    after = {key: loads_latest(value).forecast_id for key, value in latest.values.items()}
    assert after == before


def test_a_forecast_from_before_the_known_one_is_not_taken_whatever_its_time() -> None:
    """The earlier one is of a clock that was ahead. By its ping's time alone it would be the newest."""
    ahead, after = forecast("a", T0 + 5 * HOUR, 1), forecast("a", T0 + MINUTE, 2)
    latest = Latest()
    latest.take([record(FORECASTS, 0, ahead, published_ms=T0), record(FORECASTS, 1, after)])
    latest.committed = dict.fromkeys(latest.committed, (0, ""))
    latest.restarted()
    latest.take([record(FORECASTS, 0, ahead, published_ms=T0)])
    assert newest(latest.values) == {"a": loads_forecast(after)}


def test_a_topic_that_was_made_anew_is_followed_from_its_first_record() -> None:
    latest = Latest()
    latest.take([record(FORECASTS, 500, forecast("a", T0, 900))])
    latest.ends[FORECASTS] = 3
    latest.committed = {}
    latest.restarted()
    again = forecast("a", T0 + MINUTE, 0)
    latest.take([record(FORECASTS, 2, again)])
    assert newest(latest.values) == {"a": loads_forecast(again)}


MADE_ANEW = Log(0, 1_000, "second", kept=1_000, kept_epoch=1, leader_epoch=1)
CUT = Log(0, 1_000, "first", kept=2, kept_epoch=1, leader_epoch=2)


@pytest.mark.parametrize(
    ("log", "is_committed"),
    [(MADE_ANEW, True), (MADE_ANEW, False), (CUT, True)],
    ids=["made anew", "made anew, and its offsets are deleted", "cut"],
)
def test_a_topic_that_has_other_records_now_is_followed_though_it_has_grown_past_what_was_read(
    log: Log, is_committed: bool
) -> None:
    """The new records are at lower offsets than the entity's own, and were taken for older ones. Copies are told."""
    latest = Latest()
    latest.history = History("first", 1)
    stays, old = forecast("b", T0, 899), forecast("a", T0, 900)
    latest.take([record(FORECASTS, 0, stays), record(FORECASTS, 500, old)])
    latest.take([record(GAPFILLS, 300, gap("a", T0 - HOUR, T0))])
    latest.logs = {FORECASTS: log, GAPFILLS: log}
    if not is_committed:
        latest.committed = {}
    latest.restarted()
    assert latest.folded == {FORECASTS: log.kept if log is CUT else 0, GAPFILLS: log.kept if log is CUT else 0}
    again = forecast("a", T0 + HOUR, 901)
    filled = gap("a", T0, T0 + HOUR)
    latest.take([record(GAPFILLS, 2, filled), record(FORECASTS, 2, old), record(FORECASTS, 3, again)])
    assert latest.unit.counts["copy"] == 1
    assert newest(latest.values) == {"a": loads_forecast(again), "b": loads_forecast(stays)}
    shown = loads_latest(latest.values["a"]).map.gap
    assert shown is not None
    assert shown.gap_id == gap_id("a", T0)


@pytest.mark.parametrize("raw", [None, b"", b"{", b"[]", b"\xff\xfe", b'{"entity_id":"a"}', b"[" * 100_000])
def test_what_is_no_record_is_counted_and_left_out(raw: bytes | None) -> None:
    latest = Latest()
    assert latest.take([record(FORECASTS, 0, raw, published_ms=T0), record(GAPFILLS, 0, raw)]) == []
    assert (latest.unit.counts["unreadable"], latest.unit.counts["gap_unreadable"]) == (1, 1)


def test_an_ellipse_is_the_region_that_holds_nine_tenths() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        root = rng.normal(size=(2, 2)) * rng.uniform(1, 100)
        (ee, en), (_, nn) = (cov := root @ root.T).tolist()
        major, minor, bearing = ellipse((ee, en, nn))
        values, vectors = np.linalg.eigh(cov)
        assert major == pytest.approx(np.sqrt(values[1] * radius2(0.9)), abs=0.06)
        assert minor == pytest.approx(np.sqrt(values[0] * radius2(0.9)), abs=0.06)
        axis = np.sin(np.radians(bearing)), np.cos(np.radians(bearing))
        assert abs(np.dot(vectors[:, 1], axis)) == pytest.approx(1, abs=1e-6)
        inside = mahalanobis2((axis[0] * major * 0.99, axis[1] * major * 0.99), (ee, en, nn))
        assert minor < 0.2 * major or inside < radius2(0.9)


def test_a_successor_knows_the_time_to_the_millisecond() -> None:
    latest = Latest()
    latest.take(logs(5, minutes=30))
    before = latest.unit.time
    assert latest.restarted().time == before
    latest.committed = {topic: (at, "moved by hand") for topic, (at, _) in latest.committed.items()}
    assert 0 < latest.restarted().time.now_ms <= before.now_ms
    assert msgspec.json.decode(msgspec.json.encode(before), type=type(before)) == before
