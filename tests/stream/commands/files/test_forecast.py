"""`pathcast forecast`: the last row of each entity, or each row, in four formats."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from pathlib import Path

import gpxpy
import pyarrow.parquet as pq
import pytest
from files_rig import T0, by_time, run, track
from typer.testing import Result

from stream.adapters.files import read_in_order
from stream.commands.files.formats.forecasts import ForecastRow, rows_of
from stream.commands.replay import engine_of, records_of
from stream.config.settings import Settings
from stream.wire import Forecast, loads_forecast
from stream.wire.positions import max_sigma_m


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.csv"
    fixes = by_time(track("a"), track("b", late_s=7))
    lines = [f"{one.entity_id},{one.ts},{one.lat:.6f},{one.lon:.6f}\n" for one in fixes]
    path.write_text("entity_id,t,lat,lon\n" + "".join([*lines, "a,soon,1,2\n"]))
    return path


def asked(fleet: Path, weights: str, *arguments: object) -> Result:
    result = run("forecast", fleet, "--weights", weights, "--horizons", "60,600", *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def replayed(fleet: Path, weights: str) -> list[Forecast]:
    told = Settings(weights=weights, horizons_s=(60.0, 600.0))
    records = records_of(list(read_in_order(fleet)), 0, told.topics.pings, T0 + 10_000_000)
    answers = asyncio.run(engine_of(told).process(records, started_ms=0.0, fetched_ms=0.0))
    return [loads_forecast(one.value or b"") for one in answers if one.topic == told.topics.forecasts]


def test_the_last_row_of_each_entity_is_forecast_as_a_worker_does(fleet: Path, weights: str) -> None:
    newest = {one.entity_id: one for one in replayed(fleet, weights)}
    expected = [one._asdict() for said in newest.values() for one in rows_of(said)]
    result = asked(fleet, weights)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, expected))
    assert len(found) == 4
    assert "26 pings" not in result.stdout
    assert "row 27: bad_timestamp" in result.stderr


def test_each_row_is_forecast_if_asked(fleet: Path, weights: str) -> None:
    expected = [one for said in replayed(fleet, weights) for one in rows_of(said)]
    found = list(csv.DictReader(io.StringIO(asked(fleet, weights, "--each", "--format", "csv").stdout)))
    assert tuple(found[0]) == ForecastRow._fields
    assert [(one["entity_id"], int(one["ts"]), float(one["lat"])) for one in found] == [
        (one.entity_id, one.ts, one.lat) for one in expected
    ]
    assert {int(one["forecast_ts"]) - int(one["ts"]) for one in found} == {60_000, 600_000}


def test_parquet_and_gpx_have_the_same_positions(fleet: Path, weights: str, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in asked(fleet, weights).stdout.splitlines()]
    asked(fleet, weights, "--out", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    times = [round(one.timestamp() * 1000) for one in table["forecast_ts"].to_pylist()]
    assert times == [one["forecast_ts"] for one in lines]
    assert table["cov_en_m2"].to_pylist() == [one["cov_en_m2"] for one in lines]
    asked(fleet, weights, "--out", tmp_path / "out.gpx")
    tracks = gpxpy.parse((tmp_path / "out.gpx").read_text()).tracks
    points = {one.name: one.segments[0].points for one in tracks}
    assert sorted(points) == ["a", "b"]
    for name, mine in points.items():
        ahead = [one for one in lines if one["entity_id"] == name]
        assert [round(point.latitude, 7) for point in mine[1:]] == [round(one["lat"], 7) for one in ahead]
        assert [round(point.time.timestamp() * 1000) for point in mine[1:]] == [one["forecast_ts"] for one in ahead]
        assert mine[0].extensions == []


def test_bad_usage_is_told(fleet: Path, weights: str, tmp_path: Path) -> None:
    out = tmp_path / "there.csv"
    out.write_text("precious")
    for arguments in (["--out", out], ["--out", tmp_path / "x.txt"], ["--format", "parquet"], ["--horizons", "soon"]):
        refused = run("forecast", fleet, "--weights", weights, *arguments)
        assert refused.exit_code == 2, arguments
    assert out.read_text() == "precious"
    asked(fleet, weights, "--out", out, "--force")
    assert out.read_text().startswith("entity_id,ts,h_s")


def test_the_spread_is_that_of_the_widest_direction() -> None:
    assert max_sigma_m((9.0, 0.0, 4.0)) == 3.0
    assert max_sigma_m((5.0, 3.0, 5.0)) == 8**0.5
    assert max_sigma_m((0.0, 0.0, 0.0)) == 0.0
