"""The operations of every layer on one chunk of rows: products with packed weights, GELU, LayerNorm, rounding to
bfloat16.

All are compiled. Products are bfloat16 or float32, by the dtype of the arrays; sums are float32. The order in which a
row is summed does not depend on the number of rows. Shapes as in `model.kernels.linear`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import types
from numba.extending import overload

from model.jit import compiled
from model.kernels import tiles
from model.kernels.exact import normalize

WIDE_ROWS, NARROW_ROWS, SINGLE_ROWS = tiles.WIDE[0], tiles.NARROW[0], tiles.SINGLE[0]  # rows per tile
EPS: Final = np.float32(1e-5)  # the eps of torch.nn.LayerNorm
OUTPUTS: Final = tiles.WIDE[1] * tiles.LANES
_GELU_END: Final = np.float32(4.5)  # beyond this, x·Φ(x) is x or 0


@compiled
def linear_into(x, n, weight, bias, per, add, out):  # type: ignore[no-untyped-def]
    """Computes out [n, M] = x · weight + bias, or adds it to out; bias [N / per, M] has a row for each `per` rows. x is
    padded to whole tiles.
    """
    rows, outputs = tile_rows(weight), weight.shape[2]
    sums = np.empty((rows, outputs), np.float32)
    for tile in range(len(weight)):
        m = min(outputs, out.shape[1] - tile * outputs)
        for first in range(0, n, rows):
            _multiply(x, first, weight, tile, sums)
            for i in range(min(rows, n - first)):
                to = out[first + i, tile * outputs : tile * outputs + m]
                of = bias[(first + i) // per, tile * outputs : tile * outputs + m]
                if add:
                    for j in range(m):
                        to[j] += sums[i, j] + of[j]
                else:
                    for j in range(m):
                        to[j] = sums[i, j] + of[j]


@compiled
def gelu_linear_into(x, n, weight, bias, per, out):  # type: ignore[no-untyped-def]
    """Computes out [n, M] = gelu(x · weight + bias), as `linear_into`, in the dtype of the next layer's product."""
    rows, outputs = tile_rows(weight), weight.shape[2]
    sums = np.empty((rows, outputs), np.float32)
    for tile in range(len(weight)):
        m = min(outputs, out.shape[1] - tile * outputs)
        for first in range(0, n, rows):
            _multiply(x, first, weight, tile, sums)
            for i in range(min(rows, n - first)):
                of = bias[(first + i) // per, tile * outputs : tile * outputs + m]
                to = out[first + i, tile * outputs : tile * outputs + m]
                for j in range(m):
                    to[j] = as_stored(gelu(sums[i, j] + of[j]), to)


@compiled
def inputs_at_once(weight):  # type: ignore[no-untyped-def]
    """Returns how many inputs are multiplied together: 2 of bfloat16, 1 of float32."""
    return weight.ndim - 2


@compiled
def input_count(weight):  # type: ignore[no-untyped-def]
    return weight.shape[1] * inputs_at_once(weight)


@compiled
def tile_rows(weight):  # type: ignore[no-untyped-def]
    """Returns the number of rows per tile."""
    if inputs_at_once(weight) == 1:
        return SINGLE_ROWS
    return NARROW_ROWS if weight.shape[2] < OUTPUTS else WIDE_ROWS


@compiled
def _multiply(x, first, weight, tile, sums):  # type: ignore[no-untyped-def]
    stride, step = x.shape[1] * x.itemsize, weight.shape[2] * 4
    row, of = x.ctypes.data + first * stride, weight.ctypes.data + tile * weight.shape[1] * step
    _tiled(x, row, stride, of, step, weight.shape[1], sums.ctypes.data)


@compiled
def gelu(x):  # type: ignore[no-untyped-def]
    """x·Φ(x), with Φ − ½ approximated by x·P(x²) up to |x| = 4.5. The error is below 2e-5: a hundredth of the bfloat16
    rounding near 1.
    """
    z = min(max(x, -_GELU_END), _GELU_END)
    t = z * z * np.float32(2 / 4.5**2) - np.float32(1)
    y = np.float32(-9.42397930e-4)
    y = y * t + np.float32(4.22390274e-3)
    y = y * t + np.float32(-7.79491716e-3)
    y = y * t + np.float32(1.08295033e-2)
    y = y * t + np.float32(-1.75161159e-2)
    y = y * t + np.float32(2.82907578e-2)
    y = y * t + np.float32(-4.04288739e-2)
    y = y * t + np.float32(5.47212721e-2)
    y = y * t + np.float32(-7.71762424e-2)
    y = y * t + np.float32(1.56904222e-1)
    return x * (z * y + np.float32(0.5))


@compiled
def norm_into(x, gain, shift, out):  # type: ignore[no-untyped-def]
    """`torch.nn.LayerNorm` of x [C], in the dtype of the next layer's product."""
    mean, square = np.float32(0), np.float32(0)
    for d in range(len(x)):
        mean += x[d]
    mean /= np.float32(len(x))
    for d in range(len(x)):
        square += (x[d] - mean) * (x[d] - mean)
    unit = np.float32(1) / np.sqrt(square / np.float32(len(x)) + EPS)
    for d in range(len(x)):
        out[d] = as_stored(normalize(x[d], mean, unit, gain[d], shift[d]), out)


@compiled
def in_halves(x, out):  # type: ignore[no-untyped-def]
    """Writes x [K] in bfloat16, followed by the rounding error of each number."""
    k = len(x)
    for d in range(k):
        out[d] = round_bfloat16(x[d])
        out[k + d] = round_bfloat16(x[d] - widened(out[d]))


@compiled
def in_singles(x, out):  # type: ignore[no-untyped-def]
    for d in range(len(x)):
        out[d] = x[d]


@compiled
def round_bfloat16(x):  # type: ignore[no-untyped-def]
    """Returns the nearest bfloat16 of a float32, ties to even; infinity and NaN stay so."""
    bits = np.float32(x).view(np.uint32)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@compiled
def widened(half):  # type: ignore[no-untyped-def]
    return np.uint32(np.uint32(half) << np.uint32(16)).view(np.float32)


# Functions that depend on the dtype of the product; numba chooses when a caller is compiled, by the type of an array.


def as_stored(x: Any, like: Any) -> Any:
    """Converts a float32 to the dtype of an array."""


def as_input(x: Any, out: Any) -> None:
    """Writes x [K] as input of a product: once in float32, twice in bfloat16 (`enter`)."""


def _tiled(like: Any, row: int, stride: int, of: int, step: int, steps: int, sums: int) -> None:
    """Computes the sums of one tile. The arguments are addresses of inputs, weights and sums, and bytes from one row to
    the next.
    """


@overload(as_stored, inline="always")
def _held_in(x, like):  # type: ignore[no-untyped-def]
    return (lambda x, like: round_bfloat16(x)) if like.dtype == types.uint16 else (lambda x, like: np.float32(x))


@overload(as_input)
def _see_in(x, out):  # type: ignore[no-untyped-def]
    return (lambda x, out: in_halves(x, out)) if out.dtype == types.uint16 else (lambda x, out: in_singles(x, out))


@overload(_tiled, inline="always")
def _tiled_in(like, row, stride, of, step, steps, sums):  # type: ignore[no-untyped-def]
    def halves(like, row, stride, of, step, steps, sums):  # type: ignore[no-untyped-def]
        if step < 4 * OUTPUTS:
            tiles.narrow(row, stride, of, step, steps, sums, step)
        else:
            tiles.wide(row, stride, of, step, steps, sums, step)

    def single(like, row, stride, of, step, steps, sums):  # type: ignore[no-untyped-def]
        tiles.single(row, stride, of, step, steps, sums, step)

    return halves if like.dtype == types.uint16 else single
