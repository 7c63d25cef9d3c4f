"""FIX records at places of a made-up town, in metres."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.api import FIX

LAT_E7: Final = 302_700_000
LON_E7: Final = -977_400_000
E7_NORTH: Final = 89.93216  # of a metre
E7_EAST: Final = 89.93216 / np.cos(np.radians(30.27))


def fixes_at(places_m: Any, ts_s: Any) -> NDArray[Any]:
    """FIX records at places [R, 2], east and north of the middle, and times [R]."""
    places = np.asarray(places_m, float)
    fixes = np.zeros(len(places), FIX)
    fixes["ts_ms"] = np.rint(1000 * np.asarray(ts_s, float))
    fixes["lat_e7"] = LAT_E7 + np.rint(places[:, 1] * E7_NORTH)
    fixes["lon_e7"] = LON_E7 + np.rint(places[:, 0] * E7_EAST)
    return fixes
