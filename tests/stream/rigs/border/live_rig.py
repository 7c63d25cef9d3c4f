"""Messages of live formats, as receivers and feeds send them, and what a reader made of one. Tests import this; it
tests nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any, Final

from google.transit.gtfs_realtime_pb2 import FeedMessage, VehiclePosition
from pyais import encode_dict

from stream.adapters.live.parsed import Parsed
from stream.wire import Ping, Reject

CAME_MS: Final = 1_764_490_000_000  # 2025-11-30T08:06:40Z
NOW_S: Final = CAME_MS // 1000
LIVE: Final = Path(__file__).parents[2] / "adapters" / "live"
FIXTURES: Final = LIVE / "fixtures"

RMC: Final = "GNRMC,080638.00,A,3751.6500,S,14507.3600,E,011.5,084.4,301125,,,A"
GGA: Final = "GNGGA,080638.00,3751.6500,S,14507.3600,E,1,08,0.94,42.7,M,2.1,M,,"
SHIP: Final = {
    "type": 1,
    "mmsi": 366_123_456,
    "lat": 29.5,
    "lon": -94.75,
    "speed": 12.3,
    "course": 187.4,
    "heading": 190,
}
TPV: Final = {
    "class": "TPV",
    "device": "/dev/ttyACM0",
    "status": 2,
    "mode": 3,
    "time": "2025-11-30T08:06:38.000Z",
    "ept": 0.005,
    "lat": 51.49776,
    "lon": -0.13124,
    "altHAE": 78.1,
    "altMSL": 31.2,
    "alt": 31.2,
    "track": 271.3,
    "magtrack": 270.9,
    "speed": 5.91,
    "climb": -0.1,
    "eph": 7.6,
}
SKY: Final = {"class": "SKY", "device": "/dev/ttyACM0", "hdop": 0.98, "nSat": 14, "uSat": 9, "satellites": []}
BUS: Final = {
    "id": "1234",
    "ts": NOW_S - 20,
    "speed": 12.5,
    "bearing": 271.5,
    "trip_id": "trip-7",
    "route_id": "801",
    "direction_id": 1,
    "start_date": "20251130",
    "label": "North Lamar",
    "status": VehiclePosition.IN_TRANSIT_TO,
}


def recorded(name: str) -> list[tuple[str, bytes]]:
    """What a file of `recorded` has before the tab and after it, line by line."""
    lines = (LIVE / "recorded" / name).read_bytes().splitlines()
    return [(before.decode(), after) for before, _, after in (line.partition(b"\t") for line in lines)]


def sentence(body: str, begin: str = "$") -> bytes:
    """A sentence of NMEA 0183 with its checksum; those of AIS begin with an exclamation mark."""
    return f"{begin}{body}*{_checksum(body.encode()):02X}\r\n".encode()


def ais_lines(**given: Any) -> list[bytes]:
    return [line.encode() for line in encode_dict({**SHIP, "second": 38, **given}, talker_id="AI")]


def of_another_ship(line: bytes) -> bytes:
    """What a receiver heard of another ship (VDM), of a sentence of the receiver's own (VDO)."""
    return sentence(line.strip()[1:-3].decode().replace("VDO", "VDM"), "!").strip()


def tagged(line: bytes, tags: bytes) -> bytes:
    """A sentence of AIS with a TAG block before it."""
    return b"\\%s*%02X\\%s" % (tags, _checksum(tags), line)


def _checksum(raw: bytes) -> int:
    return reduce(xor, raw, 0)


def gtfs_feed(*vehicles: dict[str, Any], header_s: int = NOW_S) -> FeedMessage:
    """A feed of vehicles such as BUS; `entity` is the place in the feed, `at` latitude and longitude, or None."""
    message = FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    if header_s:
        message.header.timestamp = header_s
    for number, given in enumerate(vehicles):
        vehicle = message.entity.add(id=given.get("entity", f"e{number}")).vehicle
        if at := given.get("at", (30.25, -97.75)):
            vehicle.position.latitude, vehicle.position.longitude = at
        for part, names in (
            (vehicle.position, {"speed": "speed", "bearing": "bearing"}),
            (vehicle.vehicle, {"id": "id", "label": "label"}),
            (vehicle.trip, {name: name for name in ("trip_id", "route_id", "direction_id", "start_date")}),
            (vehicle, {"ts": "timestamp", "status": "current_status"}),
        ):
            for name in names.keys() & given.keys():
                setattr(part, names[name], given[name])
    return message


def pings(found: Sequence[Parsed]) -> list[Ping]:
    """Returns what came of a message, which must be nothing but pings."""
    assert all(isinstance(one, Ping) for one in found), found
    return list(found)  # type: ignore[arg-type]


def only_ping(found: Sequence[Parsed]) -> Ping:
    (one,) = pings(found)
    return one


def only_code(found: Sequence[Parsed]) -> str:
    """The code of the reject to which a message came."""
    (one,) = found
    assert isinstance(one, Reject), one
    return one.code
