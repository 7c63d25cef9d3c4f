"""Reads the JSON of the OwnTracks apps, over MQTT or HTTP.

The format is that of https://owntracks.org/booklet/tech/json. What a location becomes:

    lat, lon    degrees, as they are
    tst         epoch seconds: ts
    vel         km/h: speed_mps
    cog         degrees: heading_deg; left out if it is 0 and the phone does not move
    acc         metres: accuracy_m; left out if 0
    alt         metres above sea level: alt_m; left out if 0, which some phones send always
    vac, batt, bs, t, tid, conn, m, p    attributes, see ATTRIBUTES

What else a phone tells of its owner is left out: names of networks (SSID, BSSID), of regions and of places.

The entity is USER/DEVICE: the last two levels of the topic `owntracks/USER/DEVICE`, or the headers X-Limit-U and
X-Limit-D, so that a phone that changes from MQTT to HTTP stays the same entity. If the transport names neither, it is
the payload's own `topic` (the apps write it in HTTP mode), and at last its `tid`. A tid has two characters, which the
app takes from the device's name, so that two phones may have the same one: then they would be one entity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stream.adapters.live.json_messages import decode_object, is_plain, number, unless_zero
from stream.adapters.live.parsed import KMH_MPS, Parsed, Skip, ping_of, reject
from stream.wire import Reject

NAME: Final = "owntracks"
# Messages that the apps send besides locations.
OTHERS: Final = frozenset(
    {
        "beacon",
        "card",
        "cmd",
        "configuration",
        "dump",
        "lwt",
        "request",
        "status",
        "steps",
        "transition",
        "waypoint",
        "waypoints",
    }
)
ATTRIBUTES: Final = {
    "tid": "tid",
    "t": "trigger",
    "m": "monitoring",
    "batt": "battery_percent",
    "bs": "battery_status",
    "vac": "vertical_accuracy_m",
    "p": "pressure_kpa",
    "conn": "connection",
}


def read(raw: bytes, came_ms: int, device: str = "") -> list[Parsed]:
    """Returns the ping of a message, a reject or a skip. Never raises.

    `device` is USER/DEVICE, as the transport knows it (`device_of`); without it the payload must name one.
    """
    if not raw:
        return [Skip("empty")]  # the apps clear a retained message so, when a device is deleted
    found = decode_object(raw)
    if isinstance(found, Reject):
        return [found]
    kind = found.get("_type")
    if kind == "location":
        return [ping_of(_map_fields(found, device), came_ms)]
    if kind == "encrypted":
        return [
            reject(
                "missing_field",
                "ts, lat and lon are encrypted, and only the sender's key opens them: remove the encryption key in the "
                "app's settings and protect the way with TLS, or decrypt before",
            )
        ]
    if isinstance(kind, str):
        return [Skip(kind if kind in OTHERS else "other_type")]
    return [reject("missing_field", "it has no _type: is it a message of OwnTracks?")]


def device_of(topic: str) -> str:
    """Returns USER/DEVICE of a topic to which an app publishes locations; "" if it has fewer than three levels."""
    levels = topic.rsplit("/", 2)
    return f"{levels[1]}/{levels[2]}" if len(levels) == 3 and levels[1] and levels[2] else ""


def device_of_request(headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    """Returns USER/DEVICE of a request of HTTP mode: of its headers, or else of u and d in its URL; "" if neither has
    both. The names of headers must be found in any case."""
    user = headers.get("X-Limit-U") or query.get("u", "")
    device = headers.get("X-Limit-D") or query.get("d", "")
    return f"{user}/{device}" if user and device else ""


def _map_fields(found: Mapping[str, Any], device: str) -> dict[str, Any]:
    vel_kmh, cog_deg = number(found.get("vel")), number(found.get("cog"))
    stands = not vel_kmh and not cog_deg
    return {
        "entity_id": device or _own_device(found),
        "ts": found.get("tst"),
        "lat": found.get("lat"),
        "lon": found.get("lon"),
        "alt_m": unless_zero(found.get("alt")),
        "speed_mps": None if vel_kmh is None else vel_kmh * KMH_MPS,
        "heading_deg": None if stands else cog_deg,
        "accuracy_m": unless_zero(found.get("acc")),
        "source": NAME,
        "attrs": {name: found[key] for key, name in ATTRIBUTES.items() if is_plain(found.get(key))} or None,
    }


def _own_device(found: Mapping[str, Any]) -> str | None:
    topic, tid = found.get("topic"), found.get("tid")
    of_topic = device_of(topic) if isinstance(topic, str) else ""
    return of_topic or (tid if isinstance(tid, str) and tid else None)
