"""GPX folders and GTFS-Realtime archives: tiny files in their real layouts, and what must come out, worked by hand."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.transit.gtfs_realtime_pb2 import FeedMessage
from train_worlds import reasons

from train.data.corpus import Corpus

START_S = 1_700_000_000  # 2023-11-14T22:13:20Z


def gpx(*tracks: str, version: str = "1.1") -> str:
    space = f"http://www.topografix.com/GPX/{version.replace('.', '/')}"
    return f'<?xml version="1.0"?><gpx version="{version}" creator="t" xmlns="{space}">{"".join(tracks)}</gpx>'


def trkpt(lat: float, lon: float, second: float, more: str = "") -> str:
    return f'<trkpt lat="{lat}" lon="{lon}"><ele>90</ele><time>2023-11-14T22:13:{second}Z</time>{more}</trkpt>'


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def tracks(corpus: Corpus) -> list[tuple[str, list[int]]]:
    """Entity, and seconds since START_S."""
    return [
        (corpus.names[entity], ((corpus.ts_ms[first:last] - 1000 * START_S) // 1000).tolist())
        for (first, last), entity in zip(corpus.tracks, corpus.entity, strict=True)
    ]


# -- GPX --------------------------------------------------------------------------------------------------------------


def test_each_gpx_segment_is_a_track_and_the_file_names_the_entity(tmp_path: Path, open_corpus: Any) -> None:
    first = trkpt(30.0, -97.0, 20) + trkpt(30.0001, -97.0, 21) + '<trkpt lat="30" lon="-97"></trkpt>'
    second = trkpt(30.0002, -97.0, 22) + trkpt(30.0003, -97.0, 23)
    path = write(tmp_path / "tours" / "van7.gpx", gpx(f"<trk><trkseg>{first}</trkseg><trkseg>{second}</trkseg></trk>"))
    for given in (path, path.parent, f"gpx:{path.parent}"):
        corpus = open_corpus(given)
        assert tracks(corpus) == [("van7", [0, 1]), ("van7", [2, 3])]
        assert reasons(corpus) == {"no_time": 1}
        assert corpus.lat.tolist() == [30.0, 30.0001, 30.0002, 30.0003]
        assert np.isnan(corpus.speed_mps).all()


def test_a_folder_says_who_before_the_tracks_name_and_the_name_before_the_file(
    tmp_path: Path, open_corpus: Any
) -> None:
    named = gpx(f"<trk><name>bus 12</name><trkseg>{trkpt(30, -97, 20)}{trkpt(30.0001, -97, 21)}</trkseg></trk>")
    bare = gpx(f"<trk><trkseg>{trkpt(30, -97, 20)}{trkpt(30.0001, -97, 21)}</trkseg></trk>")
    folder = tmp_path / "tours"
    for name, text in (("a.gpx", named), ("b.gpx", bare), ("ann/c.gpx", named), ("ann/d.gpx", bare)):
        write(folder / name, text)
    assert {name for name, _ in tracks(open_corpus(folder))} == {"bus 12", "b", "ann"}


def test_a_gpx_time_keeps_its_milliseconds(tmp_path: Path, open_corpus: Any) -> None:
    path = write(tmp_path / "a.gpx", gpx(f"<trk><trkseg>{trkpt(30, -97, 20.29)}{trkpt(30, -97, 21)}</trkseg></trk>"))
    assert open_corpus(path).ts_ms.tolist() == [1000 * START_S + 290, 1000 * START_S + 1000]


def test_gpx_1_0_has_speed_and_course(tmp_path: Path, open_corpus: Any) -> None:
    more = "<course>90.5</course><speed>3.5</speed>"
    points = trkpt(30, -97, 20, more) + trkpt(30.0001, -97, 21)
    path = write(tmp_path / "old.gpx", gpx(f"<trk><trkseg>{points}</trkseg></trk>", version="1.0"))
    corpus = open_corpus(path)
    np.testing.assert_array_equal(corpus.speed_mps, [3.5, np.nan])
    np.testing.assert_array_equal(corpus.heading_deg, [90.5, np.nan])


SCHEMA = "http://www.garmin.com/xmlschemas/TrackPointExtension/v2"
GARMIN = f'<g:TrackPointExtension xmlns:g="{SCHEMA}">{{}}</g:TrackPointExtension>'


@pytest.mark.parametrize(
    ("more", "speed", "course"),
    [
        (GARMIN.format("<g:speed>3.5</g:speed><g:course>90.5</g:course>"), 3.5, 90.5),
        (GARMIN.format("<g:hr>120</g:hr>"), np.nan, np.nan),
        ("<verticalspeed>9</verticalspeed><speed>3.5</speed>", 3.5, np.nan),
        ('<o:groundSpeed xmlns:o="osm">3.5</o:groundSpeed><o:course xmlns:o="osm">north</o:course>', 3.5, np.nan),
        ("<speed/>", np.nan, np.nan),
    ],
    ids=["garmin", "no speed", "exactly", "another", "empty"],
)
def test_an_extension_has_speed_and_course(
    tmp_path: Path, open_corpus: Any, more: str, speed: float, course: float
) -> None:
    points = trkpt(30, -97, 20, f"<extensions>{more}</extensions>") + trkpt(30.0001, -97, 21)
    corpus = open_corpus(write(tmp_path / "a.gpx", gpx(f"<trk><trkseg>{points}</trkseg></trk>")))
    np.testing.assert_array_equal(corpus.speed_mps, np.float32([speed, np.nan]))
    np.testing.assert_array_equal(corpus.heading_deg, np.float32([course, np.nan]))


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        ("ISO-8859-1", "latin-1"),
        ("windows-1252", "cp1252"),
        ("UTF-16", "utf-16"),
        ("UTF-8", "utf-8"),
        ("UTF-8", "utf-8-sig"),
        (None, "utf-8"),
        (None, "utf-16"),
    ],
)
def test_a_gpx_is_read_in_the_encoding_that_it_declares(
    tmp_path: Path, open_corpus: Any, declared: str | None, encoding: str
) -> None:
    whole = gpx(f"<trk><name>Tour à</name><trkseg>{trkpt(30, -97, 20)}{trkpt(30.0001, -97, 21)}</trkseg></trk>")
    head = '<?xml version="1.0"?>'
    whole = whole.replace(head, "" if declared is None else head.replace("?>", f" encoding='{declared}' ?>"))
    (tmp_path / "a.gpx").write_bytes(whole.encode(encoding))
    assert tracks(open_corpus(tmp_path / "a.gpx")) == [("Tour à", [0, 1])]


@pytest.mark.parametrize(
    "point",
    [
        '<trkpt lat="abc" lon="-97">{}</trkpt>',
        "<trkpt lon='-97' lat='30,2'>{}</trkpt>",
        '<trkpt lat="30">{}</trkpt>',
        '<trkpt lat="" lon="-97" >{}</trkpt>',
    ],
)
def test_a_gpx_point_without_a_place_costs_itself_alone(tmp_path: Path, open_corpus: Any, point: str) -> None:
    """It refused the whole folder."""
    bad = point.format("<time>2023-11-14T22:13:21Z</time>") + "<trkpt lat='x' lon='y'/>"
    points = trkpt(30, -97, 20) + bad + trkpt(30.0001, -97, 22)
    corpus = open_corpus(write(tmp_path / "tour" / "a.gpx", gpx(f"<trk><trkseg>{points}</trkseg></trk>")).parent)
    assert tracks(corpus) == [("a", [0, 2])]
    assert reasons(corpus) == {"unreadable_row": 1, "no_time": 1}


@pytest.mark.parametrize("text", ["<gpx><trk>", "hello", "", '<?xml version="1.0" encoding="klingon"?><gpx/>'])
def test_what_is_no_gpx_is_named(tmp_path: Path, open_corpus: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"broken\.gpx: not GPX"):
        open_corpus(write(tmp_path / "broken.gpx", text))


# -- GTFS-Realtime ----------------------------------------------------------------------------------------------------


def feed(at_s: int, *vehicles: dict[str, Any]) -> bytes:
    message = FeedMessage()
    message.header.gtfs_realtime_version = "2.0"
    message.header.timestamp = at_s
    for number, vehicle in enumerate(vehicles):
        item = message.entity.add()
        item.id = str(number)
        at = item.vehicle.position
        at.latitude, at.longitude = vehicle["at"]
        for name in ("speed", "bearing"):
            if name in vehicle:
                setattr(at, name, vehicle[name])
        if "id" in vehicle:
            item.vehicle.vehicle.id = vehicle["id"]
        if "trip" in vehicle:
            item.vehicle.trip.trip_id = vehicle["trip"]
        if "s" in vehicle:
            item.vehicle.timestamp = vehicle["s"]
    return message.SerializeToString()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "feed"
    folder.mkdir()
    parked = {"id": "bus-1", "trip": "t9", "at": (30.25, -97.75), "s": START_S, "speed": 0.0}
    (folder / "0001.pb").write_bytes(feed(START_S + 5, parked, {"trip": "t8", "at": (30.5, -97.5)}))
    (folder / "0002.pb.gz").write_bytes(gzip.compress(feed(START_S + 15, parked, {"at": (30.5, -97.5), "s": START_S})))
    moved = {"id": "bus-1", "at": (30.2505, -97.75), "s": START_S + 20, "speed": 7.5, "bearing": 12.0}
    (folder / "0003.pb").write_bytes(feed(START_S + 25, moved, {"trip": "t8", "at": (30.5005, -97.5)}))
    return folder


def test_a_vehicle_is_known_by_its_id_or_trip_and_told_once_per_time(archive: Path, open_corpus: Any) -> None:
    corpus = open_corpus(archive)
    assert tracks(corpus) == [("bus-1", [0, 20]), ("t8", [5, 25])]  # t8 has the feed's time, for want of its own
    np.testing.assert_array_equal(corpus.speed_mps, [0.0, 7.5, np.nan, np.nan])
    np.testing.assert_array_equal(corpus.heading_deg, [np.nan, 12.0, np.nan, np.nan])
    np.testing.assert_array_equal(corpus.lat, np.float32([30.25, 30.2505, 30.5, 30.5005]))  # as wide as the feed's
    assert reasons(corpus) == {"repeated_time": 1, "no_entity_or_time": 1}


def test_what_is_no_position_is_counted(archive: Path, open_corpus: Any) -> None:
    message = FeedMessage.FromString(feed(0, {"id": "bus-1", "at": (30.0, -97.0)}))
    message.entity.add().id = "an alert"
    (archive / "0004.pb").write_bytes(message.SerializeToString())
    assert reasons(open_corpus(archive)) == {
        "repeated_time": 1,
        "no_entity_or_time": 1,
        "no_time": 1,
        "no_position": 1,
    }


@pytest.mark.parametrize("s", [2**64 - 1, 2**60, 253_402_300_800, 1000 * START_S])
def test_a_vehicle_whose_time_no_calendar_has_costs_itself_alone(archive: Path, open_corpus: Any, s: int) -> None:
    """2**60 s are more milliseconds than int64 has, and the whole archive was refused for it."""
    before = tracks(open_corpus(archive))
    (archive / "0004.pb").write_bytes(feed(START_S + 35, {"id": "bus-1", "at": (30.2, -97.7), "s": s}))
    corpus = open_corpus(archive)
    assert tracks(corpus) == before
    assert reasons(corpus) == {"repeated_time": 1, "no_entity_or_time": 1, "no_time": 1}


NO_FEEDS = {"9.pb": b"<html>busy</html>", "8.pb.gz": b"not gzip", "7.pb": b"", "6.pb": b"\x12\x00"}


@pytest.mark.parametrize(("name", "raw"), NO_FEEDS.items(), ids=NO_FEEDS)
def test_what_is_no_feed_is_named_and_among_others_counted(
    archive: Path, open_corpus: Any, name: str, raw: bytes
) -> None:
    """One error page among the answers of a year refused them all, and an answer without a byte was no vehicle."""
    before = open_corpus(archive)
    (archive / name).write_bytes(raw)
    with pytest.raises(ValueError, match=rf"{name}: not a GTFS-Realtime feed"):
        open_corpus(archive / name)
    corpus = open_corpus(archive)
    assert tracks(corpus) == tracks(before)
    assert reasons(corpus) == {**reasons(before), "unreadable_file": 1}
    assert corpus.unreadable == open_corpus(archive).unreadable == (f"gtfs:feed/{name}",)  # read, and from the cache
    assert before.unreadable == ()


def test_a_vehicle_whose_id_is_not_utf_8_costs_itself_alone(tmp_path: Path, open_corpus: Any) -> None:
    """Its file was refused and rolled back, but had been heard: later files' fixes were dropped as its repetition."""
    bus = {"id": "bus-1", "at": (30.25, -97.75), "s": START_S}
    for at, vehicles in enumerate(([bus, {**bus, "id": "XXXX"}], [bus], [{**bus, "s": START_S + 20}])):
        write(tmp_path / "feed" / f"{at}.pb", "").write_bytes(feed(START_S, *vehicles).replace(b"XXXX", b"\xe9" * 4))
    corpus = open_corpus(tmp_path / "feed")
    assert tracks(corpus) == [("bus-1", [0, 20])]
    assert reasons(corpus) == {"repeated_time": 1, "unreadable_row": 1}


def test_a_folder_without_one_readable_file_is_refused_for_its_first(tmp_path: Path, open_corpus: Any) -> None:
    for name in ("b.gpx", "a.gpx"):
        write(tmp_path / "tours" / name, "<html>")
    with pytest.raises(ValueError, match=r"a\.gpx: not GPX"):
        open_corpus(tmp_path / "tours")


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ("", r"no rows"),
        ('<trkpt lat="30" lon="-97"/>', r"not one row is a ping: 1 without a time"),
        (trkpt(-97, 30, 20), r"not one row is a ping: 1 at an impossible position; are lat and lon swapped, .*\?"),
    ],
)
def test_a_folder_without_a_ping_says_why_of_its_rows_and_which_file_it_could_not_read(
    tmp_path: Path, open_corpus: Any, points: str, said: str
) -> None:
    """The file was counted as a row, which hid that all rows had lat and lon swapped."""
    write(tmp_path / "tours" / "a.gpx", "<html>")
    write(tmp_path / "tours" / "b.gpx", gpx(f"<trk><trkseg>{points}</trkseg></trk>"))
    with pytest.raises(ValueError, match=said + r" \(files that cannot be read: 1, first gpx:tours/a\.gpx\)$"):
        open_corpus(tmp_path / "tours")


def test_without_the_extra_the_error_says_what_to_install(
    tmp_path: Path, open_corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.transit.gtfs_realtime_pb2", None)  # as if it were not installed
    with pytest.raises(RuntimeError, match=r"pip install 'pathcast\[readers\]'"):
        open_corpus(write(tmp_path / "a.pb", "x"))
