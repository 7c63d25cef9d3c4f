"""An atlas built from recorded pings: which of them count, and that neither order nor portions change a byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from model.api import Predictor
from model.atlas import questions
from model.atlas.buckets import tiles
from model.atlas.days import DAY_MS
from model.atlas.version import dumps, loads
from stream.adapters.files import RecordedRow, row_of
from stream.atlas import building
from stream.atlas.building import Builder, Built, Rules, of_rows
from stream.atlas.follower import Follower
from stream.commands.main import build as commands
from stream.demo.run import SAMPLE
from stream.kafka.records.record_columns import Records
from stream.wire import Record
from stream.wire.record import FORGET_HEADERS

START_MS = 1_700_005_000_000  # 23 minutes before midnight


def row(entity: str, second: float, north_m: float = 0.0, **more: Any) -> RecordedRow:
    place = {"lat": 30.0 + north_m / 111_195, "lon": -97.7}
    return row_of({"entity_id": entity, "ts": START_MS + round(1000 * second), **place, **more})


def drive(entity: str, seed: int, pings: int = 80) -> list[RecordedRow]:
    """A vehicle that goes up and down a street, with its own pace."""
    rng = np.random.default_rng(seed)
    seconds = np.cumsum(rng.uniform(20, 40, pings))
    north = 2_000 * np.abs((seconds * rng.uniform(5, 12) / 2_000 + rng.uniform(0, 2)) % 2 - 1)
    return [row(entity, float(s), float(n)) for s, n in zip(seconds, north, strict=True)]


def by_time(*tracks: Sequence[RecordedRow]) -> list[RecordedRow]:
    return sorted((one for track in tracks for one in track), key=lambda one: one.ts_ms or 0)


FLEET = [drive(f"van-{n}", n) for n in range(5)]


def followed(rows: Sequence[RecordedRow]) -> list[tuple[int, bool]]:
    """The seconds of the pings that are in order, and whether each begins a track."""
    records = [Record("", 0, place, -1, one.key, one.value) for place, one in enumerate(rows)]
    found = Follower().fold(Records.of(records))
    return [
        (int(ts - START_MS) // 1000, bool(begins))
        for ts, begins in zip(found.fixes["ts_ms"], found.begins, strict=True)
    ]


def test_what_is_late_twice_far_off_or_no_ping_is_left_out() -> None:
    rows = [
        row("a", 0),
        row("a", 60),
        row("a", 30),
        row("a", 60),
        row("a", 90, 50_000),
        row("a", 120, lat=95.0),
        row("a", 150),
    ]
    assert followed(rows) == [(0, True), (60, False), (150, False)]


def test_a_long_silence_begins_a_new_track() -> None:
    assert followed([row("a", 0), row("a", 60), row("a", 4_000), row("a", 4_060)]) == [
        *[(0, True), (60, False), (4_000, True), (4_060, False)]
    ]


def test_entities_are_followed_apart() -> None:
    assert followed([row("a", 0), row("b", 1), row("a", 60), row("b", 61)]) == [
        *[(0, True), (60, False), (1, True), (61, False)]
    ]


def of_records(rows: Sequence[RecordedRow], portion: int, partition: int = 0, builder: Builder | None = None) -> Built:
    """What is known of the rows as records of a topic, so many at a time."""
    builder = builder or Builder()
    for begin in range(0, len(rows), portion):
        some = enumerate(rows[begin : begin + portion], begin)
        builder.add(Records.of([Record("t", partition, at, one.ts_ms or 0, one.key, one.value) for at, one in some]))
    return builder.built()


def atlas_bytes(built: Built, rules: Rules = building.DEFAULT_RULES) -> bytes:
    return dumps(*built.publishable(rules))


def later(rows: Sequence[RecordedRow], days: int) -> list[RecordedRow]:
    return [row_of(json.loads(one.value) | {"ts": (one.ts_ms or 0) + days * DAY_MS}) for one in rows]


def test_neither_the_order_of_entities_nor_the_portions_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """On three days there are more passages of one van at one place than are kept of a day: what is kept of all days at
    once was less than what is kept of each."""
    monkeypatch.setattr(questions, "OF_PINGS", 2)
    rows = by_time(*FLEET)
    rows = [*rows, *later(rows, 1), *later(rows, 2)]
    whole = of_rows(rows)
    one_by_one = of_rows([one for name in range(5) for one in rows if one.key == f"van-{name}".encode()])
    raw = atlas_bytes(whole)
    assert raw == atlas_bytes(one_by_one) == atlas_bytes(of_records(rows, 10**9)) == atlas_bytes(of_records(rows, 50))
    monkeypatch.setattr(building, "CHUNK_ROWS", 7)
    portions = of_rows(rows)
    assert list(portions.days) == list(whole.days)
    for day in whole.days:
        assert portions.days.day(day).dumps() == whole.days.day(day).dumps()
    assert atlas_bytes(portions) == raw
    assert sum(len(whole.days.day(day).questions) for day in whole.days) > 200
    assert len(whole.publishable().passages.known) > 100
    assert whole.publishable().contains == {
        **{"entities": 5, "pings": 1_200, "half_life_days": 14.0, "min_entities": 3, "report": {"questions": 0}},
        **{"from_ms": min(t[0].ts_ms or 0 for t in FLEET), "to_ms": rows[-1].ts_ms},
    }


def test_what_is_counted_without_an_entity_is_what_the_others_did() -> None:
    """So an entity is forgotten: the atlas is built anew from the log without it."""
    without, others = of_rows(by_time(*FLEET), without=["van-1"]), of_rows(by_time(FLEET[0], *FLEET[2:]))
    assert atlas_bytes(without) == atlas_bytes(others) != atlas_bytes(of_rows(by_time(*FLEET)))
    assert (without.left_out, others.left_out) == (80, 0)


def test_an_atlas_is_of_the_newest_days_and_of_few_passages_if_asked() -> None:
    rows = by_time(*FLEET)
    whole = of_rows([one for number in range(8) for one in later(rows, number)])
    assert len(list(whole.days)) == 9, "from before the first midnight until after the last"
    found = whole.publishable(Rules(half_life_days=0.5))
    assert found.contains["from_ms"] // DAY_MS == START_MS // DAY_MS + 6, "of a day that is three days old is nothing"
    few, many = (whole.publishable(Rules(per_cell=most)).passages for most in (2, 128))
    assert few.bucket.tolist() == many.bucket.tolist()
    assert np.diff(few.stop, prepend=0).max() == 2 < np.diff(many.stop, prepend=0).max()


def test_a_home_that_one_or_two_visit_is_not_published() -> None:
    home = [
        [row(name, second, 9_000 + seconds) for second, seconds in zip(range(0, 6_000, 30), [0, 90] * 100, strict=True)]
        for name in ("x", "y")
    ]
    mixed, alone = of_rows(by_time(*FLEET, *home)), of_rows(by_time(*FLEET))

    def cells(built: Built, min_entities: int) -> set[tuple[int, int]]:
        found = built.publishable(Rules(min_entities=min_entities)).passages
        return set(zip(*(part.tolist() for part in tiles(found.lat_e7, found.lon_e7, 17)), strict=True))

    assert cells(mixed, 1) > cells(alone, 1)
    assert cells(mixed, 3) == cells(alone, 3) != set()


def test_an_entity_in_two_partitions_has_two_tracks_and_is_one_entity() -> None:
    """After partitions were added, its later pings are in another log, whose offsets begin anew. What one partition is
    asked to forget is not what the other has."""
    track = drive("van", 1, 300)
    halves = of_records(track[:150], 100), of_records(track[150:], 100, 1)
    both = halves[0].days
    both.add_all(halves[1].days)
    found = Built(both, 0).publishable(Rules(min_entities=1))
    assert (found.contains["pings"], found.contains["entities"]) == (300, 1)
    asks = Records.of([Record("t", 0, 150, START_MS, b"van", None, FORGET_HEADERS)])
    builder = Builder()
    assert len(of_records(track[:150], 100, 0, builder).publishable(Rules(min_entities=1)).passages.known)
    builder.add(asks)
    left = builder.built().days
    left.add_all(halves[1].days)
    second = halves[1].publishable(Rules(min_entities=1)).passages
    assert Built(left, 0).publishable(Rules(min_entities=1)).passages.on.tolist() == second.on.tolist()
    assert len(second.known) > 20


def test_beside_a_model_it_is_found_out_how_far_passages_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the vans go back and forth, nothing but what others did tells when one turns."""
    monkeypatch.setattr(questions, "OF_PINGS", 2)
    built, predictor = of_rows(by_time(*(drive(f"van-{n}", n, 160) for n in range(8)))), Predictor.load("small")
    found = built.publishable(predictor=predictor)
    horizons = found.contains["report"]["horizons"]
    assert found.contains["report"]["questions"] > 100
    assert [one["after_s"] for one in horizons] == [60.0, 300.0, 900.0]
    assert horizons[1]["of_model"] < 0.8
    assert 0.85 < horizons[1]["held"] < 0.95
    assert dumps(*built.publishable(predictor=predictor)) == dumps(*found)
    assert loads(dumps(*found)).contains == found.contains


def test_nothing_gives_an_empty_atlas() -> None:
    found = loads(atlas_bytes(of_rows([])))
    assert (len(found.passages.known), found.contains["pings"]) == (0, 0)


# -- the commands


def run(*arguments: object) -> Any:
    wide = {"COLUMNS": "1000"}  # no error is cut into lines, however long the paths are
    first, *others = map(str, arguments)
    command = {"build": ["train", "atlas"], "export": ["export", "atlas"]}.get(first, ["models", "atlas"])
    return CliRunner(env=wide).invoke(commands(), [*command, *others])


@pytest.fixture(scope="module")
def buses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas of the sample."""
    out = tmp_path_factory.mktemp("sample") / "buses.atlas"
    built = run("build", "--data", SAMPLE, "--out", out)
    assert built.exit_code == 0, built.output
    assert "6,724 pings of 36 entities (0 records left out)" in built.output
    assert [one.name for one in out.parent.iterdir()] == ["buses.atlas"]
    return out


def test_an_atlas_of_the_sample_is_built_shown_and_drawn(buses: Path, tmp_path: Path) -> None:
    again, drawn = tmp_path / "again.atlas", tmp_path / "flows.geojson"
    summary = json.loads(run("build", "--data", SAMPLE, "--out", again, "--json").stdout)
    assert buses.read_bytes() == again.read_bytes()
    assert summary["bytes"] == buses.stat().st_size
    assert "6,724 pings of 36 entities, 2017-03-21 11:00 to 2017-03-21 14:59 UTC" in run("show", buses).output
    assert json.loads(run("show", buses, "--json").stdout)["passages"] == summary["passages"] > 1_000
    assert summary["report"]["questions"] > 100
    assert run("export", buses, "--out", drawn).exit_code == 0
    arrows = json.loads(drawn.read_text())["features"]
    assert len(arrows) > 100
    for arrow in arrows:
        (lon, lat), _ = arrow["geometry"]["coordinates"]
        assert 30 < lat < 31
        assert -98.1 < lon < -97.4
        assert arrow["properties"]["n"] >= 3
    assert sorted(one.name for one in tmp_path.iterdir()) == ["again.atlas", "flows.geojson"]


def test_versions_are_listed_and_compared_and_an_entity_is_left_out(tmp_path: Path) -> None:
    mine = tmp_path / "mine.ndjson"
    mine.write_bytes(b"\n".join(one.value for one in by_time(*FLEET)))
    one, other = tmp_path / "a.atlas", tmp_path / "b.atlas"
    assert run("build", "--data", mine, "--out", one).exit_code == 0
    told = run("build", "--data", mine, "--out", other, "--without", "van-1", "--half-life", "2d", "--json")
    assert json.loads(told.stdout)["entities"] == 4
    assert json.loads(told.stdout)["half_life_days"] == 2.0
    assert "van-1" not in other.read_bytes().decode(errors="replace")
    listed = run("list", "--atlases", tmp_path).output.splitlines()
    assert [line.split()[0] for line in listed] == ["a", "b"]
    (tmp_path / "0.atlas").write_bytes(one.read_bytes()[:-1])
    told = run("list", "--atlases", tmp_path)
    assert (told.exit_code, len([line for line in told.output.splitlines() if "damaged" not in line])) == (0, 2)
    assert "0  damaged: " in told.output
    assert [one["version"] for one in json.loads(run("list", "--atlases", tmp_path, "--json").stdout)] == [
        "a",
        "b",
        "0",
    ]
    assert json.loads(run("diff", one, other, "--json").stdout)["kept"] > 0
    assert run("diff", one, other, "--horizon-s", 61).exit_code == 2
    for wrong in ("2w", "0d", "d"):
        assert run("build", "--data", mine, "--out", one, "--half-life", wrong).exit_code == 2


def test_arrows_are_the_same_as_geojson_and_as_geoparquet(buses: Path, tmp_path: Path) -> None:
    drawn, table = tmp_path / "a.geojson", tmp_path / "a.parquet"
    assert run("export", buses, "--out", drawn).exit_code == 0
    assert run("export", buses, "--out", table, "--format", "geoparquet").exit_code == 0
    arrows, rows = json.loads(drawn.read_text())["features"], parquet.read_table(table)
    assert rows.num_rows == len(arrows) > 100
    for arrow, row in zip(arrows, rows.to_pylist(), strict=True):
        line = struct.unpack("<BII4d", row.pop("geometry"))
        assert line[:3] == (1, 2, 2), "a little-endian LineString of two points"
        assert [list(line[3:5]), list(line[5:7])] == arrow["geometry"]["coordinates"]
        assert row == arrow["properties"]
    about = json.loads(rows.schema.metadata[b"geo"])
    assert about["columns"]["geometry"]["geometry_types"] == ["LineString"]
    west, south, east, north = about["columns"]["geometry"]["bbox"]
    assert -98.5 < west < east < -97
    assert 30 < south < north < 31


def test_what_cannot_be_read_or_asked_is_said_in_one_line(tmp_path: Path) -> None:
    out, no_atlas = tmp_path / "a.atlas", tmp_path / "no.atlas"
    no_atlas.write_bytes(b"PCAT but not really, by far")
    found = run("show", no_atlas)
    assert found.exit_code == 1
    assert isinstance(found.exception, ValueError)
    assert "no.atlas: " in str(found.exception)
    assert run("build", "--data", SAMPLE, "--out", tmp_path / "none" / "a").exit_code == 2
    assert run("build", "--data", tmp_path / "none.csv", "--out", out).exit_code == 2
    assert run("build", "--data", SAMPLE, "--out", out).exit_code == 0
    mine = tmp_path / "mine.ndjson"
    mine.write_bytes(b"\n".join(one.value for one in by_time(*FLEET)))
    refused = run("build", "--data", mine, "--out", mine)
    assert refused.exit_code == 2
    assert "is the input itself" in refused.output
    assert mine.read_bytes().startswith(b"{")
    assert (
        run("build", "--out", out).exit_code
        == run("build", "--from-topic", "t", "--columns", "t=x", "--out", out).exit_code
        == 2
    )
    for wrong in (("--horizon-s", 61), ("--least", 0)):
        assert run("export", out, "--out", tmp_path / "x.geojson", *wrong).exit_code == 2
    assert not (tmp_path / "x.geojson").exists()
