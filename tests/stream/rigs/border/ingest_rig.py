"""Messages of OwnTracks and Traccar in any number, each with a time that no other has. Tests import this; it tests
nothing itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

DEVICES = 40


def owntracks(number: int, since_s: int) -> tuple[str, bytes]:
    """Topic and payload of a message: a phone that drives east."""
    device = number % DEVICES
    message = {
        "_type": "location",
        "acc": 12,
        "batt": 88,
        "cog": 90,
        "lat": round(48.8 + device * 1e-3, 6),
        "lon": round(2.3 + number * 1e-6, 6),
        "t": "t",
        "tid": f"{device:02}",
        "tst": since_s + number,
        "vel": 36,
    }
    return f"owntracks/u{device}/phone", json.dumps(message).encode()


def traccar(number: int, since_s: int) -> tuple[bytes, bytes]:
    """Key and value of a record that Traccar forwards: a bus that drives east at 10 m/s."""
    device = number % DEVICES
    time = datetime.fromtimestamp(since_s + number, UTC).isoformat(timespec="milliseconds")
    position: dict[str, Any] = {
        "id": 0,
        "attributes": {"sat": 11, "ignition": True, "motion": True, "distance": 10.0, "totalDistance": 10.0 * number},
        "deviceId": device + 1,
        "protocol": "teltonika",
        "serverTime": time,
        "deviceTime": time,
        "fixTime": time,
        "outdated": False,
        "valid": True,
        "latitude": round(30.2 + device * 1e-3, 6),
        "longitude": round(-97.7 + number * 1e-6, 6),
        "altitude": 150.0,
        "speed": 19.438445,
        "course": 90.0,
        "address": None,
        "accuracy": 0.0,
        "network": None,
        "geofenceIds": None,
    }
    known = {"id": device + 1, "attributes": {}, "groupId": 0, "name": f"Bus {device}", "uniqueId": imei(device)}
    more = {"status": "online", "lastUpdate": time, "positionId": 0, "category": "bus", "disabled": False}
    value = {"position": position, "device": {**known, **more}}
    return str(device + 1).encode(), json.dumps(value).encode()


def imei(device: int) -> str:
    return f"35209308{device:07}"


def numbers_of(values: Iterable[bytes], since_s: int) -> list[int]:
    """The numbers of the messages from which these pings came."""
    return [json.loads(value)["ts"] // 1_000 - since_s for value in values]
