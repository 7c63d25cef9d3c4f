"""Converts one entity's state to bytes and back. Little-endian, in a fixed order, and checked before anything is used.

    offset  size in float32   in int8     field
    0       4                 4           magic "PCST"
    4       2                 2           version: 6 in float32, 7 in int8
    6       2                 2           n: filled places of the ring buffers, at most W (others are not stored)
    8       8                 8           fingerprint of weights and config
    16      8                 8           age: pings folded so far, int64; n = min(age, W)
    24      20                20          last fix: ts_ms i8, lat_e7 i4, lon_e7 i4, speed_cms u2, heading_cdeg u2
    44      8·K               8·K         kinematic row, float64 (model.kinematics.motion)
    ·       4·C               2·C         hidden vector, float32 or bfloat16
    ·       4·B·n·E           B·n·E       keys, float32 or int8 [blocks, n, E]; place in the ring = index mod W
    ·       4·B·n·E           3·B·m·E     values, float32 [blocks, n, E], or six bits each [blocks, 3, m, E], where
                                          m = n/4 rounded up (model.serving.kv_cache)
    ·       0                 4·B·n       scales of keys and values, the upper halves of float32, uint16 [blocks, 2, n]
    end     4                 4           crc32 of everything before it

At d=128, two blocks, W=64 a full state has 33,488 bytes, or 8,144 in int8. The version tells the two apart, so a cache
of one precision is never read as the other. The format is little-endian because every machine that runs this is, so
that the arrays are read without a copy.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.kinematics import motion
from model.kinematics.features import FIX
from model.kinematics.geo import E7
from model.serving.kv_cache import Filled, quarter

MAGIC: Final = b"PCST"
VERSIONS: Final = {"float32": 6, "int8": 7}  # by precision; states of versions 1 to 5 are rebuilt
# Of one state: `small` has 33 KB in float32. Larger bytes are rejected before they cost time; a model whose states
# would be larger is not served (model.api), because each entity's state is stored and sent.
MAX_BYTES: Final = 1 << 20
MAX_AGE: Final = 1 << 48  # pings; ages below this stay far from the end of int64
MAX_TS_MS: Final = 1 << 53  # of the last fix, on either side of 1970: differences stay in int64
_HEAD: Final = struct.Struct("<4sHH8sq")
_CRC: Final = struct.Struct("<I")


class StateError(ValueError):
    """The bytes are not a state of this model. Its two kinds are below; for both, the state has to be rebuilt from the
    window.
    """


class StateCorrupt(StateError):
    """The bytes are damaged, truncated, or no state at all."""


class StateMismatch(StateError):
    """A sound state of another model, or of another version of the format."""


class State(NamedTuple):
    """One entity's state; its arrays are as in the layout above."""

    age: Any  # int, or of many int64 [N]
    last: NDArray[Any]  # FIX, a scalar array
    kin: NDArray[np.float64]
    hidden: NDArray[Any]  # float32, or bfloat16 as uint16
    rings: Filled


def size(config: ModelConfig, filled: int, precision: str) -> int:
    """Returns the bytes of a state with that many filled places."""
    arrays: int = sum(
        np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in _layout(config, filled, precision)
    )
    return _HEAD.size + arrays + _CRC.size


def dumps(state: State, fingerprint: bytes) -> bytes:
    rings = Filled(*(array[None] for array in state.rings))
    one = State(np.array([state.age]), state.last[None], state.kin[None], state.hidden[None], rings)
    return dumps_all(one, fingerprint)[0]


def dumps_all(states: State, fingerprint: bytes) -> list[bytes]:
    """Converts one or more states of one size to bytes. Their arrays have a leading axis [N], and `age` is [N]."""
    n, precision = len(states.age), "int8" if states.rings.keys.dtype == np.int8 else "float32"
    filled = states.rings.keys.shape[2]
    heads = b"".join(_HEAD.pack(MAGIC, VERSIONS[precision], filled, fingerprint, age) for age in states.age.tolist())
    arrays = np.frombuffer(heads, np.uint8), states.last, states.kin, states.hidden, *states.rings
    parts = [np.ascontiguousarray(one).view(np.uint8).reshape(n, one.nbytes // n) for one in arrays]
    return [raw + _CRC.pack(crc32(raw)) for raw in map(bytes, np.concatenate(parts, axis=1))]


def loads(blob: bytes, config: ModelConfig, fingerprint: bytes, precision: str) -> State:
    """Reads one state. Raises StateCorrupt or StateMismatch. Nothing is allocated before the size is known to be
    right.
    """
    if len(blob) < _HEAD.size + _CRC.size or blob[:4] != MAGIC:
        raise StateCorrupt(f"not a pathcast state: {len(blob)} bytes, starting {bytes(blob[:4])!r}, expected {MAGIC!r}")
    if len(blob) > MAX_BYTES:
        raise StateCorrupt(f"a state of {len(blob)} bytes is larger than any model writes")
    if crc32(memoryview(blob)[: -_CRC.size]) != _CRC.unpack_from(blob, len(blob) - _CRC.size)[0]:
        raise StateCorrupt(f"checksum of a state of {len(blob)} bytes is wrong: damaged or truncated")
    _, version, filled, theirs, age = _HEAD.unpack_from(blob)
    if version != VERSIONS[precision]:
        raise StateMismatch(
            f"state of format version {version}, this reads {VERSIONS[precision]}, in {precision}: was it written by "
            "another release, or in another precision?"
        )
    if theirs != fingerprint:
        raise StateMismatch(f"state of model {theirs.hex()}, this is {fingerprint.hex()}: were the weights swapped?")
    if age < 1 or filled != min(age, config.window) or len(blob) != size(config, filled, precision):
        raise StateCorrupt(f"a state of age {age} with {filled} ring places cannot have {len(blob)} bytes")
    offset, arrays = _HEAD.size, []
    for dtype, shape in _layout(config, filled, precision):
        array: NDArray[Any] = np.ndarray(shape, dtype=dtype, buffer=blob, offset=offset)
        offset += array.nbytes
        arrays.append(array)
    last, kin, hidden, *rings = arrays
    state = State(age, last, kin, hidden, Filled(*rings))
    if not _sane(state):
        raise StateCorrupt(f"a state of age {age} holds numbers that no model leaves: who wrote it?")
    return state


def whole(blobs: Sequence[bytes], config: ModelConfig, fingerprint: bytes, precision: str) -> State | None:
    """Reads many states at once, if all are sound and of one size: arrays with a leading axis [N], `age` [N]. Otherwise
    it returns None; `loads` then tells what is wrong with which.
    """
    n = len(blobs)
    if not n or len(blobs[0]) < _HEAD.size:
        return None
    version, filled = VERSIONS[precision], _HEAD.unpack_from(blobs[0])[2]
    if not 1 <= filled <= config.window:
        return None
    layout, size_ = _layout(config, filled, precision), size(config, filled, precision)
    if any(len(blob) != size_ for blob in blobs):
        return None
    table = np.frombuffer(b"".join(blobs), np.uint8).reshape(n, size_)
    ages = []
    for blob in blobs:
        *head, age = _HEAD.unpack_from(blob)
        (crc,) = _CRC.unpack_from(blob, size_ - _CRC.size)
        known = head == [MAGIC, version, filled, fingerprint] and filled == min(age, config.window)
        if not known or crc32(memoryview(blob)[: -_CRC.size]) != crc:
            return None
        ages.append(age)
    offset, arrays = _HEAD.size, []
    for dtype, shape in layout:
        bytes_ = np.dtype(dtype).itemsize * math.prod(shape)
        part = np.ascontiguousarray(table[:, offset : offset + bytes_])
        arrays.append(part.view(dtype).reshape(n, *shape))
        offset += bytes_
    last, kin, hidden, *rings = arrays
    state = State(np.array(ages), last, kin, hidden, Filled(*rings))
    return state if _sane(state) else None


def _layout(config: ModelConfig, filled: int, precision: str) -> list[tuple[Any, tuple[int, ...]]]:
    """Returns the dtypes and shapes of the arrays, in their order."""
    b, n, e = config.blocks, filled, config.head_dim
    state: list[tuple[Any, tuple[int, ...]]] = [(FIX, ()), ("<f8", (motion.WIDTH,))]
    if precision == "float32":
        return [*state, ("<f4", (config.d,)), ("<f4", (b, n, e)), ("<f4", (b, n, e)), ("<u2", (b, 2, 0))]
    rings = [("<i1", (b, n, e)), ("<u1", (b, 3, quarter(n), e)), ("<u2", (b, 2, n))]
    return [*state, ("<u2", (config.d,)), *rings]


def _sane(state: State) -> bool:
    """Returns whether one state, or each of many, holds finite numbers and a possible place and time. A checksum
    reveals damage but not intent: whoever can write to the store can write a correct checksum over anything.
    """
    age, last, kin, hidden, (keys, values, scale) = state
    when, lat, lon = (last[name].astype(np.int64) for name in ("ts_ms", "lat_e7", "lon_e7"))
    somewhere = (when > -MAX_TS_MS) & (when < MAX_TS_MS) & (np.abs(lat) <= 90 * E7) & (np.abs(lon) <= 180 * E7)
    numbers = (kin, hidden, scale) if hidden.dtype == np.uint16 else (kin, hidden, keys, values)
    return bool(np.all(somewhere) and np.all(age < MAX_AGE)) and all(map(_finite, numbers))


def _finite(array: NDArray[Any]) -> bool:
    """Returns whether all numbers are finite: floats, or bfloat16 as uint16, whose exponent must not be all ones."""
    return bool(((array & 0x7F80) != 0x7F80).all() if array.dtype == np.uint16 else np.isfinite(array).all())
