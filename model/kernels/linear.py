"""The layers of a served step, compiled, as functions of arrays.

It is the fast version of `model.network.transformer.Trunk.step` and `model.network.heads`: training uses those, and
tests/model/serving/test_layers.py holds this module to them. Products are bfloat16 or float32, by the dtype of the
weights; sums, norms and the residual stream are float32.

The order in which a row is summed does not depend on the number of rows, so its bits do not depend on its batch. Layers
process CHUNK rows at a time, so that the output of one layer stays in the nearest caches for the next.

numpy has no bfloat16: uint16 arrays hold it. Shapes: N rows, Q questions per row, C = config.d, K inputs and M outputs
of a layer; its packed weights are T tiles of L outputs: float32 [T, K, L], or bfloat16 by pairs of inputs, [T, K/2, L,
2].
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.jit import compiled
from model.kernels import tiles
from model.kernels.bfloat16 import BF16, F32, narrow
from model.kernels.products import (
    NARROW_ROWS,
    OUTPUTS,
    as_input,
    as_stored,
    gelu,
    gelu_linear_into,
    input_count,
    inputs_at_once,
    linear_into,
    norm_into,
)

# Rows. The widest outputs between layers are 96 KiB at d=128 in bfloat16, and fit 1 MiB beside a block's weights; in
# float32 both are twice that.
CHUNK: Final = 96
_ALL: Final = 1 << 40  # number of rows that share a bias: all


def pack_tiles(weight: F32, *, halves: bool) -> BF16 | F32:
    """Returns the weights [M, K] of a layer in tiles; outputs and inputs are padded with zeros to whole tiles."""
    m, k = weight.shape
    if not halves:
        whole = _pad(weight, tiles.SINGLE[1] * tiles.LANES, 1)
        return _align(whole.reshape(-1, tiles.SINGLE[1] * tiles.LANES, k).swapaxes(1, 2))
    outputs = tiles.NARROW[1] * tiles.LANES if m <= tiles.LANES else OUTPUTS
    pairs = narrow(_pad(weight, outputs, 2))  # rounds as `rounded`
    return _align(pairs.reshape(-1, outputs, -(-k // 2), 2).swapaxes(1, 2))


def _align(array: NDArray[Any]) -> NDArray[Any]:
    """Returns a copy whose memory begins at a multiple of 64 bytes, as loads into registers like it."""
    room = np.empty(array.nbytes + 64, np.uint8)
    first = -room.ctypes.data % 64
    out = room[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def _pad(weight: F32, outputs: int, inputs: int) -> F32:
    """Returns the weights padded with zeros to multiples of `outputs` and `inputs`."""
    m, k = weight.shape
    return np.pad(weight, ((0, -m % outputs), (0, -k % inputs)))


@compiled
def enter(x, row, share, table, weight, bias, out):  # type: ignore[no-untyped-def]
    """Computes the stream's first vectors [N, C] from features [N, F] and rows [N, J] of a table of places, with their
    weights `share`.

    In bfloat16, each feature is two inputs, the rounded number and its rounding error: without the second, a length
    given by its log would be wrong by 1 %.
    """
    f, levels = x.shape[1], row.shape[1] // 4
    seen = np.zeros((CHUNK, input_count(weight)), weight.dtype)
    first_place = f * inputs_at_once(weight)
    place = np.zeros(17, np.float32)
    for first in range(0, len(x), CHUNK):
        n = min(CHUNK, len(x) - first)
        for i in range(n):
            as_input(x[first + i], seen[i])
            for level in range(levels):
                place[:] = 0
                for j in range(4 * level, 4 * level + 4):
                    part = share[first + i, j]
                    for d in range(16):
                        place[d] += part * table[row[first + i, j], d]
                    place[16] += part
                for d in range(17):
                    seen[i, first_place + 17 * level + d] = as_stored(place[d], seen)
        linear_into(seen, n, weight, bias, _ALL, False, out[first : first + n])


@compiled
def project(x, gain, shift, weight, out):  # type: ignore[no-untyped-def]
    """Computes queries, keys and values [N, C + 2E] of the stream x [N, C]."""
    normed = np.zeros((CHUNK, x.shape[1]), weight.dtype)
    none = np.zeros((1, out.shape[1]), np.float32)
    for first in range(0, len(x), CHUNK):
        n = min(CHUNK, len(x) - first)
        for i in range(n):
            norm_into(x[first + i], gain, shift, normed[i])
        linear_into(normed, n, weight, none, _ALL, False, out[first : first + n])


@compiled
def mix(x, attended, out, gain, shift, up, up_bias, down, down_bias):  # type: ignore[no-untyped-def]
    """Adds to the stream x [N, C], in place, the output layer of the attention's answers [N, C], then the perceptron's
    output.
    """
    narrow = np.zeros((CHUNK, x.shape[1]), out.dtype)
    wide = np.zeros((CHUNK, up_bias.shape[1]), out.dtype)
    none = np.zeros((1, x.shape[1]), np.float32)
    for first in range(0, len(x), CHUNK):
        n = min(CHUNK, len(x) - first)
        stream = x[first : first + n]
        for i in range(n):
            for d in range(x.shape[1]):
                narrow[i, d] = as_stored(attended[first + i, d], narrow)
        linear_into(narrow, n, out, none, _ALL, True, stream)
        for i in range(n):
            norm_into(stream[i], gain, shift, narrow[i])
        gelu_linear_into(narrow, n, up, up_bias, _ALL, wide)
        linear_into(wide, n, down, down_bias, _ALL, True, stream)


@compiled
def leave(x, gain, shift, hidden):  # type: ignore[no-untyped-def]
    """Computes the hidden vectors [N, C] of the stream x [N, C], in the dtype of the heads' products."""
    for i in range(len(x)):
        norm_into(x[i], gain, shift, hidden[i])


@compiled
def interval(hidden, asked, first, bias, recent, last, last_bias, out):  # type: ignore[no-untyped-def]
    """`IntervalHead` of hidden vectors [N, C] and features asked [N, E]: out [N, O]."""
    known = np.empty((CHUNK, bias.shape[1]), np.float32)
    some = np.zeros((CHUNK, hidden.shape[1]), first.dtype)
    for at in range(0, len(hidden), CHUNK):
        n = min(CHUNK, len(hidden) - at)
        for i in range(n):
            for d in range(hidden.shape[1]):
                some[i, d] = hidden[at + i, d]
        linear_into(some, n, first, bias, _ALL, False, known)
        for i in range(n):
            for o in range(len(last_bias)):
                out[at + i, o] = last_bias[o]
            for d in range(bias.shape[1]):
                seen = known[i, d]
                for e in range(asked.shape[1]):
                    seen += asked[at + i, e] * recent[d, e]
                seen = gelu(seen)
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
    """`ForecastHead` of hidden vectors [N, C] and questions asked [N, Q, E]: out [N, Q, O]. The weights `aside` are
    those of its `ReportHead`; `aside_question` [E, C/2] is transposed.

    In bfloat16 the inputs of a question are doubled, as features are in `enter`.
    """
    c, q = hidden.shape[1], asked.shape[1]
    most = max(1, CHUNK // max(q, 1))  # rows whose questions fill a chunk
    room = -(-max(most * q, CHUNK) // NARROW_ROWS) * NARROW_ROWS
    said = np.zeros((room, c), first.dtype)
    known = np.empty((most, 2 * c), np.float32)
    beside, some = np.empty((most, aside_bias.shape[1]), np.float32), np.empty(aside_bias.shape[1], np.float32)
    seen = np.zeros((room, input_count(question)), first.dtype)
    wide = np.zeros((room, 2 * c), first.dtype)
    for at in range(0, len(hidden), most):
        n = min(most, len(hidden) - at)
        for i in range(n):
            for d in range(c):
                said[i, d] = hidden[at + i, d]
            for j in range(q):
                as_input(asked[at + i, j], seen[i * q + j])
        linear_into(said, n, first, bias, _ALL, False, known)
        linear_into(said, n, aside, aside_bias, _ALL, False, beside)
        gelu_linear_into(seen, n * q, question, known, q, wide)
        gelu_linear_into(wide, n * q, middle, middle_bias, _ALL, said)
        linear_into(said, n * q, last, last_bias, _ALL, False, out[at : at + n].reshape(n * q, out.shape[2]))
        for i in range(n):
            for j in range(q):
                share = asked[at + i, j, known_at]
                if share != 0:
                    for d in range(len(some)):
                        some[d] = beside[i, d]
                    _beside(share, some, asked[at + i, j], aside_question, aside_last, aside_last_bias, out[at + i, j])


@compiled
def _beside(share, seen, asked, question, last, last_bias, out):  # type: ignore[no-untyped-def]
    """Adds the output of `ReportHead` for one question [E], times `share`, to out [O], in place. `seen` [C/2] is the
    projection of the row's hidden vector; it is overwritten. The innermost loops run over many numbers, so that they
    become vector lanes.
    """
    for e in range(len(asked)):
        for d in range(len(seen)):
            seen[d] += asked[e] * question[e, d]
    for d in range(len(seen)):
        seen[d] = gelu(seen[d])
    for o in range(len(out)):
        said = last_bias[o]
        for d in range(len(seen)):
            said += seen[d] * last[o, d]
        out[o] += share * said
