"""Tracks of pings from anywhere at any time, which `clean` lets through: what must hold of them, in both forms."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.tracks.fix import FIX_BYTES, Fix, pack, pack_many, unpack
from stream.tracks.track import Accepted, Duplicate, Gap, Late, Policy, Rejected, Track, Verdict, _reachable, observe
from stream.tracks.track_table import TrackTable
from stream.wire import MAX_TS_MS, MIN_TS_MS, Ping
from stream.wire.ids import gap_id

T0 = 1_700_000_000_000
POLICY = Policy(window_fixes=12)

FEWER = settings(max_examples=50)  # of those whose journeys are long: each holds some forty cases

times = st.integers(MIN_TS_MS, MAX_TS_MS) | st.integers(T0 - 500_000, T0 + 500_000)
corners = st.sampled_from([-90.0, -89.9999999, 0.0, 1e-8, 30.0, 89.9999999, 90.0])
edges = st.sampled_from([-180.0, -179.9999999, 0.0, -97.0, 179.9999999, 180.0])
pings = st.builds(
    Ping,
    entity_id=st.just("x"),
    ts=times,
    lat=corners | st.floats(-90, 90),
    lon=edges | st.floats(-180, 180),
    speed_mps=st.none() | st.floats(0, 1_000),
    heading_deg=st.none() | st.floats(0, 360, exclude_max=True),
)
policies = st.builds(
    Policy,
    window_fixes=st.integers(1, 20),
    lateness_ms=st.integers(0, 10**7),
    max_speed_mps=st.floats(0, 1_000),
    jump_slack_m=st.floats(0, 10_000),
    session_gap_s=st.floats(0, 10**6),
    gap_min_s=st.floats(0, 1_000),
    gap_cadences=st.floats(0, 10),
    cadence_fixes=st.integers(2, 30),
    min_cadence_steps=st.integers(1, 5),
    max_gap_points=st.integers(1, 300),
    gap_step_ms=st.integers(0, 10**7),
    gap_unit_ms=st.integers(1, 10**5),
)


@st.composite
def crawls(draw: st.DrawFn) -> list[Ping]:
    """Pings a few seconds and metres apart, some late, some after long silences, and strangers from anywhere."""
    ts, found = draw(st.integers(T0, T0 + 10**6)), []
    lat, lon = draw(corners), draw(edges)
    for _ in range(draw(st.integers(1, 40))):
        if draw(st.integers(0, 5)) == 0:
            found.append(draw(pings))
            continue
        ts += draw(st.sampled_from([0, 1, 1_000, 10_000, 10_000, 10_000, 70_000, 4_000_000, -5_000, -25_000]))
        lat = min(90.0, max(-90.0, lat + draw(st.sampled_from([0.0, 1e-7, 3e-4, -3e-4]))))
        lon = (lon + draw(st.sampled_from([0.0, 2e-4, -2e-4])) + 180.0) % 360.0 - 180.0
        found.append(Ping(entity_id="x", ts=ts, lat=lat, lon=lon))
    return found


def run(journey: Iterable[Ping], policy: Policy = POLICY) -> tuple[Track | None, list[Verdict]]:
    track: Track | None = None
    verdicts = []
    for offset, ping in enumerate(journey):
        track, verdict = observe(track, pack(ping), offset, policy)
        verdicts.append(verdict)
    return track, verdicts


def gaps_in(verdict: Verdict) -> list[Gap]:
    if isinstance(verdict, Accepted):
        return [*([verdict.gap] if verdict.gap else []), *verdict.finals]
    return list(verdict.retracted) if isinstance(verdict, Late) else []


@given(crawls() | st.lists(pings, max_size=40), policies)
def test_no_pings_and_no_policy_break_what_holds_of_a_track(journey: list[Ping], policy: Policy) -> None:
    """Whatever is sent, and whatever is asked for: windows in order and bounded, watermarks that only rise."""
    track: Track | None = None
    watermark = 0
    for offset, ping in enumerate(journey):
        track, verdict = observe(track, pack(ping), offset, policy)
        fixes = list(unpack(track.window))
        assert 1 <= len(fixes) <= policy.window_fixes
        assert all(one.ts_ms < other.ts_ms for one, other in itertools.pairwise(fixes))
        assert fixes[-1].ts_ms >= watermark
        watermark = fixes[-1].ts_ms
        assert len(track.suspects) <= 2 * FIX_BYTES
        assert len(track.pending) <= 4, "as many as a stored record holds"
        for gap in gaps_in(verdict):
            times_ms = [gap.start.ts_ms, *gap.times_ms, gap.end.ts_ms]
            assert times_ms == sorted(set(times_ms))
            assert len(gap.times_ms) <= policy.max_gap_points + 1
        if isinstance(verdict, Rejected):
            assert verdict.reject.code in ("impossible_jump", "too_late")
            assert len(verdict.reject.message) < 250


def within_reach(one: Fix, other: Fix) -> bool:
    return _reachable(one, other, POLICY) or _reachable(other, one, POLICY)


@FEWER
@given(crawls())
def test_no_two_neighbours_in_a_window_are_an_impossible_jump_apart(journey: list[Ping]) -> None:
    track: Track | None = None
    for offset, ping in enumerate(journey):
        track, _ = observe(track, pack(ping), offset, POLICY)
        assert all(within_reach(one, other) for one, other in itertools.pairwise(unpack(track.window)))


@FEWER
@given(crawls(), st.data())
def test_a_ping_sent_again_changes_no_window_and_no_later_verdict(journey: list[Ping], data: st.DataObject) -> None:
    """At the next offset, as by a producer that retries: what stands in the window or waits as a suspect is seen."""
    track: Track | None = None
    for offset, ping in enumerate(journey):
        track, verdict = observe(track, pack(ping), 2 * offset, POLICY)
        suspected = isinstance(verdict, Rejected) and ping.ts in [fix.ts_ms for fix in unpack(track.suspects)]
        if suspected or isinstance(verdict, Accepted | Late):
            again, second = observe(track, pack(ping), 2 * offset + 1, POLICY)
            assert second == Duplicate()
            assert (again.window, again.suspects, again.pending) == (track.window, track.suspects, track.pending)
            track = again if data.draw(st.booleans()) else track


@given(st.integers(2, 12), st.sampled_from([1_000, 10_000, 24_000]), st.randoms(use_true_random=False))
def test_order_within_the_lateness_does_not_matter_to_the_window(count: int, step_ms: int, random: object) -> None:
    sent = [Ping(entity_id="x", ts=T0 + n * step_ms, lat=30 + n * 1e-5, lon=-97.0) for n in range(count)]
    shuffled = list(sent)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ordered, _ = run(sent)
    other, verdicts = run(shuffled)
    assert ordered is not None
    assert other is not None
    assert other.window == ordered.window
    assert other.accepted == ordered.accepted == count
    assert not any(isinstance(verdict, Rejected | Duplicate) for verdict in verdicts)


@FEWER
@given(crawls())
def test_a_gap_keeps_its_id_from_provisional_to_its_end(journey: list[Ping]) -> None:
    """Subscribers put revisions together by it: it is of the entity and of the gap's start, which no revision moves."""
    opened: dict[str, Gap] = {}
    for verdict in run(journey)[1]:
        if isinstance(verdict, Accepted) and verdict.gap is not None:
            found = gap_id("x", verdict.gap.start.ts_ms)
            assert found not in opened, "one start, two gaps"
            opened[found] = verdict.gap
        for gap in gaps_in(verdict):
            first = opened[gap_id("x", gap.start.ts_ms)]
            assert gap._replace(before=b"", after=b"") == first._replace(before=b"", after=b"")


@FEWER
@given(st.lists(crawls(), min_size=1, max_size=3), policies.filter(lambda policy: policy.cadence_fixes < 25))
def test_compiled_columns_judge_any_ping_under_any_policy_as_track_does(
    journeys: list[list[Ping]], policy: Policy
) -> None:
    tracks = TrackTable(policy)
    tracks.clear(np.arange(len(journeys)))
    expected: list[Track | None] = [None] * len(journeys)
    for offset, batch in enumerate(itertools.zip_longest(*journeys)):
        slots = np.array([slot for slot, ping in enumerate(batch) if ping is not None])
        sent = [ping for ping in batch if ping is not None]
        plain = tracks.observe_plain(slots, pack_many(sent), np.full(len(slots), offset)).plain
        for slot, ping, was_plain in zip(slots.tolist(), sent, plain.tolist(), strict=True):
            track, verdict = observe(expected[slot], pack(ping), offset, policy)
            if was_plain:
                assert verdict == Accepted(), f"{verdict} was called plain"
            else:
                tracks.write(slot, observe(tracks.read(slot), pack(ping), offset, policy)[0])
            expected[slot] = track
            assert tracks.read(slot) == track
