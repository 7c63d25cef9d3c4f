"""Stored records as an enemy would write them: with a right checksum, or so large that they hurt to look at."""

from __future__ import annotations

import struct
from typing import Any

import fuzz_record
import fuzzing
import numpy as np
import pytest
from engine_rig import T0, A, Rig, forecasts, ping, steady, written
from hypothesis import example, given
from hypothesis import strategies as st

from model.api import KALMAN_WARMUP
from model.config import MAX_FIELD
from model.serving import state_codec
from stream.engine.entities import quarantine
from stream.engine.entities.stored_entity import HEAD, RecordError, Stored, fronts, loads
from stream.store.base import MAX_RECORD_BYTES
from stream.tracks.fix import FIX_BYTES, pack
from stream.tracks.track import PendingGap, Track
from stream.wire import Ping

PLACES = 12
STATE = b"opaque here"
HEAD_FIELDS = [name for name in HEAD.names or () if name not in ("magic", "version", "places", "checksum", "odd")]


def fixes(count: int) -> bytes:
    return b"".join(pack(Ping(entity_id="x", ts=T0 + n * 10_000, lat=30 + n / 1000, lon=-97)) for n in range(count))


GAP = PendingGap(T0, T0 + 90_000, 10_000, "silence", 1)
RECORD = written("bus-1", Track(fixes(9), 40, 9, suspects=fixes(1), pending=(GAP,)), STATE)


def forged(raw: bytes = RECORD, *, at: int | None = None, new: bytes = b"", **fields: int) -> bytes:
    """The record with other numbers in it, under a checksum that is right."""
    changed = bytearray(raw)
    head = np.frombuffer(changed, HEAD, count=1)
    for name, value in fields.items():
        head[name] = value
    if at is not None:
        changed[at : at + len(new)] = new
    return fuzz_record.sealed(bytes(changed), b"")


def refusal(raw: bytes) -> str:
    assert not fronts(["bus-1"], [raw], PLACES).sound.any(), "many at once are read otherwise than one"
    with pytest.raises(RecordError) as caught:
        loads("bus-1", raw)
    return str(caught.value)


def test_a_forged_record_without_a_lie_is_as_good_as_ours() -> None:
    assert forged() == RECORD
    assert fronts(["bus-1"], [forged()], PLACES).sound.all()


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 0},
        {"size": PLACES + 1},
        {"size": 65_535},
        {"newest": PLACES},
        {"newest": 65_535},
        {"suspects": 3},
        {"suspects": 255},
        {"pending": 5},
        {"pending": 255},
        {"next_offset": -1},
        {"next_offset": 2**63 - 1},
        {"accepted": -(2**63)},
        {"accepted": 2**63 - 1},
        {"accepted": 2**31 + 1},
        {"late": -1},
        {"duplicates": -1},
        {"rejected": -1},
    ],
    ids=str,
)
def test_a_head_that_no_track_has_is_refused_for_all_its_checksum(fields: dict[str, int]) -> None:
    """`newest` beyond the ring read another entity's memory, 255 suspects ended the worker with struct.error."""
    assert "no track leaves" in refusal(forged(**fields))


PENDING_AT, RING_AT = 104, HEAD.itemsize


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (PENDING_AT + 16, struct.pack("<I", 0)),  # no step: endless points
        (PENDING_AT + 16, struct.pack("<I", 1)),  # 90,000 points
        (PENDING_AT + 8, struct.pack("<q", 2**63 - 1)),  # to the end of time
        (PENDING_AT + 8, struct.pack("<q", T0)),  # no longer than nothing
        (PENDING_AT, struct.pack("<q", -(2**63))),
        (PENDING_AT + 20, b"\x02"),  # for a reason that there is not
        (RING_AT, struct.pack("<q", 0)),  # 1970
        (RING_AT, struct.pack("<q", 2**62)),
        (RING_AT + 2 * FIX_BYTES, struct.pack("<q", T0)),  # out of order
        (RING_AT + FIX_BYTES, struct.pack("<q", T0)),  # twice the same time
        (RING_AT + 8, struct.pack("<i", 900_000_001)),  # beyond the pole
        (RING_AT + 8, struct.pack("<i", -(2**31))),
        (RING_AT + 12, struct.pack("<i", 1_800_000_001)),
    ],
)
def test_a_gap_or_a_fix_that_no_track_has_is_refused(at: int, new: bytes) -> None:
    assert "no track leaves" in refusal(forged(at=at, new=new))


QUARANTINED = quarantine.begin_quarantine(40, T0, quarantine.Versions("1", "2"), ValueError("text"))


def test_a_forged_quarantine_is_refused() -> None:
    """A text that is none ended the worker with UnicodeDecodeError, a long one would make letters of any size."""
    raw = quarantine.dumps("bus-1", QUARANTINED)
    assert fuzz_record.sealed(raw, b"") == raw
    long, negative = QUARANTINED._replace(raised="x" * 4_000), QUARANTINED._replace(offset=-1)
    forgeries = [raw[:-1] + b"\xff", raw[:32] + b"\xff" + raw[33:]]
    forgeries += [quarantine.dumps("bus-1", each) for each in (long, negative)]
    for each in forgeries:
        with pytest.raises(RecordError, match="who wrote it"):
            quarantine.loads("bus-1", fuzz_record.sealed(each, b""))


def test_places_beyond_the_window_may_hold_anything() -> None:
    """They are zeros, or older fixes: nobody reads them."""
    assert fronts(["bus-1"], [forged(at=RING_AT + 10 * FIX_BYTES, new=b"\xff" * 40)], PLACES).sound.all()


def test_a_count_of_places_that_claims_a_megabyte_is_refused_by_its_size() -> None:
    assert "checksum" in refusal(RECORD[:6] + b"\xff\xff" + RECORD[8:])


@given(
    st.dictionaries(st.sampled_from(HEAD_FIELDS), st.integers(-(2**63), 2**63 - 1) | st.integers(0, 13), max_size=3),
    st.integers(0, len(RECORD) - 1),
    st.binary(max_size=24),
)
@example({}, 1, b"\0\0\0\0\0\t")  # nine places instead of twelve
def test_a_forged_record_is_refused_or_comes_back_whole(fields: dict[str, int], at: int, new: bytes) -> None:
    held = {name: value & (2 ** (8 * HEAD[name].itemsize) - 1) for name, value in fields.items()}
    signed = {name: value - 2**64 if value >= 2**63 else value for name, value in held.items()}
    raw = forged(at=at, new=new[: len(RECORD) - at], **signed)
    try:
        found = loads("bus-1", raw)
    except RecordError:
        assert not fronts(["bus-1"], [raw], PLACES).sound.any()
        return
    if np.frombuffer(raw, HEAD, count=1)["places"][0] != PLACES:
        assert not fronts(["bus-1"], [raw], PLACES).sound.any(), "rings of another width are not read as many"
        return
    assert fronts(["bus-1"], [raw], PLACES).sound.all()
    again = loads("bus-1", written("bus-1", found.track, STATE))
    assert again == Stored(found.track, STATE)


def test_every_input_that_fuzzing_kept_is_refused_or_good_to_go_on_from() -> None:
    kept = fuzzing.seeds(fuzz_record.CORPUS)
    assert len(kept) > 10, "the corpus is gone"
    check = fuzz_record.checker()
    for data in kept:
        check(data)


async def test_a_record_larger_than_any_is_damaged_and_its_entity_starts_anew(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 9), "checkpoint")
    await rig.store.put_many(A, rig.epoch, len(rig.log), {"bus-1": bytes(MAX_RECORD_BYTES + 1)})
    rig.engine = rig.started()
    (answer,) = forecasts(await rig.batch(ping("bus-1", 100)))
    assert (answer["cache"], answer["window"]["n"]) == ("none", 1)
    assert (rig.counts.damaged, rig.counts.rebuilt) == (1, 0)
    await rig.checkpoint()
    (stored,) = await rig.store.get_many(A, ["bus-1"])
    assert loads("bus-1", stored or b"").track.size == 1, "and the next checkpoint is sound again"


async def test_a_forged_record_is_damaged_and_others_go_on(rig: Rig) -> None:
    await rig.feed(*steady("bus-1", 9), *steady("bus-2", 9), "checkpoint")
    (raw,) = await rig.store.get_many(A, ["bus-1"])
    await rig.store.put_many(A, rig.epoch, len(rig.log), {"bus-1": forged(raw or b"", newest=65_535)})
    rig.engine = rig.started()
    answers = forecasts(await rig.batch(ping("bus-1", 100), ping("bus-2", 100)))
    assert [(a["cache"], a["window"]["n"]) for a in answers] == [("none", 1), ("hit", 10)]
    assert rig.counts.damaged == 1


def test_no_model_that_is_served_has_records_too_large_to_be_read() -> None:
    most: Any = HEAD.itemsize + (MAX_FIELD + KALMAN_WARMUP + 1) * FIX_BYTES + state_codec.MAX_BYTES
    assert most < MAX_RECORD_BYTES
    assert MAX_FIELD + KALMAN_WARMUP + 1 < 2**16, "places are counted in 16 bits"
