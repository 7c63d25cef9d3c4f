"""Converts between degrees and local metres. The projection is equirectangular at the earlier fix's latitude: exact
enough for one step, cheap, and its own inverse. Angles are integers of 1e-7 deg, so that a difference is exact before
it becomes a float.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

E7: Final = 10_000_000
EARTH_RADIUS_M: Final = 6_371_008.8  # mean radius, IUGG
M_PER_DEG: Final = EARTH_RADIUS_M * np.pi / 180.0
MIN_COS_LAT: Final = 0.01  # within 0.6 deg of a pole, a degree of longitude is too short to be a useful unit

_TURN_E7: Final = 360 * E7


def to_e7(degrees: Any) -> NDArray[np.int64]:
    """Returns degrees (an array, or what numpy can make one of) in units of 1e-7 degrees, rounded."""
    rounded: NDArray[np.int64] = np.rint(np.asarray(degrees) * E7).astype(np.int64)
    return rounded


def displacement_m(lat0_e7: NDArray[Any], lon0_e7: NDArray[Any], lat1_e7: NDArray[Any], lon1_e7: NDArray[Any]) -> F64:
    """Returns the east and north metres from fix 0 to fix 1, [..., 2], by the shorter way across the antimeridian."""
    dlat = lat1_e7.astype(np.int64) - lat0_e7
    dlon = (lon1_e7.astype(np.int64) - lon0_e7 + _TURN_E7 // 2) % _TURN_E7 - _TURN_E7 // 2
    scale = M_PER_DEG / E7
    return np.stack([dlon * (scale * cos_lat(lat0_e7 / E7)), dlat * scale], axis=-1)


def move_deg(lat_deg: F64, lon_deg: F64, en_m: F64) -> tuple[F64, F64]:
    """Returns latitude and longitude after a move of east and north metres [..., 2]; longitude is in [-180, 180)."""
    lat = np.clip(lat_deg + en_m[..., 1] / M_PER_DEG, -90.0, 90.0)
    lon = lon_deg + en_m[..., 0] / (M_PER_DEG * cos_lat(lat_deg))
    return lat, (lon + 180.0) % 360.0 - 180.0


def cos_lat(lat_deg: F64) -> F64:
    return np.maximum(np.cos(np.radians(lat_deg)), MIN_COS_LAT)


def haversine_m(lat0_deg: F64, lon0_deg: F64, lat1_deg: F64, lon1_deg: F64) -> F64:
    """Returns the great-circle distance in metres between two points; arguments broadcast."""
    lat0, lat1 = np.radians(lat0_deg), np.radians(lat1_deg)
    half = np.sin((lat1 - lat0) / 2) ** 2
    half = half + np.cos(lat0) * np.cos(lat1) * np.sin(np.radians(np.asarray(lon1_deg) - lon0_deg) / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(half, 1.0))), dtype=np.float64)
