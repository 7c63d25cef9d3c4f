"""What a table's columns mean, by their names and values, and times on a wall's clock."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream.adapters import columns, files
from stream.adapters.column_names import ColumnMap
from stream.adapters.guess import guess_columns
from stream.adapters.local_times import LocalTimes
from stream.adapters.recorded import recording
from stream.tracks.clean import parse
from stream.wire import Ping, Record

T0 = 1_490_096_205_000  # 2017-03-21 11:36:45 UTC
LONDON = ZoneInfo("Europe/London")


def write(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("vehicle,timestamp,lat,lon", "van7,1490096205,30.1,-97.7", "entity_id=vehicle,t:s=timestamp"),
        ("Vehicle ID;GPS Time;Latitude;Longitude", "7;1490096205000;30,1;-97,7", None),
        ("imei,fixTime,lat,lng,course", "861,2017-03-21T11:36:45Z,30.1,-97.7,90", None),
        ("Kennzeichen\tZeit\tBreite\tLänge", "B-AB 1\t21.03.2017 11:36:45\t52,1\t13,4", None),
        ("id,name,when,date_time,y,x", "1,van,x,2017-03-21 11:36:45,30.1,-97.7", None),
        ("bus,Date,Time,lat,lon", "7,03/21/2017,11:36:45 AM,30.1,-97.7", None),
        ("device,datetime,lat,lon", "7,20170321113645,30.1,-97.7", None),
        ("Vehicle Type,Wagon,Server Time,GPS Time,lat,lon", "bus,a1,2017-03-21 11:40,2017-03-21 11:36:45,1.5,13", None),
        ("icao24,callsign,time_position,longitude,latitude", "ab1,DLH,1490096205,13.4,52.1", None),
        ("mmsi,BaseDateTime,LAT,LON,COG", "3669,2017-03-21T11:36:45,30.1,-97.7,511", None),
    ],
)
def test_columns_are_guessed_by_names_and_values(tmp_path: Path, header: str, row: str, expected: str | None) -> None:
    path = write(tmp_path / "a.csv", header, row, row, row)
    guess = guess_columns(path)
    assert expected is None or str(guess) == expected
    assert ColumnMap.parse(shlex.split(guess.options())[1]) == guess  # what is printed gives the same
    (first, *_) = files.read(path, guess)
    ping = parse(Record("", 0, 0, T0, first.key, first.value))
    assert isinstance(ping, Ping)
    assert (ping.ts, round(ping.lon)) in ((T0, -98), (T0, 13))
    table = columns.read(path, guess)  # as `train` reads it: equal rows are one
    assert table.ts_ms.tolist() == [T0]
    assert table.names == (ping.entity_id,)


def test_names_of_ours_are_not_guessed_again(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.csv", "entity_id,ts,lat,lon", "a,1490096205,1.5,2.5")
    assert guess_columns(plain) == ColumnMap()
    assert not recording(plain).guessed
    given = ColumnMap.parse("entity_id=car,t:s=when")
    path = write(tmp_path / "b.csv", "car,when,lat,lon,speed", "a,1490096205,1.5,2.5,9")
    assert guess_columns(path, given) == given


def test_a_day_and_a_month_are_told_apart_by_later_rows_or_asked_for(tmp_path: Path) -> None:
    begin = datetime(2026, 3, 1, 23, 0, tzinfo=UTC).timestamp()
    times = [datetime.fromtimestamp(begin + 600 * n, UTC) for n in range(24)]
    rows = [f"a,{at:%d/%m/%Y %H:%M:%S},1.5,2.5" for at in times]
    path = write(tmp_path / "a.csv", "car,time,lat,lon", *rows)
    assert guess_columns(path).clock == "%d/%m/%Y %H:%M:%S"
    american = [f"a,{at:%m/%d/%Y %H:%M:%S},1.5,2.5" for at in times]
    assert guess_columns(write(tmp_path / "b.csv", "car,time,lat,lon", *american)).clock == "%m/%d/%Y %H:%M:%S"
    with pytest.raises(ValueError, match=r"'01/03/2026 23:00:00', which may be %.* or %.*--columns"):
        guess_columns(write(tmp_path / "c.csv", "car,time,lat,lon", *rows[:3]))


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "a,b,c",
            "1,2,3",
            r"no column is plainly the latitude \(lat\)\. It has the columns a, b, c; its first rows: 1, 2",
        ),
        ("car,time,lat,lon", "7,soon,1.5,2.5", r"no column is plainly the time"),
        ("id,time,lat,lon", "1,1490096205,1.5,2.5", r"no column is plainly the vehicle's id"),
        ("time,lat,lon,ele", "2026-01-26T15:55:12Z,1.5,2.5,3", r"no column is plainly the vehicle's id"),
        ("", "", r"Empty: it has no line with the names of columns"),
    ],
)
def test_what_is_not_plain_is_said_with_what_was_seen(tmp_path: Path, header: str, row: str, message: str) -> None:
    rows = [row.replace("1,1490096205", f"{n},1490096205") if header.startswith("id") else row for n in (1, 2, 3)]
    with pytest.raises(ValueError, match=message):
        guess_columns(write(tmp_path / "a.csv", header, *rows))


def test_a_clock_that_is_set_back_shows_an_hour_twice() -> None:
    begin = int(datetime(2026, 10, 25, 0, 0, tzinfo=UTC).timestamp() * 1000)
    times = [begin + 420_000 * n for n in range(20)]  # each seven minutes, over the change at 01:00 UTC
    local = LocalTimes("%d.%m.%Y %H:%M:%S", "Europe/London")
    texts = [f"{datetime.fromtimestamp(ts / 1000, LONDON):%d.%m.%Y %H:%M:%S}" for ts in times]
    assert [local.to_ms(text, "van") for text in texts] == times
    assert [local.to_ms(text, "bus") for text in texts] == times  # each entity has an order of its own


def test_a_time_that_no_clock_showed_is_none() -> None:
    local = LocalTimes("iso", "Europe/London")
    assert local.to_ms("2026-03-29 00:59:59", "a") == 1_774_745_999_000
    assert local.to_ms("2026-03-29 01:30:00", "a") is None
    assert local.to_ms("2026-03-29 02:00:00", "a") == 1_774_746_000_000
    assert local.to_ms("2026-03-29 02:00:00+00:00", "a") == 1_774_749_600_000  # its own zone counts
    assert local.to_ms("1490096205000", "a") is None  # a number is no date


def test_local_times_of_parquet_are_of_the_zone_too(tmp_path: Path) -> None:
    at = [datetime(2026, 7, 1, 12, 0), datetime(2026, 7, 1, 12, 1)]
    table = pa.table(
        {"entity_id": ["a", "a"], "t": pa.array(at, pa.timestamp("us")), "lat": [1.5, 1.5], "lon": [2.5, 2.5]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    found = recording(tmp_path / "a.parquet", zone="Europe/London")
    noon_ms = 1_782_903_600_000
    assert [row.ts_ms for row in found.in_order()] == [noon_ms, noon_ms + 60_000]
    assert columns.read(tmp_path / "a.parquet", found.columns).ts_ms.tolist() == [noon_ms, noon_ms + 60_000]


@pytest.mark.parametrize(
    ("columns", "zone", "message"),
    [
        (None, "Europe/Londn", "no time zone is called 'Europe/Londn': did you mean Europe/London"),
        ("t:s=t", "Europe/London", "a time zone is for times that are text"),
        ("t:%H:%M=t", None, "lacks a part of the date"),
        ("t:%Q=t", None, "is no format of a time"),
        ("t:days=t", None, "only t may be marked, as one of ms, s, us, ns, rfc3339, iso"),
        ("lat:%d=t", None, "only t may be marked"),
    ],
)
def test_a_wrong_zone_or_format_is_said(tmp_path: Path, columns: str | None, zone: str | None, message: str) -> None:
    path = write(tmp_path / "a.csv", "entity_id,t,lat,lon", "a,1490096205,1.5,2.5")
    with pytest.raises(ValueError, match=message):
        recording(path, columns, zone=zone)


def test_a_format_may_have_commas_and_colons() -> None:
    found = ColumnMap.parse("t:%b %d, %Y, %H:%M:%S=when,entity_id=car")
    assert found == ColumnMap((("entity_id", "car"), ("t", "when")), "%b %d, %Y, %H:%M:%S")
    assert found.options() == "--columns 'entity_id=car,t:%b %d, %Y, %H:%M:%S=when'"


def test_rows_of_csv_are_read_by_a_map_as_lines_of_ndjson_are(tmp_path: Path) -> None:
    mapping = tmp_path / "a.toml"
    mapping.write_text(
        'name = "mine"\n[fields]\nentity_id = "car"\nts = {path = "when", unit = "s"}\n'
        'lat = {path = "y", unit = "1e-7 deg"}\nlon = {path = "x", unit = "1e-7 deg"}\n'
        'speed_mps = {path = "kph", unit = "km/h"}\n'
    )
    rows = ("7;1490096205;301000000;-977000000;36", "7;1490096204;301000000;-977000000;18", "7;;;;3")
    path = write(tmp_path / "a.csv", "car;when;y;x;kph", *rows)
    found = list(recording(path, map_=str(mapping)).in_order())
    said = [parse(Record("", 0, 0, T0, row.key, row.value)) for row in found]
    pings = [one for one in said if isinstance(one, Ping)]
    assert pings == [
        Ping(entity_id="7", ts=T0 - 1_000, lat=30.1, lon=-97.7, speed_mps=5.0, source="mine"),
        Ping(entity_id="7", ts=T0, lat=30.1, lon=-97.7, speed_mps=10.0, source="mine"),
    ]
    assert len(said) == 3
    with pytest.raises(ValueError, match="leave --columns and --timezone out"):
        recording(path, "entity_id=car", str(mapping))
