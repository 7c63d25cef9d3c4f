"""`pathcast replay` as a user runs it: a file in, one forecast per accepted ping out."""

from __future__ import annotations

import asyncio
import json
import time
from bisect import bisect_left
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from model.api import Atlas, Predictor
from stream.adapters.files import read_in_order
from stream.atlas.building import Rules, of_rows
from stream.atlas.replaying import atlas_of
from stream.commands.replay import replay
from stream.config.settings import Settings
from stream.engine.engine import Engine
from stream.store.base import MemoryStore
from stream.wire import Record, loads_forecast

T0 = 1_700_000_000_000
HOUR_MS = 3_600_000
APP = typer.Typer()
APP.command()(replay)


def run(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(APP, [*map(str, arguments)], input=stdin)


def replayed(*arguments: object, stdin: bytes = b"") -> Result:
    """A replay that ends well."""
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    """Two entities, out of order in the file, with a duplicate, a jump and a bad row."""
    rows = [f"b,{T0 + n * 10_000 + 1},{31 + n / 1e4},-97\n" for n in range(12)]
    rows += [f"a,{T0 + n * 10_000},{30 + n / 1e4},-97\n" for n in range(12)]
    rows += [rows[-1], f"a,{T0 + 200_000},40,-97\n", f"a,{T0 + 210_000},91,-97\n"]
    path = tmp_path / "tracks.csv"
    path.write_text("entity_id,t,lat,lon\n" + "".join(rows))
    return path


def test_one_forecast_per_accepted_ping_in_event_time_order(weights: str, tracks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ndjson"
    result = replayed(tracks, "--out", out, "--weights", weights, "--horizons", "30,90", "--json")
    forecasts = [loads_forecast(line) for line in out.read_bytes().splitlines()]
    assert [(f.entity_id, f.anchor.ts) for f in forecasts] == [
        (entity_id, T0 + n * 10_000 + late) for n in range(12) for entity_id, late in (("a", 0), ("b", 1))
    ]
    assert {tuple(h.h_s for h in f.horizons) for f in forecasts} == {(30, 90)}
    assert [f.status for f in forecasts[-2:]] == ["ok", "ok"]
    summary = json.loads(result.stdout)
    assert (summary["pings"], summary["forecasts"], summary["duplicates"], summary["rejects"]) == (27, 24, 1, 2)
    assert summary["rejects_by_code"] == {"impossible_jump": 1, "lat_out_of_range": 1}


def test_columns_of_other_names_and_an_archive_give_the_same_forecasts(weights: str, tmp_path: Path) -> None:
    seconds = range(T0 // 1000, T0 // 1000 + 120, 10)
    days = [datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S") for second in seconds]
    lats = [30 + n / 1e4 for n in range(12)]
    ours = [f"7,{second}000,{lat},-97" for second, lat in zip(seconds, lats, strict=True)]
    yours = [f"7,{second},{lat},-97" for second, lat in zip(seconds, lats, strict=True)]
    ais = [f"7,{day},{lat},-97,102.3,360" for day, lat in zip(days, lats, strict=True)]
    given = {
        "ours.csv": ("entity_id,t,lat,lon", ours, ()),
        "yours.csv": ("car,when,y,x", yours, ("--columns", "entity_id=car,t:s=when,lat=y,lon=x")),
        "ais.csv": ("MMSI,BaseDateTime,LAT,LON,SOG,COG", ais, ()),
    }
    outs = []
    for name, (header, rows, options) in given.items():
        (tmp_path / name).write_text("\n".join([header, *rows]))
        source = f"ais:{tmp_path / name}" if name == "ais.csv" else str(tmp_path / name)
        replayed(source, "--out", tmp_path / "out", "--weights", weights, *options)
        outs.append((tmp_path / "out").read_bytes())
    assert outs[0].count(b"\n") == 12
    assert outs == outs[:1] * 3


def test_standard_input_to_standard_output(weights: str) -> None:
    lines = [json.dumps({"entity_id": "a", "ts": T0 + n * 1000, "lat": 30, "lon": -97}) for n in range(3)]
    result = replayed("-", "--out", "-", "--weights", weights, stdin="\n".join([*lines, "junk"]).encode())
    assert [json.loads(line)["window"]["n"] for line in result.stdout.splitlines()] == [1, 2, 3]
    assert "4 pings, 3 forecasts, 1 reject, 0 duplicates, 0 gap fills; " in result.stderr
    assert not result.stderr.startswith("\n"), "the progress that no terminal shows ended with an empty line"
    assert "rejected 1 invalid_json" in result.stderr


def test_an_empty_file_gives_no_forecasts(weights: str, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").touch()
    result = run(tmp_path / "a.ndjson", "--out", tmp_path / "out", "--weights", weights, "--json")
    assert (result.exit_code, (tmp_path / "out").read_bytes()) == (0, b"")
    assert json.loads(result.stdout)["pings"] == 0


@pytest.mark.parametrize("form", ["", "ais:"])
def test_the_input_is_never_overwritten(weights: str, tmp_path: Path, form: str) -> None:
    path, rows = tmp_path / "data.csv", "MMSI,BaseDateTime,LAT,LON,SOG,COG\n7,2023-11-14T22:13:20,30,-97,1,1\n"
    path.write_text(rows)
    result = run(f"{form}{path}", "--out", path, "--weights", weights)
    assert isinstance(result.exception, ValueError)
    assert path.read_text() == rows


@pytest.mark.parametrize("horizons", ["soon", "", "0", "-5", "nan", "60,,300"])
def test_horizons_that_are_none_are_bad_usage(tracks: Path, horizons: str) -> None:
    assert run(tracks, "--out", "-", "--horizons", horizons).exit_code == 2


def fleet(path: Path) -> Path:
    """Two hours and a half of six buses, up and down one street, each two minutes behind the one before."""
    begin = T0 // HOUR_MS * HOUR_MS + HOUR_MS // 2
    rows = [
        f"{entity},{begin + n * 10_000 + behind},{30 + abs((n / 6 - 2 * behind) % 40 - 20) / 500:.7f},-97\n"
        for n in range(900)
        for behind, entity in enumerate("abcdef")
    ]
    path.write_text("entity_id,t,lat,lon\n" + "".join(rows))
    return path


def test_without_an_atlas_the_bytes_are_the_engines_for_the_same_records(
    weights: str, tracks: Path, tmp_path: Path
) -> None:
    """As they were before a replay could ask one."""
    out = tmp_path / "out"
    replayed(tracks, "--out", out, "--weights", weights)
    settings = Settings(weights=weights)
    engine = Engine(Predictor.load(weights), MemoryStore(), settings, clock_ms=lambda: 0.0)
    records = [
        Record(settings.topics.pings, 0, offset, int(time.time() * 1000), row.key, row.value)
        for offset, row in enumerate(read_in_order(tracks))
    ]
    answers = asyncio.run(engine.process(records, started_ms=0.0, fetched_ms=0.0))
    expected = [one.value for one in answers if one.topic == settings.topics.forecasts]
    assert out.read_bytes().splitlines() == expected
    assert b'"atlas"' not in out.read_bytes()


def test_with_an_atlas_each_hour_asks_the_version_that_knows_what_was_before_it(weights: str, tmp_path: Path) -> None:
    data, plain, out = fleet(tmp_path / "fleet.csv"), tmp_path / "plain", tmp_path / "out"
    replayed(data, "--out", plain, "--weights", weights)
    result = replayed(data, "--out", out, "--weights", weights, "--atlas", "1h", "--json")
    assert json.loads(result.stdout)["atlases"] == 2
    times_ms, moved, examined = [row.ts_ms or 0 for row in read_in_order(data)], set(), set()
    for line, bare in zip(out.read_bytes().splitlines(), plain.read_bytes().splitlines(), strict=True):
        found, without = loads_forecast(line), loads_forecast(bare)
        begin = found.anchor.ts // HOUR_MS * HOUR_MS
        before = bisect_left(times_ms, begin)
        assert found.atlas is not None
        assert not found.atlas.late
        asked = _version(before, data, weights) if before else None
        assert found.atlas.version == (asked and asked.version)
        examined |= {begin} if asked and "horizons" in asked.contains["report"] else set()
        if found.atlas.pings:
            moved.add(begin)
            assert found.horizons != without.horizons
        else:
            assert found.horizons == without.horizons
    assert len(moved) == 2, "in both hours that have a version"
    assert examined == {max(moved)}, "the first of them had too few questions"


@cache
def _version(rows: int, data: Path, weights: str) -> Atlas:
    return atlas_of(of_rows(islice(read_in_order(data), rows)), Rules(), Predictor.load(weights))


def test_what_six_show_is_left_out_where_seven_are_asked_for(weights: str, tmp_path: Path) -> None:
    data = fleet(tmp_path / "fleet.csv")

    def asked(*options: str) -> int:
        result = replayed(data, "--out", "-", "--weights", weights, "--atlas", "1h", *options)
        return sum(json.loads(line)["atlas"]["pings"] > 0 for line in result.stdout.splitlines())

    assert asked() > asked("--min-entities", "7") == 0


@pytest.mark.parametrize(
    "options",
    [("--atlas", "soon"), ("--atlas", "0h"), ("--min-entities", "2"), ("--atlas", "1h", "--min-entities", "0")],
)
def test_an_atlas_that_cannot_be_made_is_bad_usage(tracks: Path, options: tuple[str]) -> None:
    assert run(tracks, "--out", "-", *options).exit_code == 2
