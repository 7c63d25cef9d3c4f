"""States as an enemy would write them: with a right checksum over numbers that no model leaves."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from zlib import crc32

import fuzz_state
import fuzzing
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.api import FIX, Predictor, StateCorrupt, StateError
from model.config import SMALL, ModelConfig
from model.kinematics import motion
from model.network.checkpoint import to_parameters
from model.serving import state_codec

CONFIG = ModelConfig(name="tiny", d=16, blocks=2, heads=2, window=8)
AGE_AT, LAST_AT, KIN_AT = 16, 24, 44
HIDDEN_AT = KIN_AT + 8 * motion.WIDTH
T_MS = 1_690_000_000_000

Tracks = Callable[..., NDArray[Any]]


@pytest.fixture(scope="module", params=["float32", "int8"])
def held(request: pytest.FixtureRequest, tracks: Tracks) -> tuple[Predictor, bytes]:
    """A predictor, and the state of an entity whose rings are full."""
    predictor = Predictor(to_parameters(fuzz_state._speaking(CONFIG)), name="tiny", capacity=2, precision=request.param)
    slots = predictor.acquire(1)
    predictor.rebuild(slots, [tracks(1, 30)[0]])
    (blob,) = predictor.dumps(slots)
    return predictor, blob


def forged(blob: bytes, at: int, new: bytes) -> bytes:
    body = blob[:at] + new + blob[at + len(new) : -4]
    assert len(body) == len(blob) - 4
    return body + struct.pack("<I", crc32(body))


def refusal(predictor: Predictor, blob: bytes) -> str:
    """What it says to this state, alone and among sound ones, none of which is then loaded."""
    slots = predictor.acquire(2)
    predictor.advance(slots, np.zeros(2, FIX))
    before = predictor.dumps(slots)
    for blobs in ([blob, before[0]], [before[0], blob]):
        with pytest.raises(StateCorrupt) as caught:
            predictor.loads(slots, blobs)
    assert predictor.dumps(slots) == before
    predictor.release(slots)
    return str(caught.value)


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (AGE_AT, struct.pack("<q", 2**63 - 1)),  # one more ping, and it is negative
        (AGE_AT, struct.pack("<q", state_codec.MAX_AGE)),
        (LAST_AT, struct.pack("<q", 2**63 - 1)),
        (LAST_AT, struct.pack("<q", -(2**63))),
        (LAST_AT + 8, struct.pack("<i", 900_000_001)),
        (LAST_AT + 8, struct.pack("<i", -(2**31))),
        (LAST_AT + 12, struct.pack("<i", 1_800_000_001)),
        (LAST_AT + 12, struct.pack("<i", -(2**31))),
        *((KIN_AT + 8 * column, struct.pack("<d", bad)) for column in range(motion.WIDTH) for bad in (np.nan, np.inf)),
    ],
)
def test_numbers_that_no_model_leaves_are_refused(held: tuple[Predictor, bytes], at: int, new: bytes) -> None:
    predictor, blob = held
    assert "numbers that no model leaves" in refusal(predictor, forged(blob, at, new))


def test_what_is_not_finite_is_refused_wherever_it_stands(held: tuple[Predictor, bytes]) -> None:
    predictor, blob = held
    rounded = predictor.precision == "int8"
    number = struct.pack("<H", 0x7FC0) if rounded else struct.pack("<f", np.nan)
    scales = len(blob) - 4 - 4 * CONFIG.blocks * CONFIG.window  # of keys and values, behind both
    places = [HIDDEN_AT, scales, len(blob) - 4 - len(number)] if rounded else [HIDDEN_AT, HIDDEN_AT + 64, len(blob) - 8]
    for at in places:
        assert "numbers that no model leaves" in refusal(predictor, forged(blob, at, number))


@pytest.mark.parametrize(
    "changes",
    [
        {motion.PP: -1.0},
        {motion.PP: 50.1},  # more than the noise of a fix
        {motion.VV: -1e-9},
        {motion.VV: 100.2},  # more than it started with
        {motion.PV: 26.0, motion.PP: 25.0, motion.VV: 25.0},  # correlated by more than 1
        {motion.MS_SPEED: -1.0},
        {motion.MS_SPEED: 1e300},
        {motion.DT: -1.0},
        {motion.DT: 1e-300},
        {motion.DT: 1e300},
        {motion.W_S: 0.0},  # divided by
        {motion.X_E: 1e9},
        {motion.V_N: -1e300},
        {motion.LOG_DT: 700.0},  # e to it is 1e304 seconds
        {motion.AMISS: -1e-9},
        {motion.AMISS: -1.0, motion.BOTH: -1.0},  # divided by: 0 with the floor
        {motion.AMISS: 1.1, motion.BOTH: 1.0},  # farther off than both together
        {motion.AMISS: 0.0, motion.BOTH: 902.0},  # faster than what is listened to
    ],
)
def test_a_filter_that_no_motion_leaves_is_refused(held: tuple[Predictor, bytes], changes: dict[int, float]) -> None:
    """Finite, and yet what follows is not: negative variances, or metres that no record holds, which ended a batch."""
    predictor, blob = held
    for column, value in changes.items():
        blob = forged(blob, KIN_AT + 8 * column, struct.pack("<d", value))
    assert "no motion leaves" in refusal(predictor, blob)


@settings(deadline=None, max_examples=30)  # of sixteen journeys each
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.001, 1.0, 20.0, 5_000.0]),
    st.sampled_from([{}, {"fix_sigma_m": 0.01}]),
)
def test_every_motion_leaves_a_possible_filter(seed: int, median_s: float, changes: dict[str, float]) -> None:
    """Else sound states would be refused: of any motion, silences of days and jumps round the globe included."""
    rng = np.random.default_rng(seed)
    config = replace(SMALL, **changes)  # type: ignore[arg-type]
    dt_s = median_s * np.exp(rng.normal(0, 3, (16, 60)))
    moved = rng.normal(0, 1, (16, 60, 2)) * np.exp(rng.uniform(-5, 15, (16, 60, 1)))
    ahead = moved / np.sqrt((moved * moved).sum(-1, keepdims=True))
    for reported_mps in (np.nan, 0.0, motion.MAX_MPS, -motion.MAX_MPS):
        assert motion.possible(motion.scan(dt_s, moved, config, reported_mps * ahead), config)


def test_a_filter_of_two_fixes_of_the_same_place_and_time_is_possible(tiny: Predictor) -> None:
    slots = tiny.acquire(1)
    for _ in range(100):
        tiny.advance(slots, np.zeros(1, FIX))
    tiny.loads(slots, tiny.dumps(slots))


@settings(deadline=None)
@given(st.integers(0, 1_000), st.integers(1, 65_535), st.binary(max_size=40))
def test_a_count_of_places_that_the_bytes_do_not_hold_is_refused(age: int, filled: int, rest: bytes) -> None:
    blob = forged(
        struct.pack("<4sHH8sq", b"PCST", state_codec.VERSIONS["int8"], filled, bytes(8), age) + rest + bytes(4), 0, b""
    )
    with pytest.raises(StateError):
        state_codec.loads(blob, CONFIG, bytes(8), "int8")
    assert state_codec.whole([blob], CONFIG, bytes(8), "int8") is None


def test_every_input_that_fuzzing_kept_is_refused_or_good_to_go_on_from() -> None:
    kept = fuzzing.seeds(fuzz_state.CORPUS)
    assert len(kept) > 10, "the corpus is gone"
    check = fuzz_state.checker()
    for data in kept:
        check(data)
