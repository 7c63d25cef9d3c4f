"""The presets, on messages in the formats of their sources (fixtures/README.md)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from live_rig import FIXTURES, only_code, only_ping, pings

from stream.adapters.live import presets
from stream.adapters.live.parsed import Parsed, Skip
from stream.wire import Ping

CAME_MS = 1_796_029_500_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def read(preset: str, fixture: str) -> list[Parsed]:
    return presets.find_preset(preset).read((FIXTURES / fixture).read_bytes(), CAME_MS)


def test_samsara_is_in_miles_an_hour_and_an_object_or_an_array() -> None:
    big, little = pings(read("samsara", "samsara_snapshot.json"))
    assert (big.entity_id, big.ts, big.lat, big.lon) == (
        "212014918732717",
        ms("2026-11-30T09:04:10"),
        37.38229104,
        -122.05264563,
    )
    assert big.speed_mps == pytest.approx(29.8 * 1609.344 / 3600)
    assert (big.heading_deg, big.source, big.attrs) == (91.5, "samsara", {"name": "Big Red", "ecu_speed": False})
    assert (little.ts, little.speed_mps) == (ms("2026-11-30T09:04:02.500"), 0.0)

    first, second = pings(read("samsara", "samsara_feed.json"))
    assert [first.entity_id, second.entity_id] == ["212014918732717"] * 2, "the id is above the array"
    assert second.ts - first.ts == 5_000

    location = only_ping(read("samsara", "samsara_locations.json"))
    assert (location.speed_mps, location.heading_deg) == (pytest.approx(29.8 * 1609.344 / 3600), 91.0)


def test_motive_takes_its_locations_and_skips_its_other_actions() -> None:
    ping = only_ping(read("motive", "motive.json"))
    assert (ping.entity_id, ping.ts, ping.heading_deg) == ("4213", ms("2026-11-30T09:04:10"), 182.4)
    assert ping.speed_mps == pytest.approx(54.1 * 1609.344 / 3600)
    assert ping.attrs == {"number": "0031", "type": "vehicle_moving"}
    assert read("motive", "motive_other.json") == [Skip("other_kind")]


def test_the_array_of_actions_with_which_motive_tests_an_address_is_no_ping() -> None:
    assert only_code(presets.find_preset("motive").read(b'["vehicle_location_updated"]', CAME_MS)) == "wrong_type"


def test_flespi_has_flat_names_kilometres_an_hour_and_many_messages_at_once() -> None:
    ping, invalid, battery = read("flespi", "flespi.json")
    assert isinstance(ping, Ping)
    assert (ping.entity_id, ping.ts, ping.received_ts) == ("352625333222111", 1_796_029_450_123, 1_796_029_451_500)
    assert ping.speed_mps == pytest.approx(61 / 3.6)
    assert (ping.alt_m, ping.heading_deg, ping.sats, ping.hdop, ping.valid) == (165.0, 186.0, 14, 0.7, True)
    assert ping.attrs == {"device": "van 7"}
    assert only_code([invalid]) == "null_island"
    assert battery == Skip("no_position"), "a message about a battery is no error"


def test_a_wrong_name_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="is samsara meant"):
        presets.find_preset("samsarra")


@pytest.mark.parametrize("name", ["flespi", "motive", "samsara"])
def test_a_preset_is_a_file_that_one_may_begin_with(name: str, tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text(presets.text_of(name).replace(f'name = "{name}"', 'name = "mine"'))
    assert presets.find_preset(str(copy)).name == "mine"
