"""Writes the passages of a version as bytes, and reads them back: the columns lie as they are used, so that a file can
be mapped.

    offset  size     what
    0       4        "PCAT"
    4       4        the version of this layout: 3
    8       8        K, the number of buckets
    16      8        P, the number of passages
    24      8        J, the bytes of the description
    32      J        the description: JSON, padded with spaces to a multiple of 8
    ...     8 K      buckets, sorted
    ...     8 K      where the passages of each end
    ...     8 K      latitude and longitude of the first passage of each, 1e-7 degrees
    ...     20 P     signatures: of each bucket with n passages, 10 runs of n numbers: latitudes and longitudes from
                     there, 1e-7 degrees; ways in, 120, 300 and 600 s before, east and north, m; velocities, east and
                     north, cm/s
    ...     88 P     ways on: at 22 times, east and north, 2 m
    ...     P        how many places of each way on are known
    ...     2 P      marks
    ...     16       BLAKE2b of all before

Each column is padded with zeros to a multiple of 8. All numbers are little-endian. The description has what they mean,
how far they are believed, and what they contain; a reader refuses passages that mean something else. Layouts 1 and 2
had sums of what became of earlier pings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np

from model.atlas.believing import HORIZONS_S, NOTHING, Belief
from model.atlas.buckets import ZOOM
from model.atlas.published import NUMBERS, Published
from model.atlas.ways import IN_M, IN_S, ON_M, ON_S, SPEED_MPS
from model.kinematics.geo import E7

MAGIC: Final = b"PCAT"
LAYOUT: Final = 3
CHECKSUM_BYTES: Final = 16
_HEAD: Final = np.dtype([("magic", "S4"), ("layout", "<u4"), ("buckets", "<u8"), ("passages", "<u8"), ("json", "<u8")])
_WORD: Final = 8
_MOST: Final = 1 << 40  # of buckets or passages: more are no atlas
# Of each column of `Published`: its numbers, and how many of them a bucket or a passage has.
_COLUMNS: Final = (
    ("<i8", ()),
    ("<i8", ()),
    ("<i4", (2,)),
    ("<i2", (NUMBERS,)),
    ("<i2", (len(ON_S), 2)),
    ("<u1", ()),
    ("<u2", ()),
)
_OF_BUCKETS: Final = 3  # the first columns
# What the numbers of an atlas depend on, beside the pings.
MEANING: Final = {
    "zoom": ZOOM,
    "before_s": list(IN_S),
    "after_s": list(ON_S),
    "units": {"place_deg": 1 / E7, "before_m": IN_M, "after_m": ON_M, "velocity_mps": SPEED_MPS},
    "believed_at_s": list(HORIZONS_S),
}


class AtlasError(ValueError):
    """These bytes are no atlas, are damaged, or mean something else."""


class Contents(NamedTuple):
    """The contents of a version's bytes."""

    passages: Published
    belief: Belief
    contains: dict[str, Any]  # which pings


def dumps(passages: Published, belief: Belief, contains: Mapping[str, Any]) -> bytes:
    """Returns the bytes of an atlas. `contains` says which pings are in it. The same input gives the same bytes."""
    return b"".join(pieces(passages, belief, contains))


def pieces(passages: Published, belief: Belief, contains: Mapping[str, Any]) -> list[memoryview]:
    """Returns the same in pieces, of which the last is the checksum. They share the memory of the passages."""
    believed = {"scale": [None if one == NOTHING else one for one in belief.scale.tolist()]}
    believed["log_wide"] = belief.log_wide.tolist()
    described = {**MEANING, "believed": believed, "contains": contains}
    text = json.dumps(described, sort_keys=True, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // _WORD) * _WORD)
    head = np.array([(MAGIC, LAYOUT, len(passages.bucket), len(passages.known), len(text))], _HEAD).tobytes()
    body = [memoryview(head), memoryview(text)]
    for column, (kind, _) in zip(passages, _COLUMNS, strict=True):
        flat = np.ascontiguousarray(column, kind).reshape(-1).view(np.uint8)
        body += [flat.data, memoryview(bytes(-len(flat) % _WORD))]
    checksum = blake2b(digest_size=CHECKSUM_BYTES)
    for piece in body:
        checksum.update(piece)
    return [*body, memoryview(checksum.digest())]


def loads(raw: bytes | memoryview) -> Contents:
    """Returns what `dumps` wrote; the passages share the bytes. Raises AtlasError."""
    view = memoryview(raw)
    if len(view) < _HEAD.itemsize + CHECKSUM_BYTES or bytes(view[:4]) != MAGIC:
        raise AtlasError("no atlas: it does not begin with PCAT")
    (head,) = np.frombuffer(view, _HEAD, 1)
    if head["layout"] != LAYOUT:
        raise AtlasError(_other_layout(int(head["layout"])))
    counts = [int(head[name]) for name in ("buckets", "passages", "json")]
    begin, sizes = _HEAD.itemsize + counts[2], _sizes(*counts[:2])
    end = begin + sum(-(-size // _WORD) * _WORD for size in sizes)
    if max(counts) > _MOST or len(view) != end + CHECKSUM_BYTES:
        raise AtlasError(
            f"an atlas of {counts[1]:,} passages has {end + CHECKSUM_BYTES:,} bytes, got {len(view):,}: was it cut?"
        )
    if blake2b(view[:end], digest_size=CHECKSUM_BYTES).digest() != bytes(view[end:]):
        raise AtlasError("a damaged atlas: its checksum is another")
    belief, contains = _parse_description(bytes(view[_HEAD.itemsize : begin]))
    columns = []
    for (kind, shape), size in zip(_COLUMNS, sizes, strict=True):
        columns.append(np.frombuffer(view, np.uint8, size, begin).view(kind).reshape(-1, *shape))
        begin += -(-size // _WORD) * _WORD
    return Contents(_check(Published(*columns)), belief, contains)


def _sizes(buckets: int, passages: int) -> list[int]:
    """Returns the bytes of each column."""
    return [
        (buckets if number < _OF_BUCKETS else passages) * math.prod(shape) * np.dtype(kind).itemsize
        for number, (kind, shape) in enumerate(_COLUMNS)
    ]


def _other_layout(layout: int) -> str:
    if layout < LAYOUT:
        return f"an atlas of layout {layout}, which has sums and no passages: build it anew from the pings"
    return f"an atlas of layout {layout}, and this program reads layout {LAYOUT}: it is of a later release"


def _parse_description(text: bytes) -> tuple[Belief, dict[str, Any]]:
    try:
        described = json.loads(text)
        believed, contains = described.pop("believed"), dict(described.pop("contains"))
        scale = np.array([NOTHING if one is None else one for one in believed["scale"]], np.float64)
        belief = Belief(scale, np.array(believed["log_wide"], np.float64))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise AtlasError(f"an atlas whose description cannot be read: {error!r:.200}") from error
    if described != MEANING:
        raise AtlasError(f"an atlas of {described}, and this program keeps {MEANING}")
    sound = all(part.shape == (len(HORIZONS_S),) for part in belief)
    if not sound or not (belief.scale > 0).all() or not np.isfinite(belief.log_wide).all():
        raise AtlasError("an atlas that says no number of how far it is believed")
    return belief, contains


def _check(passages: Published) -> Published:
    """Returns passages whose buckets and ways are where they say. Raises AtlasError: a checksum says who wrote them,
    not what."""
    bucket, stop = passages.bucket, passages.stop
    rises = bool((np.diff(bucket) > 0).all()) and bool((np.diff(stop, prepend=0) > 0).all())
    if not rises or (int(stop[-1]) if len(stop) else 0) != len(passages.known):
        raise AtlasError("an atlas whose buckets do not rise, or do not hold its passages")
    if len(passages.known) and int(passages.known.max()) > len(ON_S):
        raise AtlasError("an atlas of ways that are longer than ways are")
    return passages
