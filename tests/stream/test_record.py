"""The stored record of one entity: golden bytes, round trips, and refusals."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.record import MAGIC, RecordError, dumps, loads
from stream.track import FIX_BYTES, PendingGap, Track, pack
from stream.wire import Ping

GOLDEN = Path(__file__).parent / "golden" / "entity_record_v1.hex"
T0 = 1_700_000_000_000


def fixes(count: int) -> bytes:
    return b"".join(
        pack(
            Ping(entity_id="x", ts=T0 + n * 10_000, lat=30 + n / 1000, lon=-97 - n / 1000, speed_mps=n, heading_deg=90)
        )
        for n in range(count)
    )


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
RECORD = dumps("bus-1", TRACK, STATE)


def test_version_1_still_loads_and_is_still_written() -> None:
    golden = bytes.fromhex(GOLDEN.read_text())
    assert loads("bus-1", golden) == (TRACK, STATE)
    assert golden == RECORD


def test_the_fields_stand_where_they_are_drawn() -> None:
    track_bytes = 44 + 3 * FIX_BYTES + FIX_BYTES + 22
    assert RECORD[:4] == MAGIC
    assert struct.unpack_from("<HHI", RECORD, 4) == (1, 0, track_bytes)
    assert struct.unpack_from("<qQQQQHBB", RECORD, 16) == (4_321, 9, 2, 1, 4, 3, 1, 1)
    assert RECORD[16 + 44 : 16 + 44 + 60] == TRACK.window
    assert struct.unpack_from("<qqIBB", RECORD, 16 + 44 + 80) == (T0, T0 + 90_000, 10_000, 1, 1)
    assert RECORD[16 + track_bytes :] == STATE


@given(st.integers(0, (len(RECORD) - len(STATE)) * 8 - 1))
def test_a_flipped_bit_before_the_state_is_refused(bit: int) -> None:
    flipped = bytearray(RECORD)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RecordError):
        loads("bus-1", bytes(flipped))


@pytest.mark.parametrize("size", range(len(RECORD) - len(STATE)))
def test_a_record_cut_before_the_state_is_refused(size: int) -> None:
    with pytest.raises(RecordError):
        loads("bus-1", RECORD[:size])


def test_a_record_cut_inside_the_state_still_gives_the_track() -> None:
    assert loads("bus-1", RECORD[:-5]) == (TRACK, STATE[:-5])


def test_a_record_under_another_entitys_key_is_refused() -> None:
    with pytest.raises(RecordError, match="another entity"):
        loads("bus-2", RECORD)


def test_an_unknown_version_is_an_error_that_names_it() -> None:
    with pytest.raises(RecordError, match="version 2"):
        loads("bus-1", RECORD[:4] + b"\x02\x00" + RECORD[6:])


counters = st.integers(0, 2**63 - 1)
gaps = st.builds(
    PendingGap,
    counters,
    counters,
    st.integers(1, 2**32 - 1),
    st.sampled_from(["silence", "outlier"]),
    st.integers(0, 2),
)


@given(
    st.builds(
        Track,
        st.integers(1, 200).map(fixes),
        *[counters] * 5,
        st.integers(0, 2).map(fixes),
        st.lists(gaps, max_size=2).map(tuple),
    ),
    st.binary(max_size=64),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_every_track_comes_back_as_it_was(track: Track, state: bytes, entity_id: str) -> None:
    assert loads(entity_id, dumps(entity_id, track, state)) == (track, state)
