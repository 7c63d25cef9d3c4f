"""Writes an atlas as bytes, and reads it back: the columns lie as they are used, so that a file can be mapped.

    offset  size         what
    0       4            "PCAT"
    4       4            the version of this layout: 2
    8       4            R, the number of keys
    12      4            J, the bytes of the description
    16      J            the description: JSON, padded with spaces to a multiple of 8
    ...     8 R          keys, sorted
    ...     8 R H 2      sums of offsets east and north, cm
    ...     8 R H        sums of squared offsets, cm²
    ...     8 R H        counts, in 1 / UNIT
    ...     16           BLAKE2b of all before

All numbers are little-endian. The description has what the sums mean (horizons, zooms, the physics) and what they
contain; a reader refuses sums that mean something else. Layout 1 had counts of 4 bytes, in whole outcomes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import numpy as np

from model.atlas.cells import SPEEDS_MPS, ZOOMS
from model.atlas.outcomes import DAMPING_S, HORIZONS_S
from model.atlas.published import UNIT, Published

MAGIC: Final = b"PCAT"
LAYOUT: Final = 2
_HEAD: Final = np.dtype([("magic", "S4"), ("layout", "<u4"), ("keys", "<u4"), ("json", "<u4")])
CHECKSUM_BYTES: Final = 16
_WORD: Final = 8
# What the numbers of an atlas depend on, beside the pings.
MEANING: Final = {
    "horizons_s": list(HORIZONS_S),
    "zooms": list(ZOOMS),
    "speeds_mps": list(SPEEDS_MPS),
    "physics": {"damped_velocity_s": DAMPING_S},
    "per_outcome": UNIT,  # of a count; days that have faded are less than whole
}


class AtlasError(ValueError):
    """These bytes are no atlas, are damaged, or mean something else."""


def dumps(published: Published, contains: Mapping[str, Any]) -> bytes:
    """Returns the bytes of an atlas. `contains` says which pings are in it.

    The same sums and pings give the same bytes.
    """
    return b"".join(pieces(published, contains))


def pieces(published: Published, contains: Mapping[str, Any]) -> list[memoryview]:
    """Returns the same in pieces, of which the last is the checksum. They share the memory of what is published."""
    text = json.dumps({**MEANING, "contains": contains}, sort_keys=True, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // _WORD) * _WORD)
    head = np.array([(MAGIC, LAYOUT, len(published), len(text))], _HEAD).tobytes()
    columns = (published.key, published.off_cm, published.off_cm2, published.n)
    flat = [np.ascontiguousarray(column, "<i8").reshape(-1).view(np.uint8).data for column in columns]
    body = [memoryview(head), memoryview(text), *flat]
    checksum = blake2b(digest_size=CHECKSUM_BYTES)
    for piece in body:
        checksum.update(piece)
    return [*body, memoryview(checksum.digest())]


def loads(raw: bytes | memoryview) -> tuple[Published, dict[str, Any]]:
    """Returns the sums, which share the bytes, and what they contain. Raises AtlasError."""
    view = memoryview(raw)
    if len(view) < _HEAD.itemsize + CHECKSUM_BYTES or bytes(view[:4]) != MAGIC:
        raise AtlasError("no atlas: it does not begin with PCAT")
    (head,) = np.frombuffer(view, _HEAD, 1)
    if head["layout"] != LAYOUT:
        raise AtlasError(f"an atlas of layout {head['layout']}, and this program reads layout {LAYOUT}")
    rows, h = int(head["keys"]), len(HORIZONS_S)
    begin = _HEAD.itemsize + int(head["json"])
    sizes = [_WORD * rows * numbers for numbers in (1, 2 * h, h, h)]
    end = begin + sum(sizes)
    if len(view) != end + CHECKSUM_BYTES:
        raise AtlasError(
            f"an atlas of {rows:,} keys has {end + CHECKSUM_BYTES:,} bytes, got {len(view):,}: was it cut?"
        )
    if blake2b(view[:end], digest_size=CHECKSUM_BYTES).digest() != bytes(view[end:]):
        raise AtlasError("a damaged atlas: its checksum is another")
    try:
        described = json.loads(bytes(view[_HEAD.itemsize : begin]))
        contains = dict(described.pop("contains"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AtlasError(f"an atlas whose description cannot be read: {error!r:.200}") from error
    if described != MEANING:
        raise AtlasError(f"an atlas of {described}, and this program counts {MEANING}")
    key, off_cm, off_cm2, n = (
        np.frombuffer(view, "<i8", size // _WORD, start)
        for size, start in zip(sizes, np.cumsum([begin, *sizes]), strict=False)
    )
    return Published(key, n.reshape(rows, h), off_cm.reshape(rows, h, 2), off_cm2.reshape(rows, h)), contains
