"""`pathcast transit replay`: a recording and a feed become predictions, and what does not fit is told in a line.

Its page is stream/transit/README.md.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from stream.commands.main import build

FIXTURE = Path(__file__).parents[1] / "transit" / "austin.zip"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Writes the first half hour of the fixture's pings to a file."""
    with zipfile.ZipFile(FIXTURE) as file:
        table = pq.read_table(io.BytesIO(file.read("pings.parquet")))
    early = pc.less(table["t"], pa.scalar(pc.min(table["t"]).as_py() + 1_800_000))
    path = tmp_path_factory.mktemp("pings") / "pings.parquet"
    pq.write_table(table.filter(early), path)
    return path


def transit(*arguments: object) -> Result:
    return CliRunner().invoke(build("transit"), ["transit", "replay", *map(str, arguments)])


def test_a_recording_becomes_predictions_of_every_minute(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.parquet"
    shown = transit(recording, "--gtfs", FIXTURE, "--out", out, "--json")
    assert shown.exit_code == 0, shown.output
    summary = json.loads(shown.stdout)
    table = pq.read_table(out)
    assert summary["predictions"] == len(table) > 1_000
    assert summary["without_trip"] == summary["rejects"] == 0
    wanted = {"made_at", "trip_id", "start_date", "stop_sequence", "predicted_arrival", "predicted_departure"}
    assert set(table.column_names) == {*wanted, "lo", "hi"}
    assert all(made_ms % 60_000 == 0 for made_ms in pc.unique(table["made_at"]).to_pylist())
    assert pc.all(pc.less_equal(table["lo"], table["predicted_arrival"])).as_py()
    assert pc.all(pc.less_equal(table["predicted_arrival"], table["hi"])).as_py()
    assert set(pc.unique(table["start_date"]).to_pylist()) == {"20161216"}


def test_an_output_that_exists_is_kept_unless_forced(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.parquet"
    out.write_bytes(b"mine")
    shown = transit(recording, "--gtfs", FIXTURE, "--out", out)
    assert (shown.exit_code, out.read_bytes()) == (2, b"mine")
    assert "--force" in shown.output


def test_trips_of_vehicles_that_name_none_are_found(recording: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(recording).drop_columns(["trip_id"]), bare)
    summaries = []
    for file, more in ((bare, []), (recording, ["--assign"])):
        out = tmp_path / f"{file.stem}.out.parquet"
        shown = transit(file, "--gtfs", FIXTURE, "--out", out, "--json", *more)
        assert shown.exit_code == 0, shown.output
        summaries.append(json.loads(shown.stdout))
        assert pq.read_table(out).num_rows > 0
    one, other = ({name: value for name, value in each.items() if name != "seconds"} for each in summaries)
    assert one == other, "names that are ignored are as good as none"
    assert one["assigned"] > 0 < one["without_trip"]


def test_pings_on_no_trip_are_told_with_the_option_that_helps(recording: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.parquet"
    table = pq.read_table(recording)
    north = table.set_column(table.column_names.index("lat"), "lat", pc.add(table["lat"], 1.0))
    pq.write_table(north.drop_columns(["trip_id"]), bare)
    shown = transit(bare, "--gtfs", FIXTURE, "--out", tmp_path / "out.parquet")
    assert isinstance(shown.exception, ValueError)
    assert "--columns trip_id=NAME" in str(shown.exception)
    assert not (tmp_path / "out.parquet").exists()


def test_pings_of_another_feed_are_told(recording: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.parquet"
    table = pq.read_table(recording)
    at = table.column_names.index("trip_id")
    pq.write_table(table.set_column(at, "trip_id", pa.array(["none"] * len(table))), other)
    shown = transit(other, "--gtfs", FIXTURE, "--out", tmp_path / "out.parquet")
    assert "is it the feed of these days?" in str(shown.exception)


def test_a_feed_that_is_not_there_is_an_error_before_anything_is_written(recording: Path, tmp_path: Path) -> None:
    shown = transit(recording, "--gtfs", tmp_path / "absent.zip", "--out", tmp_path / "out.parquet")
    assert isinstance(shown.exception, FileNotFoundError)
    assert list(tmp_path.iterdir()) == []
