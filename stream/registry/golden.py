"""A few windows with the forecasts and gap fills that weights gave for them where they were published. A worker that is
about to serve the weights makes them again, and sees whether they forecast here as they did there: other weights, a
damaged array, or machine code that is wrong for this processor would not.

The reference is exact ("float32"). Rounded keys, values and layers ("int8", in bfloat16 where the processor has it)
move forecasts a little. By how much depends on the weights, so the publisher measures it, and twice as much is
accepted. Noise of 1 % on every weight of `small` moves them by 2.7 times as much and more
(tests/stream/registry/test_golden.py). What asks an atlas is not among the answers.

The file is JSON, so that it can hold no code: windows as rows of a fix, answers as numbers in metres and seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.api import ABSENT, FIX, Gap, Parameters, Predictor, load_weights
from stream.registry.manifest import Damaged, RegistryError

F64 = NDArray[np.float64]

MAX_GOLDEN_BYTES: Final = 4 << 20  # 24 windows have some 200 KB
MAX_WINDOWS: Final = 256
HORIZONS_S: Final = (60.0, 300.0, 900.0)
LENGTH: Final = 40  # pings of a window
EVERY: Final = 4  # a forecast from every fourth ping on, once there are
FIRST: Final = 8  # earlier pings, before which forecasts are marked as warmup
HIDDEN: Final = 4  # pings before the last of a window that are hidden, for a gap fill
# The same layers on another processor add in another order. Compiled for a Haswell, those of `small` and
# `small-research` deviated by 7e-7 from forecasts of an EPYC with AVX-512 (30 November 2026).
EXACT_LIMIT: Final = 1e-3
FACTOR: Final = 2.0
# `small` and `small-research` deviate by 0.02. Above this, the publisher's own rounded layers are wrong.
MOST_ROUNDED: Final = 0.2
_M_PER_DEG: Final = 111_195.0

_Number = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
_Whole = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
_Position = tuple[_Number, _Number, _Number, _Number, _Number]  # lat, lon, and the covariance ee, en, nn in m²


class Answers(NamedTuple):
    """What a predictor says of windows: A positions (forecasts of the next ping and of each horizon, and gap fills),
    and D expected times."""

    places_A5: F64
    next_dt_s_D: F64
    fills: int  # the last positions are of gap fills
    fallbacks: int  # answers that are physics, as the model's numbers were not finite


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of the file."""

    format: Literal[1] = 1
    windows: Annotated[list[list[tuple[_Whole, _Whole, _Whole, _Whole, _Whole]]], msgspec.Meta(max_length=MAX_WINDOWS)]
    places: list[_Position]
    next_dt_s: list[_Number]
    rounded: Annotated[float, msgspec.Meta(ge=0.0, le=MOST_ROUNDED)]  # the deviation of "int8" where it was published


_DECODER: Final = msgspec.json.Decoder(Golden)


def make_golden(weights: str | Path, real: Sequence[NDArray[Any]] = ()) -> bytes:
    """Returns the file for weights, from made-up windows and from `real` ones (FIX, at least LENGTH fixes each, of
    which the last are taken), which should be of the region that the weights know. They are published with the weights,
    so give none that may not be read.

    Raises WeightsError for weights that cannot be served, and RegistryError where rounded layers do not follow the
    exact ones.
    """
    parameters = load_weights(weights)
    if any(window.dtype != FIX or len(window) < LENGTH for window in real):
        raise ValueError(f"real windows must be FIX records, at least {LENGTH} of each")
    windows = [*invent_windows(), *(window[-LENGTH:] for window in real)][:MAX_WINDOWS]
    exact = ask(_predictor(parameters, "float32"), windows)
    rounded = deviation(ask(_predictor(parameters, "int8"), windows), exact)
    if exact.fallbacks or not rounded <= MOST_ROUNDED:
        raise RegistryError(
            f"rounded layers deviate by {rounded:.3g} from exact ones, at most {MOST_ROUNDED} are normal"
        )
    return msgspec.json.encode(
        Golden(
            windows=[window.tolist() for window in windows],
            places=[tuple(place) for place in exact.places_A5.tolist()],
            next_dt_s=exact.next_dt_s_D.tolist(),
            rounded=rounded,
        )
    )


def check_golden(predictor: Predictor, raw: bytes) -> str | None:
    """Returns why these weights may not serve here, in one line; None if they give the forecasts of the file. The
    predictor's states of other slots stay as they are. Raises Damaged for bytes that are no such file.
    """
    golden = loads_golden(raw)
    windows = [np.array(window, dtype=FIX) for window in golden.windows]
    limit = (
        EXACT_LIMIT if predictor.layers == predictor.precision == "float32" else FACTOR * golden.rounded + EXACT_LIMIT
    )
    found = ask(predictor, windows)
    expected = Answers(np.array(golden.places), np.array(golden.next_dt_s), found.fills, 0)
    if found.places_A5.shape != expected.places_A5.shape or found.next_dt_s_D.shape != expected.next_dt_s_D.shape:
        raise Damaged("the golden forecasts do not fit their windows")
    if found.fallbacks:
        return f"{found.fallbacks} golden forecasts are not finite numbers"
    off = deviation(found, expected)
    if not off <= limit:
        return (
            f"golden forecasts deviate by {off:.3g}, at most {limit:.3g} is accepted ({predictor.precision}, "
            f"{predictor.layers}): are the weights damaged, or the kernels wrong for this processor?"
        )
    return None


def loads_golden(raw: bytes) -> Golden:
    """Raises Damaged for bytes that are no such file."""
    if len(raw) > MAX_GOLDEN_BYTES:
        raise Damaged(f"golden forecasts of more than {MAX_GOLDEN_BYTES:,} bytes")
    try:
        golden = _DECODER.decode(raw)
        for window in golden.windows:
            if len(window) != LENGTH or (np.diff(np.array(window, dtype=FIX)["ts_ms"]) <= 0).any():
                raise ValueError(f"a window has {LENGTH} pings in the order of their times")
    except (ValueError, OverflowError, RecursionError) as error:
        raise Damaged(f"the golden forecasts cannot be read: {error}") from error
    if not golden.windows:
        raise Damaged("the golden forecasts have no windows")
    return golden


def deviation(found: Answers, expected: Answers) -> float:
    """Returns how far answers are from the expected ones: the sum of five means, each a part of a standard deviation or
    a ratio. Distance and spread of forecasts, the same of gap fills, and the expected time of the next ping. NaN if
    anything is not finite.
    """
    lat, lon = (expected.places_A5[:, i] for i in range(2))
    north_m = (found.places_A5[:, 0] - lat) * _M_PER_DEG
    east_m = (found.places_A5[:, 1] - lon) * _M_PER_DEG * np.cos(np.radians(lat))
    sigma_m, found_m = (np.sqrt((one.places_A5[:, 2] + one.places_A5[:, 4]) / 2) for one in (expected, found))
    off = np.hypot(east_m, north_m) / sigma_m
    wider = np.abs(np.log(found_m / sigma_m))
    later = np.abs(np.log(found.next_dt_s_D / expected.next_dt_s_D))
    split = len(off) - expected.fills
    parts = (off[:split], off[split:], wider[:split], wider[split:], later)
    total = float(sum(part.mean() for part in parts))
    return total if math.isfinite(total) else math.nan


def ask(predictor: Predictor, windows: Sequence[NDArray[Any]]) -> Answers:
    """Returns what a predictor says of windows of LENGTH fixes, in slots of its own."""
    n = len(windows)
    slots = predictor.acquire(n)
    try:
        fixes, counts = np.concatenate(windows), np.full(n, LENGTH)
        said, _ = predictor.answer(slots, fixes, counts, HORIZONS_S)
        rows = (np.arange(n)[:, None] * LENGTH + np.arange(FIRST, LENGTH, EVERY)).ravel()
        end = LENGTH - 1
        predictor.reset(slots)
        seen = [np.delete(window, np.s_[end - HIDDEN : end]) for window in windows]
        predictor.catch_up(slots, np.concatenate(seen), np.full(n, LENGTH - HIDDEN))
        gaps = [
            Gap(one[-5:-1], one[-1:], window["ts_ms"][end - HIDDEN : end])
            for one, window in zip(seen, windows, strict=True)
        ]
        fills = predictor.fill(slots, gaps)
    finally:
        predictor.release(slots)
    ahead = _places(
        np.column_stack([said.next_lat, said.lat])[rows],
        np.column_stack([said.next_lon, said.lon])[rows],
        np.concatenate([said.next_cov_m2[:, None], said.cov_m2], axis=1)[rows],
    )
    inside = [_places(fill.lat, fill.lon, fill.cov_m2) for fill in fills]
    fallbacks = int(said.fallback[rows].sum()) + sum(fill.method != "model" for fill in fills)
    return Answers(np.concatenate([ahead, *inside]), said.next_dt_s[rows], n * HIDDEN, fallbacks)


def invent_windows(seed: int = 0) -> list[NDArray[Any]]:
    """Returns windows of vehicles, walkers and ships that nobody drove: at a ping every 5 s to 2 minutes, straight,
    turning and standing, with and without a reported speed and course, on several continents."""
    rng = np.random.default_rng(seed)
    return [_drive(rng, number) for number in range(24)]


def _drive(rng: np.random.Generator, number: int) -> NDArray[Any]:
    lat, lon = ((30.27, -97.74), (37.77, -122.42), (-10.95, -37.07), (52.5, 13.4), (0.1, 0.2), (69.6, 18.9))[number % 6]
    every_s = (5.0, 15.0, 30.0, 60.0, 10.0, 120.0)[number % 6]
    typical_mps = (8.0, 14.0, 1.4, 22.0, 5.0, 10.0)[number // 2 % 6]
    turn_rad = (0.02, 0.15, 0.5)[number % 3]  # from ping to ping
    t_s = np.cumsum([0.0, *(every_s * rng.uniform(0.7, 1.3, LENGTH - 1))])
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, turn_rad, LENGTH))
    stands = rng.random(LENGTH) < 0.2 * (number % 2)
    speed_mps = typical_mps * (1 + 0.5 * np.sin(t_s / 200 + number)) * ~stands
    step_m = speed_mps * np.diff(t_s, prepend=0.0)
    east_m, north_m = (np.cumsum(step_m * f(heading)) + rng.normal(0, 3.0, LENGTH) for f in (np.sin, np.cos))
    fixes = np.zeros(LENGTH, FIX)
    fixes["ts_ms"] = 1_790_000_000_000 + number * 3_700_000 + np.rint(t_s * 1000).astype(np.int64)
    fixes["lat_e7"] = np.rint((lat + north_m / _M_PER_DEG) * 1e7)
    fixes["lon_e7"] = np.rint((lon + east_m / _M_PER_DEG / np.cos(np.radians(lat))) * 1e7)
    fixes["speed_cms"] = np.rint(speed_mps * 100) if number % 3 == 0 else ABSENT
    fixes["heading_cdeg"] = np.rint(np.degrees(heading) % 360 * 100) % 36_000 if number % 6 == 0 else ABSENT
    return fixes


def _places(lat: F64, lon: F64, cov_m2: F64) -> F64:
    return np.column_stack([lat.ravel(), lon.ravel(), cov_m2.reshape(-1, 3)])


def _predictor(parameters: Parameters, precision: str) -> Predictor:
    return Predictor(parameters, name=parameters.config.name, capacity=MAX_WINDOWS, precision=precision)
