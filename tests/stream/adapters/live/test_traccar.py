"""What Traccar forwards, from bytes to pings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from live_rig import only_code, only_ping, pings, recorded

from stream.adapters.live.formats.traccar import read
from stream.adapters.live.parsed import Parsed, Skip
from stream.wire import Ping

CAME_MS = 1_764_490_505_000  # 2025-11-30 08:15:05
YEAR_MS = 365 * 86_400_000


@pytest.fixture
def message() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(recorded("traccar.ndjson")[0][1])
    return found


def one(message: dict[str, Any]) -> Parsed:
    (found,) = read(json.dumps(message).encode(), CAME_MS + YEAR_MS)
    return found


def ping(message: dict[str, Any]) -> Ping:
    return only_ping([one(message)])


def test_recorded_messages_become_pings_skips_and_a_reject() -> None:
    found = [found for _, raw in recorded("traccar.ndjson") for found in read(raw, CAME_MS + YEAR_MS)]
    bus, phone, located, old = pings([found[at] for at in (0, 1, 4, 5)])
    assert bus == Ping(
        entity_id="352093081234567",
        ts=1_796_026_502_000,  # 2026-11-30 08:15:02 UTC
        lat=30.28626,
        lon=-97.74177,
        alt_m=171.0,
        speed_mps=pytest.approx(11.1111, abs=1e-4),  # 21.6 knots are 40 km/h
        heading_deg=271.0,
        hdop=0.7,
        sats=14,
        valid=True,
        received_ts=1_796_026_504_512,
        category="bus",
        source="traccar",
        attrs={
            "priority": 0,
            "event": 0,
            "ignition": True,
            "motion": True,
            "rssi": 4,
            "power": 13.914,
            "battery": 4.098,
            "io69": 1,
            "distance": 121.4,
            "totalDistance": 5623319.02,
            "hours": 103984000,
        },
    )
    assert phone.ts == 1_796_026_498_000, "fixTime, and not the later deviceTime"
    assert (phone.speed_mps, phone.heading_deg, phone.alt_m, phone.accuracy_m) == (0.0, None, None, 14.5)
    assert (located.speed_mps, located.heading_deg, located.accuracy_m) == (None, None, 1_325.0)
    assert located.attrs == {"approximate": True, "batteryLevel": 12}
    assert (old.ts, old.received_ts) == (1_796_026_502_000, 1_796_026_504_512), "deviceTime, ending in +0000"
    assert only_code(found[2:3]) == "marked_invalid"
    assert [found[3], *found[6:]] == [Skip("outdated"), Skip("own_forecast"), Skip("event")]


def test_the_entity_is_the_device_and_not_the_row_of_the_database() -> None:
    for key, raw in recorded("traccar.ndjson"):
        for found in read(raw, CAME_MS + YEAR_MS):
            assert not isinstance(found, Ping) or found.entity_id != key


@pytest.mark.parametrize("name", ["altitude", "course", "accuracy"])
def test_a_zero_that_may_mean_unknown_is_left_out(message: dict[str, Any], name: str) -> None:
    field = {"altitude": "alt_m", "course": "heading_deg", "accuracy": "accuracy_m"}[name]
    message["position"][name] = 0.0
    assert getattr(ping(message), field) is None
    message["position"][name] = 12.5
    assert getattr(ping(message), field) == 12.5


def test_attributes_stay_within_the_limits_of_a_ping(message: dict[str, Any]) -> None:
    message["position"]["attributes"] = {
        "long": "x" * 300,
        "huge": 2**63,
        "nested": {"a": 1},
        "x" * 65: 1,
        **{f"io{number}": number for number in range(40)},
    }
    found = ping(message)
    assert found.attrs is not None
    assert list(found.attrs) == [f"io{number}" for number in range(32)]


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("device", "uniqueId"), None, "missing_field"),
        (("device", "uniqueId"), "", "bad_entity_id"),
        (("device",), None, "missing_field"),
        (("position",), [1], "missing_field"),
        (("position", "latitude"), None, "missing_field"),
        (("position", "latitude"), "NaN", "wrong_type"),
        (("position", "longitude"), 181.0, "lon_out_of_range"),
        (("position", "fixTime"), "1970-01-01T00:00:00.000+00:00", "ts_too_old"),
        (("position", "fixTime"), "yesterday", "bad_timestamp"),
    ],
)
def test_what_is_no_position_is_rejected_with_its_code(
    message: dict[str, Any], path: tuple[str, ...], value: object, code: str
) -> None:
    *above, name = path
    holder = message
    for part in above:
        holder = holder[part]
    holder[name] = value
    assert only_code([one(message)]) == code
