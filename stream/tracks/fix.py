"""The fix: the packed form of a ping that a track keeps.

It is little-endian and has 20 bytes, the same bytes as `model.api.FIX`:

    offset  size  field
         0     8  ts_ms          int64, milliseconds UTC
         8     4  lat_e7         int32, 1e-7 degrees
        12     4  lon_e7         int32, 1e-7 degrees
        16     2  speed_cms      uint16, cm/s; 65535 = absent
        18     2  heading_cdeg   uint16, 0.01 degrees clockwise from north; 65535 = absent
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.api import FIX
from stream.wire import E7, Ping

ABSENT: Final = 65_535
FIX_BYTES: Final = 20
_FIX: Final = struct.Struct("<qiiHH")


class Fix(NamedTuple):
    """One fix, unpacked."""

    ts_ms: int
    lat_e7: int
    lon_e7: int
    speed_cms: int
    heading_cdeg: int


def pack(ping: Ping) -> bytes:
    """Returns the fix of a ping: positions rounded to 1e-7 degrees, speed to cm/s, heading to 0.01 degrees."""
    speed, heading = ping.speed_mps, ping.heading_deg
    return _FIX.pack(
        ping.ts,
        round(ping.lat * E7),
        round(ping.lon * E7),
        ABSENT if speed is None else min(round(speed * 100), ABSENT - 1),
        ABSENT if heading is None else round(heading * 100) % 36_000,
    )


def unpack(packed: bytes) -> Iterator[Fix]:
    return map(Fix._make, _FIX.iter_unpack(packed))


def last_fix(window: bytes) -> Fix:
    return Fix._make(_FIX.unpack_from(window, len(window) - FIX_BYTES))


def first_ts_ms(window: bytes) -> int:
    return int.from_bytes(window[:8], "little", signed=True)


def pack_many(pings: Iterable[Ping]) -> NDArray[Any]:
    """Returns the fixes [N] of pings, as `pack` packs each."""
    columns: Sequence[Any] = list(zip(*[(p.ts, p.lat, p.lon, p.speed_mps, p.heading_deg) for p in pings], strict=True))
    ts, lat, lon, speed, heading = columns or [()] * 5
    fixes = np.empty(len(ts), FIX)
    fixes["ts_ms"] = ts
    fixes["lat_e7"], fixes["lon_e7"] = (np.rint(np.array(x, np.float64) * E7) for x in (lat, lon))
    speed, heading = (np.array(x, np.float64) for x in (speed, heading))  # None becomes NaN
    fixes["speed_cms"] = np.where(np.isnan(speed), ABSENT, np.minimum(np.rint(speed * 100), ABSENT - 1))
    fixes["heading_cdeg"] = np.where(np.isnan(heading), ABSENT, np.rint(heading * 100) % 36_000)
    return fixes
