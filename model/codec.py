"""One entity's state <-> bytes. Little-endian, fixed order, checked before anything is believed.

    offset  size      field
    0       4         magic "PCST"
    4       2         version: 2 with float32 rings, 3 with int8 rings
    6       2         n: filled places of the rings, at most W (the others are not stored)
    8       8         fingerprint of weights and config
    16      8         age: pings folded so far, int64; n = min(age, W)
    24      20        last fix: ts_ms i8, lat_e7 i4, lon_e7 i4, speed_cms u2, heading_cdeg u2
    44      8·K       kinematic row, float64 (model.motion)
    ·       4·C       hidden vector, float32
    ·       s·B·2·n·E keys and values, float32 or int8 [blocks, 2, n, E]; place in the ring = index mod W
    ·       2·B·2·n   version 3 only: their scales, the upper halves of float32, uint16 [blocks, 2, n]
    end     4         crc32 of everything before it

At d=128, two blocks, W=64 a full state has 33,472 bytes, or 9,408 with int8 rings. The version tells the two apart, so
rings of one kind are never read as the other. Little-endian because every machine that runs this is, so that the
arrays are read without a copy.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model import motion
from model.config import ModelConfig
from model.features import FIX
from model.rings import ONE, Filled

MAGIC: Final = b"PCST"
VERSIONS: Final = {"float32": 2, "int8": 3}  # by the kind of the rings (model.rings)
_HEAD: Final = struct.Struct("<4sHH8sq")
_CRC: Final = struct.Struct("<I")


class StateError(ValueError):
    """Bytes that are not a state of this model. Its two kinds are below; both mean: rebuild from the window."""


class StateCorrupt(StateError):
    """Damaged, truncated, or not a state at all."""


class StateMismatch(StateError):
    """A sound state of another model, or of another version of the format."""


class State(NamedTuple):
    """One entity's state, arrays as in the layout above."""

    age: int
    last: NDArray[Any]  # FIX, a scalar array
    kin: NDArray[np.float64]
    hidden: NDArray[np.float32]
    rings: Filled


def size(config: ModelConfig, filled: int, kind: str) -> int:
    """Bytes of a state with that many filled places."""
    numbers = config.blocks * 2 * filled * config.kv_dim
    rings = numbers + 2 * config.blocks * 2 * filled if kind == "int8" else 4 * numbers
    return _HEAD.size + FIX.itemsize + 8 * motion.WIDTH + 4 * config.d + rings + _CRC.size


def dumps(state: State, fingerprint: bytes) -> bytes:
    kv, scale = state.rings
    kind = "int8" if kv.dtype == np.int8 else "float32"
    parts = (
        _HEAD.pack(MAGIC, VERSIONS[kind], kv.shape[2], fingerprint, state.age),
        state.last.tobytes(),
        state.kin.astype("<f8").tobytes(),
        state.hidden.astype("<f4").tobytes(),
        kv.tobytes() if kind == "int8" else kv.astype("<f4").tobytes(),
        scale.astype("<u2").tobytes() if kind == "int8" else b"",
    )
    body = b"".join(parts)
    return body + _CRC.pack(crc32(body))


def loads(blob: bytes, config: ModelConfig, fingerprint: bytes, kind: str) -> State:
    """Raises StateCorrupt or StateMismatch. Nothing is allocated before the size is known to be right."""
    if len(blob) < _HEAD.size + _CRC.size or blob[:4] != MAGIC:
        raise StateCorrupt(f"not a pathcast state: {len(blob)} bytes, starting {bytes(blob[:4])!r}, expected {MAGIC!r}")
    if len(blob) > _MAX_BYTES:
        raise StateCorrupt(f"a state of {len(blob)} bytes is larger than any model writes")
    if crc32(memoryview(blob)[: -_CRC.size]) != _CRC.unpack_from(blob, len(blob) - _CRC.size)[0]:
        raise StateCorrupt(f"checksum of a state of {len(blob)} bytes is wrong: damaged or truncated")
    _, version, filled, theirs, age = _HEAD.unpack_from(blob)
    if version != VERSIONS[kind]:
        raise StateMismatch(
            f"state of format version {version}, this reads {VERSIONS[kind]}, with {kind} rings: was it written by "
            "another release, or with rings of another kind?"
        )
    if theirs != fingerprint:
        raise StateMismatch(f"state of model {theirs.hex()}, this is {fingerprint.hex()}: were the weights swapped?")
    if age < 1 or filled != min(age, config.window) or len(blob) != size(config, filled, kind):
        raise StateCorrupt(f"a state of age {age} with {filled} ring places cannot have {len(blob)} bytes")
    last, kin, hidden, *rings = _arrays(blob, config, filled, kind)
    if len(rings) == 1:
        rings.append(np.full((config.blocks, 2, filled), ONE, np.uint16))
    return State(age, last, kin, hidden, Filled(*rings))


def _arrays(blob: bytes, config: ModelConfig, filled: int, kind: str) -> Iterator[NDArray[Any]]:
    offset = _HEAD.size
    places = (config.blocks, 2, filled)
    layout: list[tuple[Any, tuple[int, ...]]] = [(FIX, ()), ("<f8", (motion.WIDTH,)), ("<f4", (config.d,))]
    layout += [("<f4" if kind == "float32" else "<i1", (*places, config.kv_dim))]
    layout += [("<u2", places)] if kind == "int8" else []
    for dtype, shape in layout:
        array: NDArray[Any] = np.ndarray(shape, dtype=dtype, buffer=blob, offset=offset)
        offset += array.nbytes
        yield array


_MAX_BYTES: Final = 16 * 1024 * 1024  # far above any real config; a hash of more is time given to a stranger
