"""Tracks in columns are the tracks of `stream.tracks.track`: the same pings through both leave the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.api import FIX, approaches_of
from stream.engine.entities import stored_entity
from stream.tracks.fix import FIX_BYTES, first_ts_ms, last_fix, pack, pack_many
from stream.tracks.track import Accepted, Policy, Track, observe
from stream.tracks.track_table import ROW, UNKNOWN, TrackTable
from stream.wire import Ping

T0 = 1_700_000_000_000
POLICY = Policy(window_fixes=12)
SLOTS = 3


def ping(entity: int, seconds: float, lat: float = 30.0, lon: float = -97.0) -> Ping:
    return Ping(entity_id=str(entity), ts=T0 + round(seconds * 1000), lat=lat, lon=lon)


@st.composite
def rounds(draw: st.DrawFn) -> list[list[Ping]]:
    """Batches with at most one ping of each entity: nearly all plain, with everything that is not."""
    now = [0.0] * SLOTS
    found: list[list[Ping]] = []
    usual = draw(st.sampled_from([1.0, 10.0, 45.0]))
    steps = st.sampled_from(
        [usual] * 12 + [59.999, 60.0, 60.001, 120.0, 181.0, 200.0, 0.0, -usual, -500.0, 3_600.0, 3_601.0]
    )
    places = st.sampled_from(
        [(30.0, -97.0)] * 12 + [(30.01, -97.0), (30.5, -97.0), (30.0, 179.9999), (30.0, -179.9999)]
    )
    for _ in range(draw(st.integers(1, 60))):
        batch = []
        for entity in draw(st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=SLOTS, unique=True)):
            step_s = draw(steps)
            now[entity] += step_s
            batch.append(ping(entity, now[entity], *draw(places)))
            now[entity] = max(now[entity], now[entity] - step_s)  # a late ping does not move the clock back
        found.append(batch)
    return found


def run(tracks: TrackTable, batch: Sequence[Ping], offset: int) -> list[bool]:
    """At most one ping of each slot, as the engine takes them; which rows were plain."""
    slots = np.array([int(one.entity_id) for one in batch])
    offsets = np.arange(offset, offset + len(batch))
    plain: list[bool] = tracks.observe_plain(slots, pack_many(batch), offsets).plain.tolist()
    for row, (slot, one) in enumerate(zip(slots.tolist(), batch, strict=True)):
        if not plain[row]:
            tracks.write(slot, observe(tracks.read(slot), pack(one), offset + row, POLICY)[0])
    return plain


@given(rounds())
def test_columns_hold_what_track_says_also_of_several_pings_of_a_slot_at_once(batches: list[list[Ping]]) -> None:
    """As the engine folds a batch: each slot's up to the first that is not plain, that one by `track`, and on."""
    by_batches, at_once = TrackTable(POLICY), TrackTable(POLICY)
    for tracks in (by_batches, at_once):
        tracks.clear(np.arange(SLOTS))
    pings = [one for batch in batches for one in batch]
    plain, n, from_ts = np.zeros(len(pings), np.bool_), np.zeros(len(pings)), np.zeros(len(pings))
    expected: list[Track | None] = [None] * SLOTS
    offset = 0
    for batch in batches:
        plain[offset : offset + len(batch)] = run(by_batches, batch, offset)
        for place, one in enumerate(batch, offset):
            slot = int(one.entity_id)
            track, verdict = observe(expected[slot], pack(one), place, POLICY)
            assert verdict == Accepted() or not plain[place], f"{verdict} was called plain"
            assert by_batches.read(slot) == track
            expected[slot], n[place], from_ts[place] = track, track.size, first_ts_ms(track.window)
        offset += len(batch)
    slots, fixes = np.array([int(one.entity_id) for one in pings]), pack_many(pings)
    left = np.argsort(slots, kind="stable")
    while len(left):
        seen = at_once.observe_plain(slots[left], fixes[left], left)
        assert not (seen.plain & ~plain[left]).any()
        np.testing.assert_array_equal(seen.n[seen.plain], n[left[seen.plain]])
        np.testing.assert_array_equal(seen.from_ts[seen.plain], from_ts[left[seen.plain]])
        left = left[~seen.plain]
        first = np.diff(slots[left], prepend=-1) != 0
        for offset in left[first].tolist():
            assert not plain[offset]
            slot = int(slots[offset])
            at_once.write(slot, observe(at_once.read(slot), pack(pings[offset]), offset, POLICY)[0])
        left = left[~first]
    assert [at_once.read(slot) for slot in range(SLOTS)] == expected


def test_by_which_way_a_ping_came_does_not_depend_on_what_follows_in_its_batch() -> None:
    """Although later pings of the batch take the place of fixes in the ring that tell it."""
    pings = [ping(0, 30.0 * n, lat=52.0 + 1e-4 * n * n) for n in range(3 * POLICY.window_fixes)]
    at_once, singly = TrackTable(POLICY), TrackTable(POLICY)
    windows, found = [], []
    for tracks in (at_once, singly):
        tracks.clear(np.zeros(1, np.int64))
        run(tracks, pings[:1], 0)
    slots, fixes, offsets = np.zeros(len(pings) - 1, np.int64), pack_many(pings[1:]), np.arange(1, len(pings))
    seen = at_once.observe_plain(slots, fixes, offsets, approach=True)
    for row in range(len(slots)):
        some = slice(row, row + 1)
        found.append(singly.observe_plain(slots[some], fixes[some], offsets[some], approach=True).approach)
        track = singly.read(0)
        assert track is not None
        windows.append(np.frombuffer(track.window, FIX))
    assert seen.plain.all()
    for mine, one, defined in zip(seen.approach, zip(*found, strict=True), approaches_of(windows), strict=True):
        np.testing.assert_array_equal(mine, np.concatenate(one))
        np.testing.assert_array_equal(mine, defined)
    assert (np.abs(seen.approach.in_m[-1, 1:]) > np.abs(seen.approach.in_m[-1, :1]) + 100).any()


def test_equal_tracks_are_equal_bytes_whatever_was_in_memory_before() -> None:
    """Who stores them says the same as the next one, and nothing of what a process had in memory."""
    tracks, slots = TrackTable(POLICY), np.arange(1_000)
    tracks.clear(slots)
    found = set()
    for before in (0, 255):
        old = [np.full(ROW.itemsize * len(slots), before, np.uint8) for _ in range(20)]
        del old
        found.add(tracks.copy_slots(slots).book.tobytes())
    assert found == {bytes(ROW.itemsize * len(slots))}


def test_steady_pings_are_plain_from_the_second_on() -> None:
    """Else the columns would be right, and of no use."""
    tracks = TrackTable(POLICY)
    tracks.clear(np.arange(SLOTS))
    plain = Counter(
        flag for n in range(50) for flag in run(tracks, [ping(slot, 61.0 * n) for slot in range(SLOTS)], SLOTS * n)
    )
    assert plain == {False: SLOTS, True: 49 * SLOTS}


def test_a_record_that_comes_again_is_not_plain() -> None:
    tracks = TrackTable(POLICY)
    tracks.clear(np.arange(1))
    for n in range(5):
        run(tracks, [ping(0, 10.0 * n)], n)
    assert not tracks.observe_plain(np.array([0]), pack_many([ping(0, 60.0)]), np.array([4])).plain.any()
    assert tracks.observe_plain(np.array([0]), pack_many([ping(0, 60.0)]), np.array([5])).plain.all()


@given(
    st.lists(
        st.builds(
            Ping,
            entity_id=st.just("a"),
            ts=st.integers(946_684_800_000, 4_102_444_800_000),
            lat=st.floats(-90, 90),
            lon=st.floats(-180, 180),
            speed_mps=st.none() | st.floats(0, 1_000),
            heading_deg=st.none() | st.floats(0, 360, exclude_max=True),
        ),
        max_size=20,
    )
)
def test_pings_are_packed_together_as_one_by_one(pings: list[Ping]) -> None:
    assert pack_many(pings).tobytes() == b"".join(map(pack, pings))


def test_a_longer_window_than_the_policy_s_keeps_its_newest_fixes() -> None:
    """A model with a longer memory may have stored it."""
    tracks = TrackTable(POLICY)
    tracks.clear(np.arange(1))
    window = b"".join(pack(ping(0, 10.0 * n)) for n in range(20))
    tracks.write(0, Track(window, 20, 20))
    kept = tracks.read(0)
    assert kept is not None
    assert kept.window == window[-12 * FIX_BYTES :]
    assert last_fix(kept.window).ts_ms == T0 + 190_000


def test_what_the_store_has_is_known_of_the_track_that_was_written_and_of_no_other() -> None:
    """Between `writing` and `saved`: one goes on, one is laid anew, one leaves and its slot is another's."""
    tracks, slots = TrackTable(POLICY), np.arange(3)
    tracks.clear(slots)
    for n in range(4):
        run(tracks, [ping(slot, 10 * n) for slot in range(3)], 3 * n)
    tracks.writing(slots)
    run(tracks, [ping(0, 40)], 12)
    run(tracks, [ping(1, 15)], 13)  # late
    tracks.clear(slots[2:])
    tracks.lay(slots[2:], _stored(tracks, 0), tracks.ring[:1])
    tracks.set_behind(slots[2:], 5)
    tracks.note_saved(slots, np.array([3, 3, 3]))
    assert tracks.behind(slots).tolist() == [4, UNKNOWN, 5]
    assert tracks.fresh(slots).tolist() == [1, POLICY.window_fixes, 0]


def _stored(tracks: TrackTable, slot: int) -> NDArray[Any]:
    heads = np.zeros(1, stored_entity.HEAD)
    tracks.fill(heads, np.array([slot]))
    return heads
