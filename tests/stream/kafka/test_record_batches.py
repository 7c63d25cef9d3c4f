"""Batches read together are the batches read one by one, whatever else lies between them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from fetch_rig import ASTRAY, T0, TP, batch, fetch, signed, strewn
from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.records import record_batches
from stream.wire import Record

WAYS = (
    "plain",
    "stamped",
    "compressed",
    "transaction",
    "taken back",
    "emptied",
    "hollow",
    "unsigned",
    "damaged",
    "alike",
    "astray",
)


def made(way: str, first: int, count: int, at: int) -> tuple[bytes, int]:
    """A batch, and the offset behind it."""
    kind = {"compressed": {"compression": 1}, "transaction": {"producer": 8}, "taken back": {"producer": 7}}
    raw = bytearray(batch(first, count, **kind.get(way, {})))
    if way == "stamped":  # by the broker, when it came
        raw[22] |= 8
        raw[35:43] = struct.pack(">q", T0 + 5_000)
    elif way == "emptied":  # by compaction, from its end
        raw[23:27] = struct.pack(">i", count + 3)
        return signed(raw), first + count + 4
    elif way == "hollow":
        raw[57:61] = struct.pack(">i", count + 1)
    elif way == "damaged":
        raw[61 + at % (len(raw) - 61)] ^= 1 << at % 8
    elif way == "alike":  # offsets that do not rise
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
        for _ in range(2):
            builder.append(0, T0, b"key", b"alike", [])
        raw = bytearray(builder.build())
        raw[:8] = struct.pack(">q", first)
        return signed(raw), first + 1
    elif way == "astray":  # offsets that are none of the batch's
        deltas = ASTRAY[at % len(ASTRAY)]
        return strewn(first, deltas), first + len(deltas)
    whole = signed(raw)
    return (whole[:-1] + bytes([whole[-1] ^ 1]) if way == "unsigned" else whole), first + count


def polled(raw: bytes, most: int | None) -> list[Any]:
    """All polls of a fetch: their records, the position behind each, and how they ended."""
    records, found, before = fetch(raw, 5, aborted=[(7, 5)]), [], 4
    for _ in range(300):
        try:
            some, more = records.take(most)
        except CorruptRecordException:
            return [*found, "damaged"]
        assert (np.diff([before, *(one.offset for one in some), records.next_fetch_offset]) > 0).all()
        before = records.next_fetch_offset - 1
        # Why one is unread is aiokafka's word, in which there may be a number from behind its bytes.
        named = [
            one._replace(headers=tuple(name for name, _ in one.headers)) if one.value is None else one for one in some
        ]
        found.append((named, records.next_fetch_offset))
        if not more:
            return found
    raise AssertionError("a fetch that never ends")


@given(
    st.lists(
        st.tuples(st.sampled_from(["plain"] * 8 + [*WAYS]), st.integers(1, 4), st.integers(0, 10**6)), max_size=12
    ),
    st.none() | st.integers(1, 9),
    st.integers(0, 70),
)
def test_they_are_what_they_are_one_by_one(of: list[tuple[str, int, int]], most: int | None, cut: int) -> None:
    raw, offset = b"", 5
    for way, count, at in of:
        more, offset = made(way, offset, count, at)
        raw += more
    raw = raw[: max(0, len(raw) - cut)]
    together = polled(raw, most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_batches, "read", lambda *_: None)
        assert polled(raw, most) == together


def test_a_run_ends_where_a_batch_is_not_plain() -> None:
    for way in WAYS[2:]:
        if way == "emptied":
            continue
        parts = [batch(5, 2), batch(7, 1), made(way, 8, 2, 3)[0], batch(10, 1)]
        run = record_batches.read(b"".join(parts), 0, tuple(TP))
        assert run is not None, way
        assert (run.batches, run.base_offset, run.next_offset, run.end) == (2, 5, 8, len(parts[0] + parts[1])), way
        assert record_batches.read(b"".join(parts), run.end, tuple(TP)) is None, way


def test_it_has_all_that_are_plain_and_the_bytes_of_no_other() -> None:
    parts, offset, offsets = [], 5, []
    for way in ["plain", "stamped", "emptied", "plain"] * 5:
        offsets += [offset, offset + 1, offset + 2]
        part, offset = made(way, offset, 3, 0)
        parts.append(part)
    before = batch(1, 2)
    run = record_batches.read(before + b"".join(parts) + b"\x00" * 40, len(before), tuple(TP))
    assert run is not None
    assert run.batches == 20
    assert [one.offset for one in run.records] == offsets
    assert run.records.keys.raw.tobytes() == b"".join(parts)
    stamps = [one.timestamp_ms - T0 for one in run.records]
    assert stamps == [0, 1, 2, 5_000, 5_000, 5_000, 0, 1, 2, 0, 1, 2] * 5
    assert run.records[4] == Record(*TP, 9, T0 + 5_000, b"key", b"v1", run.records[1].headers)


def test_a_long_fetch_is_several_runs_but_no_batch_is_cut() -> None:
    large = batch(5, 3_000)
    assert len(large) > record_batches.MOST_BYTES
    raw = large + b"".join(batch(3_005 + n, 1) for n in range(1_200))
    at, found = 0, []
    while run := record_batches.read(raw, at, tuple(TP)):
        found.append((run.batches, len(run.records)))
        at = run.end
    assert at == len(raw)
    assert found[0] == (1, 3_000)
    assert sum(batches for batches, _ in found) == 1_201
    assert 2 < len(found) < 10


@pytest.mark.parametrize("at", range(61))
def test_any_head_is_read_within_its_bytes(at: int) -> None:
    """What a head claims is believed only as far as there are bytes for it."""
    for byte in (0, 1, 127, 128, 255):
        raw = bytearray(batch(5, 2))
        raw[at] = byte
        whole = bytes(raw) if at in range(17, 21) else signed(raw)
        run = record_batches.read(whole, 0, tuple(TP))
        if run is not None:
            assert run.end == len(whole)
            assert run.records.keys.raw.size == len(whole)
            assert len(list(run.records)) == len(run.records) <= (len(whole) - 61) // 7
            assert (np.diff(run.records.offsets) > 0).all()


def test_a_head_that_claims_more_records_than_its_bytes_can_hold_is_not_plain() -> None:
    """A thousand such batches, each of 61 bytes, would ask for 16 GB of columns."""
    raw = bytearray(batch(5, 2))
    for claimed, plain in ((2, 1), ((len(raw) - 61) // 7, 1), ((len(raw) - 61) // 7 + 1, 0), (200_000, 0), (-1, 0)):
        raw[57:61] = struct.pack(">i", claimed)
        heads = np.empty((4, 8), np.int64)
        found = record_batches._plain(np.frombuffer(signed(raw), np.uint8), 0, heads, record_batches.MOST_RECORDS)
        assert found == plain, claimed
