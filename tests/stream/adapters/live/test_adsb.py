"""aircraft.json of readsb: `recorded/aircraft.json` is in the layout and with the fields of its README-json.md."""

from __future__ import annotations

import json
from typing import Any

import pytest
from live_rig import CAME_MS, LIVE, only_code, only_ping

from stream.adapters.live.formats import adsb
from stream.adapters.live.parsed import Skip
from stream.adapters.live.snapshots import SentSightings
from stream.wire import Ping

NOW_S = 1_764_489_999.9
RECORDED = (LIVE / "recorded" / "aircraft.json").read_bytes()
ONE = {"hex": "a2fcf2", "lat": 47.1, "lon": -122.3, "seen_pos": 0.5}


def read(*aircraft: Any, now: float = NOW_S) -> list[Any]:
    return list(adsb.read(json.dumps({"now": now, "aircraft": aircraft}).encode(), CAME_MS))


def test_feet_and_knots_become_metres_and_metres_per_second() -> None:
    found = adsb.read(RECORDED, CAME_MS)[0]
    attrs = {"registration": "N292AK", "aircraft_type": "B739", "squawk": "3766", "position_type": "adsb_icao"}
    assert found == Ping(
        entity_id="a2fcf2",
        ts=1_764_489_999_400,
        lat=47.143753,
        lon=-122.320953,
        alt_m=pytest.approx(5650 * 0.3048),
        speed_mps=pytest.approx(250 * 0.514444, rel=1e-5),
        heading_deg=0.69,
        trip_id="ASA541",
        category="A3",
        source="adsb",
        attrs=attrs,
    )


def test_the_recorded_snapshot_is_four_pings_and_one_without_a_position() -> None:
    found = adsb.read(RECORDED, CAME_MS)
    assert [type(one) for one in found] == [Ping, Ping, Ping, Ping, Skip]
    assert [one.entity_id for one in found[:4] if isinstance(one, Ping)] == ["a2fcf2", "3c6dd2", "4ca87d", "~2a0f31"]


def test_an_aircraft_on_the_ground_has_no_altitude() -> None:
    found = only_ping(adsb.read(RECORDED, CAME_MS)[2:3])
    assert found.alt_m is None
    assert found.heading_deg is None, "the direction of the nose is not that of the movement"
    assert found.attrs is not None
    assert found.attrs["on_ground"] is True


def test_the_altitude_by_pressure_serves_where_there_is_no_other() -> None:
    assert read({**ONE, "alt_baro": 1000})[0].alt_m == pytest.approx(304.8)
    assert read({**ONE, "alt_baro": 1000, "alt_geom": 2000})[0].alt_m == pytest.approx(609.6)


def test_the_time_is_that_of_the_position() -> None:
    assert read({**ONE, "seen_pos": 12.3, "seen": 0.1})[0].ts == 1_764_489_987_600


def test_a_position_whose_age_is_rounded_is_sent_once() -> None:
    """Older versions give ages to 0.1 s: the same position is of 499.9 and, in the next snapshot, of 500.0."""
    seen, sent = SentSightings(adsb.TOLERANCE_MS), 0
    for now, age_s in ((500.4, 0.5), (501.4, 1.4), (502.4, 2.5), (503.4, 0.4)):
        raw = json.dumps({"now": NOW_S + now, "aircraft": [{**ONE, "seen_pos": age_s}]}).encode()
        found = seen.skip_sent(adsb.sightings(raw, CAME_MS + 600_000))
        seen.remember(found)
        sent += sum(isinstance(one.parsed, Ping) for one in found)
    assert sent == 2


def test_the_api_of_readsb_has_milliseconds_and_another_name() -> None:
    raw = json.dumps({"now": NOW_S * 1000, "ac": [ONE]}).encode()
    assert only_ping(adsb.read(raw, CAME_MS)).ts == 1_764_489_999_400


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"lat": 91}, "lat_out_of_range"),
        ({"lon": None}, "missing_field"),
        ({"lat": "47"}, "wrong_type"),
        ({"seen_pos": None}, "missing_field"),
        ({"seen_pos": 1e12}, "ts_too_old"),
        ({"seen_pos": -1e12}, "ts_in_future"),
        ({"seen_pos": 1e308}, "missing_field"),
        ({"hex": ""}, "missing_field"),
        ({"hex": 7}, "missing_field"),
    ],
)
def test_a_bad_aircraft_is_a_reject_with_its_own_part(given: dict[str, Any], code: str) -> None:
    raw = json.dumps({"now": NOW_S, "aircraft": [{**ONE, **given}, ONE]}).encode()
    bad, good = adsb.sightings(raw, CAME_MS)
    assert only_code([bad.parsed]) == code
    assert isinstance(good.parsed, Ping)
    assert adsb.read(bad.raw, CAME_MS) == [bad.parsed], "its dead letter can be read again"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "invalid_json"),
        (b"<html>", "invalid_json"),
        (b"[]", "bad_message"),
        (b"{}", "bad_message"),
        (b'{"now":1}', "bad_message"),
        (b'{"now":"x","aircraft":[]}', "bad_message"),
        (b'{"now":1,"aircraft":7}', "bad_message"),
    ],
)
def test_what_is_no_snapshot_is_one_reject(raw: bytes, code: str) -> None:
    assert only_code(adsb.read(raw, CAME_MS)) == code
