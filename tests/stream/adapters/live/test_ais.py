"""AIS sentences: encoded by pyais, and those of gpsd's description of the format, which real stations received."""

from __future__ import annotations

from typing import Any

import pytest
from live_rig import CAME_MS, SHIP, ais_lines, only_code, only_ping, tagged
from pyais import encode_dict
from pyais.encode import ais_to_nmea_0183

from stream.adapters.live.formats.ais import Receiver, fix_time_ms
from stream.adapters.live.parsed import KNOT_MPS, Skip
from stream.wire import Ping

MINUTE_MS = CAME_MS - 40_000


def read(**given: Any) -> Any:
    receiver = Receiver()
    *_, (last,) = [receiver.read(line, CAME_MS) for line in ais_lines(**given)]
    return last


def test_a_class_a_report_is_a_ping_in_metres_per_second() -> None:
    found = read(status=0)
    assert found == Ping(
        entity_id="366123456",
        ts=MINUTE_MS + 38_000,
        lat=29.5,
        lon=-94.75,
        speed_mps=pytest.approx(12.3 * KNOT_MPS),
        heading_deg=187.4,
        source="ais",
        attrs={"bow_deg": 190, "status": "under_way_using_engine"},
    )


@pytest.mark.parametrize("kind", [1, 2, 3, 18, 19])
def test_reports_of_both_classes_are_pings(kind: int) -> None:
    found = read(type=kind)
    assert isinstance(found, Ping)
    assert (found.entity_id, found.lat, found.lon) == ("366123456", 29.5, -94.75)
    assert found.speed_mps == pytest.approx(12.3 * KNOT_MPS)


def test_a_report_to_a_satellite_has_whole_knots_and_degrees_and_no_second() -> None:
    found = read(type=27, lat=29.5, lon=-94.75, speed=12, course=187)
    assert isinstance(found, Ping)
    assert (found.ts, found.heading_deg) == (CAME_MS, 187)
    assert found.speed_mps == pytest.approx(12 * KNOT_MPS)
    absent = read(type=27, speed=63, course=511)
    assert (absent.speed_mps, absent.heading_deg) == (None, None)


def test_values_that_stand_for_absent_ones_are_absent() -> None:
    found = read(speed=102.3, course=360, heading=511, status=15)
    assert isinstance(found, Ping)
    assert (found.speed_mps, found.heading_deg, found.attrs) == (None, None, None)
    assert read(speed=0.0, course=0.0, heading=0).heading_deg == 0.0
    assert read(lon=181, lat=91) == Skip("no_position")


@pytest.mark.parametrize(
    ("second", "ts_ms"),
    [
        (40, MINUTE_MS + 40_000),
        (38, MINUTE_MS + 38_000),
        (45, MINUTE_MS + 45_000),  # our clock is behind that of the ship
        (46, MINUTE_MS - 14_000),  # more than 5 s ahead: of the minute before
        (59, MINUTE_MS - 1_000),
        (0, MINUTE_MS),
        *((none, CAME_MS) for none in (60, 61, 62, 63, None)),
    ],
)
def test_a_position_is_of_the_last_moment_with_its_second(second: int | None, ts_ms: int) -> None:
    assert fix_time_ms(CAME_MS, second) == ts_ms


def test_one_message_that_two_stations_heard_has_one_time() -> None:
    (line,) = ais_lines(second=38)
    for name, late_s in ((b"a", 0), (b"b", 7)):
        found = Receiver().read(tagged(line, b"s:%s,c:%d" % (name, CAME_MS // 1000 + late_s)), 0)
        assert only_ping(found).ts == MINUTE_MS + 38_000


def test_the_time_of_a_tag_block_stands_for_that_of_arrival() -> None:
    (line,) = ais_lines(second=60)
    received_ms = CAME_MS - 86_400_000
    for tags in (b"c:%d" % (received_ms // 1000), b"s:station,c:%d" % received_ms):
        assert only_ping(Receiver().read(tagged(line, tags), CAME_MS)).ts == received_ms


def test_a_damaged_tag_block_says_nothing() -> None:
    (line,) = ais_lines(second=60)
    good = tagged(line, b"c:1700000000")
    for damaged in (
        good.replace(b"c:17", b"c:18"),
        b"\\c:1700000000\\" + line,
        b"\\*\\" + line,
        tagged(line, b"c:soon"),
    ):
        assert only_ping(Receiver().read(damaged, CAME_MS)).ts == CAME_MS, damaged


def test_a_ships_type_is_remembered_and_becomes_the_category() -> None:
    receiver = Receiver()
    static = ais_lines(type=5, ship_type=71, shipname="EVER GIVEN", second=None)
    assert len(static) == 2
    assert [receiver.read(line, CAME_MS) for line in static] == [[Skip("part")], [Skip("static_data")]]
    assert only_ping(receiver.read(ais_lines()[0], CAME_MS)).category == "cargo"
    assert only_ping(receiver.read(ais_lines(mmsi=366_999_999)[0], CAME_MS)).category is None


def test_class_b_says_its_type_in_part_b_of_24_and_in_19() -> None:
    receiver = Receiver()
    for line in ais_lines(type=24, partno=1, ship_type=36):
        assert receiver.read(line, CAME_MS) in ([Skip("static_data")], [Skip("part")])
    assert only_ping(receiver.read(ais_lines(type=18)[0], CAME_MS)).category == "sailing"
    assert read(type=19, ship_type=60).category == "passenger"


def test_types_of_ships_that_were_heard_longest_ago_are_forgotten() -> None:
    receiver = Receiver(most_ships=2)
    for mmsi in (366_000_001, 366_000_002, 366_000_003):
        for line in ais_lines(type=5, ship_type=80, mmsi=mmsi):
            receiver.read(line, CAME_MS)
    for mmsi, category in ((366_000_001, None), (366_000_003, "tanker")):
        assert only_ping(receiver.read(ais_lines(mmsi=mmsi)[0], CAME_MS)).category == category


def test_a_message_of_two_parts_is_put_together_whatever_comes_between() -> None:
    receiver = Receiver()
    first, second = ais_lines(type=5, ship_type=52)
    assert receiver.read(second, CAME_MS) == [Skip("part")], "in any order"
    receiver.read(ais_lines()[0], CAME_MS)
    assert receiver.read(first, CAME_MS + 1_000) == [Skip("static_data")]


def test_parts_of_two_messages_are_not_joined() -> None:
    """Receivers use ten numbers again and again: the first part of an old message and the second of a new one with
    the same number would be a message that nobody sent."""
    receiver = Receiver()
    old = ais_lines(type=5, ship_type=52, mmsi=366_000_001)
    new = ais_lines(type=5, ship_type=70, mmsi=366_000_002)
    receiver.read(old[0], CAME_MS)
    assert receiver.read(new[1], CAME_MS + 31_000) == [Skip("part")], "the first part is too old"
    assert receiver.read(new[0], CAME_MS + 31_001) == [Skip("static_data")]
    receiver.read(old[0], CAME_MS)
    receiver.read(new[0], CAME_MS)
    assert receiver.read(new[1], CAME_MS) == [Skip("static_data")]
    assert only_ping(receiver.read(ais_lines(mmsi=366_000_002)[0], CAME_MS)).category == "cargo"


def test_two_receivers_do_not_share_parts_but_share_types() -> None:
    receiver = Receiver()
    first, second = ais_lines(type=5, ship_type=52)
    assert receiver.hear(first, CAME_MS, "a").parsed == Skip("part")
    assert receiver.hear(second, CAME_MS, "b").parsed == Skip("part")
    assert receiver.hear(second, CAME_MS, "a").parsed == Skip("static_data")


def test_parts_that_wait_are_bounded() -> None:
    receiver = Receiver()
    first, _ = ais_lines(type=5)
    for number in range(1_000):
        receiver.hear(first, CAME_MS, str(number))
    assert len(receiver._parts) <= 64


@pytest.mark.parametrize("before", [b"", b"\\s:rORBCOMM000,c:1426032001*5B\\"])
@pytest.mark.parametrize("after", [b"", b"\r\n"])
def test_what_stations_received_is_read(before: bytes, after: bytes) -> None:
    line = before + b"!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C" + after
    found = only_ping(Receiver().read(line, CAME_MS))
    assert (found.entity_id, round(found.lat, 3), round(found.lon, 3)) == ("477553000", 47.583, -122.346)


@pytest.mark.parametrize(
    "line",
    [
        ais_lines()[0][:-1] + b"0",
        ais_lines()[0][:20],
        b"!AIVDM",
        b"!AIVDM,1,1,,A,,0*26",
        b"!AIVDM,9,9,9,A,,0*2B",
        b"nothing of AIS",
        b"GET / HTTP/1.1",
        b"\\c:1700000000",
        b"!\xff\xfe,,,,,,",
    ],
)
def test_a_damaged_sentence_is_a_reject(line: bytes) -> None:
    assert only_code(Receiver().read(line, CAME_MS)) == "bad_message"


def test_a_reject_of_a_message_in_parts_keeps_all_of_them() -> None:
    receiver = Receiver()
    (sentence,) = encode_dict({**SHIP, "lat": 95.0})
    parts = [one.encode() for one in ais_to_nmea_0183(sentence.split(",")[5] + "0" * 40, "AI", "VDM", "A", 0)]
    assert len(parts) == 2
    *_, last = [receiver.hear(part, CAME_MS) for part in parts]
    assert (only_code([last.parsed]), last.raw) == ("lat_out_of_range", b"\n".join(parts))


@pytest.mark.parametrize(
    "line", [b"$GPRMC,,V,,,,,,,,,,N*53", b"# a comment", b"$PGHP,1,2026,11,30,1,2,3,4,219,,2190047,1,2A*1B"]
)
def test_sentences_of_others_are_skipped(line: bytes) -> None:
    assert Receiver().read(line, CAME_MS) == [Skip("other_sentence")]


@pytest.mark.parametrize("kind", [4, 9, 21])
def test_base_stations_and_buoys_are_skipped(kind: int) -> None:
    assert read(type=kind) == Skip("other_message")


def test_a_transponder_that_was_never_set_up_is_a_reject() -> None:
    assert only_code([read(mmsi=0)]) == "bad_entity_id"
