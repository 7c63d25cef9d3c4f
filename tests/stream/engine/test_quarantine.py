"""The stored quarantine of one entity: where its fields stand, round trips, refusals, and until when it holds."""

from __future__ import annotations

import struct

import pytest
from engine_rig import flip
from hypothesis import given
from hypothesis import strategies as st

from stream.engine.entities import stored_entity
from stream.engine.entities.quarantine import Quarantine, Versions, begin_quarantine, dumps, is_one, loads
from stream.wire import NO_TIME_MS

HOUR_MS = 3_600_000
FOUND = Quarantine(4_321, 1_700_000_000_000, Versions("1.2.0", "3fa188c0"), "ValueError: no step ✗", 4_322)
RAW = dumps("bus-1", FOUND)


def test_the_fields_stand_where_they_are_drawn() -> None:
    assert RAW[:4] == b"PCEQ"
    assert struct.unpack_from("<4H", RAW, 4) == (1, 5, 8, 23)
    assert struct.unpack_from("<2q", RAW, 16) == (4_321, 1_700_000_000_000)
    assert RAW[32:] == b"1.2.03fa188c0" + "ValueError: no step ✗".encode()


@given(st.integers(0, 1 << 62), st.integers(-1, 1 << 42), st.text(), st.text(), st.text(), st.text(max_size=128))
def test_what_was_stored_is_loaded(offset: int, ms: int, program: str, model: str, raised: str, entity: str) -> None:
    found = Quarantine(offset, ms, Versions(program, model), raised, offset + 1)
    assert loads(entity, dumps(entity, found)) == found


@given(st.integers(0, len(RAW) * 8 - 1))
def test_a_flipped_bit_is_refused(bit: int) -> None:
    flipped = flip(RAW, bit)
    with pytest.raises(stored_entity.RecordError):
        (loads if is_one(flipped) else stored_entity.loads)("bus-1", flipped)


@pytest.mark.parametrize("raw", [RAW[:-1], RAW[:31], RAW[:4], RAW + b"x"])
def test_one_that_is_cut_or_longer_is_refused(raw: bytes) -> None:
    with pytest.raises(stored_entity.RecordError):
        loads("bus-1", raw)


def test_that_of_another_entity_is_refused() -> None:
    with pytest.raises(stored_entity.RecordError, match="another entity's"):
        loads("bus-2", RAW)


def test_a_release_that_knows_only_records_refuses_it() -> None:
    """So that the entity starts anew there, whatever the newer release thought of it."""
    with pytest.raises(stored_entity.RecordError, match="do not start as an entity record"):
        stored_entity.loads("bus-1", RAW)


def test_it_holds_for_the_same_program_and_model_until_it_expires() -> None:
    later = FOUND.since_ms + HOUR_MS
    assert FOUND.stands(FOUND.versions, later, HOUR_MS)
    assert not FOUND.stands(FOUND.versions, later + 1, HOUR_MS)
    assert not FOUND.stands(Versions("1.2.1", "3fa188c0"), later, HOUR_MS)
    assert not FOUND.stands(Versions("1.2.0", "88c03fa1"), later, HOUR_MS)


def test_a_record_without_a_time_ends_none_and_one_that_has_one_ends_what_began_without() -> None:
    assert FOUND.stands(FOUND.versions, NO_TIME_MS, HOUR_MS)
    timeless = FOUND._replace(since_ms=NO_TIME_MS)
    assert timeless.stands(FOUND.versions, NO_TIME_MS, HOUR_MS)
    assert not timeless.stands(FOUND.versions, FOUND.since_ms, HOUR_MS)


def test_what_was_raised_fits_into_a_header_whatever_it_says() -> None:
    found = begin_quarantine(5, 0, FOUND.versions, ValueError("a\nlong \ud800 story " * 100))
    assert found.raised.startswith("ValueError: a long \\ud800 story a long")
    assert len(found.raised.encode()) < 2_000
    assert loads("x", dumps("x", found)) == found
