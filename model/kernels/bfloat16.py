"""bfloat16 numbers in numpy, which has no such type: uint16, the upper halves of float32."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

BF16 = NDArray[np.uint16]
F32 = NDArray[np.float32]


def narrowed(numbers: F32) -> BF16:
    """Returns the nearest bfloat16 numbers, ties to even; infinity and NaN stay so."""
    return np.asarray(torch.from_numpy(np.ascontiguousarray(numbers)).bfloat16().view(torch.uint16).numpy())


def widened(halves: BF16) -> F32:
    """Returns the float32 numbers that they represent."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
