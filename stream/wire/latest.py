"""The records of the latest topic: the newest forecast of each entity, with what a map draws.

    <prefix>.latest.v1         entity id   Latest, compacted; no value once the entity has been silent for long

A record begins with the newest forecast, byte for byte as it was published, so whoever reads forecasts reads these,
too. `map` is added at its end.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from stream.wire.messages import EPOCH_MS, Forecast, WireStruct, decode, means

_MAP: Final = b',"map":'  # cannot occur in a JSON string, in which quotes are escaped


class Region(WireStruct, frozen=True):
    """The ellipse in which the entity is nine times in ten, at one time."""

    lat: Annotated[float, means("latitude of the middle in degrees, WGS84")]
    lon: Annotated[float, means("longitude of the middle in degrees, WGS84")]
    major_m: Annotated[float, means("the long half axis in metres")]
    minor_m: Annotated[float, means("the short half axis in metres")]
    bearing_deg: Annotated[float, means("where the long half axis points, in degrees clockwise from north, 0 to 180")]
    h_s: Annotated[float | None, means("seconds after the anchor; absent for the next ping")] = None


class Gap(WireStruct, frozen=True):
    """The newest silence, if it ended at most ten minutes before the anchor."""

    gap_id: Annotated[str, means("that of the gap fill")]
    revision: Annotated[int, means("that of the gap fill")]
    status: Annotated[Literal["provisional", "final"], means("that of the gap fill")]
    path: Annotated[
        tuple[tuple[int, float, float], ...],
        means(f"time ({EPOCH_MS}), latitude and longitude of each point, both ends of the silence included"),
    ]
    offset: Annotated[int, means("the offset of the gap fill's record")]


class MapView(WireStruct, frozen=True, kw_only=True):
    """The values that a map draws beside the forecast.

    The topic's writer needs `heard_ts` and the offsets to go on.
    """

    speed_mps: Annotated[float, means("metres a second on the way to the next ping")]
    course_deg: Annotated[
        float | None,
        means("direction of that way in degrees clockwise from north; absent if it is shorter than a metre"),
    ] = None
    regions: Annotated[tuple[Region, ...], means("the 90 % region of the next ping, and then of each horizon")]
    gap: Annotated[Gap | None, means("the newest silence")] = None
    heard_ts: Annotated[
        int, means(f"how far the partition's fleet had come when the entity was heard last, {EPOCH_MS}")
    ]
    offset: Annotated[int, means("the offset of the forecast's record")]


class Latest(Forecast, frozen=True, kw_only=True):
    """The newest forecast of one entity, with what a map draws. An entity that has been silent for long has a record
    without a value.
    """

    map: Annotated[MapView, means("the values that a map draws")]


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Latest)


def dumps_latest(forecast: bytes, view: MapView) -> bytes:
    """Returns the record of a forecast, whose canonical bytes it begins with."""
    return b"".join((forecast[:-1], _MAP, _ENCODER.encode(view), b"}"))


def loads_latest(raw: bytes) -> Latest:
    """Parses a record of the latest topic. Raises msgspec.DecodeError (a ValueError) for anything else."""
    return decode(_DECODER, raw)


def forecast_of(latest: bytes) -> bytes:
    """Returns the forecast's own bytes out of a record that `dumps_latest` wrote."""
    return latest[: latest.rindex(_MAP)] + b"}"
