"""The layers of a served step, compiled. Knows arrays; knows no pings and where no weights come from.

What is meant is `model.network.transformer.Trunk.step` and `model.network.heads`: training uses those, and
tests/model/serving/test_layers.py holds these to them. What is multiplied is bfloat16 or float32, as the weights say;
sums, norms and the residual stream are float32.

A row's sums are taken in an order of their own, however many rows there are, so its bits do not depend on its batch.
Layers go over CHUNK rows and come back for the next: what one leaves for the next stays in the nearest caches.

numpy has no bfloat16: uint16 stand for them. Shapes: N rows, Q questions per row, C = config.d, K inputs and M outputs
of a layer; its packed weights are T tiles of L outputs: float32 [T, K, L], or bfloat16 by pairs of inputs, [T, K/2, L,
2].
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numba import types
from numba.extending import overload

from model.jit import compiled
from model.kernels import tiles
from model.kernels.bfloat16 import BF16, F32

# Rows. The widest outputs between layers are 96 KiB at d=128 in bfloat16, and fit 1 MiB beside a block's weights; in
# float32 both are twice that.
CHUNK: Final = 96
EPS: Final = np.float32(1e-5)  # of torch.nn.LayerNorm
_ALL: Final = 1 << 40  # rows that share a bias
_WIDE, _NARROW, _SINGLE = tiles.WIDE[0], tiles.NARROW[0], tiles.SINGLE[0]  # rows of a tile
_OUTPUTS: Final = tiles.WIDE[1] * tiles.LANES
_GELU_END: Final = np.float32(4.5)  # beyond it x·Φ(x) is x or 0


def packed(weight: F32, *, halves: bool) -> BF16 | F32:
    """Weights [M, K] of a layer as a tile takes them; outputs and inputs that are missing to whole tiles are zero."""
    m, k = weight.shape
    if not halves:
        whole = _filled(weight, tiles.SINGLE[1] * tiles.LANES, 1)
        return np.ascontiguousarray(whole.reshape(-1, tiles.SINGLE[1] * tiles.LANES, k).swapaxes(1, 2))
    outputs = tiles.NARROW[1] * tiles.LANES if m <= tiles.LANES else _OUTPUTS
    pairs = torch.from_numpy(_filled(weight, outputs, 2)).bfloat16().view(torch.uint16)  # rounds as `_rounded`
    # torch's memory is aligned
    return np.asarray(pairs.view(-1, outputs, -(-k // 2), 2).transpose(1, 2).contiguous().numpy())


def _filled(weight: F32, outputs: int, inputs: int) -> F32:
    """With zeros to whole numbers of either."""
    m, k = weight.shape
    return np.pad(weight, ((0, -m % outputs), (0, -k % inputs)))


@compiled
def enter(x, row, share, table, weight, bias, out):  # type: ignore[no-untyped-def]
    """The stream's first vectors [N, C] from features [N, F] and rows [N, J] of a table of places, with their shares.

    In bfloat16 features come twice, rounded and what rounding left: that of the log of a length is off by 1 % of the
    length.
    """
    f, levels = x.shape[1], row.shape[1] // 4
    seen = np.zeros((CHUNK, _inputs(weight)), weight.dtype)
    first_place = f * _times(weight)
    place = np.zeros(17, np.float32)
    for first in range(0, len(x), CHUNK):
        n = min(CHUNK, len(x) - first)
        for i in range(n):
            _see(x[first + i], seen[i])
            for level in range(levels):
                place[:] = 0
                for j in range(4 * level, 4 * level + 4):
                    part = share[first + i, j]
                    for d in range(16):
                        place[d] += part * table[row[first + i, j], d]
                    place[16] += part
                for d in range(17):
                    seen[i, first_place + 17 * level + d] = _held(place[d], seen)
        _linear(seen, n, weight, bias, _ALL, False, out[first : first + n])


@compiled
def project(x, gain, shift, weight, out):  # type: ignore[no-untyped-def]
    """Queries, keys and values [N, C + 2E] of the stream x [N, C]."""
    normed = np.zeros((CHUNK, x.shape[1]), weight.dtype)
    none = np.zeros((1, out.shape[1]), np.float32)
    for first in range(0, len(x), CHUNK):
        n = min(CHUNK, len(x) - first)
        for i in range(n):
            _norm(x[first + i], gain, shift, normed[i])
        _linear(normed, n, weight, none, _ALL, False, out[first : first + n])


@compiled
def mix(x, attended, out, gain, shift, up, up_bias, down, down_bias):  # type: ignore[no-untyped-def]
    """Adds to the stream x [N, C], in place, what attention answered [N, C], then what the perceptron says to both."""
    narrow = np.zeros((CHUNK, x.shape[1]), out.dtype)
    wide = np.zeros((CHUNK, up_bias.shape[1]), out.dtype)
    none = np.zeros((1, x.shape[1]), np.float32)
    for first in range(0, len(x), CHUNK):
        n = min(CHUNK, len(x) - first)
        stream = x[first : first + n]
        for i in range(n):
            for d in range(x.shape[1]):
                narrow[i, d] = _held(attended[first + i, d], narrow)
        _linear(narrow, n, out, none, _ALL, True, stream)
        for i in range(n):
            _norm(stream[i], gain, shift, narrow[i])
        _gelu_linear(narrow, n, up, up_bias, _ALL, wide)
        _linear(wide, n, down, down_bias, _ALL, True, stream)


@compiled
def leave(x, gain, shift, hidden):  # type: ignore[no-untyped-def]
    """Hidden vectors [N, C], as the layers multiply them, of the stream x [N, C]."""
    for i in range(len(x)):
        _norm(x[i], gain, shift, hidden[i])


@compiled
def interval(hidden, asked, first, bias, recent, last, last_bias, out):  # type: ignore[no-untyped-def]
    """`IntervalHead` of hidden vectors [N, C] and features asked [N, E]: out [N, O]."""
    known = np.empty((CHUNK, bias.shape[1]), np.float32)
    some = np.zeros((CHUNK, hidden.shape[1]), first.dtype)
    for at in range(0, len(hidden), CHUNK):
        n = min(CHUNK, len(hidden) - at)
        some[:n] = hidden[at : at + n]
        _linear(some, n, first, bias, _ALL, False, known)
        for i in range(n):
            out[at + i] = last_bias
            for d in range(bias.shape[1]):
                seen = known[i, d]
                for e in range(asked.shape[1]):
                    seen += asked[at + i, e] * recent[d, e]
                seen = _gelu(seen)
                for o in range(len(last_bias)):
                    out[at + i, o] += seen * last[o, d]


@compiled
def answer(  # type: ignore[no-untyped-def]
    hidden,
    asked,
    first,
    bias,
    question,
    middle,
    middle_bias,
    last,
    last_bias,
    aside,
    aside_bias,
    aside_question,
    aside_last,
    aside_last_bias,
    known_at,
    out,
):
    """`ForecastHead` of hidden vectors [N, C] and questions asked [N, Q, E]: out [N, Q, O]. The weights `aside` are the
    head beside's, `aside_question` [E, C/2] turned over.

    In bfloat16 what a question adds to what is known comes twice, as features do in `enter`.
    """
    c, q = hidden.shape[1], asked.shape[1]
    most = max(1, CHUNK // max(q, 1))  # rows whose questions are a chunk
    room = -(-max(most * q, CHUNK) // _NARROW) * _NARROW
    said = np.zeros((room, c), first.dtype)
    known = np.empty((most, 2 * c), np.float32)
    beside, some = np.empty((most, aside_bias.shape[1]), np.float32), np.empty(aside_bias.shape[1], np.float32)
    seen = np.zeros((room, _inputs(question)), first.dtype)
    wide = np.zeros((room, 2 * c), first.dtype)
    for at in range(0, len(hidden), most):
        n = min(most, len(hidden) - at)
        said[:n] = hidden[at : at + n]
        for i in range(n):
            for j in range(q):
                _see(asked[at + i, j], seen[i * q + j])
        _linear(said, n, first, bias, _ALL, False, known)
        _linear(said, n, aside, aside_bias, _ALL, False, beside)
        _gelu_linear(seen, n * q, question, known, q, wide)
        _gelu_linear(wide, n * q, middle, middle_bias, _ALL, said)
        _linear(said, n * q, last, last_bias, _ALL, False, out[at : at + n].reshape(n * q, out.shape[2]))
        for i in range(n):
            for j in range(q):
                share = asked[at + i, j, known_at]
                if share != 0:
                    some[:] = beside[i]
                    _beside(share, some, asked[at + i, j], aside_question, aside_last, aside_last_bias, out[at + i, j])


@compiled
def _beside(share, seen, asked, question, last, last_bias, out):  # type: ignore[no-untyped-def]
    """Adds to out [O], in place, a share of what `ReportHead` says to one question [E]; what it knows of the row, seen
    [C/2], is used up. Innermost are the many numbers, so that they are lanes.
    """
    for e in range(len(asked)):
        for d in range(len(seen)):
            seen[d] += asked[e] * question[e, d]
    for d in range(len(seen)):
        seen[d] = _gelu(seen[d])
    for o in range(len(out)):
        said = last_bias[o]
        for d in range(len(seen)):
            said += seen[d] * last[o, d]
        out[o] += share * said


@compiled
def _linear(x, n, weight, bias, per, add, out):  # type: ignore[no-untyped-def]
    """out [n, M] = x · weight + bias, or added to it; bias [N / per, M] is of `per` rows each. x has whole tiles."""
    rows, outputs = _rows(weight), weight.shape[2]
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
def _gelu_linear(x, n, weight, bias, per, out):  # type: ignore[no-untyped-def]
    """out [n, M] = gelu(x · weight + bias), as `_linear`, for the next layer to multiply."""
    rows, outputs = _rows(weight), weight.shape[2]
    sums = np.empty((rows, outputs), np.float32)
    for tile in range(len(weight)):
        m = min(outputs, out.shape[1] - tile * outputs)
        for first in range(0, n, rows):
            _multiply(x, first, weight, tile, sums)
            for i in range(min(rows, n - first)):
                of = bias[(first + i) // per, tile * outputs : tile * outputs + m]
                to = out[first + i, tile * outputs : tile * outputs + m]
                for j in range(m):
                    to[j] = _held(_gelu(sums[i, j] + of[j]), to)


@compiled
def _times(weight):  # type: ignore[no-untyped-def]
    """How many inputs are multiplied together: 2 of bfloat16, 1 of float32."""
    return weight.ndim - 2


@compiled
def _inputs(weight):  # type: ignore[no-untyped-def]
    return weight.shape[1] * _times(weight)


@compiled
def _rows(weight):  # type: ignore[no-untyped-def]
    """Of its tiles."""
    if _times(weight) == 1:
        return _SINGLE
    return _NARROW if weight.shape[2] < _OUTPUTS else _WIDE


@compiled
def _multiply(x, first, weight, tile, sums):  # type: ignore[no-untyped-def]
    stride, step = x.shape[1] * x.itemsize, weight.shape[2] * 4
    row, of = x.ctypes.data + first * stride, weight.ctypes.data + tile * weight.shape[1] * step
    _tiled(x, row, stride, of, step, weight.shape[1], sums.ctypes.data)


@compiled
def _gelu(x):  # type: ignore[no-untyped-def]
    """x·Φ(x), Φ − ½ as x·P(x²) up to |x| = 4.5. Within 2e-5: a hundredth of what bfloat16 rounds near 1."""
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
def _norm(x, gain, shift, out):  # type: ignore[no-untyped-def]
    """`torch.nn.LayerNorm` of x [C], for the next layer to multiply."""
    mean, square = np.float32(0), np.float32(0)
    for d in range(len(x)):
        mean += x[d]
    mean /= np.float32(len(x))
    for d in range(len(x)):
        square += (x[d] - mean) * (x[d] - mean)
    unit = np.float32(1) / np.sqrt(square / np.float32(len(x)) + EPS)
    for d in range(len(x)):
        out[d] = _held((x[d] - mean) * unit * gain[d] + shift[d], out)


@compiled
def _twice(x, out):  # type: ignore[no-untyped-def]
    """x [K] in bfloat16, and behind it what is missing of each."""
    k = len(x)
    for d in range(k):
        out[d] = _rounded(x[d])
        out[k + d] = _rounded(x[d] - _widened(out[d]))


@compiled
def _once(x, out):  # type: ignore[no-untyped-def]
    for d in range(len(x)):
        out[d] = x[d]


@compiled
def _rounded(x):  # type: ignore[no-untyped-def]
    """The nearest bfloat16 of a float32, ties to even; what is not finite stays so."""
    bits = np.float32(x).view(np.uint32)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@compiled
def _widened(half):  # type: ignore[no-untyped-def]
    return np.uint32(np.uint32(half) << np.uint32(16)).view(np.float32)


# What differs by what is multiplied; chosen when a caller is compiled, by the type of an array.


def _held(x: Any, like: Any) -> Any:
    """A float32 as an array holds it."""


def _see(x: Any, out: Any) -> None:
    """x [K] for a layer to multiply: once in float32, twice in bfloat16 (`enter`)."""


def _tiled(like: Any, row: int, stride: int, of: int, step: int, steps: int, sums: int) -> None:
    """The sums of one tile. Addresses of what is multiplied, of weights and of sums; bytes from one row to the next."""


@overload(_held, inline="always")
def _held_in(x, like):  # type: ignore[no-untyped-def]
    return (lambda x, like: _rounded(x)) if like.dtype == types.uint16 else (lambda x, like: np.float32(x))


@overload(_see)
def _see_in(x, out):  # type: ignore[no-untyped-def]
    return (lambda x, out: _twice(x, out)) if out.dtype == types.uint16 else (lambda x, out: _once(x, out))


@overload(_tiled, inline="always")
def _tiled_in(like, row, stride, of, step, steps, sums):  # type: ignore[no-untyped-def]
    def halves(like, row, stride, of, step, steps, sums):  # type: ignore[no-untyped-def]
        if step < 4 * _OUTPUTS:
            tiles.narrow(row, stride, of, step, steps, sums, step)
        else:
            tiles.wide(row, stride, of, step, steps, sums, step)

    def single(like, row, stride, of, step, steps, sums):  # type: ignore[no-untyped-def]
        tiles.single(row, stride, of, step, steps, sums, step)

    return halves if like.dtype == types.uint16 else single
