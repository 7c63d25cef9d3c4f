"""Each format against a reader of others: shapely, geojson, MEOS, MovingPandas and csv."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from client_rig import T0, forecast, gap_fill
from typer.testing import CliRunner, Result

from stream.commands.main import build
from stream.wire import Ping, dumps

MEOS = """
import json, sys, pymeos_cffi as meos
meos.meos_initialize("UTC")
points = [meos.tgeompoint_from_mfjson(json.dumps(one)) for one in json.load(sys.stdin)]
print([meos.temporal_num_instants(point) for point in points])
"""


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """Three forecasts of one bus, two of a ship at the 180th meridian, a gap fill in two revisions, a retracted one,
    and pings of a van."""
    ship = [forecast("ship", step, lat=-17.0, lon=179.98 + 0.01 * step) for step in range(2)]
    pings = [Ping(entity_id="van", ts=T0 + 1_500 * n, lat=1.0, lon=2.0 + n / 100) for n in range(3)]
    records = [
        *(forecast("bus-1", step, lat=30.0 + step / 1000) for step in range(3)),
        *ship,
        gap_fill(),
        gap_fill(revision=1),
    ]
    records += [gap_fill("bus-9", 0), gap_fill("bus-9", 2), *pings]
    path = tmp_path / "records.ndjson"
    path.write_bytes(b"\n".join(map(dumps, records)) + b"\n\n")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build(), ["export", *map(str, arguments)])


def exported(lines: Path, what: str, *options: object) -> dict[str, Any]:
    out = lines.with_suffix(f".{what}")
    told = run(what, lines, "--out", out, *options)
    assert told.exit_code == 0, told.output + repr(told.exception)
    found: dict[str, Any] = json.loads(out.read_bytes())
    return found


def kinds(found: dict[str, Any]) -> dict[str, int]:
    return Counter(feature["properties"]["kind"] for feature in found["features"])


def test_geojson_is_valid_for_two_libraries(lines: Path) -> None:
    geojson = pytest.importorskip("geojson")
    shapely = pytest.importorskip("shapely.geometry")
    found = exported(lines, "geojson", "--forecasts", "all")
    # The ship's track crosses nothing; its second forecast does: two lines, and regions of two parts.
    assert kinds(found) == {"track": 3, "forecast": 6, "gap_fill": 1, "horizon": 15, "region": 15}
    loaded = geojson.loads(json.dumps(found))
    assert loaded.is_valid, loaded.errors()
    for feature in found["features"]:
        shape = shapely.shape(feature["geometry"])
        assert shape.is_valid, feature
        west, south, east, north = shape.bounds
        assert west >= -180.0
        assert east <= 180.0
        assert abs(south) <= 90.0
        assert abs(north) <= 90.0
        assert east - west < 1.0 or feature["geometry"]["type"] == "MultiPolygon", "the long way round"
        times = feature["properties"].get("coordTimes")
        assert times is None or len(times) == len(feature["geometry"]["coordinates"])
    assert len({feature["id"] for feature in found["features"]}) == len(found["features"])


def test_geojson_has_the_newest_forecasts_and_the_last_revision(lines: Path) -> None:
    found = exported(lines, "geojson", "--region", "0")
    assert kinds(found) == {"track": 3, "forecast": 3, "gap_fill": 1, "horizon": 6}
    (fill,) = [one["properties"] for one in found["features"] if one["properties"]["kind"] == "gap_fill"]
    assert (fill["revision"], fill["status"], len(fill["coordTimes"])) == (1, "final", 6)
    (bus,) = [one for one in found["features"] if one["id"] == "bus-1"]
    assert bus["properties"]["coordTimes"] == [f"2023-11-14T22:1{n}:20.000Z" for n in (3, 4, 5)]


def test_moving_features_are_read_by_movingpandas(lines: Path) -> None:
    movingpandas = pytest.importorskip("movingpandas")
    exported(lines, "mf-json")
    tracks = movingpandas.read_mf_json(str(lines.with_suffix(".mf-json")), traj_id_property="id")
    bus = tracks.get_trajectory("bus-1")
    assert bus.df.index[0].isoformat() == "2023-11-14T22:13:20"
    ahead = tracks.get_trajectory(forecast("bus-1", 2).forecast_id)
    assert len(ahead.df) == 5
    assert (ahead.df.geometry.iloc[-1].x, ahead.df.geometry.iloc[-1].y) == (-96.982, 30.011)


def test_moving_features_are_read_by_meos(lines: Path) -> None:
    """The library under MobilityDB. It ends its process at an error, so that it gets one of its own."""
    pytest.importorskip("pymeos_cffi")
    geometries = [one["temporalGeometry"] for one in exported(lines, "mf-json")["features"]]
    command = [sys.executable, "-c", MEOS]
    told = subprocess.run(
        command, input=json.dumps(geometries), capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 0, told.stderr
    # It leaves out what lies on a straight line between its neighbours.
    counts = [len(one["datetimes"]) for one in geometries]
    assert all(2 <= kept <= count for kept, count in zip(json.loads(told.stdout), counts, strict=True))


def test_moving_features_have_what_the_standard_asks(lines: Path) -> None:
    """OGC 19-045r3, chapter 7.2, and its schema: required members, their types, two times at least, all different."""
    found = exported(lines, "mf-json", "--forecasts", "all")
    assert found["type"] == "FeatureCollection"
    assert found["crs"]["properties"]["name"] == "urn:ogc:def:crs:OGC:1.3:CRS84"
    assert kinds(found) == {"track": 3, "forecast": 6, "gap_fill": 1}
    for feature in found["features"]:
        assert feature["type"] == "Feature"
        geometry = feature["temporalGeometry"]
        assert geometry.keys() == {"type", "datetimes", "coordinates", "interpolation"}
        assert (geometry["type"], geometry["interpolation"]) == ("MovingPoint", "Linear")
        times = geometry["datetimes"]
        assert times == sorted(set(times))
        assert len(times) == len(geometry["coordinates"]) >= 2
        assert all(one.endswith("+00:00") for one in times)
        assert feature["time"] == [times[0], times[-1]]
        assert len(feature["bbox"]) == 4


def test_csv_has_a_row_for_each_position(lines: Path) -> None:
    told = run("csv", lines)
    assert told.exit_code == 0, told.output
    rows = list(csv.DictReader(io.StringIO(told.stdout)))
    assert Counter(row["kind"] for row in rows) == {"track": 8, "next": 5, "forecast": 15, "gap_fill": 4}
    (row,) = [one for one in rows if one["id"] == forecast("bus-1", 2).forecast_id and one["h_s"] == "300.0"]
    assert (row["lat"], row["lon"], row["cov_nn_m2"], row["ts"]) == ("30.005", "-96.994", "1500.0", str(T0 + 420_000))


def test_entity_and_times_choose(lines: Path) -> None:
    found = exported(lines, "mf-json", "--entity", "bus-1", "--until", "2023-11-14T22:14:30Z", "--no-fills")
    assert [len(one["temporalGeometry"]["coordinates"]) for one in found["features"]] == [2, 5]
    later = exported(lines, "mf-json", "--since", "2023-11-14T22:15:00Z", "--forecasts", "none")
    assert kinds(later) == {"gap_fill": 1}


def test_a_packed_file_and_standard_input_are_read_alike(lines: Path, tmp_path: Path) -> None:
    packed = tmp_path / "records.ndjson.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    assert run("csv", packed).stdout == run("csv", lines).stdout
    piped = CliRunner().invoke(build(), ["export", "csv", "-"], input=lines.read_bytes())
    assert piped.stdout == run("csv", lines).stdout


@pytest.mark.parametrize("bad", [b"{", b'{"entity_id":"a"}', b"[1]", b'{"forecast_id":"a"}', b"\xff"])
def test_a_line_that_is_nothing_of_ours_is_named(lines: Path, bad: bytes) -> None:
    lines.write_bytes(lines.read_bytes() + bad + b"\n")
    told = run("geojson", lines)
    assert isinstance(told.exception, ValueError)
    assert "line 14 of" in str(told.exception)


def test_an_export_of_nothing_is_an_empty_collection(tmp_path: Path) -> None:
    empty = tmp_path / "empty.ndjson"
    empty.write_bytes(b"")
    for what in ("geojson", "mf-json"):
        assert exported(empty, what)["features"] == []
    assert run("csv", empty).stdout.splitlines() == [
        "kind,entity_id,id,ts,time,lat,lon,h_s,cov_ee_m2,cov_en_m2,cov_nn_m2,status"
    ]
    told = run("geojson", empty, "--json", "--out", tmp_path / "out")
    assert msgspec.json.decode(told.stdout)["features"] == 0
