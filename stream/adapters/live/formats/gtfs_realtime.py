"""Reads GTFS-Realtime VehiclePositions: one answer of a feed, a FeedMessage of protocol buffers.

    entity_id    vehicle.id, or the trip's id, or the id of the FeedEntity
    ts           the vehicle's own timestamp, or the header's; seconds since 1970 UTC
    lat, lon     degrees WGS84, as 32-bit floats: a metre at most
    speed_mps    position.speed, which the format states in m/s
    heading_deg  position.bearing, degrees clockwise from north
    trip_id      trip.trip_id
    attrs        route_id, direction_id, start_date, label, stop_id and status, where the feed has them

The format: https://gtfs.org/documentation/realtime/reference/. `stream.adapters.formats.gtfs` reads archives of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError
from google.transit.gtfs_realtime_pb2 import FeedMessage, VehiclePosition

from stream.adapters.live.parsed import Parsed, Skip, ping_of, reject
from stream.adapters.live.snapshots import Sighting
from stream.wire import MAX_TEXT_CHARS, Reject

SOURCE: Final = "gtfs-rt"
_LONE_SURROGATES: Final = "surrogateescape"  # of a string that is not UTF-8; `ping_of` rejects an id with such


def read(raw: bytes, came_ms: int) -> list[Parsed]:
    """Returns a ping, a reject or a skip for each entity of a feed; one reject if it is no feed."""
    return [one.parsed for one in sightings(raw, came_ms)]


def sightings(raw: bytes, came_ms: int) -> list[Sighting]:
    """Does the same, and says of each which vehicle it is, and which part of the feed."""
    message = FeedMessage()
    try:
        message.ParseFromString(raw)
        if message.HasField("header"):
            return list(_read_sightings(message, came_ms))
        why = "no header" if raw else "it is empty"
    except (DecodeError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())[:100]
    found = reject("bad_message", f"not a GTFS-Realtime feed: {why}")
    return [Sighting("", found.code, found, raw)]


def _read_sightings(message: Any, came_ms: int) -> Iterator[Sighting]:
    feed_s = message.header.timestamp
    for item in message.entity:
        ts = item.vehicle.timestamp or feed_s
        who = _entity_id(item)
        parsed = _parse(item, who, ts, came_ms)
        if isinstance(parsed, Reject):
            yield Sighting(who, ts or parsed.code, parsed, _single_out(message, item))
        else:
            yield Sighting(who, ts, parsed)


def _parse(item: Any, who: str, ts: int, came_ms: int) -> Parsed:
    vehicle, at = item.vehicle, item.vehicle.position
    if item.is_deleted:
        return Skip("deleted")
    if not item.HasField("vehicle"):
        return Skip("no_vehicle")  # a trip update or an alert: some feeds mix them
    if not vehicle.HasField("position"):
        return Skip("no_position")
    fields = {
        "entity_id": who or None,
        "ts": ts or None,
        "lat": _get(at, "latitude"),
        "lon": _get(at, "longitude"),
        "speed_mps": _get(at, "speed"),
        "heading_deg": _get(at, "bearing"),
        "trip_id": _text(vehicle.trip.trip_id) or None,
        "source": SOURCE,
        "attrs": _attrs(vehicle) or None,
    }
    return ping_of(fields, came_ms)


def _entity_id(item: Any) -> str:
    return _text(item.vehicle.vehicle.id) or _text(item.vehicle.trip.trip_id) or _text(item.id)


def _attrs(vehicle: Any) -> dict[str, Any]:
    trip = vehicle.trip
    texts = {
        "route_id": trip.route_id,
        "start_date": trip.start_date,
        "label": vehicle.vehicle.label,
        "stop_id": vehicle.stop_id,
    }
    found: dict[str, Any] = {
        name: text for name, given in texts.items() if 0 < len(text := _text(given)) <= MAX_TEXT_CHARS
    }
    if trip.HasField("direction_id"):
        found["direction_id"] = trip.direction_id
    if vehicle.HasField("current_status"):
        found["status"] = VehiclePosition.VehicleStopStatus.Name(vehicle.current_status).lower()
    return found


def _get(message: Any, name: str) -> float | None:
    return getattr(message, name) if message.HasField(name) else None


def _text(given: str | bytes) -> str:
    return given.decode(errors=_LONE_SURROGATES) if isinstance(given, bytes) else given


def _single_out(message: Any, item: Any) -> bytes:
    """Returns the feed with one entity alone, which is again a feed."""
    part = FeedMessage()
    part.header.CopyFrom(message.header)
    part.entity.add().CopyFrom(item)
    return bytes(part.SerializePartialToString())
