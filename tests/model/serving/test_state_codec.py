"""States as bytes: golden, exact, and refused when anything is off."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from model.config import ModelConfig
from model.kinematics import motion
from model.kinematics.features import ABSENT, FIX
from model.serving import state_codec
from model.serving.kv_cache import Filled, KvCache
from model.serving.state_codec import State, StateCorrupt, StateError, StateMismatch

FOLDER = Path(__file__).parent / "golden"
GOLDEN, GOLDEN_INT8 = FOLDER / "state_v6.bin", FOLDER / "state_v7.bin"
CONFIG = ModelConfig(name="golden", d=8, blocks=2, heads=2, window=8)  # E = 4
FINGERPRINT = bytes(range(8))


def golden_state() -> State:
    """Numbers that are exact in their types, so that the file is the same everywhere."""
    return State(
        age=5,
        last=np.array((1_480_000_000_123, 302_700_001, -977_400_002, 1234, ABSENT), dtype=FIX),
        kin=np.arange(motion.WIDTH) / 8,
        hidden=np.arange(8, dtype=np.float32) - 4,
        rings=Filled(
            np.arange(2 * 5 * 4, dtype=np.float32).reshape(2, 5, 4) / 16,
            np.arange(2 * 5 * 4, dtype=np.float32).reshape(2, 5, 4) / -16,
            np.empty((2, 2, 0), np.uint16),
        ),
    )


def golden_int8_state() -> State:
    rings = Filled(
        np.arange(2 * 5 * 4, dtype=np.int8).reshape(2, 5, 4) - 24,
        np.arange(2 * 3 * 2 * 4, dtype=np.uint8).reshape(2, 3, 2, 4),
        np.arange(0x3F80, 0x3F80 + 20, dtype=np.uint16).reshape(2, 2, 5),
    )
    return golden_state()._replace(hidden=np.arange(0x4000, 0x4008, dtype=np.uint16), rings=rings)


def assert_same(got: State, want: State) -> None:
    for x, y in zip((*got[:-1], *got.rings), (*want[:-1], *want.rings), strict=True):
        np.testing.assert_array_equal(x, y)


def resealed(body: bytes) -> bytes:
    """With a right checksum: what is wrong is wrong on purpose."""
    return body + struct.pack("<I", crc32(body))


def test_golden_bytes_of_version_6_still_load() -> None:
    assert_same(state_codec.loads(GOLDEN.read_bytes(), CONFIG, FINGERPRINT, "float32"), golden_state())


def test_golden_bytes_of_version_7_still_load() -> None:
    assert_same(state_codec.loads(GOLDEN_INT8.read_bytes(), CONFIG, FINGERPRINT, "int8"), golden_int8_state())


@pytest.mark.parametrize(("path", "other"), [(GOLDEN, "int8"), (GOLDEN_INT8, "float32")])
def test_one_precision_is_never_read_as_the_other(path: Path, other: str) -> None:
    with pytest.raises(StateMismatch, match=f"in {other}"):
        state_codec.loads(path.read_bytes(), CONFIG, FINGERPRINT, other)


def test_the_layout_in_float32_is_the_drawn_one() -> None:
    blob = state_codec.dumps(golden_state(), FINGERPRINT)
    assert blob == GOLDEN.read_bytes()
    assert struct.unpack_from("<4sHH8sq", blob) == (b"PCST", 6, 5, FINGERPRINT, 5)
    assert struct.unpack_from("<qiiHH", blob, 24) == (1_480_000_000_123, 302_700_001, -977_400_002, 1234, ABSENT)
    assert struct.unpack_from("<20d", blob, 44) == tuple(np.arange(20) / 8)
    assert struct.unpack_from("<8f", blob, 204) == tuple(range(-4, 4))
    assert struct.unpack_from("<40f", blob, 236) == tuple(np.arange(40) / 16)
    assert struct.unpack_from("<40f", blob, 396) == tuple(np.arange(40) / -16)
    assert len(blob) == 556 + 4 == state_codec.size(CONFIG, 5, "float32")


def test_the_layout_in_int8_is_the_drawn_one() -> None:
    blob = state_codec.dumps(golden_int8_state(), FINGERPRINT)
    assert blob == GOLDEN_INT8.read_bytes()
    assert struct.unpack_from("<4sHH8sq", blob) == (b"PCST", 7, 5, FINGERPRINT, 5)
    assert blob[24:204] == state_codec.dumps(golden_state(), FINGERPRINT)[24:204]
    assert struct.unpack_from("<8H", blob, 204) == tuple(range(0x4000, 0x4008))
    assert struct.unpack_from("<40b", blob, 220) == tuple(range(-24, 16))
    assert struct.unpack_from("<48B", blob, 260) == tuple(range(48))
    assert struct.unpack_from("<20H", blob, 308) == tuple(range(0x3F80, 0x3F80 + 20))
    assert len(blob) == 348 + 4 == state_codec.size(CONFIG, 5, "int8")


def test_the_small_model_has_the_documented_size() -> None:
    assert state_codec.size(ModelConfig(), 64, "float32") == 33_488
    assert state_codec.size(ModelConfig(), 64, "int8") == 8_144 <= 8_192


def test_every_flipped_bit_is_refused() -> None:
    blob = GOLDEN.read_bytes()
    for position in range(len(blob)):
        for bit in range(8):
            damaged = bytearray(blob)
            damaged[position] ^= 1 << bit
            with pytest.raises(StateError):
                state_codec.loads(bytes(damaged), CONFIG, FINGERPRINT, "float32")


def test_every_truncation_is_refused() -> None:
    blob = GOLDEN.read_bytes()
    for length in range(len(blob)):
        with pytest.raises(StateCorrupt):
            state_codec.loads(blob[:length], CONFIG, FINGERPRINT, "float32")
    with pytest.raises(StateCorrupt):
        state_codec.loads(blob + b"\0", CONFIG, FINGERPRINT, "float32")


def test_another_model_or_version_is_a_mismatch() -> None:
    with pytest.raises(StateMismatch, match="swapped"):
        state_codec.loads(GOLDEN.read_bytes(), CONFIG, bytes(8), "float32")
    newer = bytearray(GOLDEN.read_bytes()[:-4])
    newer[4] = 8
    with pytest.raises(StateMismatch, match="version 8"):
        state_codec.loads(resealed(bytes(newer)), CONFIG, FINGERPRINT, "float32")


@pytest.mark.parametrize(("age", "filled"), [(0, 0), (-1, 5), (5, 4), (4, 5), (9, 5), (5, 65_535)])
def test_ages_and_sizes_that_contradict_each_other_are_refused(age: int, filled: int) -> None:
    body = struct.pack("<4sHH8sq", b"PCST", 6, filled, FINGERPRINT, age) + GOLDEN.read_bytes()[24:-4]
    with pytest.raises(StateCorrupt):
        state_codec.loads(resealed(body), CONFIG, FINGERPRINT, "float32")


def test_a_huge_blob_is_refused_before_it_is_read() -> None:
    with pytest.raises(StateCorrupt, match="larger"):
        state_codec.loads(b"PCST" + bytes(17 * 1024 * 1024), CONFIG, FINGERPRINT, "float32")


def states_of(precision: str, filled: int = CONFIG.window, count: int = 3) -> list[State]:
    """States with so many places filled, each with numbers of its own."""
    random = np.random.default_rng(7)
    found = []
    for n in range(count):
        arrays: list[Any] = []
        for dtype, shape in state_codec._layout(CONFIG, filled, precision)[1:]:
            numbers = random.standard_normal(shape) if np.dtype(dtype).kind == "f" else random.integers(0, 100, shape)
            arrays.append(numbers.astype(dtype))
        kin, hidden, *rings = arrays
        last = np.array((1_480_000_000_123 + n, 302_700_001, -977_400_002, 1234, ABSENT), dtype=FIX)
        age = filled if filled < CONFIG.window else 20 + n
        found.append(State(age, last, kin, hidden, Filled(*rings)))
    return found


@pytest.mark.parametrize("filled", [1, 3, CONFIG.window - 1, CONFIG.window])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_states_of_one_size_are_read_and_written_together_as_one_by_one(precision: str, filled: int) -> None:
    blobs = [state_codec.dumps(state, FINGERPRINT) for state in states_of(precision, filled)]
    together = state_codec.whole(blobs, CONFIG, FINGERPRINT, precision)
    assert together is not None
    assert state_codec.dumps_all(together, FINGERPRINT) == blobs
    for n, blob in enumerate(blobs):
        alone = state_codec.loads(blob, CONFIG, FINGERPRINT, precision)
        rings = Filled(*(array[n] for array in together.rings))
        assert_same(State(*(array[n] for array in together[:-1]), rings), alone)


def test_what_is_odd_in_any_way_is_left_to_be_read_one_by_one() -> None:
    blobs = [state_codec.dumps(state, FINGERPRINT) for state in states_of("int8")]
    for bit in range(0, 8 * len(blobs[1]), 3):
        flipped = bytearray(blobs[1])
        flipped[bit // 8] ^= 1 << bit % 8
        assert state_codec.whole([blobs[0], bytes(flipped), blobs[2]], CONFIG, FINGERPRINT, "int8") is None
    of_another = state_codec.dumps(states_of("int8")[0], bytes(8))
    for odd in (
        of_another,
        blobs[0][:-1],
        GOLDEN_INT8.read_bytes(),
        b"",
        resealed(blobs[0][:4] + b"\x04\0" + blobs[0][6:-4]),
        state_codec.dumps(states_of("int8", 3)[0], FINGERPRINT),
    ):
        assert state_codec.whole([blobs[0], odd], CONFIG, FINGERPRINT, "int8") is None
    assert state_codec.whole(blobs, CONFIG, FINGERPRINT, "float32") is None
    assert state_codec.whole([], CONFIG, FINGERPRINT, "int8") is None


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_of_what_a_slot_had_before_nothing_is_left_behind_a_shorter_state(precision: str) -> None:
    """A weight of 0 hides the places behind it, unless a number there is not finite."""
    rings, slots = KvCache(CONFIG, precision), np.array([1])
    rings.grow(2)
    for array in (rings.keys, rings.values, rings.scale):
        array[:, 1] = 0x7F if array.dtype == np.uint8 else 1
    one = (golden_int8_state() if precision == "int8" else golden_state()).rings
    rings.load(slots, Filled(*(part[None] for part in one)))
    assert rings.keys[:, 1, :, :5].any()
    assert not rings.keys[:, 1, :, 5:].any()
    assert not rings.scale[:, 1, :, 5:].any()
    if precision == "float32":
        assert not rings.values[:, 1, 5:].any()
