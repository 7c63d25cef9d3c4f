"""The compiled layers against the modules, and what all promise to replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.api import Predictor
from model.config import SMALL, ModelConfig
from model.jit import compiled
from model.kernels import bfloat16, linear, products, tiles
from model.kinematics.geo import E7
from model.kinematics.map_cells import most_visited
from model.kinematics.queries import FORECAST_FEATURES, INTERVAL_FEATURES
from model.network import network
from model.network.checkpoint import to_parameters
from model.network.network import Network
from model.serving import layers
from model.serving.layers import Compiled, Exact, Layers

Bfloat16, Single = partial(Compiled, halves=True), partial(Compiled, halves=False)
# Where two arrays begin closer than 256 bytes, LLVM takes another version of a loop, as it does for the last of a few
# rows of 128 bytes; never for rows of 256, or of 512 as the bundled weights have them.
WIDTHS = (32, 64)
CLOSE_BYTES = 256
SIZES = [*range(1, 40), *range(90, 103), 191, 192, 193, 255, 256, 257, 511, 512, 513, 767, 1000, 1023, 1024]

Tracks = Callable[..., NDArray[Any]]
Unsettled = Callable[..., Network]


class Echo:
    """Rings that answer each row with its queries: all that layers know of them."""

    def __init__(self, width: int) -> None:
        self._width = width

    def attend(
        self, block: int, qkv: NDArray[Any], cos_sin: NDArray[Any] | None, asked: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        return np.ascontiguousarray(qkv[:, : self._width])


def through(made: Layers, rows: NDArray[np.int64], width: int) -> list[NDArray[Any]]:
    """What it makes of some of 1,024 fixed rows."""
    rng = np.random.default_rng(1)
    x, asked = (
        rng.normal(size=(1024, network.features.width(SMALL))).astype(np.float32),
        rng.normal(size=(1024, 4, FORECAST_FEATURES)).astype(np.float32),
    )
    fixes, age = np.zeros(1024, network.features.FIX), rng.integers(0, 500, 1024)
    recent = rng.normal(size=(1024, INTERVAL_FEATURES)).astype(np.float32)
    hidden = made.step(x[rows], age[rows], fixes[rows], Echo(width))
    return [hidden, made.forecast(hidden, asked[rows]), made.interval(hidden, recent[rows])]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("way", [Exact, Bfloat16, Single])
def test_no_bit_of_a_row_depends_on_its_batch(
    unsettled: Unsettled, way: Callable[[Network], Layers], width: int
) -> None:
    """However many rows there are, wherever it stands among them: replays cut the log into other batches, and int8
    rounds. Of every size up to 1,024 that meets another tile, chunk or remainder; the sizes between were tried once.
    """
    made = way(to_parameters(unsettled(ModelConfig(d=width))))
    rng = np.random.default_rng(2)
    want = through(made, np.arange(1024), width)
    for size in SIZES:
        rows = rng.permutation(1024)[:size]
        for got, whole in zip(through(made, rows, width), want, strict=True):
            np.testing.assert_array_equal(got, whole[rows], err_msg=f"{size} rows")


@pytest.mark.parametrize("width", [16, *WIDTHS])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_no_bit_of_a_row_depends_on_what_lies_beside_it(width: int, dtype: type) -> None:
    """All four arrays of the last norm, one behind the other in every order. In float32, and in rows of less than 256
    bytes, up to half of these had other bits."""
    rng = np.random.default_rng(5)
    row, gain, shift = rng.normal(size=(3, width)).astype(np.float32)
    arrays = [row[None], gain, shift, np.zeros((1, width), dtype)]
    linear.leave(*(apart := _laid(arrays, range(4), CLOSE_BYTES)))
    for order in permutations(range(4)):
        for gap in range(0, CLOSE_BYTES, 16):
            linear.leave(*(close := _laid(arrays, order, gap)))
            np.testing.assert_array_equal(close[3], apart[3], err_msg=f"{order}, {gap} bytes between them")


def _laid(arrays: Sequence[NDArray[Any]], order: Sequence[int], gap: int) -> list[NDArray[Any]]:
    """Copies of the arrays, in the same memory, with so many bytes between two."""
    room = np.zeros(64 + sum(array.nbytes + gap for array in arrays), np.uint8)
    at, laid = -room.ctypes.data % 64, list(arrays)
    for place in order:
        array = arrays[place]
        laid[place] = room[at : at + array.nbytes].view(array.dtype).reshape(array.shape)
        laid[place][...] = array
        at += array.nbytes + gap
    return laid


@pytest.mark.parametrize("kind", [Bfloat16, Single])
@pytest.mark.parametrize(
    "way",
    [
        {},
        {"positions": "time-rope"},
        {"d": 24, "heads": 4},
        {"blocks": 3, "mlp_ratio": 3},
        {"places": 3000},
        {"absolute": True},
    ],
)
def test_they_are_the_network_to_the_digits_they_have(
    unsettled: Unsettled, tracks: Tracks, way: dict[str, Any], kind: Callable[[Network], Layers]
) -> None:
    """Over 70 pings, with exact rings on both sides. bfloat16 has 8 bits; in float32 most of what is off is gelu's.
    Hidden vectors are of unit variance.
    """
    net, fixes, said = unsettled(replace(SMALL, **{"d": 64, **way})), tracks(9, 70, seed=1), []
    if net.trunk.places is not None:
        net.trunk.places.know(most_visited(fixes["lat_e7"].ravel() / E7, fixes["lon_e7"].ravel() / E7, 3000, 1))
    for made in (Exact, kind):
        predictor = Predictor(to_parameters(net), name="either", capacity=9, precision="float32")
        predictor._layers = made(to_parameters(net))
        slots = predictor.acquire(9)
        for t in range(70):
            predictor.advance(slots, fixes[:, t])
        hidden = predictor._pool.hidden[slots]
        rng = np.random.default_rng(2)
        asked = rng.normal(size=(9, 4, FORECAST_FEATURES)).astype(np.float32)
        recent = rng.normal(size=(9, INTERVAL_FEATURES)).astype(np.float32)
        heads = predictor._layers
        said.append((hidden, heads.interval(hidden, recent), heads.forecast(hidden, asked)))
    for name, exact, near in zip(("hidden", "interval", "forecast"), *said, strict=True):
        off = np.abs(np.asarray(exact) - np.asarray(near))
        print(name, off.mean(), off.max(), np.asarray(exact).std())
        digits = 1.0 if kind is Bfloat16 else 0.01
        assert off.max() > 0, f"{name}: the same layers twice"
        assert off.mean() < 0.02 * digits * np.asarray(exact).std(), name
        assert off.max() < 0.1 * digits * np.asarray(exact).std(), name


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 2), (13, 128), (16, 7), (17, 128), (64, 40), (130, 513)])
def test_tiles_multiply_every_input_with_every_output(outputs: int, inputs: int, halves: bool) -> None:
    """Whole numbers, which bfloat16 holds exactly: nothing is missing, nothing counted twice."""
    rng = np.random.default_rng(3)
    weight = rng.integers(-9, 10, (outputs, inputs)).astype(np.float32)
    x = np.zeros((linear.CHUNK, inputs + inputs % 2 * halves), np.float32)
    x[:, :inputs] = rng.integers(-9, 10, (linear.CHUNK, inputs))
    seen = bfloat16.narrow(x) if halves else x
    bias, out = rng.integers(-9, 10, (9, outputs)).astype(np.float32), np.ones((50, outputs), np.float32)
    for add in (False, True):
        want = x[:50, :inputs] @ weight.T + bias[np.arange(50) // 7] + (out if add else 0)
        products.linear_into(seen, 50, linear.pack_tiles(weight, halves=halves), bias, 7, add, out)
        np.testing.assert_array_equal(out, want)


@compiled
def gelu(x):  # type: ignore[no-untyped-def]
    out = np.empty(len(x), np.float32)
    for i in range(len(x)):
        out[i] = products.gelu(x[i])
    return out


def test_gelu_is_within_two_hundred_thousandths() -> None:
    x = np.linspace(-12, 12, 2_000_003, dtype=np.float32)
    want = torch.nn.functional.gelu(torch.from_numpy(x.astype(np.float64))).numpy()
    assert np.abs(gelu(x) - want).max() < 2e-5


def test_what_is_not_finite_stays_so_through_gelu_and_rounding() -> None:
    x = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
    assert not np.isfinite(bfloat16.widen(bfloat16.narrow(x))[:3]).any()
    out = np.zeros(8, np.uint16)
    products.in_halves(x, out)
    assert not np.isfinite(bfloat16.widen(out[:3])).any()
    assert not np.isfinite(gelu(x)[:2]).any()  # of -inf torch makes NaN, too, or 0: it is -inf · 0


def test_rounding_is_the_same_in_kernels_as_in_torch() -> None:
    """Random bits, so every size and the halves between two bfloat16; and what rounding left makes up for the rest."""
    x = np.random.default_rng(4).integers(0, 1 << 32, 100_000, dtype=np.uint32).view(np.float32)
    x[:1000] = ((np.arange(1000, dtype=np.uint32) << 16) + 0x3F808000).view(np.float32)
    x = x[np.isfinite(x) & (np.abs(x) < 1e38) & (np.abs(x) > 1e-30)]
    out = np.empty(2 * len(x), np.uint16)
    products.in_halves(x, out)
    np.testing.assert_array_equal(out[: len(x)], bfloat16.narrow(x))
    np.testing.assert_allclose(bfloat16.widen(out[: len(x)]) + bfloat16.widen(out[len(x) :]), x, rtol=2**-16)


def test_float32_is_exact_wherever_it_runs(unsettled: Unsettled) -> None:
    weights = to_parameters(unsettled(SMALL))
    assert isinstance(layers.choose_layers(weights, "float32"), Exact)
    assert layers.choose_layers(weights, "int8").name == (
        "bfloat16" if tiles.multiplies_halves() else "float32, compiled" if tiles.fuses() else "float32"
    )
