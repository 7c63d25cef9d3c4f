"""The angles by which positions rotate queries and keys (Su et al., "RoFormer", 2021, arXiv 2104.09864).

Frequencies are whole numbers of turns per period, so that the angle of an index equals that of the index modulo the
period: exact for a track of any age, where float32(i) * frequency would drift.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# pings, a power of two; far above any attention window, so that no two indices in a window have the same angles
PERIOD: Final = 4096
PERIOD_MS: Final = 86_400_000  # a day, longer than a window of pings at any cadence that is evaluated
FASTEST_TURNS: Final = 652  # per PERIOD: one radian per ping
FASTEST_TIME_TURNS: Final = 13_751  # per PERIOD_MS: one radian per second

F32 = NDArray[np.float32]


def table(head_dim: int) -> F32:
    """Returns the cosines and sines of every index in a period, [PERIOD, 2, head_dim / 2]."""
    return waves(turns(head_dim // 2, FASTEST_TURNS))


def time_turns(head_dim: int) -> NDArray[np.int64]:
    """Returns the whole turns per PERIOD_MS of each pair of numbers [head_dim / 2]."""
    return np.array(turns(head_dim // 2, FASTEST_TIME_TURNS), np.int64)


def of_index(index: NDArray[np.int64], rows: F32) -> F32:
    """Returns the cosines and sines [N, 2, D/2] of indices [N], from `table`."""
    return np.asarray(rows[index & (PERIOD - 1)])


def of_time(time_ms: NDArray[Any], per_period: NDArray[np.int64]) -> F32:
    """Returns the cosines and sines [N, 2, D/2] of times [N] ms, from `time_turns`.

    The numbers are integers up to the last division: as float32, consecutive seconds since 1970 would be minutes apart.
    """
    turned = (time_ms[:, None].astype(np.int64) % PERIOD_MS * per_period) % PERIOD_MS
    angle = turned * (2 * math.pi / PERIOD_MS)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-2).astype(np.float32)


def waves(per_period: list[int]) -> F32:
    """Returns cosines and sines for whole turns per period, [PERIOD, 2, len(per_period)]."""
    index = np.arange(PERIOD, dtype=np.int64)[:, None]
    angle = 2 * math.pi * ((index * np.array(per_period, np.int64)) % PERIOD) / PERIOD
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def turns(pairs: int, fastest: int) -> list[int]:
    """Returns the whole turns per period of each pair of numbers, from one radian per unit to one turn per period."""
    exponents = [i / max(pairs - 1, 1) for i in range(pairs)]
    return [max(1, round(fastest ** (1 - x))) for x in exponents]
