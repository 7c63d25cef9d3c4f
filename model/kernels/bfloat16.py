"""bfloat16 numbers in numpy, which has none: uint16, the upper halves of float32. Knows bits alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

BF16 = NDArray[np.uint16]
F32 = NDArray[np.float32]


def narrowed(numbers: F32) -> BF16:
    """The nearest ones, ties to even; what is not finite stays so."""
    return np.asarray(torch.from_numpy(np.ascontiguousarray(numbers)).bfloat16().view(torch.uint16).numpy())


def widened(halves: BF16) -> F32:
    """The float32 that they stand for."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
