"""The stored record of one entity: golden bytes, round trips, patches, and refusals."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from engine_rig import flip, table_with, written
from hypothesis import given
from hypothesis import strategies as st

from stream.engine.entities.stored_entity import (
    HEAD,
    MAGIC,
    MAX_COUNT,
    MAX_OFFSET,
    MAX_POINTS,
    RecordError,
    Stored,
    dumps,
    fronts,
    loads,
    odd_of,
    patches,
)
from stream.store.base import MemoryStore
from stream.tracks.fix import FIX_BYTES, pack
from stream.tracks.track import PendingGap, Policy, Track, observe
from stream.tracks.track_table import TrackTable
from stream.wire import Ping

GOLDEN = Path(__file__).parent / "golden" / "entity_record_v2.hex"
T0 = 1_700_000_000_000
POLICY = Policy(window_fixes=12)
STATE_AT = HEAD.itemsize + 12 * FIX_BYTES


def ping(n: int) -> Ping:
    return Ping(entity_id="x", ts=T0 + n * 10_000, lat=30 + n / 1000, lon=-97 - n / 1000, speed_mps=n, heading_deg=90)


def fixes(count: int, start: int = 0) -> bytes:
    return b"".join(pack(ping(n)) for n in range(start, start + count))


TRACK = Track(
    window=fixes(3),
    next_offset=4_321,
    accepted=9,
    late=2,
    duplicates=1,
    rejected=4,
    suspects=fixes(1),
    pending=(PendingGap(T0, T0 + 90_000, 10_000, "outlier", 1),),
)
STATE = b"a state is opaque here"
RECORD = written("bus-1", TRACK, STATE)


def test_version_2_still_loads_and_is_still_written() -> None:
    golden = bytes.fromhex(GOLDEN.read_text())
    assert loads("bus-1", golden) == Stored(TRACK, STATE)
    assert golden == RECORD


def test_the_fields_stand_where_they_are_drawn() -> None:
    assert RECORD[:4] == MAGIC
    assert struct.unpack_from("<HH", RECORD, 4) == (2, 12)
    assert struct.unpack_from("<5q3H2B", RECORD, 16) == (4_321, 9, 2, 1, 4, 3, 2, 0, 1, 1)
    assert RECORD[64:84] == TRACK.suspects
    assert struct.unpack_from("<qqIBB", RECORD, 104) == (T0, T0 + 90_000, 10_000, 1, 1)
    assert RECORD[192 : 192 + 60] == TRACK.window
    assert RECORD[192 + 20 * 12 :] == STATE


@given(st.integers(0, STATE_AT * 8 - 1))
def test_a_flipped_bit_before_the_state_is_refused_and_among_many_only_that_record(bit: int) -> None:
    flipped = flip(RECORD, bit)
    with pytest.raises(RecordError):
        loads("bus-1", flipped)
    names = ["bus-1", "bus-1", "bus-2", "bus-1"]
    sound = fronts(names, [RECORD, flipped, RECORD, RECORD[: STATE_AT - 1]], 12).sound
    assert sound.tolist() == [True, False, False, False]
    assert fronts([], [], 12).sound.tolist() == []


def test_a_record_cut_before_the_state_is_refused() -> None:
    for size in range(STATE_AT):
        with pytest.raises(RecordError):
            loads("bus-1", RECORD[:size])


def test_a_record_cut_inside_the_state_still_gives_the_track() -> None:
    assert loads("bus-1", RECORD[:-5]) == Stored(TRACK, STATE[:-5])


def test_a_record_under_another_entitys_key_is_refused() -> None:
    with pytest.raises(RecordError, match="another entity"):
        loads("bus-2", RECORD)


def test_an_unknown_version_is_an_error_that_names_it() -> None:
    with pytest.raises(RecordError, match="version 1"):
        loads("bus-1", RECORD[:4] + b"\x01\x00" + RECORD[6:])


counters = st.integers(0, MAX_COUNT)
gaps = st.builds(
    lambda start, points, step, *rest: PendingGap(start, start + points * step, step, *rest),
    st.integers(0, 2**61),
    st.integers(1, MAX_POINTS),
    st.integers(1, 2**32 - 1),
    st.sampled_from(["silence", "outlier"]),
    st.integers(0, 2),
)


@given(
    st.builds(
        Track,
        st.integers(1, 12).map(fixes),
        st.integers(0, MAX_OFFSET),
        *[counters] * 4,
        st.integers(0, 2).map(fixes),
        st.lists(gaps, max_size=4).map(tuple),
    ),
    st.binary(max_size=64),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_every_track_comes_back_as_it_was(track: Track, state: bytes, entity_id: str) -> None:
    assert loads(entity_id, written(entity_id, track, state)) == Stored(track, state)


def test_many_records_are_read_together_as_one_by_one() -> None:
    names = ["bus-1", "bus-2", "bus-3"]
    several = [TRACK, Track(fixes(12), 40, 20), Track(fixes(1), 1, 1)]
    raws = [written(name, track, STATE) for name, track in zip(names, several, strict=True)]
    sound, heads, rings = fronts(names, raws, 12)
    assert sound.all()
    tracks, slots = TrackTable(POLICY), np.array([2, 0, 1])
    tracks.clear(slots)
    tracks.lay(slots, heads, rings)
    tracks.set_odd(2, *odd_of(heads[0]))
    assert [tracks.read(slot) for slot in slots.tolist()] == several


@given(st.lists(st.integers(0, 15), min_size=1, max_size=8), st.integers(1, 12))
async def test_patches_make_of_a_stored_record_what_the_track_is(grown: list[int], first: int) -> None:
    """However many fixes came between two checkpoints, round the ring and past it; the state stays, behind by all."""
    track = Track(fixes(first), first, first)
    tracks, store, slots = table_with(track, 12), MemoryStore(), np.array([0])
    partition, behind = ("p", 0), 0
    epoch, _ = await store.claim(partition)
    await store.put_many(partition, epoch, None, {"x": dumps(["x"], tracks, slots, [STATE])[0]})
    tracks.writing(slots)
    tracks.note_saved(slots, np.array([behind]))
    for count in grown:
        for n in range(track.accepted, track.accepted + count):
            track, _ = observe(track, pack(ping(n)), n, POLICY)
            tracks.write(0, track)
            behind += 1
        (patch,) = patches(["x"], tracks, slots)
        assert await store.put_many(partition, epoch, None, {"x": patch}) == []
        tracks.writing(slots)
        tracks.note_saved(slots, np.array([behind]))
        (raw,) = await store.get_many(partition, ["x"])
        assert loads("x", raw or b"") == Stored(track, STATE, behind)
        assert patch.size <= HEAD.itemsize + min(count, 12) * FIX_BYTES, "nothing is written twice"
