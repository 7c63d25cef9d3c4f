"""Compiled attention that reads the ring buffers of the key/value cache in place.

numpy or torch would gather 8 KiB per row, widen it fourfold and transpose it; this reads each ring buffer once. The
definition is `model.network.transformer.Block.attend` on the contents of `model.serving.kv_cache`; the tests hold this
module to it.

numba compiles it on the first call with these types, so `Predictor` makes that call when it is created: seconds of
compiling would stall a worker. The GIL is released during the calls.

Shapes: S slots, N <= R rows, W places, G key heads, H heads, J = H / G, D of a head, C = H·D, E = G·D, P places of a
tile (64, or 16 where registers are small), W/P rounded up.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from model.jit import compiled
from model.kernels import tiles

FREE, TWICE = 1, 2  # results of `fault`
KEY_LEVELS, VALUE_LEVELS = 127, 31  # levels on either side of 0: 8 bits of a key, 6 of a value
# sizes of a tile
_HEADS, _PLACES, _NUMBERS = tiles.SCORES[0], tiles.SCORES[1] * tiles.LANES, tiles.ANSWERS[1] * tiles.LANES
_LOG2_E: Final = np.float32(1.4426950408889634)
# the two add up to ln 2; the high part has few bits, so that n times it is exact
_LN2_HIGH: Final = np.float32(0.693359375)
_LN2_LOW: Final = np.float32(-2.12194440e-4)


@compiled
def fault(slots, age, seen, check):  # type: ignore[no-untyped-def]
    """Returns 0 for slots [N] that are distinct and have an age [S], else FREE or TWICE. `seen` [S] is updated in
    place: it holds the number of the last check that met a slot, and `check` is the newest.
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
def attend(keys, values, slots, age, cos_sin, qkv, heads, asked, out):  # type: ignore[no-untyped-def]
    """Appends each row's newest key and value to its ring buffers, then answers its queries, where `asked` [N] is true,
    from all that they hold.

    keys [S, E, W] (one row per number, so that the lanes of a score are places) and values [S, W, E] are float32. Row i
    < N belongs to slots[i], which has folded age[i] pings before; a slot's rows come in the order of its pings. cos_sin
    [R, 2, D/2] rotates queries and keys; qkv [R, C + 2E]; out [R, C]. In place: keys, values, the rows of out.
    """
    e, w, c = keys.shape[1], keys.shape[2], out.shape[1]
    turned, _, key, value, width, weight, answer, sort = _room(e, w, heads, c)
    width[:] = 1
    for i in range(len(slots)):
        slot, place, filled = slots[i], age[i] % w, min(age[i] + 1, w)
        _turn(qkv[i], cos_sin[i], turned)
        own = turned[heads : heads + e * heads // c].reshape(e)
        for d in range(e):
            keys[slot, d, place] = own[d]
            values[slot, place, d] = qkv[i, c + e + d]
        if not asked[i]:
            continue
        own_keys, own_values = keys[slot].reshape(e * w), values[slot].reshape(w * e)
        for p in range(e * w):
            key[p], value[p] = own_keys[p], own_values[p]
        _answer(turned, heads, key, value, width, filled, w, weight, answer, sort, out[i])


@compiled
def attend_rounded(keys, values, scale, slots, age, cos_sin, qkv, heads, asked, out):  # type: ignore[no-untyped-def]
    """The same for rounded numbers, in the layout of `model.serving.kv_cache`: keys int8 [S, E, W], values uint8 [S, 3,
    W/4, E], scale uint16 [S, 2, W].
    """
    e, w, c = keys.shape[1], keys.shape[2], out.shape[1]
    turned, newest, key, value, width, weight, answer, sort = _room(e, w, heads, c)
    bits = width.reshape(2, width[0].size).view(np.uint32)
    for i in range(len(slots)):
        slot, place, filled = slots[i], age[i] % w, min(age[i] + 1, w)
        if i + 1 < len(slots):
            _fetch(keys, slots[i + 1])
            _fetch(values, slots[i + 1])
            _fetch(scale, slots[i + 1])
        _turn(qkv[i], cos_sin[i], turned)
        own = turned[heads : heads + e * heads // c].reshape(e)
        for d in range(e):
            newest[d] = own[d]
        scale[slot, 0, place] = _round(newest, KEY_LEVELS)
        for d in range(e):
            keys[slot, d, place] = newest[d]
        for d in range(e):
            newest[d] = qkv[i, c + e + d]
        scale[slot, 1, place] = _round(newest, VALUE_LEVELS)
        _pack(newest, values[slot], place)
        if not asked[i]:
            continue
        for which in range(2):
            for p in range(w):
                bits[which, p] = np.uint32(scale[slot, which, p]) << np.uint32(16)
        _widen(keys[slot].reshape(e * w), key)
        _unpack(values[slot], value)
        _answer(turned, heads, key, value, width, filled, w, weight, answer, sort, out[i])


@compiled
def _fetch(rings, slot):  # type: ignore[no-untyped-def]
    """Prefetches the next row's ring buffers while this row is answered, so that the CPU does not wait for each."""
    tiles.fetch(rings.ctypes.data + slot * rings.strides[0], rings.strides[0])  # type: ignore[call-arg]  # its context


@compiled
def _room(e, w, heads, c):  # type: ignore[no-untyped-def]
    """Allocates arrays for one row: queries and keys [H + G, 2, D/2], a key or value [E], keys, values, their scales
    [2, W/P, P], weights [J, W/P, P], answers [J, D], numbers to sort by. They are whole tiles; the first, the keys and
    the values have room at their end for what a tile reads beyond them.
    """
    dim = c // heads
    groups = e // dim
    per, places, numbers = _whole(heads // groups, _HEADS), _whole(w, _PLACES), _whole(dim, _NUMBERS)
    return (
        np.zeros((heads + groups + _HEADS, 2, dim // 2), np.float32),
        np.zeros(e, np.float32),
        np.zeros(e * w + _PLACES, np.float32),
        np.zeros(_whole(w, 4) * e + _NUMBERS, np.float32),
        np.zeros((2, places // _PLACES, _PLACES), np.float32),
        np.zeros((per, places // _PLACES, _PLACES), np.float32),
        np.zeros((per, numbers), np.float32),
        np.zeros(_PLACES, np.int32),
    )


@compiled
def _whole(n, of):  # type: ignore[no-untyped-def]
    return (n + of - 1) // of * of


@compiled
def _turn(qkv, cos_sin, turned):  # type: ignore[no-untyped-def]
    """`positions.rotate` of a row's queries and keys, into turned [H + G, 2, D/2]; a tile reads on after their end."""
    half = turned.shape[2]
    heads = len(qkv) // (2 * half)
    x = qkv[: 2 * half * heads].reshape(heads, 2, half)
    for h in range(min(heads, len(turned))):
        for d in range(half):
            turned[h, 0, d] = x[h, 0, d] * cos_sin[0, d] - x[h, 1, d] * cos_sin[1, d]
            turned[h, 1, d] = x[h, 0, d] * cos_sin[1, d] + x[h, 1, d] * cos_sin[0, d]


@compiled
def _round(x, levels):  # type: ignore[no-untyped-def]
    """Rounds x [E] to integers of at most `levels` in size, in place, and returns their scale: the upper half of a
    float32, rounded up. Numbers that are not finite give zeros with a scale of NaN.
    """
    most = np.int32(0)
    for d in range(len(x)):
        # the bits of a positive float sort as the float does
        most = max(most, np.int32(np.float32(x[d]).view(np.int32) & np.int32(0x7FFFFFFF)))
    if most >= 0x7F800000:
        x[:] = 0
        return np.uint16(0x7FC0)
    step = np.float32(np.int32(most).view(np.float32) * np.float32(1 / levels)).view(np.uint32)
    half = np.uint16((step + np.uint32(0xFFFF)) >> np.uint32(16))
    wide = np.uint32(np.uint32(half) << np.uint32(16)).view(np.float32)
    inverse = np.float32(1) / wide if wide > 0 else np.float32(0)
    for d in range(len(x)):
        x[d] = np.rint(x[d] * inverse)
    return half


@compiled
def _pack(x, ring, place):  # type: ignore[no-untyped-def]
    """Writes integers x [E] of -32..31 to a place of a ring buffer of six bits [3, W/4, E]."""
    third, row = place // ring.shape[1], place % ring.shape[1]
    for d in range(len(x)):
        six = np.uint8(np.int32(x[d]) + 32)
        if third < 3:
            ring[third, row, d] = (ring[third, row, d] & np.uint8(0xC0)) | six
        else:
            for k in range(3):
                two = (six >> np.uint8(2 * k)) & np.uint8(3)
                ring[k, row, d] = (ring[k, row, d] & np.uint8(0x3F)) | np.uint8(two << np.uint8(6))


@compiled
def _unpack(ring, out):  # type: ignore[no-untyped-def]
    """Reads all numbers of a ring buffer of six bits [3, W/4, E] into out, by places."""
    n = ring.shape[1] * ring.shape[2]
    a, b, c = ring[0].reshape(n), ring[1].reshape(n), ring[2].reshape(n)
    by = out[: 4 * n].reshape(4, n)
    for i in range(n):
        by[0, i] = np.float32(np.uint8(a[i] & np.uint8(0x3F))) - np.float32(32)
    for i in range(n):
        by[1, i] = np.float32(np.uint8(b[i] & np.uint8(0x3F))) - np.float32(32)
    for i in range(n):
        by[2, i] = np.float32(np.uint8(c[i] & np.uint8(0x3F))) - np.float32(32)
    for i in range(n):
        by[3, i] = np.float32(_fourth(a[i], b[i], c[i])) - np.float32(32)


@compiled
def repack(rings, n, out):  # type: ignore[no-untyped-def]
    """Copies the first n places of ring buffers of six bits [B, 3, M, E] to ring buffers with another M, in place;
    other places stay.
    """
    numbers = np.empty(rings.shape[3], np.float32)
    for b in range(len(rings)):
        for place in range(n):
            third, row = place // rings.shape[2], place % rings.shape[2]
            for d in range(len(numbers)):
                six = np.uint8(rings[b, min(third, 2), row, d] & np.uint8(0x3F))
                if third == 3:
                    six = _fourth(rings[b, 0, row, d], rings[b, 1, row, d], rings[b, 2, row, d])
                numbers[d] = np.float32(six) - np.float32(32)
            _pack(numbers, out[b], place)


@compiled
def _fourth(a, b, c):  # type: ignore[no-untyped-def]
    """Returns the number of six bits in the upper two bits of three bytes."""
    low = np.uint8(np.uint8(a >> np.uint8(6)) | np.uint8(np.uint8(b >> np.uint8(6)) << np.uint8(2)))
    return np.uint8(low | np.uint8(np.uint8(c >> np.uint8(6)) << np.uint8(4)))


@compiled
def _widen(x, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = np.float32(x[i])


@compiled
def _answer(turned, heads, key, value, width, filled, w, weight, answer, sort, out):  # type: ignore[no-untyped-def]
    """Computes out [C] of one row: the softmax of its queries times keys [E, W], times values [W, E]."""
    dim, places, numbers = len(out) // heads, weight[0].size, answer.shape[1]
    e = (len(key) - _PLACES) // w
    groups, unit = e // dim, np.float32(1 / np.sqrt(dim))
    per = heads // groups
    for g in range(groups):
        for j in range(0, per, _HEADS):
            asks, to = turned.ctypes.data + (g * per + j) * dim * 4, weight.ctypes.data + j * places * 4
            for p in range(0, w, _PLACES):
                of = key.ctypes.data + (g * dim * w + p) * 4
                tiles.scores(asks, dim * 4, of, w * 4, dim, to + p * 4, places * 4)
        for j in range(per):
            _soften(weight[j], width, unit, filled, sort)
        for j in range(0, per, _HEADS):
            shares, to = weight.ctypes.data + j * places * 4, answer.ctypes.data + j * numbers * 4
            for d in range(0, dim, _NUMBERS):
                of = value.ctypes.data + (g * dim + d) * 4
                tiles.answers(shares, places * 4, of, e * 4, filled, to + d * 4, numbers * 4)
        for j in range(per):
            for d in range(dim):
                out[(g * per + j) * dim + d] = answer[j, d]


@compiled
def _soften(weight, width, unit, filled, sort):  # type: ignore[no-untyped-def]
    """Turns scores [W/P, P] into softmax weights, in place, with the scales of keys and values applied; empty places
    get 0.
    """
    most = np.int32(-0x7FFFFFFF)
    for i in range(len(weight)):
        left = np.int32(filled - i * _PLACES)
        for p in range(_PLACES):
            weight[i, p] = weight[i, p] * unit * width[0, i, p] if np.int32(p) < left else -np.inf
        for p in range(_PLACES):
            sort[p] = _sortable_bits(np.float32(weight[i, p]).view(np.int32))
        for p in range(len(sort)):
            most = max(most, sort[p])
    top = np.int32(_sortable_bits(most)).view(np.float32)
    total = np.float32(0)
    # An exponential of our own (Cephes' expf): the C library's is a call per number, this is one lane of sixteen.
    for i in range(len(weight)):
        for p in range(_PLACES):
            x = max(weight[i, p] - top, np.float32(-87))
            n = np.floor(x * _LOG2_E + np.float32(0.5))
            x = x - n * _LN2_HIGH - n * _LN2_LOW
            y = np.float32(1.9875691500e-4)
            y = y * x + np.float32(1.3981999507e-3)
            y = y * x + np.float32(8.3334519073e-3)
            y = y * x + np.float32(4.1665795894e-2)
            y = y * x + np.float32(1.6666665459e-1)
            y = y * x + np.float32(5.0000001201e-1)
            times = np.int32(np.int32(np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
            weight[i, p] = (y * x * x + x + np.float32(1)) * times
            total += weight[i, p]
    share = np.float32(1) / total
    for i in range(len(weight)):
        for p in range(_PLACES):
            weight[i, p] *= share * width[1, i, p]


@compiled
def _sortable_bits(bits):  # type: ignore[no-untyped-def]
    """Maps a float32's bits to an integer that sorts as the float does, with NaN above all; the same function maps it
    back.
    """
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
