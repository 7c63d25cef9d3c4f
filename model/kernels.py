"""Attention that reads the rings where they lie, compiled. Knows arrays; knows no slots' owners and no weights.

What numpy and torch would do here is to gather 8 KiB per row, widen it fourfold and turn it over; this reads each ring
once. The reference is `model.transformer.Block.attend` on what `model.rings` gives back, which the tests hold it to.

Compiled by numba on the first call with these types, so `Predictor` makes that call when it is built: seconds of
compiling would stall a worker. The GIL is released meanwhile.

Shapes: S slots, N <= R rows, W places, G key heads, H heads, D of a head, C = H·D, E = G·D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np

# Sums in any order, products fused into them. Not `fastmath=True`: what is not finite must stay so, to be seen.
MATHS: Final = {"reassoc", "contract", "nsz", "arcp"}
FREE, TWICE = 1, 2  # what `fault` finds
_LOG2_E: Final = np.float32(1.4426950408889634)
_LN2_HIGH: Final = np.float32(0.693359375)  # the two add up to ln 2; the high part has few bits, so n times it is exact
_LN2_LOW: Final = np.float32(-2.12194440e-4)


def compiled(function: Callable[..., Any]) -> Any:
    """numba.njit without the GIL, kept on disk where there is a place to write; else compiled anew in each process."""
    options: dict[str, Any] = {"nogil": True, "fastmath": MATHS, "error_model": "numpy"}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # "no locator available": neither the package's folder nor a home can be written
        return numba.njit(function, **options)


@compiled
def fault(slots, age, seen, check):  # type: ignore[no-untyped-def]
    """0 for slots [N] that are distinct and have an age [S], FREE or TWICE else; seen [S], in place, holds the number
    of the last check that met a slot, of which this is the newest.
    """
    for slot in slots:
        if slot < 0 or slot >= len(age) or age[slot] < 0:
            return FREE
    for slot in slots:
        if seen[slot] == check:
            return TWICE
        seen[slot] = check
    return 0


@compiled
def attend(keys, values, scale, slots, age, cos_sin, qkv, heads, levels, out):  # type: ignore[no-untyped-def]
    """Append each row's newest key and value to its rings, then answer its queries from all that they hold.

    keys [S, E, W] (a row per number, so that the lanes of a score are places), values [S, W, E], scale uint16
    [S, 2, W] and levels: see `model.rings`. Row i < N is of slots[i], which has folded age[i] pings before. cos_sin
    [R, 2, D/2] turns queries and keys; qkv [R, C + 2E]; out [R, C]. In place: keys, values, scale, the rows of out.
    """
    c, e, w = out.shape[1], keys.shape[1], keys.shape[2]
    dim = c // heads
    half, groups = dim // 2, e // dim
    per = heads // groups
    unit = np.float32(1 / np.sqrt(dim))
    newest = np.empty((2, e), np.float32)
    query = np.empty((per, dim), np.float32)
    key = np.empty((dim, w), np.float32)
    value = np.empty((w, dim), np.float32)
    weight = np.empty((per, w), np.float32)
    answer = np.empty((per, dim), np.float32)
    power = np.empty(w, np.int32)
    times = power.view(np.float32)
    bits = np.empty((2, w), np.uint32)
    width = bits.view(np.float32)  # the scales, widened
    for i in range(len(slots)):
        slot, place, filled = slots[i], age[i] % w, min(age[i] + 1, w)
        for g in range(groups):
            for d in range(half):
                a, b = qkv[i, c + g * dim + d], qkv[i, c + g * dim + d + half]
                newest[0, g * dim + d] = a * cos_sin[i, 0, d] - b * cos_sin[i, 1, d]
                newest[0, g * dim + d + half] = a * cos_sin[i, 1, d] + b * cos_sin[i, 0, d]
        for d in range(e):
            newest[1, d] = qkv[i, c + e + d]
        for which in range(2):
            inverse = np.float32(1)
            if levels:
                # As `rings.rounded`. The sum of zeros is NaN where a number is not finite, and so is the scale then.
                most, odd = np.float32(0), np.float32(0)
                for d in range(e):
                    most = max(most, abs(newest[which, d]))
                    odd += newest[which, d] * np.float32(0)
                width[0, 0] = most * np.float32(1 / 127) + odd
                bits[0, 0] = np.uint32(0x7FC00000) if odd != 0 else (bits[0, 0] + 0xFFFF) & np.uint32(0xFFFF0000)
                inverse = np.float32(1) / width[0, 0] if width[0, 0] > 0 else np.float32(0)
                for d in range(e):
                    newest[which, d] = np.rint(newest[which, d] * inverse) if odd == 0 else np.float32(0)
            else:
                width[0, 0] = np.float32(1)
            scale[slot, which, place] = np.uint16(bits[0, 0] >> np.uint32(16))
        for d in range(e):
            keys[slot, d, place] = newest[0, d]
            values[slot, place, d] = newest[1, d]
        for which in range(2):
            for p in range(w):
                bits[which, p] = np.uint32(scale[slot, which, p]) << np.uint32(16)
            for p in range(filled, w):
                width[which, p] = 0
        for g in range(groups):
            for j in range(per):
                first = (g * per + j) * dim
                for d in range(half):
                    a, b = qkv[i, first + d] * unit, qkv[i, first + d + half] * unit
                    query[j, d] = a * cos_sin[i, 0, d] - b * cos_sin[i, 1, d]
                    query[j, d + half] = a * cos_sin[i, 1, d] + b * cos_sin[i, 0, d]
            ring_k, ring_v = keys[slot, g * dim : (g + 1) * dim], values[slot, :, g * dim : (g + 1) * dim]
            for d in range(dim):
                for p in range(w):
                    key[d, p] = np.float32(ring_k[d, p])
            for p in range(w):
                for d in range(dim):
                    value[p, d] = np.float32(ring_v[p, d])
            _score(query, key, weight)
            for j in range(per):
                _soften(weight[j], width, filled, power, times)
            _mix(weight, value, answer)
            for j in range(per):
                for d in range(dim):
                    out[i, (g * per + j) * dim + d] = answer[j, d]


@compiled
def _score(query, key, weight):  # type: ignore[no-untyped-def]
    """weight [J, W] = query [J, D] · key [D, W]. Four numbers a pass: a load and a store of a sum for four of them."""
    heads, dim, w = query.shape[0], query.shape[1], weight.shape[1]
    whole = dim - dim % 4
    for j in range(heads):
        for p in range(w):
            weight[j, p] = 0
        for d in range(0, whole, 4):
            a, b, x, y = query[j, d], query[j, d + 1], query[j, d + 2], query[j, d + 3]
            for p in range(w):
                weight[j, p] += a * key[d, p] + b * key[d + 1, p] + x * key[d + 2, p] + y * key[d + 3, p]
        for d in range(whole, dim):
            for p in range(w):
                weight[j, p] += query[j, d] * key[d, p]


@compiled
def _soften(weight, width, filled, power, times):  # type: ignore[no-untyped-def]
    """Scores [W] to the shares of their values, the scales of both rings in; places that are not filled get 0."""
    w = len(weight)
    for p in range(w):
        weight[p] *= width[0, p]
    for p in range(filled, w):
        weight[p] = -np.inf
    most = np.float32(-np.inf)
    for p in range(w):
        most = max(most, weight[p])
    # Our own e^x (Cephes' expf): the C library's is a call per number, this a lane of sixteen.
    for p in range(w):
        x = max(weight[p] - most, np.float32(-87))
        n = np.floor(x * _LOG2_E + np.float32(0.5))
        x = x - n * _LN2_HIGH - n * _LN2_LOW
        y = np.float32(1.9875691500e-4)
        y = y * x + np.float32(1.3981999507e-3)
        y = y * x + np.float32(8.3334519073e-3)
        y = y * x + np.float32(4.1665795894e-2)
        y = y * x + np.float32(1.6666665459e-1)
        y = y * x + np.float32(5.0000001201e-1)
        weight[p] = y * x * x + x + np.float32(1)
        power[p] = (np.int32(n) + np.int32(127)) << np.int32(23)
    for p in range(filled, w):
        weight[p] = 0
    total = np.float32(0)
    for p in range(w):
        weight[p] *= times[p]
        total += weight[p]
    share = np.float32(1) / total
    for p in range(w):
        weight[p] *= share * width[1, p]


@compiled
def _mix(weight, value, answer):  # type: ignore[no-untyped-def]
    """answer [J, D] = weight [J, W] · value [W, D], four places a pass."""
    heads, w, dim = weight.shape[0], value.shape[0], value.shape[1]
    whole = w - w % 4
    for j in range(heads):
        for d in range(dim):
            answer[j, d] = 0
        for p in range(0, whole, 4):
            a, b, x, y = weight[j, p], weight[j, p + 1], weight[j, p + 2], weight[j, p + 3]
            for d in range(dim):
                answer[j, d] += a * value[p, d] + b * value[p + 1, d] + x * value[p + 2, d] + y * value[p + 3, d]
        for p in range(whole, w):
            for d in range(dim):
                answer[j, d] += weight[j, p] * value[p, d]
