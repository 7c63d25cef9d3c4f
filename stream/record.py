"""What the store holds of one entity: its track and its model state. Knows bytes; knows no store and no model.

    offset     size  field
         0        4  magic "PCEN"
         4        2  version, uint16: 1
         6        2  reserved, 0
         8        4  size T of the track part, uint32
        12        4  CRC-32 of the entity's id (UTF-8), of bytes 0..12 and of the track part, uint32
        16        T  track part
      16+T  to end  model state, opaque: `model.api` gives it magic, fingerprint and checksum of its own

    track part
         0        8  next_offset, int64: the input records below it are folded in
         8        8  accepted, uint64
        16        8  late, uint64
        24        8  duplicates, uint64
        32        8  rejected, uint64
        40        2  W, fixes in the window, uint16
        42        1  S, suspects, uint8
        43        1  P, pending gaps, uint8
        44     20 W  window: fixes as `stream.track` draws them, oldest first
               20 S  suspects: fixes
               22 P  pending gaps: start_ms int64, end_ms int64, step_ms uint32, reason uint8 (0 silence, 1 outlier),
                     age uint8

Little-endian, as the machines that read it are. Two checksums, because the two parts fail differently: a bad state is
rebuilt from the window, a bad track cannot be rebuilt from anything. The id is under the checksum and not in the
record: it is the key already, and a record under another entity's key must be refused.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

from stream.track import FIX_BYTES, PendingGap, Reason, Track

MAGIC: Final = b"PCEN"
VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sHHI")
_CHECK: Final = struct.Struct("<I")
_COUNTS: Final = struct.Struct("<qQQQQHBB")
_PENDING: Final = struct.Struct("<qqIBB")
_REASONS: Final[tuple[Reason, ...]] = ("silence", "outlier")
_TRACK_AT: Final = _HEAD.size + _CHECK.size


class RecordError(ValueError):
    """Bytes that are not the record of this entity, or not intact."""


class Stored(NamedTuple):
    """A sound track, and a state that the model has still to judge."""

    track: Track
    state: bytes


def dumps(entity_id: str, track: Track, state: bytes) -> bytes:
    """The record of one entity."""
    part = _dumps_track(track)
    head = _HEAD.pack(MAGIC, VERSION, 0, len(part))
    return b"".join((head, _CHECK.pack(_checksum(entity_id, head, part)), part, state))


def loads(entity_id: str, raw: bytes) -> Stored:
    """The parts of a record.

    Raises:
        RecordError: foreign, of an unknown version, truncated or altered before the state part.
    """
    if len(raw) < _TRACK_AT or raw[:4] != MAGIC:
        raise RecordError(f"{len(raw)} bytes that do not start as an entity record: written by something else?")
    head = raw[: _HEAD.size]
    _, version, _, size = _HEAD.unpack(head)
    if version != VERSION:
        raise RecordError(f"an entity record of version {version}, this release reads {VERSION}")
    part = raw[_TRACK_AT : _TRACK_AT + size]
    if len(part) != size or _CHECK.unpack_from(raw, _HEAD.size)[0] != _checksum(entity_id, head, part):
        raise RecordError("an entity record whose checksum does not match: damaged, or another entity's")
    return Stored(_loads_track(part), raw[_TRACK_AT + size :])


def _checksum(entity_id: str, head: bytes, part: bytes) -> int:
    return crc32(part, crc32(head, crc32(entity_id.encode())))


def _dumps_track(track: Track) -> bytes:
    counts = _COUNTS.pack(
        track.next_offset,
        track.accepted,
        track.late,
        track.duplicates,
        track.rejected,
        track.size,
        len(track.suspects) // FIX_BYTES,
        len(track.pending),
    )
    gaps = (_PENDING.pack(g.start_ms, g.end_ms, g.step_ms, _REASONS.index(g.reason), g.age) for g in track.pending)
    return b"".join((counts, track.window, track.suspects, *gaps))


def _loads_track(part: bytes) -> Track:
    """The checksum vouches that we wrote these bytes, so their inner sizes agree."""
    next_offset, accepted, late, duplicates, rejected, fixes, suspects, gaps = _COUNTS.unpack_from(part)
    window_end = _COUNTS.size + fixes * FIX_BYTES
    suspects_end = window_end + suspects * FIX_BYTES
    assert len(part) == suspects_end + gaps * _PENDING.size, "a record with a good checksum and wrong sizes"
    pending = tuple(
        PendingGap(start_ms, end_ms, step_ms, _REASONS[reason], age)
        for start_ms, end_ms, step_ms, reason, age in _PENDING.iter_unpack(part[suspects_end:])
    )
    return Track(
        window=part[_COUNTS.size : window_end],
        next_offset=next_offset,
        accepted=accepted,
        late=late,
        duplicates=duplicates,
        rejected=rejected,
        suspects=part[window_end:suspects_end],
        pending=pending,
    )
