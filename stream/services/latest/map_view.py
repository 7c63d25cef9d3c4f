"""What a map draws of a forecast: an arrow, and an ellipse for each time that it names."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from stream.services.latest.entities import Entity
from stream.wire import Forecast, loads_forecast
from stream.wire.latest import Gap, MapView, Region, dumps_latest
from stream.wire.positions import Cov, radius2, turn

REGION: Final = 0.9
MIN_WAY_M: Final = 1.0  # below it a course is noise
_GAP: Final = msgspec.json.Decoder(Gap)


def record_of(entity: Entity) -> bytes:
    """Returns the record of an entity that has a forecast."""
    assert entity.newest is not None
    forecast = loads_forecast(entity.newest.raw)
    step = forecast.next
    way_m = math.hypot(step.d_east_m, step.d_north_m)
    course_deg = math.degrees(math.atan2(step.d_east_m, step.d_north_m)) % 360.0
    silence = entity.find_silence()
    view = MapView(
        speed_mps=round(way_m / step.dt_s, 2) if step.dt_s > 0 else 0.0,
        course_deg=round(course_deg, 1) if way_m >= MIN_WAY_M else None,
        regions=regions(forecast),
        gap=None if silence is None else _GAP.decode(silence.raw),
        heard_ts=entity.heard_ms,
        offset=entity.newest.offset,
    )
    return dumps_latest(entity.newest.raw, view)


def regions(forecast: Forecast) -> tuple[Region, ...]:
    """Returns the 90 % region of the next ping, and of each horizon."""
    anchor, step = forecast.anchor, forecast.next
    lat, lon = anchor.lat + step.d_lat, turn(anchor.lon + step.d_lon)
    first = Region(round(lat, 7), round(lon, 7), *ellipse(step.cov_m2))
    return (first, *(Region(one.lat, one.lon, *ellipse(one.cov_m2), one.h_s) for one in forecast.horizons))


def ellipse(cov_m2: Cov) -> tuple[float, float, float]:
    """Returns both half axes in metres, and the long one's bearing in degrees, of the region that holds it with the
    chance REGION.

    The axes are the eigenvectors of the covariance (east, east with north, north), scaled for Student's t
    (`stream.wire.positions.radius2`).
    """
    ee, en, nn = cov_m2
    middle, half = (ee + nn) / 2, math.hypot((ee - nn) / 2, en)
    scale = radius2(REGION)
    long_m, short_m = (math.sqrt(max(0.0, scale * one)) for one in (middle + half, middle - half))
    bearing_deg = math.degrees(math.atan2(2 * en, nn - ee) / 2) % 180.0
    return round(long_m, 1), round(short_m, 1), round(bearing_deg, 1) % 180.0
