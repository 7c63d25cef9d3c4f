"""Reports of gpsd, in the form that its gpsd_json(5) describes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from live_rig import CAME_MS, SKY, TPV, only_code

from stream.adapters.live.formats.gpsd import Receiver
from stream.adapters.live.parsed import Skip
from stream.wire import Ping


def read(*reports: Any) -> list[Any]:
    receiver = Receiver("boat")
    return [one for report in reports for one in receiver.read(json.dumps(report).encode(), CAME_MS)]


def test_a_report_is_a_ping_in_its_own_units() -> None:
    _, found = read(SKY, TPV)
    assert found == Ping(
        entity_id="boat",
        ts=1_764_489_998_000,
        lat=51.49776,
        lon=-0.13124,
        alt_m=31.2,
        speed_mps=5.91,
        heading_deg=271.3,
        accuracy_m=7.6,
        hdop=0.98,
        sats=9,
        source="gpsd",
        attrs={"device": "/dev/ttyACM0"},
    )


def test_gpsd_before_3_20_has_another_name_for_the_altitude() -> None:
    old = {name: value for name, value in TPV.items() if name not in ("altHAE", "altMSL")}
    assert read(old)[0].alt_m == 31.2


@pytest.mark.parametrize("changed", [{"mode": 1}, {"mode": 0}, {"mode": None}, {"lat": None}])
def test_a_receiver_without_a_fix_sends_no_pings(changed: dict[str, Any]) -> None:
    assert read({**TPV, **changed}) == [Skip("no_fix")]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"time": None}, "missing_field"),
        ({"time": "yesterday"}, "bad_timestamp"),
        ({"lat": 91.0}, "lat_out_of_range"),
        ({"lon": "east"}, "wrong_type"),
    ],
)
def test_a_bad_report_is_a_reject(changed: dict[str, Any], code: str) -> None:
    assert only_code(read({**TPV, **changed})) == code


def test_other_reports_are_skipped() -> None:
    version = {"class": "VERSION", "release": "3.22", "rev": "3.22", "proto_major": 3, "proto_minor": 14}
    others = read(version, {"class": "DEVICES", "devices": []}, {"class": "WATCH", "enable": True})
    assert others == [Skip("other_report")] * 3


@pytest.mark.parametrize("raw", [b"", b"nothing", b"[]", b"7", b"\xff", b"{"])
def test_what_is_no_report_is_a_reject(raw: bytes) -> None:
    assert only_code(Receiver("boat").read(raw, CAME_MS)) == "invalid_json"
