"""Layers in float32 as their definitions say: plain loops, which every CPU can run and numba makes vectors of.

The fast products are in `model.kernels.linear`. These serve where exactness matters more than time (the precision
"float32", gap fills) and on a CPU that has no fused multiply-add.

The order in which a row is summed does not depend on the number of rows, so its bits do not depend on its batch.

Shapes: N rows, K inputs and M outputs of a layer.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from model.jit import compiled

_ROOT_HALF = math.sqrt(0.5)
_EPS = 1e-5  # the eps of torch.nn.LayerNorm


@compiled
def linear_into(x, weight, bias, out):  # type: ignore[no-untyped-def]
    """Computes out [N, M] = x [N, K] · weight [K, M] + bias [M]."""
    for i in range(len(x)):
        row = out[i]
        for j in range(len(row)):
            row[j] = bias[j]
        for k in range(x.shape[1]):
            number = x[i, k]
            for j in range(len(row)):
                row[j] += number * weight[k, j]


@compiled
def gelu_into(x, out):  # type: ignore[no-untyped-def]
    """Computes out [N, M] = x · Φ(x), with the exact error function."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            number = np.float64(x[i, j])
            out[i, j] = 0.5 * number * (1.0 + math.erf(number * _ROOT_HALF))


@compiled
def norm_into(x, gain, shift, out):  # type: ignore[no-untyped-def]
    """Computes LayerNorm of rows x [N, M]."""
    for i in range(x.shape[0]):
        mean, square = 0.0, 0.0
        for j in range(x.shape[1]):
            mean += x[i, j]
        mean /= x.shape[1]
        for j in range(x.shape[1]):
            square += (x[i, j] - mean) * (x[i, j] - mean)
        unit = 1.0 / math.sqrt(square / x.shape[1] + _EPS)
        for j in range(x.shape[1]):
            out[i, j] = normalize(x[i, j], mean, unit, gain[j], shift[j])


# Rounded as it is written. Which of two versions of a loop runs depends on how far apart its arrays lie, and where LLVM
# may choose the order of products, it chose another one in each version.
@partial(compiled, maths=())
def normalize(x, mean, unit, gain, shift):  # type: ignore[no-untyped-def]
    """Returns one number of a LayerNorm, whose row has this mean and is divided by 1 / unit."""
    return (x - mean) * unit * gain + shift
