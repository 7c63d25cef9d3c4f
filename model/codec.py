"""One entity's state <-> bytes. Little-endian, fixed order, checked before anything is believed.

    offset  size      field
    0       4         magic "PCST"
    4       2         version, 2
    6       2         n: filled places of the rings, at most W (the others are not stored)
    8       8         fingerprint of weights and config
    16      8         age: pings folded so far, int64; n = min(age, W)
    24      20        last fix: ts_ms i8, lat_e7 i4, lon_e7 i4, speed_cms u2, heading_cdeg u2
    44      8·K       kinematic row, float64 (model.motion)
    ·       4·C       hidden vector, float32
    ·       4·B·2·n·D keys and values, float32 [blocks, 2, n, D]; place in the ring = index mod W
    end     4         crc32 of everything before it

At d=128, two blocks, W=64 a full state has 33,472 bytes. Little-endian because every machine that runs this is, so that
the arrays are read without a copy.
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

MAGIC: Final = b"PCST"
VERSION: Final = 2
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
    rings: NDArray[np.float32]  # blocks, 2, n, D


def size(config: ModelConfig, filled: int) -> int:
    """Bytes of a state with that many filled places."""
    floats = config.d + config.blocks * 2 * filled * config.kv_dim
    return _HEAD.size + FIX.itemsize + 8 * motion.WIDTH + 4 * floats + _CRC.size


def dumps(state: State, fingerprint: bytes) -> bytes:
    parts = (
        _HEAD.pack(MAGIC, VERSION, state.rings.shape[2], fingerprint, state.age),
        state.last.tobytes(),
        state.kin.astype("<f8").tobytes(),
        state.hidden.astype("<f4").tobytes(),
        state.rings.astype("<f4").tobytes(),
    )
    body = b"".join(parts)
    return body + _CRC.pack(crc32(body))


def loads(blob: bytes, config: ModelConfig, fingerprint: bytes) -> State:
    """Raises StateCorrupt or StateMismatch. Nothing is allocated before the size is known to be right."""
    if len(blob) < _HEAD.size + _CRC.size or blob[:4] != MAGIC:
        raise StateCorrupt(f"not a pathcast state: {len(blob)} bytes, starting {bytes(blob[:4])!r}, expected {MAGIC!r}")
    if len(blob) > _MAX_BYTES:
        raise StateCorrupt(f"a state of {len(blob)} bytes is larger than any model writes")
    if crc32(memoryview(blob)[: -_CRC.size]) != _CRC.unpack_from(blob, len(blob) - _CRC.size)[0]:
        raise StateCorrupt(f"checksum of a state of {len(blob)} bytes is wrong: damaged or truncated")
    _, version, filled, theirs, age = _HEAD.unpack_from(blob)
    if version != VERSION:
        raise StateMismatch(f"state of format version {version}, this reads {VERSION}")
    if theirs != fingerprint:
        raise StateMismatch(f"state of model {theirs.hex()}, this is {fingerprint.hex()}: were the weights swapped?")
    if age < 1 or filled != min(age, config.window) or len(blob) != size(config, filled):
        raise StateCorrupt(f"a state of age {age} with {filled} ring places cannot have {len(blob)} bytes")
    return State(age, *_arrays(blob, config, filled))


def _arrays(blob: bytes, config: ModelConfig, filled: int) -> Iterator[NDArray[Any]]:
    offset = _HEAD.size
    ring_shape = (config.blocks, 2, filled, config.kv_dim)
    for dtype, shape in ((FIX, ()), ("<f8", (motion.WIDTH,)), ("<f4", (config.d,)), ("<f4", ring_shape)):
        array = np.ndarray(shape, dtype=dtype, buffer=blob, offset=offset)
        offset += array.nbytes
        yield array


_MAX_BYTES: Final = 16 * 1024 * 1024  # far above any real config; a hash of more is time given to a stranger
