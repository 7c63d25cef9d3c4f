"""One entity's track: order, duplicates, late pings, jumps, silences, gaps; first by example, then by property."""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Iterable
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import api
from stream.tracks.fix import ABSENT, FIX_BYTES, last_fix, pack, unpack
from stream.tracks.track import Accepted, Duplicate, Folded, Gap, Late, Policy, Rejected, Track, Verdict, observe
from stream.wire import E7, NO_TIME_MS, Ping

T0 = 1_700_000_000_000
POLICY = Policy(window_fixes=12)
LAT, LON = 30.0, -97.0
M_PER_DEG = 111_195.0


def at(seconds: float, north_m: float = 0.0, **fields: float) -> Ping:
    """A ping `seconds` after T0 and `north_m` north of the origin."""
    return Ping(entity_id="bus-1", ts=T0 + round(seconds * 1000), lat=LAT + north_m / M_PER_DEG, lon=LON, **fields)  # type: ignore[arg-type]


def feed(
    pings: Iterable[Ping], track: Track | None = None, policy: Policy = POLICY, offset: int | None = None
) -> tuple[Track, list[Verdict]]:
    verdicts = []
    first = offset if offset is not None else 0 if track is None else track.next_offset
    for number, ping in enumerate(pings, first):
        track, verdict = observe(track, pack(ping), number, policy)
        verdicts.append(verdict)
    assert track is not None
    return track, verdicts


def times_s(track: Track) -> list[float]:
    return [(fix.ts_ms - T0) / 1000 for fix in unpack(track.window)]


def steady(count: int, every_s: float = 10.0, speed_mps: float = 10.0) -> list[Ping]:
    return [at(n * every_s, n * every_s * speed_mps) for n in range(count)]


def kind(verdict: Verdict) -> str:
    """What became of a ping: the code of one that is rejected, else a word."""
    if isinstance(verdict, Rejected):
        return verdict.reject.code
    if isinstance(verdict, Accepted) and (verdict.restart or verdict.gap):
        return "restart" if verdict.restart else "gap"
    return type(verdict).__name__.lower()


def kinds(verdicts: Iterable[Verdict]) -> list[str]:
    return list(map(kind, verdicts))


def test_a_fix_has_the_drawn_bytes() -> None:
    ping = Ping(entity_id="x", ts=T0, lat=-12.34567894, lon=179.99999996, speed_mps=12.345, heading_deg=359.999)
    assert pack(ping) == struct.pack("<qiiHH", T0, -123456789, 1_800_000_000, 1234, 0)
    bare = Ping(entity_id="x", ts=T0, lat=0.5, lon=0.0)
    assert pack(bare) == struct.pack("<qiiHH", T0, 5_000_000, 0, 65_535, 65_535)
    fast = Ping(entity_id="x", ts=T0, lat=0.5, lon=0.0, speed_mps=1000.0)
    assert pack(fast)[16:18] == struct.pack("<H", 65_534), "the fastest speed is not the mark of absence"


@given(
    st.integers(0, 4 * 10**12),
    st.floats(-90, 90),
    st.floats(-180, 180),
    st.none() | st.floats(0, 1000),
    st.none() | st.floats(0, 359.99),
)
def test_the_model_reads_a_fix_as_the_track_packed_it(
    ts: int, lat: float, lon: float, speed: float | None, heading: float | None
) -> None:
    packed = pack(Ping(entity_id="x", ts=ts, lat=lat, lon=lon, speed_mps=speed, heading_deg=heading))
    (read,) = np.frombuffer(packed, api.FIX)
    assert [tuple(read.tolist())] == list(unpack(packed))
    assert api.ABSENT == ABSENT
    assert (read["speed_cms"] == ABSENT) == (speed is None)
    assert (read["heading_cdeg"] == ABSENT) == (heading is None)


TENS = [10.0 * n for n in range(30)]
JUMP = [at(50, 50_000), at(60, 50_100), at(70, 50_200)]  # the last two agree that it was none
# What a track has seen, what comes then, what becomes of it, and the times of the window after it.
CASES: dict[str, tuple[list[Ping], list[Ping], list[str], list[float]]] = {
    "the first ping starts a window, which keeps the newest": (
        [],
        steady(30),
        ["restart", *["accepted"] * 29],
        TENS[18:],
    ),
    "of two of the same time the first one wins": (
        steady(5),
        [at(40, 400), at(40, 450), at(20, 9)],
        ["duplicate"] * 3,
        TENS[:5],
    ),
    "a late one is put in its place": (steady(5), [at(15, 150)], ["late"], [0, 10, 15, 20, 30, 40]),
    "a late one pushes the oldest out": (steady(12), [at(15, 150)], ["late"], [10, 15, *TENS[2:12]]),
    "older than the allowed lateness": (
        [at(0), at(100), at(200), at(500)],
        [at(199)],
        ["too_late"],
        [0, 100, 200, 500],
    ),
    "older than the window": (steady(30), [at(179, 1790)], ["too_late"], TENS[18:]),
    # The earlier one was too late, although nothing that the track forgot can have been it.
    "the first two of a session in either order": (
        [at(10, 100), at(0)],
        [at(9_010, 100), at(9_000), at(9_020, 200)],
        ["restart", "late", "accepted"],
        [9_000, 9_010, 9_020],
    ),
    "before the first, held to lateness and reach like any other": (
        [at(400)],
        [at(99), at(390, 9_000), at(100), at(100, 5)],
        ["too_late", "impossible_jump", "late", "duplicate"],
        [100, 400],
    ),
    "before the first of a window that lacks one, and of a full one": (
        steady(13)[1:12],
        [at(0), at(-10, -100)],
        ["late", "too_late"],
        TENS[:12],
    ),
    # But those of the new place are, such as the suspects themselves when their dead letters are put back.
    "before a restart that a jump made is no part of the new session": (
        [*steady(5), *JUMP],
        [at(40, 400), at(45, 450), *JUMP[:2]],
        ["impossible_jump"] * 2 + ["late"] * 2,
        [50, 60, 70],
    ),
    "a late one that nothing could have reached": (steady(5), [at(15, 9_000)], ["impossible_jump"], TENS[:5]),
    "after a jump the next good one goes on": (
        steady(5),
        [at(50, 20_000), at(60, 600)],
        ["impossible_jump", "accepted"],
        [*TENS[:5], 60],
    ),
    "noise at a tiny time step is not a jump": ([at(0)], [at(0.01, 150)], ["accepted"], [0, 0.01]),
    "two suspects that agree with a third ping move the track": (
        steady(5),
        JUMP,
        ["impossible_jump", "impossible_jump", "restart"],
        [70],
    ),
    "suspects that disagree never do": (
        steady(5),
        [at(50 + 10 * n, 50_000 * (1 + n % 2)) for n in range(8)],
        ["impossible_jump"] * 8,
        TENS[:5],
    ),
    "a suspect sent twice is no second witness": (
        steady(5),
        [JUMP[0], JUMP[0], JUMP[0], JUMP[1]],
        ["impossible_jump", "duplicate", "duplicate", "impossible_jump"],
        TENS[:5],
    ),
    "a long silence starts a new session": (
        steady(5),
        [at(40 + 3_600, 400), at(40 + 3_600 + 3_600.001, 400)],
        ["gap", "restart"],
        [40 + 3_600 + 3_600.001],
    ),
}


@pytest.mark.parametrize(("seen", "comes", "becomes", "times"), CASES.values(), ids=CASES)
def test_of_a_ping_becomes(seen: list[Ping], comes: list[Ping], becomes: list[str], times: list[float]) -> None:
    before = feed(seen)[0] if seen else None
    track, verdicts = feed(comes, before)
    assert kinds(verdicts) == becomes
    assert times_s(track) == times
    assert becomes[-1] != "accepted" or track.suspects == b""
    if before is not None and times_s(before) == times:
        assert track.window == before.window


def test_a_gap_stays_pending_when_a_ping_comes_before_the_first() -> None:
    track, _ = feed([*steady(5)[1:], at(150, 1500)])
    track, verdicts = feed([at(0), at(160, 1600), at(170, 1700)], track)
    assert verdicts[:2] == [Late(0), Accepted()]
    assert isinstance(verdicts[2], Accepted)
    assert [(gap.start.ts_ms - T0, gap.end.ts_ms - T0) for gap in verdicts[2].finals] == [(40_000, 150_000)]


def test_the_antimeridian_is_crossed_without_a_jump() -> None:
    pings = [
        Ping(entity_id="ship", ts=T0 + n * 10_000, lat=10.0, lon=lon) for n, lon in enumerate((179.9995, -179.9995))
    ]
    assert feed(pings)[1][1] == Accepted()


def eastward(seconds: float, degrees: float) -> Ping:
    """A ping at 60 degrees north, where a degree of longitude is half as long as one of latitude."""
    return Ping(entity_id="bus-1", ts=T0 + round(seconds * 1000), lat=60.0, lon=25.0 + degrees)


def test_a_step_eastward_is_as_long_as_it_is_at_its_latitude() -> None:
    """In 10 s a ping may be 1,100 m away. Measured as at the equator, a step of 1,000 m would have 2,000 m here."""
    north = 1_000 / M_PER_DEG
    assert feed([eastward(0, 0), eastward(10, 2 * north)])[1][1] == Accepted()
    assert kinds(feed([eastward(0, 0), eastward(10, 2.4 * north)])[1])[1] == "impossible_jump"
    track, _ = feed([eastward(0, 0), eastward(20, 4 * north)])
    assert isinstance(feed([eastward(10, 2 * north)], track)[1][0], Late)


def test_a_gap_is_filled_when_it_closes_and_is_final_two_pings_later() -> None:
    track, _ = feed(steady(8))
    _, verdicts = feed([at(170, 1700), at(180, 1800), at(190, 1900), at(200, 2000)], track)
    closing, _, final, after = verdicts
    assert isinstance(closing, Accepted)
    assert isinstance(final, Accepted)
    gap = closing.gap
    assert gap is not None
    assert [(t - T0) / 1000 for t in gap.times_ms] == [80, 90, 100, 110, 120, 130, 140, 150, 160]
    assert (gap.start.ts_ms, gap.end.ts_ms, gap.reason) == (T0 + 70_000, T0 + 170_000, "silence")
    assert [fix.ts_ms - T0 for fix in unpack(gap.before)] == [40_000, 50_000, 60_000, 70_000]
    assert [fix.ts_ms - T0 for fix in unpack(gap.after)] == [170_000]
    assert verdicts[1] == after == Accepted()
    (revised,) = final.finals
    assert [fix.ts_ms - T0 for fix in unpack(revised.after)] == [170_000, 180_000, 190_000]
    assert revised._replace(after=gap.after) == gap


def test_silence_below_three_cadences_or_a_minute_is_no_gap() -> None:
    _, verdicts = feed([*steady(8), at(70 + 60, 1300)])
    assert verdicts[-1] == Accepted()
    _, verdicts = feed([*steady(8, every_s=60), at(420 + 180, 6000)])
    assert verdicts[-1] == Accepted()
    _, verdicts = feed([*steady(8, every_s=60), at(420 + 181, 6010)])
    assert isinstance(verdicts[-1], Accepted)
    assert verdicts[-1].gap is not None


def test_a_track_without_a_known_cadence_has_no_gaps() -> None:
    _, verdicts = feed([at(0), at(10), at(20), at(900)])
    assert verdicts[-1] == Accepted()


def test_a_gap_around_quarantined_pings_names_them_as_its_reason() -> None:
    _, verdicts = feed([*steady(8), at(80, 60_000), at(200, 2000)])
    assert isinstance(verdicts[-1], Accepted)
    assert verdicts[-1].gap is not None
    assert verdicts[-1].gap.reason == "outlier"


def test_a_late_ping_inside_a_provisional_gap_retracts_it() -> None:
    track, _ = feed([*steady(8), at(170, 1700)])
    track, verdicts = feed([at(120, 1200), at(180, 1800), at(190, 1900)], track)
    late = verdicts[0]
    assert isinstance(late, Late)
    assert [gap.start.ts_ms - T0 for gap in late.retracted] == [70_000]
    assert verdicts[1:] == [Accepted()] * 2
    assert track.pending == ()


def test_a_gap_that_still_waits_at_a_restart_is_final_at_once() -> None:
    track, _ = feed([*steady(8), at(170, 1700)])
    _, (verdict,) = feed([at(9_000, 0)], track)
    assert isinstance(verdict, Accepted)
    assert verdict.restart
    assert [gap.start.ts_ms - T0 for gap in verdict.finals] == [70_000]


def test_a_gap_whose_start_is_pushed_out_of_the_window_is_left_out() -> None:
    policy = Policy(window_fixes=4)
    track, verdicts = feed([*steady(4), at(330, 300), at(360, 330)], policy=policy)
    assert isinstance(verdicts[4], Accepted)
    assert verdicts[4].gap is not None
    track, (*late, last) = feed([at(340, 310), at(350, 320), at(370, 340)], track, policy)
    assert [type(one) for one in late] == [Late, Late]
    assert times_s(track) == [340, 350, 360, 370]
    assert last == Accepted()
    assert track.pending == ()


def test_a_fine_cadence_is_widened_until_the_points_fit() -> None:
    _, verdicts = feed([*steady(10, every_s=1), at(3_000, 30_000)])
    assert isinstance(verdicts[-1], Accepted)
    gap = verdicts[-1].gap
    assert gap is not None
    assert 200 < len(gap.times_ms) <= POLICY.max_gap_points


# -- pings from the future --------------------------------------------------------------------------------------------

DAY_S = 86_400


def feed_at(sent: Iterable[tuple[Ping, int]], track: Track | None = None) -> tuple[Track, list[Verdict]]:
    """Pings, each with its record's timestamp."""
    verdicts = []
    for number, (ping, published_ms) in enumerate(sent, 0 if track is None else track.next_offset):
        track, verdict = observe(track, pack(ping), number, POLICY, published_ms)
        verdicts.append(verdict)
    assert track is not None
    return track, verdicts


def on_time(pings: Iterable[Ping]) -> list[tuple[Ping, int]]:
    return [(ping, ping.ts + 400) for ping in pings]


def test_a_ping_from_the_future_is_given_up_after_three_pings_that_are_on_time() -> None:
    before, _ = feed_at([*on_time(steady(20)), (at(23 * 3_600), T0 + 200_000)])
    assert times_s(before) == [23 * 3_600]
    track, verdicts = feed_at(on_time(steady(24)[20:]), before)
    assert kinds(verdicts) == ["too_late", "too_late", "restart", "accepted"]
    assert times_s(track) == [220, 230]


def test_without_a_timestamp_of_its_own_no_ping_says_what_the_time_is() -> None:
    before, _ = feed([*steady(20), at(23 * 3_600)])
    for sent in ([(p, NO_TIME_MS) for p in steady(30)[20:]], [(p, p.ts) for p in steady(30)[20:]]):
        track, verdicts = feed_at(sent, before)
        assert kinds(verdicts) == ["too_late"] * 10
        assert track.window == before.window


def test_history_that_is_sent_after_today_s_pings_does_not_move_the_track_back() -> None:
    """In order and one like the other, but by its records' timestamps not on time, or no other time than its own."""
    live, _ = feed_at(on_time(at(DAY_S + n * 10.0) for n in range(20)))
    now = T0 + DAY_S * 1000 + 200_000
    for sent in ([(p, now + n) for n, p in enumerate(steady(20))], [(p, p.ts) for p in steady(20)]):
        track, verdicts = feed_at(sent, live)
        assert kinds(verdicts) == ["too_late"] * 20
        assert (track.window, track.suspects) == (live.window, b"")


def test_a_watermark_no_further_ahead_than_the_lateness_is_not_false() -> None:
    live, _ = feed_at(on_time([at(500, 5_000)]))
    _, verdicts = feed_at(((ping, ping.ts + 250_000) for ping in steady(19)[15:]), live)
    assert kinds(verdicts) == ["too_late"] * 4, "sent 4 minutes late to a track that is 100 s ahead"


def test_local_time_that_is_sent_as_utc_is_untouched() -> None:
    _, verdicts = feed_at((ping, ping.ts - 8 * 3_600_000 + 400) for ping in steady(20))
    assert kinds(verdicts) == ["restart", *["accepted"] * 19]
    _, verdicts = feed_at((ping, ping.ts + 8 * 3_600_000 + 400) for ping in [*steady(20), at(185, 1850)])
    assert kinds(verdicts) == ["restart"] + ["accepted"] * 19 + ["late"]


def test_pings_on_time_that_disagree_or_are_not_in_a_row_move_no_track_back() -> None:
    before, _ = feed_at([*on_time(steady(20)), (at(23 * 3_600), T0 + 200_000)])
    apart = [at(200 + 10 * n, 50_000 * (n % 2)) for n in range(8)]
    track, verdicts = feed_at(on_time(apart), before)
    assert kinds(verdicts) == ["too_late"] * 8
    assert track.window == before.window
    one, two, three = on_time(steady(23)[20:])
    _, verdicts = feed_at([one, two, (at(23 * 3_600 + 10), T0 + 225_000), three], before)
    assert kinds(verdicts) == ["too_late", "too_late", "accepted", "too_late"]


def test_a_jump_away_from_a_false_watermark_does_not_hide_that_it_is_false() -> None:
    before, _ = feed_at([*on_time(steady(20)), (at(3_000), T0 + 200_000), (at(3_010, 90_000), T0 + 200_000)])
    assert len(before.suspects) == FIX_BYTES
    _, verdicts = feed_at(on_time(steady(24)[20:]), before)
    assert kinds(verdicts) == ["too_late", "too_late", "restart", "accepted"]


def test_a_gap_that_led_to_a_false_watermark_is_retracted_and_a_true_one_final() -> None:
    before, verdicts = feed_at([*on_time([*steady(8), at(170, 1_700)]), (at(3_000, 1_700), T0 + 180_000)])
    assert isinstance(verdicts[-1], Accepted)
    assert verdicts[-1].gap is not None
    _, verdicts = feed_at(on_time([at(180, 1_800), at(190, 1_900), at(200, 2_000)]), before)
    assert isinstance(verdicts[-1], Accepted)
    assert verdicts[-1].restart
    assert [gap.end.ts_ms - T0 for gap in verdicts[-1].finals] == [170_000]
    assert [gap.end.ts_ms - T0 for gap in verdicts[-1].retracted] == [3_000_000]


# -- properties -------------------------------------------------------------------------------------------------------

# Mostly plausible tracks on a coarse grid of times, so that duplicates, late pings, gaps and jumps are all frequent.
steps = st.tuples(
    st.sampled_from([-400, -30, -10, -5, 0, 1, 5, 10, 10, 10, 10, 20, 70, 200, 4_000]),
    st.sampled_from([0.0, 0.0, 0.0, 5.0, 50.0, 40_000.0]),
)


@st.composite
def journeys(draw: st.DrawFn) -> list[Ping]:
    now = 0.0
    pings = []
    for step_s, jump_m in draw(st.lists(steps, min_size=1, max_size=60)):
        now += step_s
        pings.append(at(now, jump_m))
    return pings


@given(journeys())
def test_windows_are_ordered_and_bounded_and_each_ping_has_its_place_and_is_counted_once(pings: list[Ping]) -> None:
    track, *others = feed(pings[:1])[0], *pings[1:]
    counts = Counter([Accepted])
    for offset, ping in enumerate(others, 1):
        before, was = track, repr(track)
        track, verdict = observe(before, pack(ping), offset * 3, POLICY)
        counts[type(verdict)] += 1
        assert repr(before) == was, "what it is handed it does not alter"
        times = [fix.ts_ms for fix in unpack(track.window)]
        assert all(one < other for one, other in itertools.pairwise(times))
        assert 1 <= len(times) <= POLICY.window_fixes
        assert track.next_offset == offset * 3 + 1
        assert len(track.suspects) <= 2 * FIX_BYTES
        assert len(track.pending) <= 2
        if isinstance(verdict, Accepted):
            assert track.window.endswith(pack(ping))
            assert track.size == (1 if verdict.restart else min(before.size + 1, 12))
            assert ping.ts > last_fix(before.window).ts_ms
        elif isinstance(verdict, Late):
            assert times[verdict.position] == ping.ts
            assert last_fix(track.window) == last_fix(before.window), "it does not move the watermark"
        else:
            assert track.window == before.window
    assert track.accepted == counts[Accepted] + counts[Late]
    assert (track.late, track.duplicates, track.rejected) == (counts[Late], counts[Duplicate], counts[Rejected])
    assert counts[Folded] == 0


@given(journeys(), st.lists(st.sampled_from([NO_TIME_MS, -4_000_000, 0, 400, 4_000_000]), min_size=60, max_size=60))
def test_a_watermark_goes_back_only_to_a_ping_that_is_on_time_and_from_one_that_is_not_yet(
    pings: list[Ping], delays_ms: list[int]
) -> None:
    track, _ = feed(pings[:1])
    for offset, (ping, delay_ms) in enumerate(zip(pings, delays_ms, strict=False), 1):
        published_ms = NO_TIME_MS if delay_ms == NO_TIME_MS else ping.ts + delay_ms
        after, verdict = observe(track, pack(ping), offset, POLICY, published_ms)
        before_ms, after_ms = last_fix(track.window).ts_ms, last_fix(after.window).ts_ms
        if after_ms < before_ms:
            assert delay_ms == 400
            assert before_ms > published_ms + POLICY.lateness_ms
            assert isinstance(verdict, Accepted)
            assert verdict.restart
        track = after


@given(journeys(), st.data())
def test_a_replay_of_any_prefix_changes_nothing(pings: list[Ping], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(pings)))
    track, _ = feed(pings)
    again = track
    for offset in range(start, len(pings)):
        again, verdict = observe(again, pack(pings[offset]), offset, POLICY)
        assert verdict == Folded()
    assert again is track


@given(journeys())
def test_a_duplicate_of_what_the_window_holds_changes_no_fix(pings: list[Ping]) -> None:
    track, _ = feed(pings)
    for fix in unpack(track.window):
        ping = Ping(entity_id="bus-1", ts=fix.ts_ms, lat=fix.lat_e7 / E7 + 0.001, lon=fix.lon_e7 / E7)
        after, verdict = observe(track, pack(ping), track.next_offset, POLICY)
        assert verdict == Duplicate()
        assert (after.window, after.pending, after.suspects) == (track.window, track.pending, track.suspects)


def gaps_of(verdicts: Iterable[Verdict]) -> tuple[list[Gap], list[Gap], list[Gap]]:
    closed: list[Gap] = []
    final: list[Gap] = []
    retracted: list[Gap] = []
    for verdict in verdicts:
        if isinstance(verdict, Accepted):
            closed += [verdict.gap] if verdict.gap else []
            final += verdict.finals
        elif isinstance(verdict, Late):
            retracted += verdict.retracted
    return closed, final, retracted


@given(journeys())
def test_every_gap_is_long_and_its_points_lie_strictly_inside_in_order(pings: list[Ping]) -> None:
    closed, final, retracted = gaps_of(feed(pings)[1])
    for gap in [*closed, *final, *retracted]:
        times = [gap.start.ts_ms, *gap.times_ms, gap.end.ts_ms]
        assert times == sorted(set(times))
        assert 60_000 < times[-1] - times[0] <= 3_600_000
        assert len(gap.times_ms) >= 2
        assert list(unpack(gap.before))[-1] == gap.start
        assert next(iter(unpack(gap.after))) == gap.end
        assert max(len(gap.before), len(gap.after)) <= 4 * FIX_BYTES
        spacing = median(b - a for a, b in itertools.pairwise(times))
        assert (times[-1] - times[0]) > 2 * spacing


@given(journeys())
def test_every_gap_that_closed_becomes_final_or_retracted_at_most_once(pings: list[Ping]) -> None:
    track, verdicts = feed(pings)
    closed, final, retracted = gaps_of(verdicts)
    ended = [gap.start.ts_ms for gap in [*final, *retracted]]
    assert len(set(ended)) == len(ended)
    waiting = [gap.start_ms for gap in track.pending]
    assert {*ended, *waiting} <= {gap.start.ts_ms for gap in closed}
