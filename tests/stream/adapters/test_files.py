"""Recorded tracks on disk: every format gives the same records, and a bad row is a record, too."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream.adapters.files import RecordedRow, read, read_in_order
from stream.tracks.clean import parse
from stream.wire import Ping, Record, Reject

T0 = 1_700_000_000_000
PINGS = [
    Ping(entity_id="straße 1", ts=T0, lat=30.25, lon=-97.5, speed_mps=3.5, heading_deg=90.0),
    Ping(entity_id="bus-2", ts=T0 + 1_500, lat=30.5, lon=-97.25, alt_m=12.0, sats=7),
    Ping(entity_id="straße 1", ts=T0 + 10_000, lat=30.75, lon=-97.0, trip_id="77", valid=True),
]


def judged(row: RecordedRow) -> Ping | Reject:
    return parse(Record("t", 0, 0, T0 + 3_600_000, row.key, row.value))


def codes(rows: list[RecordedRow]) -> list[str]:
    return [found.code if isinstance(found, Reject) else "ping" for found in map(judged, rows)]


def column(name: str) -> list[Any]:
    return [getattr(ping, name) for ping in PINGS]


def write_parquet(path: Path) -> None:
    names = [name for name in Ping.__struct_fields__ if any(getattr(ping, name) is not None for ping in PINGS)]
    pq.write_table(pa.table({name: column(name) for name in names} | {"colour": ["red"] * 3}), path)


def write_csv(path: Path) -> None:
    path.write_text(
        "colour,entity_id,t,lat,lon,speed_mps,heading_deg,alt_m,sats,trip_id,valid\n"
        f"red,straße 1,{T0},30.25,-97.5,3.5,90,,,,\n"
        f"red,bus-2,{T0 + 1_500},30.5,-97.25,,,12,7,,\n"
        f"red,straße 1,2023-11-14T22:13:30Z,30.75,-97,,,,,77,true\n",
        encoding="utf-8-sig",
    )


def write_ndjson(path: Path) -> None:
    def fields(ping: Ping) -> dict[str, Any]:
        return {name: item for name in ping.__struct_fields__ if (item := getattr(ping, name)) is not None}

    lines = [json.dumps(fields(ping)) for ping in PINGS]
    path.write_text("\n\n".join([lines[0], lines[1].replace('"ts"', '"t"'), lines[2]]))


@pytest.mark.parametrize(
    ("name", "write"),
    [("a.parquet", write_parquet), ("a.csv", write_csv), ("a.ndjson", write_ndjson), ("a.JSONL", write_ndjson)],
)
def test_every_table_format_gives_the_same_pings(tmp_path: Path, name: str, write: Any) -> None:
    write(tmp_path / name)
    rows = list(read(tmp_path / name))
    assert [judged(row) for row in rows] == PINGS
    assert [row.ts_ms for row in rows] == column("ts")
    assert [row.key for row in rows] == [ping.entity_id.encode() for ping in PINGS]


def test_gpx_gives_the_points_of_each_track(tmp_path: Path) -> None:
    path = tmp_path / "walk.gpx"
    path.write_text(
        """<?xml version="1.0"?>
        <gpx xmlns="http://www.topografix.com/GPX/1/1"><metadata><name>my tour</name></metadata>
        <trk><name>ada</name><trkseg>
          <trkpt lat="30.25" lon="-97.5"><ele>12.5</ele><time>2023-11-14T22:13:20Z</time><sat>8</sat>
            <extensions><x:speed xmlns:x="urn:x">1.5</x:speed></extensions></trkpt>
          <trkpt lat="91" lon="-97.5"><time>2023-11-14T22:13:21Z</time></trkpt>
        </trkseg></trk>
        <trk><trkseg><trkpt lat="30" lon="-97"><time>2023-11-14T22:13:22.5Z</time></trkpt></trkseg></trk></gpx>"""
    )
    rows = list(read(path))
    assert judged(rows[0]) == Ping(entity_id="ada", ts=T0, lat=30.25, lon=-97.5, alt_m=12.5, sats=8, speed_mps=1.5)
    assert codes(rows) == ["ping", "lat_out_of_range", "ping"]
    assert rows[2] == rows[2]._replace(key=b"walk-2", ts_ms=T0 + 2_500)


def test_standard_input_is_ndjson(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_ndjson(tmp_path / "a.ndjson")
    raw = (tmp_path / "a.ndjson").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert [judged(row) for row in read("-")] == PINGS


def test_a_bad_line_of_ndjson_is_handed_on_byte_identical(tmp_path: Path) -> None:
    lines = [b"junk", b'{"entity_id": "x", "ts": true}', b'\xff"', b"[" * 3_000, b'{"t": 5, "lat": NaN}', b"7"]
    (tmp_path / "a.ndjson").write_bytes(b"\n".join(lines))
    rows = list(read(tmp_path / "a.ndjson"))
    assert [row.value for row in rows] == lines
    assert codes(rows) == ["invalid_json", "wrong_type", "invalid_utf8", "too_deep", "not_finite", "invalid_json"]


def test_an_id_that_is_an_integer_has_its_digits_as_the_key(tmp_path: Path) -> None:
    row = {"entity_id": 5007, "ts": str(T0), "lat": 30.5, "lon": 2.5}
    timed = {"entity_id": 5007, "t": T0, "lat": 30.5, "lon": 2.5}
    (tmp_path / "a.ndjson").write_text(json.dumps(row) + "\n" + json.dumps(timed) + "\n")
    rows = list(read(tmp_path / "a.ndjson"))
    assert [(row.key, row.ts_ms) for row in rows] == [(b"5007", T0), (b"5007", T0)]
    assert [judged(row) for row in rows] == [Ping(entity_id="5007", ts=T0, lat=30.5, lon=2.5)] * 2


def test_a_bad_row_of_csv_is_a_reject_of_its_own_kind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(
        b"entity_id,ts,lat,lon,speed_mps\n"
        b"x,1700000000000,north,2,\n"
        b"x,1700000000000,nan,2,\n"
        b"x,1700000000000,1\n"
        b",1700000000000,1,2,\n"
        b"x,soon,1,2,\n"
        b"x," + b"9" * 5_000 + b",1,2,\n"
        b"\xff,1700000000000,1,2,\n"
        b"x,1700000000000,1,2,nan\n"
        b"x,1700000000000,1,2," + b"y" * 200_000 + b"\n"
        b"x,1700000000000,1,2,3\n"
    )
    assert codes(list(read(tmp_path / "a.csv"))) == [
        "wrong_type",
        "not_finite",
        "missing_field",
        "missing_field",
        "bad_timestamp",
        "not_finite",
        "invalid_utf8",
        "ping",
        "missing_field",
        "ping",
    ]


def test_parquet_types_of_other_writers_are_understood(tmp_path: Path) -> None:
    table = pa.table(
        {
            "entity_id": pa.array([7, 7, None, 8]),
            "ts": pa.array([T0 * 1_000, T0 * 1_000 + 1, T0 * 1_000, None], pa.timestamp("us", tz="UTC")),
            "lat": pa.array([30.5, None, 30.5, 30.5], pa.float32()),
            "lon": pa.array([2.5, 2.5, 2.5, 2.5], pa.float32()),
            "sats": pa.array([9.0, float("nan"), None, None]),
            "trip_id": pa.array([1, 2, 3, 4]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    rows = list(read(tmp_path / "a.parquet"))
    assert judged(rows[0]) == Ping(entity_id="7", ts=T0, lat=30.5, lon=2.5, sats=9, trip_id="1")
    assert codes(rows) == ["ping", "missing_field", "missing_field", "missing_field"]


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "parquet"])
def test_rows_in_order_are_by_event_time_and_ties_keep_the_files_order(tmp_path: Path, suffix: str) -> None:
    times = [T0 + 5_000, T0, T0 + 5_000, T0 + 1_000, T0]
    fields = [{"entity_id": f"e{n}", "ts": ts, "lat": 1.5, "lon": 2.5} for n, ts in enumerate(times)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(fields), path)
    elif suffix == "csv":
        path.write_text("entity_id,ts,lat,lon\n" + "".join(f"e{n},{ts},1.5,2.5\n" for n, ts in enumerate(times)))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in fields))
    rows = read_in_order(path)
    assert (len(rows), [row.key for row in rows]) == (5, [b"e1", b"e4", b"e3", b"e0", b"e2"])
    assert list(rows) == list(rows)


def test_a_row_without_a_time_stays_behind_its_predecessor(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"entity_id,ts,lat,lon\na,{T0 + 9},1,2\nb,,1,2\nc,{T0},1,2\n")
    assert [row.key for row in read_in_order(tmp_path / "a.csv")] == [b"c", b"a", b"b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"entity_id,lat\nx,1\n", r"a\.csv: no column t \(or ts\), lon; it has entity_id, lat"),
        ("a.csv", b"", r"a\.csv: no column entity_id"),
        ("a.parquet", b"PAR1 but no more", r"a\.parquet: not a Parquet file"),
        ("a.gpx", b"<gpx><trk>", r"a\.gpx: not GPX"),
        ("a.txt", b"", r"a\.txt: unknown suffix"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read(tmp_path / name))
    with pytest.raises(ValueError, match=message):
        read_in_order(tmp_path / name)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.ndjson", "a.gpx"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"no such file: .*{name}"):
        list(read(tmp_path / name))
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_in_order(tmp_path / name)
