"""Pings of ours by HTTP, MQTT and files: the rules are those of the pings topic."""

from __future__ import annotations

import json
from typing import Any

import pytest
from live_rig import CAME_MS, only_code, only_ping, pings

from stream.adapters.live import presets
from stream.adapters.live.formats.pathcast import read
from stream.tracks.clean import parse
from stream.wire import MAX_RECORD_BYTES, Ping, Record, Reject
from stream.wire.ping_rules import MAX_NESTING

BUS: dict[str, Any] = {"entity_id": "5004", "ts": CAME_MS - 5_000, "lat": 30.28626, "lon": -97.74177, "speed_mps": 0.0}


def raw(*many: Any, between: str = "\n") -> bytes:
    return between.join(map(json.dumps, many)).encode()


def nested(depth: int) -> dict[str, Any]:
    """A ping whose brackets nest so deeply."""
    inner: Any = 1
    for _ in range(depth - 2):
        inner = [inner]
    return {**BUS, "attrs": {"a": inner}}


def test_one_an_array_and_lines_are_the_same_pings() -> None:
    other = {**BUS, "entity_id": 7, "ts": "2025-11-30T08:00:00Z"}
    assert only_ping(read(raw(BUS), CAME_MS)) == Ping(**BUS)
    both = pings(read(raw([BUS, other]), CAME_MS))
    assert [one.entity_id for one in both] == ["5004", "7"]
    for between in ("\n", "\r\n", "\n\n"):
        assert read(raw(BUS, other, between=between) + b"\n", CAME_MS) == both
    assert read(json.dumps([BUS, other], indent=1).encode(), CAME_MS) == both, "an array may have several lines"


def test_a_bad_one_costs_no_other() -> None:
    first, bad, last = read(raw(BUS) + b"\n{no JSON\n" + raw(BUS), CAME_MS)
    assert (only_ping([first]), only_code([bad]), only_ping([last])) == (Ping(**BUS), "invalid_json", Ping(**BUS))
    first, bad, other = read(raw([BUS, 5, {**BUS, "lat": 91}]), CAME_MS)
    assert (only_ping([first]), only_code([bad]), only_code([other])) == (
        Ping(**BUS),
        "invalid_json",
        "lat_out_of_range",
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"no JSON", "invalid_json"),
        (b'{\n"entity_id":\n', "invalid_json"),
        (b"5", "invalid_json"),
        (b"\xff", "invalid_utf8"),
        (raw({name: value for name, value in BUS.items() if name != "entity_id"}), "missing_field"),
        (raw({**BUS, "valid": False}), "marked_invalid"),
        (raw({**BUS, "ts": CAME_MS + 2 * 86_400_000}), "ts_in_future"),
        (raw(nested(MAX_NESTING + 1)), "too_deep"),
        (raw(nested(900)), "too_deep"),
        (raw({**BUS, "attrs": {"a": "x" * MAX_RECORD_BYTES}}), "too_large"),
    ],
)
def test_what_is_no_ping_is_a_reject(body: bytes, code: str) -> None:
    assert only_code(read(body, CAME_MS)) == code


ODD = (
    *({"ts": value} for value in (1_764_489_000, "1764489000.5", True, None, "soon", -1, 1e300)),
    *({"lat": value} for value in ("30", 90, -90.1, None, True, 10**400)),
    *({"entity_id": value} for value in (5, "", "x" * 129, "a\n", "\u00e9", 1.5)),
    *({"speed_mps": value} for value in (-1, 1_001, "5", None, 7)),
    *({"attrs": value} for value in ({}, {"a": [1, {"b": None}]}, {str(n): n for n in range(33)}, 5, {"n": 2**63})),
    *({"heading_deg": 360}, {"valid": "true"}, {"valid": 0}, {"x": [[]]}, {"lat": 0, "lon": 0}, {"sats": 7.0}),
    nested(MAX_NESTING),
)


@pytest.mark.parametrize("change", ODD)
def test_it_is_decided_as_a_worker_decides(change: dict[str, Any]) -> None:
    given = {**BUS, **change}
    (found,) = read(raw(given), CAME_MS)
    key = str(given["entity_id"]).encode()
    expected = parse(Record("pings", 0, 0, CAME_MS, key, raw(given)))
    if isinstance(expected, Reject):
        assert isinstance(found, Reject)
        assert found.code == expected.code
    else:
        assert found == expected


def test_a_number_that_no_record_can_hold_is_left_out_with_its_attributes() -> None:
    assert only_ping(read(raw({**BUS, "attrs": {"n": 10**30}}), CAME_MS)).lat == BUS["lat"]


def test_it_is_a_preset_by_its_name() -> None:
    assert presets.find_preset("pathcast").read(raw(BUS), CAME_MS) == [Ping(**BUS)]
