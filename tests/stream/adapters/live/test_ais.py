"""AIS sentences: encoded by pyais, and those of gpsd's description of the format, which real stations received."""

from __future__ import annotations

import random
from typing import Any

import feed_fuzz
import pytest
from pyais import encode_dict
from pyais.encode import ais_to_nmea_0183

from stream.adapters.live.formats.ais import Receiver, fix_time_ms
from stream.adapters.live.parsed import KNOT_MPS, Skip
from stream.wire import Ping, Reject

CAME_MS = feed_fuzz.CAME_MS  # at second 40 of its minute
MINUTE_MS = CAME_MS - 40_000
SHIP = {"type": 1, "mmsi": 366_123_456, "lat": 29.5, "lon": -94.75, "speed": 12.3, "course": 187.4, "heading": 190}


def lines(**given: Any) -> list[bytes]:
    return [line.encode() for line in encode_dict({**SHIP, "second": 38, **given}, talker_id="AI")]


def tagged(line: bytes, tags: bytes) -> bytes:
    checksum = 0
    for byte in tags:
        checksum ^= byte
    return b"\\%s*%02X\\%s" % (tags, checksum, line)


def read(**given: Any) -> Any:
    receiver = Receiver()
    *_, last = [receiver.read(line, CAME_MS) for line in lines(**given)]
    (found,) = last
    return found


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
    (line,) = lines(second=38)
    found = [
        Receiver().read(tagged(line, b"s:%s,c:%d" % (name, CAME_MS // 1000 + late_s)), 0)[0]
        for name, late_s in ((b"a", 0), (b"b", 7))
    ]
    assert [one.ts for one in found if isinstance(one, Ping)] == [MINUTE_MS + 38_000] * 2


def test_the_time_of_a_tag_block_stands_for_that_of_arrival() -> None:
    (line,) = lines(second=60)
    received_ms = CAME_MS - 86_400_000
    for tags in (b"c:%d" % (received_ms // 1000), b"s:station,c:%d" % received_ms):
        (found,) = Receiver().read(tagged(line, tags), CAME_MS)
        assert isinstance(found, Ping)
        assert found.ts == received_ms


def test_a_damaged_tag_block_says_nothing() -> None:
    (line,) = lines(second=60)
    good = tagged(line, b"c:1700000000")
    for damaged in (
        good.replace(b"c:17", b"c:18"),
        b"\\c:1700000000\\" + line,
        b"\\*\\" + line,
        tagged(line, b"c:soon"),
    ):
        (found,) = Receiver().read(damaged, CAME_MS)
        assert isinstance(found, Ping), damaged
        assert found.ts == CAME_MS


def test_a_ships_type_is_remembered_and_becomes_the_category() -> None:
    receiver = Receiver()
    static = lines(type=5, ship_type=71, shipname="EVER GIVEN", second=None)
    assert len(static) == 2
    assert [receiver.read(line, CAME_MS) for line in static] == [[Skip("part")], [Skip("static_data")]]
    (found,) = receiver.read(lines()[0], CAME_MS)
    assert isinstance(found, Ping)
    assert found.category == "cargo"
    (other,) = receiver.read(lines(mmsi=366_999_999)[0], CAME_MS)
    assert isinstance(other, Ping)
    assert other.category is None


def test_class_b_says_its_type_in_part_b_of_24_and_in_19() -> None:
    receiver = Receiver()
    for line in lines(type=24, partno=1, ship_type=36):
        assert receiver.read(line, CAME_MS) in ([Skip("static_data")], [Skip("part")])
    (found,) = receiver.read(lines(type=18)[0], CAME_MS)
    assert isinstance(found, Ping)
    assert found.category == "sailing"
    nineteen = read(type=19, ship_type=60)
    assert nineteen.category == "passenger"


def test_types_of_ships_that_were_heard_longest_ago_are_forgotten() -> None:
    receiver = Receiver(most_ships=2)
    for mmsi in (366_000_001, 366_000_002, 366_000_003):
        for line in lines(type=5, ship_type=80, mmsi=mmsi):
            receiver.read(line, CAME_MS)
    found = [receiver.read(lines(mmsi=mmsi)[0], CAME_MS)[0] for mmsi in (366_000_001, 366_000_003)]
    assert [one.category for one in found if isinstance(one, Ping)] == [None, "tanker"]


def test_a_message_of_two_parts_is_put_together_whatever_comes_between() -> None:
    receiver = Receiver()
    first, second = lines(type=5, ship_type=52)
    assert receiver.read(second, CAME_MS) == [Skip("part")], "in any order"
    receiver.read(lines()[0], CAME_MS)
    assert receiver.read(first, CAME_MS + 1_000) == [Skip("static_data")]


def test_parts_of_two_messages_are_not_joined() -> None:
    """Receivers use ten numbers again and again: the first part of an old message and the second of a new one with
    the same number would be a message that nobody sent."""
    receiver = Receiver()
    old = lines(type=5, ship_type=52, mmsi=366_000_001)
    new = lines(type=5, ship_type=70, mmsi=366_000_002)
    receiver.read(old[0], CAME_MS)
    assert receiver.read(new[1], CAME_MS + 31_000) == [Skip("part")], "the first part is too old"
    assert receiver.read(new[0], CAME_MS + 31_001) == [Skip("static_data")]
    receiver.read(old[0], CAME_MS)
    receiver.read(new[0], CAME_MS)
    assert receiver.read(new[1], CAME_MS) == [Skip("static_data")]
    (found,) = receiver.read(lines(mmsi=366_000_002)[0], CAME_MS)
    assert isinstance(found, Ping)
    assert found.category == "cargo"


def test_two_receivers_do_not_share_parts_but_share_types() -> None:
    receiver = Receiver()
    first, second = lines(type=5, ship_type=52)
    assert receiver.hear(first, CAME_MS, "a").parsed == Skip("part")
    assert receiver.hear(second, CAME_MS, "b").parsed == Skip("part")
    assert receiver.hear(second, CAME_MS, "a").parsed == Skip("static_data")


def test_parts_that_wait_are_bounded() -> None:
    receiver = Receiver()
    first, _ = lines(type=5)
    for number in range(1_000):
        receiver.hear(first, CAME_MS, str(number))
    assert len(receiver._parts) <= 64


@pytest.mark.parametrize(
    ("line", "entity_id"),
    [
        (b"!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C", "477553000"),
        (b"\\s:rORBCOMM000,c:1426032001*5B\\!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C", "477553000"),
        (b"!AIVDM,1,1,,B,177KQJ5000G?tO`K>RA1wUbN0TKH,0*5C\r\n", "477553000"),
    ],
)
def test_what_stations_received_is_read(line: bytes, entity_id: str) -> None:
    (found,) = Receiver().read(line, CAME_MS)
    assert isinstance(found, Ping)
    assert found.entity_id == entity_id
    assert (round(found.lat, 3), round(found.lon, 3)) == (47.583, -122.346)


@pytest.mark.parametrize(
    "line",
    [
        lines()[0][:-1] + b"0",
        lines()[0][:20],
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
    (found,) = Receiver().read(line, CAME_MS)
    assert isinstance(found, Reject)
    assert found.code == "bad_message"


def test_a_reject_of_a_message_in_parts_keeps_all_of_them() -> None:
    receiver = Receiver()
    (sentence,) = encode_dict({**SHIP, "lat": 95.0})
    parts = [one.encode() for one in ais_to_nmea_0183(sentence.split(",")[5] + "0" * 40, "AI", "VDM", "A", 0)]
    assert len(parts) == 2
    *_, last = [receiver.hear(part, CAME_MS) for part in parts]
    assert isinstance(last.parsed, Reject)
    assert last.parsed.code == "lat_out_of_range"
    assert last.raw == b"\n".join(parts)


@pytest.mark.parametrize(
    "line", [b"$GPRMC,,V,,,,,,,,,,N*53", b"# a comment", b"$PGHP,1,2026,11,30,1,2,3,4,219,,2190047,1,2A*1B"]
)
def test_sentences_of_others_are_skipped(line: bytes) -> None:
    assert Receiver().read(line, CAME_MS) == [Skip("other_sentence")]


@pytest.mark.parametrize("kind", [4, 9, 21])
def test_base_stations_and_buoys_are_skipped(kind: int) -> None:
    assert read(type=kind) in (Skip("other_message"),)


def test_a_transponder_that_was_never_set_up_is_a_reject() -> None:
    found = read(mmsi=0)
    assert isinstance(found, Reject)
    assert found.code == "bad_entity_id"


def test_no_bytes_raise() -> None:
    rng = random.Random(3)
    kinds = (1, 3, 5, 18, 19, 24, 27, 4, 9, 21)
    examples = [
        tagged(line, b"c:%d" % (CAME_MS // 1000)) if rng.random() < 0.5 else line
        for kind in kinds
        for line in lines(type=kind, ship_type=70)
    ]
    counts = feed_fuzz.survives(Receiver().read, examples, seed=35_2)
    assert counts["Reject"] > 1_000


def test_no_payload_raises() -> None:
    """Most changed bytes do not get past the checksum. These have right ones, and any bits."""
    seed, counts = 35_20, {"Ping": 0, "Reject": 0, "Skip": 0}
    print(f"seed {seed}")
    rng, receiver = random.Random(seed), Receiver()
    letters = [chr(code) for code in (*range(48, 88), *range(96, 120))]
    for _ in range(feed_fuzz.COUNT):
        head = rng.choice("1235BCHK") if rng.random() < 0.8 else rng.choice(letters)
        payload = head + "".join(rng.choices(letters, k=rng.choice((0, 1, 7, 15, 27, 27, 27, 51, 70))))
        count = rng.choice((1, 1, 1, 1, 2))
        body = f"AIVDM,{count},{rng.randint(1, count)},{rng.choice(['', '3'])},A,{payload},{rng.randint(0, 5)}"
        checksum = 0
        for byte in body.encode():
            checksum ^= byte
        for name, number in feed_fuzz.check(receiver.read(f"!{body}*{checksum:02X}".encode(), CAME_MS)).items():
            counts[name] += number
    assert min(counts.values()) > 100, counts
