"""What `feed`, `replay` and `demo` take: columns by any name and unit, and every format that `train` takes."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from live_rig import gtfs_feed

from stream.adapters.files import RecordedRow
from stream.adapters.recorded import recording
from stream.adapters.sources import FORMATS
from stream.commands import feed, replay
from stream.tracks.clean import parse
from stream.wire import Ping, Record, Reject
from train.data.options import _DATA

T0 = 1_700_000_000_000  # 2023-11-14T22:13:20Z
STEP_MS = 15_000
# Two entities, three pings each, side by side in time.
PINGS = [
    (who, T0 + n * STEP_MS + late_ms, 39.9 + n / 100, 116.5)
    for n in range(3)
    for who, late_ms in (("7", 0), ("8", 1000))
]


def judged(row: RecordedRow) -> Ping | Reject:
    return parse(Record("t", 0, 0, T0 + 3_600_000, row.key, row.value))


def places(rows: Any) -> list[tuple[str, int, float, float]]:
    """Entity, time and place of each row, all of which must be pings as workers read them."""
    pings = [judged(row) for row in rows]
    assert all(isinstance(ping, Ping) for ping in pings), pings
    return [(ping.entity_id, ping.ts, round(ping.lat, 5), round(ping.lon, 5)) for ping in pings]  # type: ignore[union-attr]


# -- columns ----------------------------------------------------------------------------------------------------------

CLOCKS: dict[str, Callable[[int], Any]] = {
    "ms": lambda ms: ms,
    "s": lambda ms: ms / 1000,
    "us": lambda ms: ms * 1_000 + 7,
    "ns": lambda ms: ms * 1_000_000 + 7,
    "rfc3339": lambda ms: np.datetime_as_string(np.datetime64(ms, "ms"), timezone="UTC"),
}


def write_table(path: Path, columns: dict[str, Any]) -> Path:
    """A file of the format of its name."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return path
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    text = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_columns_have_any_name_and_unit(tmp_path: Path, clock: str, name: str) -> None:
    vehicle, ts, y, x = zip(*PINGS, strict=True)
    when = [CLOCKS[clock](ms + 123) for ms in ts]
    somebody_elses = [0] * len(PINGS)
    hacc = [5.0] * len(PINGS)
    columns = {"vehicle": vehicle, "when": when, "y": y, "x": x, "hacc": hacc, "ts": somebody_elses}
    found = recording(
        write_table(tmp_path / name, columns), f"t:{clock}=when,lat=y,lon=x,entity_id=vehicle,accuracy_m=hacc"
    )
    for rows in (list(found.rows()), list(found.in_order())):
        assert places(rows) == [(who, ts + 123, lat, lon) for who, ts, lat, lon in PINGS]
        assert {judged(row).accuracy_m for row in rows} == {5.0}  # type: ignore[union-attr]
        assert [row.ts_ms for row in rows] == [ts + 123 for _, ts, *_ in PINGS]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_seconds_are_the_millisecond_next_to_them(tmp_path: Path, name: str) -> None:
    """Times 1000 these are 1081560907895.9999."""
    path = write_table(tmp_path / name, {"id": ["7"], "when": [1_081_560_907.896], "lat": [39.9], "lon": [116.5]})
    (row,) = recording(path, "entity_id=id,t:s=when").rows()
    assert row.ts_ms == 1_081_560_907_896
    assert places([row]) == [("7", 1_081_560_907_896, 39.9, 116.5)]


def test_a_timestamp_column_has_a_unit_of_its_own(tmp_path: Path) -> None:
    who, ts, lat, lon = zip(*PINGS, strict=True)
    when = pa.array(ts, pa.int64()).cast(pa.timestamp("ms", "UTC"))
    path = write_table(tmp_path / "a.parquet", {"entity_id": who, "when": when, "lat": lat, "lon": lon})
    assert places(recording(path, "t:s=when").rows()) == PINGS


def test_a_row_that_is_no_ping_is_a_record_under_other_names_too(tmp_path: Path) -> None:
    rows = [f"7,{T0 // 1000},39.9,116.5", "7,soon,39.9,116.5", "7,inf,39,116", "7,,1,1"]
    (tmp_path / "a.csv").write_text("\n".join(["id,when,lat,lon", *rows]))
    found = [judged(row) for row in recording(tmp_path / "a.csv", "entity_id=id,t:s=when").rows()]
    assert isinstance(found[0], Ping)
    assert all(isinstance(reject, Reject) for reject in found[1:])
    assert len(found) == 4


@pytest.mark.parametrize(
    ("given", "columns", "said"),
    [
        ("a.csv", "entity_id=car", r"a\.csv: no column car \(for entity_id\); it has id, t, lat, lon"),
        ("b.csv", None, r"b\.csv: no column is plainly the vehicle's id \(entity_id\)\. It has the columns colour, t,"),
        ("a.csv", "colour=id", "'colour=id' is not ours=yours"),
        ("a.csv", "t:h=t", "only t may be marked, as one of ms, s"),
        ("a.ndjson", "entity_id=id", "--columns is for Parquet and CSV"),
        ("ais:a.csv", "entity_id=id", "--columns is for Parquet and CSV"),
        ("shapefile:a.csv", None, "unknown format 'shapefile'"),
        ("a.txt", None, "the name must end in"),
        ("cut.csv.gz", None, r"cut\.csv\.gz: not a gzip file, or damaged"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, columns: str | None, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "a.ndjson", "a.txt"):
        Path(name).write_text("id,t,lat,lon\n")
    Path("b.csv").write_text("colour,t,lat,lon\nred,1,2,3\n")
    Path("cut.csv.gz").write_bytes(gzip.compress(b"entity_id,t,lat,lon\n" + b"7,1,2,3\n" * 99)[:-12])
    with pytest.raises(ValueError, match=said) as raised:
        list(recording(given, columns).rows())
    assert "\n" not in str(raised.value)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    for given in (tmp_path / "none.csv", f"ais:{tmp_path / 'none'}"):
        with pytest.raises(FileNotFoundError, match="none"):
            recording(given)


# -- archives ---------------------------------------------------------------------------------------------------------


def utc(ms: int, ahead_h: int = 0) -> str:
    return str(np.datetime64(ms + 3_600_000 * ahead_h, "ms").astype("datetime64[s]")).replace("T", " ")


def write_geolife(folder: Path) -> None:
    for user in ("7", "8"):
        path = folder / user / "Trajectory" / "1.plt"
        path.parent.mkdir(parents=True)
        lines = [f"{lat},{lon},0,0,0,{utc(ts).replace(' ', ',')}" for who, ts, lat, lon in PINGS if who == user]
        path.write_text("\n".join(["Geolife trajectory", *"23456", *lines]))


def write_tdrive(folder: Path) -> None:
    for user in ("7", "8"):
        lines = [f"{who},{utc(ts, 8)},{lon},{lat}" for who, ts, lat, lon in PINGS if who == user]
        (folder / f"{user}.txt").write_text("\n".join(lines))


def write_porto(folder: Path) -> None:
    lines = ["TRIP_ID,TAXI_ID,TIMESTAMP,MISSING_DATA,POLYLINE"]
    for user in ("7", "8"):
        mine = [(ts, lat, lon) for who, ts, lat, lon in PINGS if who == user]
        points = ",".join(f"[{lon},{lat}]" for _, lat, lon in mine)
        lines.append(f'{user},{user},{mine[0][0] // 1000},False,"[{points}]"')
    (folder / "train.csv").write_text("\n".join(lines))


def write_ais(folder: Path) -> None:
    lines = ["MMSI,BaseDateTime,LAT,LON,SOG,COG"]
    lines += [f"{who},{utc(ts).replace(' ', 'T')},{lat},{lon},10.0,360" for who, ts, lat, lon in reversed(PINGS)]
    (folder / "day.csv").write_text("\n".join([*lines, f"9,{utc(T0)},95,0,1,1"]))


def write_gpx(folder: Path) -> None:
    for user in ("7", "8"):
        points = "".join(
            f'<trkpt lat="{lat}" lon="{lon}"><time>{utc(ts).replace(" ", "T")}Z</time></trkpt>'
            for who, ts, lat, lon in PINGS
            if who == user
        )
        gpx = f'<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>{points}</trkseg></trk></gpx>'
        (folder / f"{user}.gpx").write_text(gpx)


def write_gtfs(folder: Path) -> None:
    for number, (who, ts, *at) in enumerate(PINGS):
        feed = gtfs_feed({"id": who, "ts": ts // 1000, "at": at}, header_s=0)
        (folder / f"{number}.pb").write_bytes(feed.SerializeToString())


WRITERS = {
    "geolife": write_geolife,
    "tdrive": write_tdrive,
    "porto": write_porto,
    "ais": write_ais,
    "gpx": write_gpx,
    "gtfs": write_gtfs,
}


def test_every_format_that_train_takes_is_tried_here() -> None:
    assert WRITERS.keys() == FORMATS.keys()


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_told_where_people_look_for_it(format: str) -> None:
    page = (Path(__file__).parents[3] / "train" / "README.md").read_text()
    assert f"| `{format}:" in page, "the table of sources"
    assert f"{format}:" in str(_DATA.help)
    for told in (str(feed.feed.__doc__), str(replay.replay.__doc__)):
        assert re.search(rf"FORMAT:PATH with [^.]*\b{format}\b", told), told


@pytest.mark.parametrize("format", FORMATS)
def test_an_archive_becomes_pings_in_the_order_of_their_times(tmp_path: Path, format: str) -> None:
    WRITERS[format](tmp_path)
    found = recording(f"{format}:{tmp_path}")
    rows = found.in_order()
    assert len(rows) == len(PINGS)
    assert [row.key for row in rows] == [who.encode() for who, *_ in PINGS]
    assert [row.ts_ms for row in rows] == [ts for _, ts, *_ in PINGS]
    for read in (rows, rows, found.rows()):  # rows can be gone through more than once
        for (who, ts, lat, lon), ping in zip(places(read), PINGS, strict=True):
            assert (who, ts) == ping[:2]
            assert (lat, lon) == pytest.approx(ping[2:], abs=1e-5)


def test_what_is_no_ping_in_an_archive_is_counted_and_speeds_are_the_receivers(tmp_path: Path) -> None:
    write_ais(tmp_path)
    rows = recording(f"ais:{tmp_path / 'day.csv'}").in_order()
    assert rows.left_out == "1 at an impossible position"
    fields = [json.loads(row.value) for row in rows]
    assert {tuple(one) for one in fields} == {("entity_id", "ts", "lat", "lon", "speed_mps")}, "COG 360 is unknown"
    assert {one["speed_mps"] for one in fields} == {5.14}


def test_one_packed_answer_of_a_feed_is_no_packed_table(tmp_path: Path) -> None:
    write_gtfs(tmp_path)
    (tmp_path / "one.pb.gz").write_bytes(gzip.compress((tmp_path / "0.pb").read_bytes()))
    ((who, ts, *_),) = places(recording(tmp_path / "one.pb.gz").rows())
    assert (who, ts) == PINGS[0][:2]


def test_files_that_cannot_be_read_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    write_gtfs(tmp_path)
    (tmp_path / "9.pb").write_bytes(b"\xff" * 9)
    assert "files that cannot be read: 1, the first" in recording(tmp_path).in_order().left_out


def test_lines_of_another_system_are_read_by_a_map_and_put_in_order(tmp_path: Path) -> None:
    """One line may hold many positions; what holds none stays, and is rejected."""
    message = {"ident": "a", "timestamp": T0 / 1000 + 30, "position.latitude": 39.9, "position.longitude": 116.5}
    ours = {"entity_id": "a", "ts": T0 + 10_000, "lat": 39.9, "lon": 116.5}
    lines = [
        [message, {**message, "timestamp": T0 / 1000}],
        ours,
        {**message, "position.latitude": 95},
        [{"ident": "a"}],
    ]
    file = tmp_path / "recorded.ndjson"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = [judged(row) for row in recording(file, map_="flespi").in_order()]
    pings = [one for one in found if isinstance(one, Ping)]
    assert [one.ts - T0 for one in pings] == [0, 10_000, 30_000]
    assert [one.code for one in found if isinstance(one, Reject)] == ["missing_field"]
    assert len(list(recording(file, map_="flespi").rows())) == len(found)
    assert {type(one) for one in map(judged, recording(file).rows())} == {Ping, Reject}, "without the map"
    table = tmp_path / "buses.gpx"
    table.write_text("<gpx/>")
    with pytest.raises(ValueError, match="--map is for NDJSON and CSV"):
        recording(table, map_="flespi")
