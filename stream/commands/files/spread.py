"""The spread of a position as one number."""

from __future__ import annotations

import math


def sigma_m(cov_m2: tuple[float, float, float]) -> float:
    """Returns the standard deviation in metres in the direction where it is largest, from a covariance (east, east
    with north, north; m²), to the decimetre."""
    ee, en, nn = cov_m2
    return round(math.sqrt(max((ee + nn) / 2 + math.hypot((ee - nn) / 2, en), 0.0)), 1)
