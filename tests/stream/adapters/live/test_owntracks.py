"""What the OwnTracks apps publish, from bytes to pings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from live_rig import only_ping, pings, recorded
from multidict import CIMultiDict

from stream.adapters.live.formats.owntracks import device_of, device_of_request, read
from stream.adapters.live.parsed import Parsed, Skip, reject
from stream.wire import Ping, Reject

CAME_MS = 1_764_489_610_000
LOCATION = {"_type": "location", "lat": 48.85833, "lon": 2.29513, "tst": 1_764_489_600}


def one(message: dict[str, Any] | bytes, device: str = "jo/pixel") -> Parsed:
    (found,) = read(message if isinstance(message, bytes) else json.dumps(message).encode(), CAME_MS, device)
    return found


def ping(message: dict[str, Any], device: str = "jo/pixel") -> Ping:
    return only_ping([one(message, device)])


def test_recorded_messages_become_pings_skips_and_a_reject() -> None:
    found = [found for topic, raw in recorded("owntracks.ndjson") for found in read(raw, CAME_MS, device_of(topic))]
    *located, lwt, transition, waypoints, encrypted = found
    phone, pixel, greenwich = pings(located)
    assert phone == Ping(
        entity_id="jane/phone",
        ts=1_764_489_600_000,
        lat=48.85833,
        lon=2.29513,
        alt_m=154.0,
        speed_mps=15.0,  # 54 km/h
        heading_deg=271.0,
        accuracy_m=14.0,
        source="owntracks",
        attrs={
            "tid": "JJ",
            "trigger": "u",
            "monitoring": 1,
            "battery_percent": 53,
            "battery_status": 1,
            "vertical_accuracy_m": 8,
            "pressure_kpa": 101.325,
            "connection": "w",
        },
    )
    assert (pixel.alt_m, pixel.speed_mps, pixel.heading_deg) == (None, 0.0, None), "0 m and north say nothing"
    assert greenwich.entity_id == "gw/K2"
    assert greenwich.speed_mps == pytest.approx(3.3333, abs=1e-4)
    assert greenwich.heading_deg == 0.0, "it moves, so 0 is north"
    assert [lwt, transition, waypoints] == [Skip("lwt"), Skip("transition"), Skip("waypoints")]
    assert isinstance(encrypted, Reject)
    assert encrypted.code == "missing_field"
    assert "encrypted" in encrypted.message


def test_what_a_phone_tells_of_its_owner_stays_out() -> None:
    (_, raw), *_ = recorded("owntracks.ndjson")
    for private in (b"Casa", b"b0:f2", b"5f2a1c"):
        assert private in raw
        assert private not in repr(read(raw, CAME_MS, "jane/phone")).encode()


def test_the_device_is_named_by_the_transport_then_by_the_payload_and_at_last_by_its_tid() -> None:
    own = {**LOCATION, "topic": "owntracks/jane/phone", "tid": "ne"}
    assert ping(own, "jo/pixel").entity_id == "jo/pixel"
    assert ping(own, "").entity_id == "jane/phone"
    assert ping({**LOCATION, "tid": "ne"}, "").entity_id == "ne"
    assert one(LOCATION, "") == reject("missing_field", "entity_id absent")


@pytest.mark.parametrize(
    ("topic", "device"),
    [
        ("owntracks/jo/pixel", "jo/pixel"),
        ("home/owntracks/jo/pixel", "jo/pixel"),
        ("jo/pixel", ""),
        ("owntracks//pixel", ""),
        ("owntracks/jo/", ""),
        ("", ""),
    ],
)
def test_user_and_device_are_the_last_two_levels_of_a_topic(topic: str, device: str) -> None:
    assert device_of(topic) == device


def test_a_request_names_the_device_in_headers_or_in_its_url() -> None:
    headers = CIMultiDict({"x-limit-u": "jo", "X-Limit-D": "pixel"})
    assert device_of_request(headers, {}) == "jo/pixel"
    assert device_of_request({}, {"u": "jane", "d": "phone"}) == "jane/phone"
    assert device_of_request(headers, {"u": "jane", "d": "phone"}) == "jo/pixel"
    assert device_of_request({"X-Limit-U": "jo"}, {}) == ""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"", Skip("empty")),
        ({"_type": "beacon"}, Skip("beacon")),
        ({"_type": "something new"}, Skip("other_type")),
        ({"lat": 1.0}, "missing_field"),
        ({**LOCATION, "_type": 7}, "missing_field"),
        ({**LOCATION, "lat": "48.85833"}, "wrong_type"),
        ({**LOCATION, "lat": 91}, "lat_out_of_range"),
        ({**LOCATION, "lat": 0, "lon": 0}, "null_island"),
        ({**LOCATION, "tst": 0}, "ts_too_old"),
        ({**LOCATION, "tst": 1_764_489_600 + 2 * 86_400}, "ts_in_future"),
        (b"[]", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff", "invalid_utf8"),
    ],
)
def test_what_is_no_location_is_skipped_or_rejected_with_its_code(
    message: dict[str, Any] | bytes, expected: Skip | str
) -> None:
    found = one(message)
    assert (found.code if isinstance(found, Reject) else found) == expected


def test_bad_optional_fields_cost_themselves_only() -> None:
    found = ping({**LOCATION, "vel": -1, "cog": -1, "acc": 0, "alt": 1e9, "batt": [1], "t": "x" * 300})
    assert found == Ping(entity_id="jo/pixel", ts=1_764_489_600_000, lat=48.85833, lon=2.29513, source="owntracks")
