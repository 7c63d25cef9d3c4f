"""NMEA 0183 of a GPS receiver. The sentences are in the standard's format, as u-blox and other receivers print them."""

from __future__ import annotations

from typing import Any

import pytest
from live_rig import CAME_MS, GGA, RMC, ais_lines, of_another_ship, only_code, only_ping, sentence, tagged

from stream.adapters.live.formats.nmea import MAX_RECEIVERS, Receiver, Receivers
from stream.adapters.live.parsed import KNOT_MPS, Skip
from stream.wire import Ping


def read(*bodies: str) -> list[Any]:
    receiver = Receiver("van-7")
    return [one for body in bodies for one in receiver.read(sentence(body), CAME_MS)]


def test_an_rmc_is_a_ping_with_date_time_and_speed() -> None:
    (found,) = read(RMC)
    assert found == Ping(
        entity_id="van-7",
        ts=1_764_489_998_000,
        lat=pytest.approx(-37.860833, abs=1e-6),
        lon=pytest.approx(145.122667, abs=1e-6),
        speed_mps=pytest.approx(11.5 * KNOT_MPS),
        heading_deg=84.4,
        source="nmea",
    )


def test_fractions_of_a_second_are_kept() -> None:
    assert only_ping(read(RMC.replace("080638.00", "080638.250"))).ts == 1_764_489_998_250


def test_altitude_dilution_and_satellites_come_from_the_gga_of_the_same_second() -> None:
    skipped, found = read(GGA, RMC)
    assert skipped == Skip("gga")
    assert (found.alt_m, found.hdop, found.sats) == (42.7, 0.94, 8)


def test_a_gga_of_long_ago_says_nothing_of_now() -> None:
    _, found = read(GGA.replace("080638", "080635"), RMC)
    assert (found.alt_m, found.hdop, found.sats) == (None, None, None)
    before_midnight = GGA.replace("080638", "235959")
    _, found = read(before_midnight, RMC.replace("080638", "000000"))
    assert found.sats == 8, "a second later"


@pytest.mark.parametrize("talker", ["GP", "GN", "GL", "GA", "BD", "II"])
def test_receivers_of_all_systems_are_read(talker: str) -> None:
    assert isinstance(read(talker + RMC[2:])[0], Ping)


def test_the_oldest_form_without_a_mode_is_read() -> None:
    assert only_code(read("GPRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130998,011.3,E")) == "ts_too_old"
    assert only_ping(read("GPRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130925,011.3,E")).heading_deg == 0.0


@pytest.mark.parametrize(
    "body",
    [
        "GNRMC,080638.00,V,,,,,,,301125,,,N",
        "GNRMC,,V,,,,,,,,,,N",
        RMC.replace(",A,3751", ",V,3751"),
        RMC[:-1] + "N",
        "GNRMC,080638.00,A,,,,,,,301125,,,A",
    ],
)
def test_a_receiver_without_a_fix_sends_no_pings(body: str) -> None:
    assert read(body) == [Skip("no_fix")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (RMC.replace("301125", ""), "bad_timestamp"),
        (RMC.replace("080638.00", ""), "bad_timestamp"),
        (RMC.replace("301125", "311125"), "bad_timestamp"),
        (RMC.replace("080638.00", "256199"), "bad_timestamp"),
        (RMC.replace("301125", "301126"), "ts_in_future"),
        (RMC.replace("3751.6500", "9151.6500"), "lat_out_of_range"),
        (RMC.replace("3751.6500", "south"), "bad_message"),
        (RMC.replace(",S,", ",X,"), "bad_message"),
    ],
)
def test_a_bad_rmc_is_a_reject(body: str, code: str) -> None:
    assert only_code(read(body)) == code


@pytest.mark.parametrize(
    "raw", [sentence(RMC)[:30], sentence(RMC).replace(b"11.5", b"21.5"), b"$GNRMC", b"\xb5b\x01\x07\\", b"noise"]
)
def test_a_damaged_sentence_is_a_reject(raw: bytes) -> None:
    assert only_code(Receiver("van-7").read(raw, CAME_MS)) == "bad_message"


@pytest.mark.parametrize(
    "body", ["GPGSV,1,1,00", "PUBX,00,1", "GNVTG,084.4,T,,M,011.5,N,,K,A", "GNTXT,01,01,02,u-blox"]
)
def test_other_sentences_are_skipped(body: str) -> None:
    assert read(body) == [Skip("other_sentence")]


VAN, TRAM = "10.0.0.7:5000", "[2001:db8::8]:5000"  # as transports name their peers


def hear(receivers: Receivers, raw: bytes, via: str = "") -> Any:
    return receivers.hear(raw, CAME_MS, via).parsed


def test_whose_a_sentence_is_says_the_address_then_the_name_of_all_others() -> None:
    named = Receivers({"10.0.0.7": "van-7", "2001:db8::8": "tram-8"}, "boat")
    said = [hear(named, sentence(RMC), via).entity_id for via in (VAN, TRAM, "10.0.0.9:1", "::ffff:10.0.0.7:1", "")]
    assert said == ["van-7", "tram-8", "boat", "van-7", "boat"]
    assert hear(named, tagged(sentence(RMC), b"s:GP1"), VAN).entity_id == "van-7", "a given name says most"


def test_without_a_name_it_is_the_source_of_the_tag_block() -> None:
    assert hear(Receivers({}), tagged(sentence(RMC), b"c:1764489998,s:van-9")).entity_id == "van-9"


@pytest.mark.parametrize(
    "line",
    [
        sentence(RMC),
        tagged(sentence(RMC), b"c:1764489998"),
        tagged(sentence(RMC), b"s:van-9").replace(b"van-9", b"van-8"),
        tagged(sentence(RMC), b"s:" + b"x" * 129),
        tagged(sentence(RMC), b"s:\xff"),
    ],
)
def test_without_a_name_and_a_source_a_position_is_a_reject_that_says_what_to_give(line: bytes) -> None:
    found = hear(Receivers({}), line, VAN)
    assert only_code([found]) == "missing_field"
    assert "--entity 10.0.0.7=NAME gives one" in found.message


def test_without_a_name_what_is_no_position_is_what_it_always_is() -> None:
    assert hear(Receivers({}), sentence(GGA)) == Skip("gga")
    assert hear(Receivers({}), sentence("GPGSV,1,1,00")) == Skip("other_sentence")
    assert only_code([hear(Receivers({}), b"GET / HTTP/1.1")]) == "bad_message"


def test_each_receiver_has_its_own_gga() -> None:
    two = Receivers({"10.0.0.7": "van-7"}, "boat")
    hear(two, sentence(GGA), VAN)
    assert (hear(two, sentence(RMC)).sats, hear(two, sentence(RMC), VAN).sats) == (None, 8)


def test_ships_that_a_multiplexer_mixes_in_have_their_mmsi_and_the_boat_itself_is_no_second_one() -> None:
    boat, (own,) = Receivers({}, "boat"), ais_lines()
    assert hear(boat, own) == Skip("own_ship")
    assert hear(Receivers({}), own).entity_id == "366123456", "nobody gave it another name"
    ship = of_another_ship(own)
    assert hear(boat, ship).entity_id == "366123456"
    first, second = map(of_another_ship, ais_lines(type=5, ship_type=70))
    assert [hear(boat, first), hear(boat, second)] == [Skip("part"), Skip("static_data")]
    assert hear(boat, ship).category == "cargo", "what it remembers of a ship goes on from sentence to sentence"


def test_invented_sources_take_no_memory_without_an_end() -> None:
    many = Receivers({})
    for number in range(MAX_RECEIVERS + 50):
        hear(many, tagged(sentence("GPGSV,1,1,00"), b"s:%d" % number))
    assert len(many._known) == MAX_RECEIVERS
