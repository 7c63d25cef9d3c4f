"""Maps: where a field is, in which unit, and what is wrong with a map."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from live_rig import only_code, only_ping, pings

import stream.ingest
from stream.adapters.live.mapping import MapError, MapReader, load, parse
from stream.adapters.live.mapping.units import UNITS
from stream.adapters.live.parsed import Parsed, Skip
from stream.wire import Ping, Reject

CAME_MS = 1_796_029_500_000
TS = 1_796_029_450_000
AT = 1_796_027_050_000  # 2026-11-30T08:24:10Z
EXAMPLE = Path(stream.ingest.__file__).with_name("example_map.toml")
HEAD = 'name = "mine"\n'
FIELDS = '[fields]\nentity_id = "id"\nts = "t"\nlat = "y"\nlon = "x"\n'
ONE = {"id": "van 1", "t": TS, "y": 47.5, "x": 8.25}


def reader(text: str) -> MapReader:
    return MapReader(parse(text.encode(), "a map"))


def read(text: str, message: Any) -> list[Parsed]:
    return reader(text)(json.dumps(message).encode(), CAME_MS)


def with_unit(field: str, unit: str | None) -> str:
    """The least map, with this field at "v" and in this unit."""
    places = {"entity_id": '"id"', "ts": '"t"', "lat": '"y"', "lon": '"x"'}
    places[field] = f'{{path = "v", unit = "{unit}"}}' if unit else '"v"'
    return HEAD + "[fields]\n" + "".join(f"{name} = {place}\n" for name, place in places.items())


def ping(text: str, message: Any) -> Ping:
    return only_ping(read(text, message))


def rejected(text: str, message: Any) -> Reject:
    (found,) = read(text, message)
    assert isinstance(found, Reject), found
    return found


def test_the_least_map_names_four_paths() -> None:
    found = ping(HEAD + FIELDS, ONE)
    assert (found.entity_id, found.ts, found.lat, found.lon, found.source) == ("van 1", TS, 47.5, 8.25, "mine")


def test_json_is_as_good_as_toml(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"name": "mine", "fields": {"entity_id": "id", "ts": "t", "lat": "y", "lon": "x"}}))
    assert isinstance(MapReader(load(file))(json.dumps(ONE).encode(), CAME_MS)[0], Ping)


@pytest.mark.parametrize(
    ("field", "unit", "given", "expected"),
    [
        ("speed_mps", "knots", 10, 10 * 1852 / 3600),
        ("speed_mps", "km/h", "36", 10.0),
        ("speed_mps", "mph", 60, 26.8224),
        ("speed_mps", "cm/s", 1_234, 12.34),
        ("alt_m", "ft", 1_000, 304.8),
        ("alt_m", "km", 1.5, 1_500.0),
        ("accuracy_m", "cm", 250, 2.5),
        ("accuracy_m", "mm", 2_500, 2.5),
        ("heading_deg", "0.01 deg", 12_345, 123.45),
        ("heading_deg", "0.1 deg", 1_234, 123.4),
        ("heading_deg", "rad", math.pi / 2, 90.0),
        ("heading_deg", "deg", 360, 0.0),
        ("hdop", None, "0.9", 0.9),
        ("sats", None, "12", 12),
        ("received_ts", "s", TS / 1000, TS),
        ("trip_id", None, 4711, "4711"),
        ("valid", None, 1, True),
        ("ts", "auto", TS, TS),
        ("ts", "auto", TS // 1000, TS),
        ("ts", "auto", "2026-11-30T08:24:10Z", AT),
        ("ts", "s", TS / 1000, TS),
        ("ts", "s", str(TS // 1000), TS),
        ("ts", "ms", TS, TS),
        ("ts", "us", TS * 1000, TS),
        ("ts", "ns", TS * 1_000_000, TS),
        ("ts", "rfc3339", "2026-11-30T10:24:10+02:00", AT),
        ("ts", "rfc3339", "2026-11-30T10:24:10.000+0200", AT),
        ("ts", "utc", "2026-11-30 08:24:10", AT),
        ("ts", "utc", "2026-11-30T08:24:10.000", AT),
        ("ts", "utc", "2026-11-30T10:24:10+02:00", AT),
    ],
)
def test_units_are_converted_at_the_door(field: str, unit: str | None, given: Any, expected: Any) -> None:
    found = getattr(ping(with_unit(field, unit), {**ONE, "v": given}), field)
    assert found == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_every_unit_of_every_field_takes_any_json_value() -> None:
    """A conversion must not raise: what it cannot convert is left to the rules of the field."""
    values = [None, True, "", "12", "1e309", "x", "2026-11-30", -1, 0, 10**400, 1e308, math.inf, math.nan, "9" * 25]
    for field, units in UNITS.items():
        assert units, field
        for convert in units.values():
            for value in values:
                convert(value)


@pytest.mark.parametrize(
    ("unit", "given", "expected"),
    [
        ("deg", "47.5", 47.5),
        ("1e-7 deg", 475_000_001, 47.5000001),
        ("1e-6 deg", 47_500_001, 47.500001),
        ("1e-5 deg", 4_750_001, 47.50001),
    ],
)
def test_whole_numbers_of_degrees_are_the_nearest_fraction(unit: str, given: Any, expected: float) -> None:
    assert ping(with_unit("lat", unit), {**ONE, "v": given}).lat == expected, "to the last bit"


@pytest.mark.parametrize(
    ("unit", "given", "code"),
    [
        ("ms", TS // 1000, "ts_too_old"),  # seconds, where milliseconds are stated: January 1970, and not 2026
        ("s", TS, "ts_in_future"),
        ("rfc3339", TS, "bad_timestamp"),
        ("rfc3339", "2026-11-30T08:24:10", "bad_timestamp"),
        ("utc", "yesterday", "bad_timestamp"),
        ("s", "1e400", "not_finite"),
        ("auto", {}, "wrong_type"),
    ],
)
def test_a_time_in_another_unit_than_stated_is_a_reject(unit: str, given: Any, code: str) -> None:
    assert rejected(with_unit("ts", unit), {**ONE, "v": given}).code == code


def test_a_value_that_means_absent_is_not_taken() -> None:
    text = HEAD + FIELDS + 'heading_deg = {path = "h", absent = [511, -1, ""]}\n'
    assert ping(text, {**ONE, "h": 511}).heading_deg is None
    assert ping(text, {**ONE, "h": 51}).heading_deg == 51.0
    assert ping(text.replace("511", "0"), {**ONE, "h": 0.0}).heading_deg is None
    assert ping(text.replace("511", "0"), {**ONE, "h": False}).heading_deg is None, "no number: dropped by the rules"


def test_the_first_place_that_has_something_counts_each_in_its_unit() -> None:
    text = HEAD + FIELDS + 'speed_mps = [{path = "kph", unit = "km/h"}, {path = ["mph", "speed"], unit = "mph"}]\n'
    assert ping(text, {**ONE, "kph": 36, "mph": 1}).speed_mps == pytest.approx(10.0)
    assert ping(text, {**ONE, "kph": None, "speed": 60}).speed_mps == pytest.approx(26.8224)
    assert ping(text, ONE).speed_mps is None


NESTED = """
name = "mine"
positions = "data[].vehicle.gps[]"
only = {"event.type" = ["moved", 7]}
skip_without = "fix"
[fields]
entity_id = "../id"
ts = "/at"
lat = "pos.lat"
lon = "pos.lon"
[constants]
category = "truck"
[attrs]
driver = ["../driver.name", "/driver"]
fix = "fix"
"""


def test_positions_lie_in_arrays_and_ids_above_them() -> None:
    gps = [{"fix": 1, "pos.lat": 1.5, "pos": {"lon": 2.5}}, {"fix": None}, {"fix": 3, "pos": {"lat": 3.5, "lon": 4.5}}]
    data = [{"id": "a", "driver.name": "Jo", "vehicle": {"gps": gps}}, {"id": "b", "vehicle.gps": gps[0]}]
    message = {"event": {"type": "moved"}, "at": TS, "driver": "Flo", "data": data}
    found = read(NESTED, message)
    first, third, other = pings([*found[:1], *found[2:]])
    assert (first.entity_id, first.ts, first.lat, first.lon) == ("a", TS, 1.5, 2.5), "with dots or nested is the same"
    assert (first.category, first.attrs) == ("truck", {"driver": "Jo", "fix": 1})
    assert (other.entity_id, other.attrs) == ("b", {"driver": "Flo", "fix": 1}), "an object counts as an array of one"
    assert found[1] == Skip("no_position")
    assert third.lon == 4.5


def test_messages_of_other_kinds_are_skipped_and_those_of_no_kind_are_not() -> None:
    assert read(NESTED, {"event": {"type": "parked"}}) == [Skip("other_kind")]
    assert read(NESTED, {"event": {"type": True}}) == [Skip("other_kind")], "true is not 1"
    assert rejected(NESTED, {"kind": "moved"}).code == "missing_field"
    assert read(NESTED, {"event.type": 7, "data": []}) == [Skip("no_position")]
    assert "data[].vehicle.gps[]" in rejected(NESTED, {"event.type": 7, "dato": []}).message


def test_an_array_is_many_messages() -> None:
    found = read(HEAD + FIELDS, [ONE, 5, {**ONE, "y": 95}, []])
    assert [type(one) for one in found] == [Ping, Reject, Reject, Reject]
    assert read(HEAD + FIELDS, []) == [Skip("no_position")]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"y": None}, "missing_field", "nothing at y"),
        ({"y": [1]}, "wrong_type", "lat, at y, is an array"),
        ({"y": "north"}, "wrong_type", "'north'"),
        ({"y": True}, "wrong_type", "True"),
        ({"x": 181}, "lon_out_of_range", "181"),
        ({"id": ""}, "bad_entity_id", "0 characters"),
        ({"id": 7.5}, "wrong_type", "7.5"),
    ],
)
def test_what_is_wrong_with_a_position_names_our_field(change: dict[str, Any], code: str, said: str) -> None:
    found = rejected(HEAD + FIELDS, {**ONE, **change})
    assert (found.code, found.stage, said in found.message) == (code, "adapter", True), found.message


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff", "invalid_utf8"),
        (b"{", "invalid_json"),
        (b"5", "wrong_type"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 50_000, "too_deep"),
        (b"9" * 10_000, "invalid_json"),
    ],
)
def test_bytes_that_are_no_message(raw: bytes, code: str) -> None:
    assert only_code(reader(HEAD + FIELDS)(raw, CAME_MS)) == code


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 5", "name"),
        (HEAD, "fields"),
        (HEAD + FIELDS.replace("lat", "latt"), "fields.latt: a ping has no such field; is lat meant?"),
        (HEAD + FIELDS.replace('lon = "x"', ""), "no lon"),
        (HEAD + FIELDS + 'speed_mps = {path = "v", unit = "kmh"}', "fields.speed_mps.unit is 'kmh'"),
        (HEAD + FIELDS + 'speed_mps = {path = "v", unit = "kmh"}', "is km/h meant?"),
        (HEAD + FIELDS + 'hdop = {path = "v", unit = "m"}', "hdop has none"),
        (HEAD + FIELDS + 'speed_mps = {paht = "v"}', "fields"),
        (HEAD + FIELDS + "speed_mps = []", "fields.speed_mps is empty"),
        (HEAD + FIELDS + 'speed_mps = "a..b"', "fields.speed_mps.path: 'a..b' is no path"),
        (HEAD + FIELDS + 'attrs = "a"', "fields.attrs"),
        (HEAD + FIELDS + '[attrs]\na = ""', "attrs.a"),
        (HEAD + FIELDS + "[constants]\nlat = 5", "lat is in fields and in constants"),
        (HEAD + FIELDS + '[constants]\ncolour = "red"', "constants.colour"),
        (HEAD + FIELDS + f'[constants]\ncategory = "{"x" * 300}"', "constants.category"),
        (HEAD + 'positions = "[]"\n' + FIELDS, "positions"),
        (HEAD.replace("mine", "My Map") + FIELDS, "name is 'My Map'"),
        (HEAD + FIELDS + '[signed]\nheader = "X"\nmessage = "v1"', "{body}"),
        (HEAD + FIELDS + '[signed]\nheader = "X"\nhash = "md5"', "md5"),
        (HEAD + "colour = 5\n" + FIELDS, "colour"),
        ("name = ", "a map"),
        (HEAD + FIELDS + "[attrs]\n" + "".join(f'a{n} = "a"\n' for n in range(33)), "33 names"),
    ],
)
def test_what_is_wrong_with_a_map_names_the_map_and_the_key(text: str, said: str) -> None:
    with pytest.raises(MapError) as raised:
        parse(text.encode(), "a map")
    assert str(raised.value).startswith("a map: ")
    assert said in str(raised.value)


def test_a_file_that_is_no_map_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(MapError, match=r"ends in \.toml or \.json"):
        load(tmp_path / "mine.yaml")
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * 300_000)
    with pytest.raises(MapError, match="too large"):
        load(huge)


def test_the_example_of_the_page_reads_a_message() -> None:
    position = {"time": TS // 1_000, "lat": 475_000_000, "lon": 82_500_000, "mph": -1, "kph": 36, "course": 90}
    message = {"event": "moved", "data": [{"id": "van 1", "driver": {"name": "A"}, "gps": [position]}]}
    found = ping(EXAMPLE.read_text(), message)
    assert (found.entity_id, found.lat, found.speed_mps, found.heading_deg) == ("van 1", 47.5, 10.0, 90.0)
    assert (found.category, found.attrs) == ("truck", {"driver": "A"})
