"""The records of the latest topic: the newest forecast of each entity, with what a map draws.

    <prefix>.latest.v1         entity id   Latest, compacted; no value once the entity has been silent for long

A record begins with the newest forecast, byte for byte as it was published, so whoever reads forecasts reads these,
too. `map` is added at its end.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from stream.wire.messages import Forecast, decoded

_MAP: Final = b',"map":'  # cannot occur in a JSON string, in which quotes are escaped


class _Wire(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record that leaves out each field equal to its default (None), so absent fields stay absent."""


class Region(_Wire, frozen=True):
    """Where the entity is nine times in ten at one time: an ellipse around a place.

    `h_s` is the time after the anchor; it is absent for the next ping, which is first. The long half axis points to
    `bearing_deg`, clockwise from north, 0 to 180.
    """

    lat: float
    lon: float
    major_m: float
    minor_m: float
    bearing_deg: float
    h_s: float | None = None


class Gap(_Wire, frozen=True):
    """The newest silence, if it ended at most ten minutes before the anchor, and the path that fills it.

    `path` has time (ms UTC), latitude and longitude of each point, both ends included.
    """

    gap_id: str
    revision: int
    status: Literal["provisional", "final"]
    path: tuple[tuple[int, float, float], ...]
    offset: int  # of the gap fill's record


class MapView(_Wire, frozen=True, kw_only=True):
    """What a map draws beside the forecast, and what the topic's writer needs to go on.

    `course_deg` (clockwise from north) and `speed_mps` are those of the way to the next ping; `course_deg` is absent
    for an entity that is not expected to move by a metre.
    """

    speed_mps: float
    course_deg: float | None = None
    regions: tuple[Region, ...]
    gap: Gap | None = None
    heard_ts: int  # how far the partition's fleet had come, by its pings' times, when the entity was heard last
    offset: int  # of the forecast's record


class Latest(Forecast, frozen=True, kw_only=True):
    """The newest forecast of one entity, and what a map draws."""

    map: MapView


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Latest)


def dumps_latest(forecast: bytes, view: MapView) -> bytes:
    """Returns the record of a forecast, whose canonical bytes it begins with."""
    return b"".join((forecast[:-1], _MAP, _ENCODER.encode(view), b"}"))


def loads_latest(raw: bytes) -> Latest:
    """Parses a record of the latest topic. Raises msgspec.DecodeError (a ValueError) for anything else."""
    return decoded(_DECODER, raw)


def forecast_of(latest: bytes) -> bytes:
    """Returns the forecast's own bytes out of a record that `dumps_latest` wrote."""
    return latest[: latest.rindex(_MAP)] + b"}"
