"""Computes BLAKE2b (RFC 7693) of many texts at once, in compiled code.

This is the fast version of `hashlib.blake2b`; tests/stream/engine/test_blake2b.py holds it to that. A batch has an id
for each forecast: through Python's bytes and objects, one by one, each took 0.4 us; here it takes 0.1 us.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from model.jit import compiled
from stream.kafka.columns import BytesColumn, copied

BYTES: Final = 16  # of a digest
CHARS: Final = 2 * BYTES  # as hexadecimal text
_BLOCK: Final = 128  # bytes
_PARAMETERS: Final = np.uint64(0x01010000 | BYTES)  # no key, no tree
_START: Final = np.array(
    [
        0x6A09E667F3BCC908,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    ],
    np.uint64,
)
_ROUNDS: Final = 12
# The order in which each round mixes the words of the block; after the last row the first is used again.
_ORDER: Final = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
        [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
        [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
        [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
        [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
        [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
        [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
        [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
        [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    ],
    np.uint64,
)
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)


def digests(texts: BytesColumn) -> BytesColumn:
    """Returns `hashlib.blake2b(text, digest_size=BYTES).hexdigest()` of each text."""
    out = np.empty(CHARS * len(texts.start), np.uint8)
    _digest(*texts, out)
    return BytesColumn.of_width(out, CHARS)


@compiled
def _turned(word, by):  # type: ignore[no-untyped-def]
    return (word >> np.uint64(by)) | (word << np.uint64(64 - by))


@compiled
def _mix(a, b, c, d, x, y):  # type: ignore[no-untyped-def]
    a = a + b + x
    d = _turned(d ^ a, 32)
    c = c + d
    b = _turned(b ^ c, 24)
    a = a + b + y
    d = _turned(d ^ a, 16)
    c = c + d
    b = _turned(b ^ c, 63)
    return a, b, c, d


@compiled
def _digest(raw, start, end, out):  # type: ignore[no-untyped-def]
    block, h = np.empty(_BLOCK, np.uint8), np.empty(8, np.uint64)
    words = block.view(np.uint64)
    for i in range(len(start)):
        h[:] = _START
        h[0] ^= _PARAMETERS
        at = start[i]
        while True:
            upto = min(at + _BLOCK, end[i])
            copied(raw, at, upto, block, 0)
            block[upto - at :] = 0
            at, last = upto, upto == end[i]
            a, b, c, d, e, f, g, j = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
            k, l, m, n = _START[0], _START[1], _START[2], _START[3]  # noqa: E741
            p, q, r, s = _START[4] ^ np.uint64(at - start[i]), _START[5], _START[6], _START[7]
            if last:
                r = ~r
            for outcome in range(_ROUNDS):
                o = _ORDER[outcome % len(_ORDER)]
                a, e, k, p = _mix(a, e, k, p, words[o[0]], words[o[1]])
                b, f, l, q = _mix(b, f, l, q, words[o[2]], words[o[3]])  # noqa: E741
                c, g, m, r = _mix(c, g, m, r, words[o[4]], words[o[5]])
                d, j, n, s = _mix(d, j, n, s, words[o[6]], words[o[7]])
                a, f, m, s = _mix(a, f, m, s, words[o[8]], words[o[9]])
                b, g, n, p = _mix(b, g, n, p, words[o[10]], words[o[11]])
                c, j, k, q = _mix(c, j, k, q, words[o[12]], words[o[13]])
                d, e, l, r = _mix(d, e, l, r, words[o[14]], words[o[15]])  # noqa: E741
            one, other = (a, b, c, d, e, f, g, j), (k, l, m, n, p, q, r, s)
            for w in range(8):
                h[w] ^= one[w] ^ other[w]
            if last:
                break
        for byte in range(BYTES):
            value = np.uint8(h[byte >> 3] >> np.uint64(8 * (byte & 7)))
            out[CHARS * i + 2 * byte] = _HEX[value >> 4]
            out[CHARS * i + 2 * byte + 1] = _HEX[value & 15]
