"""bfloat16 numbers in numpy, which has no such type: uint16, the upper halves of float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BF16 = NDArray[np.uint16]
F32 = NDArray[np.float32]


def narrow(numbers: F32) -> BF16:
    """Returns the nearest bfloat16 numbers, ties to even; infinity and NaN stay so."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    halves = ((bits + ((bits >> 16) & 1) + 0x7FFF) >> 16).astype(np.uint16)
    # Adding to a NaN's bits could carry into the sign and give a number.
    return np.where(np.isnan(numbers), np.uint16(0x7FC0), halves)


def widen(halves: BF16) -> F32:
    """Returns the float32 numbers that they represent."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
