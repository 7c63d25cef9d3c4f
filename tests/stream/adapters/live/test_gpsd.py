"""Reports of gpsd, in the form that its gpsd_json(5) describes."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import feed_fuzz
import pytest

from stream.adapters.live.formats.gpsd import Receiver
from stream.adapters.live.parsed import Skip
from stream.wire import Ping, Reject

CAME_MS = feed_fuzz.CAME_MS
TPV = {
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
SKY = {"class": "SKY", "device": "/dev/ttyACM0", "hdop": 0.98, "nSat": 14, "uSat": 9, "satellites": []}


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
    (found,) = read({**TPV, **changed})
    assert isinstance(found, Reject)
    assert found.code == code


def test_other_reports_are_skipped() -> None:
    version = {"class": "VERSION", "release": "3.22", "rev": "3.22", "proto_major": 3, "proto_minor": 14}
    assert (
        read(version, {"class": "DEVICES", "devices": []}, {"class": "WATCH", "enable": True})
        == [Skip("other_report")] * 3
    )


@pytest.mark.parametrize("raw", [b"", b"nothing", b"[]", b"7", b"\xff", b"{"])
def test_what_is_no_report_is_a_reject(raw: bytes) -> None:
    (found,) = Receiver("boat").read(raw, CAME_MS)
    assert isinstance(found, Reject)
    assert found.code == "invalid_json"


def test_no_bytes_raise() -> None:
    examples = [json.dumps(one).encode() for one in (TPV, SKY)]
    counts = feed_fuzz.survives(Receiver("boat").read, examples, seed=35_5)
    assert counts["Reject"] > 1_000


def test_no_values_raise() -> None:
    """Reports that are whole, with odd values."""
    seed, counts = 35_50, Counter[str]()
    print(f"seed {seed}")
    rng, receiver = random.Random(seed), Receiver("boat")
    odd = (
        None,
        True,
        0,
        -1,
        91,
        1e30,
        10**30,
        "",
        " ",
        "x" * 300,
        "\u2028",
        [],
        {},
        "2025-11-30T08:06:38Z",
        "TPV",
        "SKY",
    )
    for _ in range(feed_fuzz.COUNT):
        one: dict[str, Any] = dict(rng.choice((TPV, TPV, SKY)))
        for _ in range(rng.choice((0, 1, 2, 4))):
            one[rng.choice(list(one))] = rng.choice(odd)
        counts += feed_fuzz.check(receiver.read(json.dumps(one).encode(), CAME_MS))
    assert min(counts[kind] for kind in ("Ping", "Reject", "Skip")) > 500
