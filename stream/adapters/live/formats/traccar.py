"""Reads the positions that Traccar forwards as JSON: into Kafka, by HTTP or by MQTT (`forward.type`).

A message is `{"position": {...}, "device": {...}}`, as org.traccar.forward.PositionData is written; fields and units
are those of org.traccar.model.Position and Device. What a position becomes:

    device.uniqueId          entity_id: the tracker's own number, such as its IMEI. Not device.id, a row of Traccar's
                             database, which is also the key of Traccar's Kafka records
    fixTime                  ts; deviceTime, if there is none. ISO times
    serverTime               received_ts
    latitude, longitude      degrees, as they are
    speed                    knots: speed_mps
    course, altitude         degrees, metres: heading_deg, alt_m. Left out if 0, which Traccar writes for unknown
    accuracy                 metres: accuracy_m. Left out if 0
    valid                    false is a reject
    attributes.hdop, .sat    hdop, sats
    device.category          category
    other attributes         attrs: flags, numbers and texts, 32 at most

A position that is `outdated` repeats the last known one, as the device sent no fix: a skip. One that Traccar has
located by cell towers or Wi-Fi (`approximate`) is a ping without speed, course and altitude, which Traccar sets to 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from stream.adapters.live.json_messages import decode_object, is_plain, number, unless_zero
from stream.adapters.live.parsed import KNOT_MPS, Parsed, Skip, ping_of, reject
from stream.wire import MAX_ATTRS, Reject
from stream.wire.ping_rules import event_time_ms

NAME: Final = "traccar"
OWN: Final = "pathcastForecast"  # the attribute of positions that are forecasts of ours (stream/ingest/traccar_back.py)
LEFT_OUT: Final = frozenset({"raw", "hdop", "sat"})  # the message of the device in hex; and what has fields of its own
MAX_ATTR_CHARS: Final = 64  # of a name
_OLD_ZONE: Final = re.compile(
    r"([+-]\d\d)(\d\d)$"
)  # before Traccar 5 times ended in +0000, which RFC 3339 does not have


def read(raw: bytes, came_ms: int) -> list[Parsed]:
    """Returns the ping of a message, a reject or a skip. Never raises."""
    found = decode_object(raw)
    if isinstance(found, Reject):
        return [found]
    if isinstance(found.get("event"), dict):
        return [Skip("event")]  # `event.forward.topic` is the same topic; its position came by itself
    position, device = found.get("position"), found.get("device")
    if not isinstance(position, dict) or not isinstance(device, dict):
        return [reject("missing_field", "expected are position and device: is forward.type kafka, json or mqtt?")]
    given = position.get("attributes")
    attributes = given if isinstance(given, dict) else {}
    if OWN in attributes:
        return [Skip("own_forecast")]
    if position.get("outdated") is True and attributes.get("approximate") is not True:
        return [Skip("outdated")]
    return [ping_of(_map_fields(position, device, attributes), came_ms)]


def _map_fields(
    position: Mapping[str, Any], device: Mapping[str, Any], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    measured = attributes.get("approximate") is not True
    speed_kn, sats = number(position.get("speed")), number(attributes.get("sat"))
    return {
        "entity_id": device.get("uniqueId"),
        "ts": _time(position.get("fixTime") or position.get("deviceTime")),
        "lat": position.get("latitude"),
        "lon": position.get("longitude"),
        "alt_m": unless_zero(position.get("altitude")) if measured else None,
        "speed_mps": speed_kn * KNOT_MPS if measured and speed_kn is not None else None,
        "heading_deg": unless_zero(position.get("course")) if measured else None,
        "accuracy_m": unless_zero(position.get("accuracy")),
        "hdop": unless_zero(attributes.get("hdop")),
        "sats": sats,
        "valid": position.get("valid"),
        "received_ts": event_time_ms(_time(position.get("serverTime"))),
        "category": device.get("category"),
        "source": NAME,
        "attrs": _attrs(attributes),
    }


def _time(given: object) -> object:
    return _OLD_ZONE.sub(r"\1:\2", given) if isinstance(given, str) else given


def _attrs(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    kept = (
        (name, value)
        for name, value in attributes.items()
        if name not in LEFT_OUT and len(name) <= MAX_ATTR_CHARS and is_plain(value)
    )
    return dict(islice(kept, MAX_ATTRS)) or None
