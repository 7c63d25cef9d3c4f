"""The bytes that the store keeps of one entity: its track and its model state.

    offset     size  field
         0        4  magic "PCEN"
         4        2  version, uint16: 2
         6        2  W, the number of places in the window's ring, uint16
         8        8  checksum, uint64, of the entity's id (UTF-8) and of everything before the state except itself
        16        8  next_offset, int64: all input records below it are folded in
        24       32  accepted, late, duplicates, rejected, int64 each
        56        2  size, the number of fixes in the window, uint16
        58        2  newest, the place of the window's last fix, uint16; the fix before it is to its left, or at the end
        60        2  behind, uint16: the state lacks the window's last `behind` fixes
        62        1  suspects, uint8
        63        1  pending gaps, uint8
        64       40  suspects: fixes
       104       88  pending gaps, 22 each: start_ms int64, end_ms int64, step_ms uint32, reason uint8 (0 silence,
                     1 outlier), age uint8
       192     20 W  the ring: fixes in the layout of `stream.tracks.fix`
 192 + 20 W  to end  model state, opaque here: `model.serving.state_codec` gives it its own magic, fingerprint, checksum

All fields are little-endian, as the machines that read them are. The two parts have separate checksums because they
fail differently: a bad state is rebuilt from the window, but nothing can rebuild a bad track. The checksum covers the
id although the record does not contain it, because the id is the key: a record under another entity's key must be
refused.

Every field before the state has a fixed place, so a checkpoint writes only the head and the places of new fixes: 300
bytes instead of 12 KB. The state is written again when it is more than STALE fixes behind. A process that loads it
folds in the missing fixes and gets the writer's state, to the bit.

An entity in quarantine has neither track nor state. `quarantine` describes what is stored in the place of its record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.api import FIX
from model.jit import compiled
from stream.store.base import MAX_RECORD_BYTES, Patch
from stream.tracks.fix import FIX_BYTES
from stream.tracks.track import PendingGap, Reason, Track
from stream.tracks.track_table import COUNTS, Rows, TrackTable
from stream.wire import E7, MAX_TS_MS, MIN_TS_MS

MAGIC: Final = b"PCEN"
VERSION: Final = 2
STALE: Final = 8  # fixes; catching up costs some 10 µs for each, and the next owner does it for all entities at once
MAX_SUSPECTS: Final = 2
MAX_PENDING: Final = 4  # a gap waits for two pings, and each of them may close another gap
MAX_OFFSET: Final = 1 << 62  # leaves room for one more in an int64
MAX_COUNT: Final = 1 << 31  # of one entity's pings of one kind; `tracks` counts them in 32 bits
MAX_POINTS: Final = 1_000  # points in one gap fill; a track asks for 240 at most
_PENDING: Final = struct.Struct("<qqIBB")
_SUSPECTS_BYTES: Final = MAX_SUSPECTS * FIX_BYTES
_ODD_BYTES: Final = _SUSPECTS_BYTES + MAX_PENDING * _PENDING.size
HEAD: Final = np.dtype(
    [
        *(("magic", "S4"), ("version", "<u2"), ("places", "<u2"), ("checksum", "<u8"), ("next_offset", "<i8")),
        *((name, "<i8") for name in COUNTS),
        *((name, "<u2") for name in ("size", "newest", "behind")),
        *(("suspects", "u1"), ("pending", "u1"), ("odd", f"V{_ODD_BYTES}")),
    ]
)
_REASONS: Final[tuple[Reason, ...]] = ("silence", "outlier")


class RecordError(ValueError):
    """The bytes are not a record of this entity, or are damaged."""


class Stored(NamedTuple):
    """A sound track, and a state that the model has not checked yet.

    The state lacks the window's last `behind` fixes.
    """

    track: Track
    state: bytes
    behind: int = 0


def dumps(entity_ids: Sequence[str], tracks: TrackTable, slots: Rows, states: Sequence[bytes]) -> list[bytes]:
    """Returns the records of entities whose states include all fixes of their windows."""
    rings = tracks.rings(slots)
    heads = _heads(entity_ids, tracks, slots, np.zeros(len(slots), np.int64), rings)
    return [b"".join(parts) for parts in zip(_each(heads), rings, states, strict=True)]


def patches(entity_ids: Sequence[str], tracks: TrackTable, slots: Rows) -> list[Patch]:
    """Returns patches that update the stored records to these tracks. They leave the stored states as they are."""
    heads = _heads(entity_ids, tracks, slots, tracks.behind(slots), tracks.rings(slots))
    least = HEAD.itemsize + tracks.ring.shape[1] * FIX_BYTES
    found = []
    columns = slots.tolist(), tracks.fresh(slots).tolist(), heads["newest"].tolist(), _each(heads)
    for slot, fresh, newest, head in zip(*columns, strict=True):
        ranges = [(0, head)]
        for first, stop in _stretches(newest, fresh, tracks.ring.shape[1]):
            ranges.append((HEAD.itemsize + first * FIX_BYTES, tracks.ring[slot, first:stop].tobytes()))
        found.append(Patch(least, tuple(ranges)))
    return found


def loads(entity_id: str, raw: bytes) -> Stored:
    """Returns the parts of a record.

    Raises:
        RecordError: the record is foreign, of an unknown version, truncated, or altered before the state part.
    """
    if not raw:
        # The store returns b"" for both.
        raise RecordError(f"no record: larger than {MAX_RECORD_BYTES} bytes, or not a string")
    if len(raw) < HEAD.itemsize or raw[:4] != MAGIC:
        raise RecordError(f"{len(raw)} bytes that do not start as an entity record: written by something else?")
    head = np.frombuffer(raw, HEAD, count=1)
    if head["version"][0] != VERSION:
        raise RecordError(f"an entity record of version {head['version'][0]}, this release reads {VERSION}")
    end = HEAD.itemsize + int(head["places"][0]) * FIX_BYTES
    ring = np.frombuffer(raw[HEAD.itemsize : end], FIX)[None] if len(raw) >= end else None
    if ring is None or head["checksum"] != _checksums([entity_id], head, ring.view("<u4")):
        raise RecordError("an entity record whose checksum does not match: damaged, or another entity's")
    if not _possible(head, ring)[0]:
        raise RecordError("an entity record with a right checksum over what no track leaves: who wrote it?")
    return Stored(_track(head[0], raw[HEAD.itemsize : end]), raw[end:], int(head["behind"][0]))


class Fronts(NamedTuple):
    """N records without their states, in columns. A sound row holds what `loads` would return for that record."""

    sound: NDArray[np.bool_]
    heads: NDArray[Any]  # HEAD
    rings: NDArray[Any]  # FIX [N, W]


def fronts(entity_ids: Sequence[str], raws: Sequence[bytes], places: int) -> Fronts:
    """Reads many records at once, without their states.

    `sound` is false for a record that is damaged or whose ring has another width; pass it to `loads`.
    """
    size = HEAD.itemsize + places * FIX_BYTES
    joined = b"".join(raw[:size] if len(raw) >= size else bytes(size) for raw in raws)
    table = np.frombuffer(bytearray(joined), np.uint8).reshape(len(raws), size)
    heads = np.ascontiguousarray(table[:, : HEAD.itemsize]).view(HEAD)[:, 0]
    rings = np.ascontiguousarray(table[:, HEAD.itemsize :])
    sound = (heads["magic"] == MAGIC) & (heads["version"] == VERSION) & (heads["places"] == places)
    sound &= heads["checksum"] == _checksums(entity_ids, heads, rings.view("<u4"))
    sound &= _possible(heads, rings.view(FIX))
    return Fronts(sound, heads, rings.view(FIX))


def odd_of(head: Any) -> tuple[bytes, tuple[PendingGap, ...]]:
    """Returns the suspects and the pending gaps of one head."""
    odd = bytes(head["odd"])
    suspects, pending = int(head["suspects"]) * FIX_BYTES, int(head["pending"]) * _PENDING.size
    gaps = _PENDING.iter_unpack(odd[_SUSPECTS_BYTES : _SUSPECTS_BYTES + pending])
    return odd[:suspects], tuple(
        PendingGap(start, end, step, _REASONS[reason], age) for start, end, step, reason, age in gaps
    )


def _heads(
    entity_ids: Sequence[str], tracks: TrackTable, slots: Rows, behind: Rows, rings: NDArray[np.uint8]
) -> NDArray[Any]:
    """Returns the heads [N] of these slots' records."""
    heads = np.zeros(len(slots), HEAD)
    heads["magic"], heads["version"], heads["places"] = MAGIC, VERSION, tracks.ring.shape[1]
    heads["behind"] = behind
    tracks.fill(heads, slots)
    for row, suspects, pending in tracks.odd(slots):
        heads[row]["suspects"], heads[row]["pending"] = len(suspects) // FIX_BYTES, len(pending)
        gaps = (_PENDING.pack(g.start_ms, g.end_ms, g.step_ms, _REASONS.index(g.reason), g.age) for g in pending)
        packed = suspects.ljust(_SUSPECTS_BYTES, b"\0") + b"".join(gaps)
        assert len(suspects) <= _SUSPECTS_BYTES, "a track holds at most two suspects"
        assert len(packed) <= _ODD_BYTES, "a track holds at most a few pending gaps"
        heads["odd"][row] = packed.ljust(_ODD_BYTES, b"\0")
    heads["checksum"] = _checksums(entity_ids, heads, rings.view("<u4"))
    return heads


def _each(heads: NDArray[Any]) -> list[bytes]:
    raw = heads.tobytes()
    return [raw[at : at + HEAD.itemsize] for at in range(0, len(raw), HEAD.itemsize)]


def _stretches(newest: int, fresh: int, places: int) -> Iterator[tuple[int, int]]:
    """Yields ranges [first, stop) of places that hold a ring's `fresh` newest fixes."""
    if fresh >= places:
        yield 0, places
        return
    first = newest + 1 - fresh
    if first < 0:
        yield first + places, places
    if fresh:
        yield max(first, 0), newest + 1


def _track(head: Any, ring: bytes) -> Track:
    """Returns the track of bytes that passed `_possible`."""
    size, end = int(head["size"]), (int(head["newest"]) + 1) * FIX_BYTES
    suspects, pending = odd_of(head)
    return Track(
        window=(ring[end:] + ring[:end])[-size * FIX_BYTES :],
        next_offset=int(head["next_offset"]),
        accepted=int(head["accepted"]),
        late=int(head["late"]),
        duplicates=int(head["duplicates"]),
        rejected=int(head["rejected"]),
        suspects=suspects,
        pending=pending,
    )


def _possible(heads: NDArray[Any], rings: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns which of heads [N] and rings [N, W] a track can have written.

    The checksum shows damage, not intent: anyone who can write to the store can put a right checksum over any bytes,
    and later code reads rings by these numbers without checking them.
    """
    found = (heads["suspects"] <= MAX_SUSPECTS) & (heads["pending"] <= MAX_PENDING)
    for name, most in (("next_offset", MAX_OFFSET), *((name, MAX_COUNT) for name in COUNTS)):
        found &= (heads[name] >= 0) & (heads[name] <= most)
    _check_rings(heads["size"].astype(np.int64), heads["newest"].astype(np.int64), rings, found)
    for row in np.flatnonzero(found & (heads["pending"] > 0)).tolist():
        gaps = _PENDING.iter_unpack(bytes(heads["odd"][row])[_SUSPECTS_BYTES:_ODD_BYTES])
        found[row] = all(
            reason < len(_REASONS) and 0 < end - start <= step * MAX_POINTS
            for start, end, step, reason, _ in list(gaps)[: heads["pending"][row]]
        )
    return found


@compiled
def _check_rings(size, newest, rings, found):  # type: ignore[no-untyped-def]
    """Sets `found` to false unless the ring has the stated number of fixes, with times in order and positions on the
    globe."""
    w = rings.shape[1]
    for i in range(len(rings)):
        if size[i] < 1 or size[i] > w or newest[i] >= w:
            found[i] = False
            continue
        before = np.int64(MIN_TS_MS - 1)
        for k in range(newest[i] + 1 - size[i], newest[i] + 1):
            fix = rings[i, k % w]
            found[i] &= before < fix.ts_ms <= MAX_TS_MS and abs(np.int64(fix.lat_e7)) <= 90 * E7
            found[i] &= abs(np.int64(fix.lon_e7)) <= 180 * E7
            before = fix.ts_ms


def _checksums(entity_ids: Sequence[str], heads: NDArray[Any], rings: NDArray[Any]) -> NDArray[np.uint64]:
    """Returns the sums [N] of the words of heads (without their own checksums) and rings [N, 5 W].

    Each word is multiplied by an odd number that depends on its place. One altered word always changes the sum, several
    almost always do.
    """
    bare = heads.copy()
    bare["checksum"] = 0
    words = bare.view("<u4").reshape(len(heads), HEAD.itemsize // 4)
    found = np.array([crc32(entity_id.encode()) for entity_id in entity_ids], np.uint64)
    _add(words, _weights(0, words.shape[1]), found)
    _add(rings, _weights(words.shape[1], rings.shape[1]), found)
    return found


@lru_cache(maxsize=8)
def _weights(first: int, count: int) -> NDArray[np.uint64]:
    """Returns odd numbers without a pattern (splitmix64's mixing of the places from `first` on)."""
    x = (np.arange(first + 1, first + 1 + count, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((x ^ (x >> np.uint64(31))) | np.uint64(1))


@compiled
def _add(words, weights, sums):  # type: ignore[no-untyped-def]
    for i in range(len(words)):
        total = np.uint64(0)
        for j in range(words.shape[1]):
            total += np.uint64(words[i, j]) * weights[j]
        sums[i] += total
