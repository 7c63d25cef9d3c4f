"""An atlas built from recorded pings: which of them count, and that neither order nor portions change a byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from model.atlas import outcomes, sums
from model.atlas.cells import LEVELS
from model.atlas.days import DAY_MS
from model.atlas.outcomes import HORIZONS_S, NEVER
from model.atlas.sums import Sums
from model.atlas.version import dumps, loads
from stream.adapters.files import Row, row_of
from stream.atlas import building
from stream.atlas.building import Built, Rules, of_rows
from stream.atlas.follower import Follower
from stream.commands.main import build as commands
from stream.demo.run import SAMPLE
from stream.kafka.records.record_columns import Records
from stream.tracks.fix import packed
from stream.wire import Ping, Record

START_MS = 1_700_005_000_000  # 23 minutes before midnight


def row(entity: str, second: float, north_m: float = 0.0, **more: Any) -> Row:
    place = {"lat": 30.0 + north_m / 111_195, "lon": -97.7}
    return row_of({"entity_id": entity, "ts": START_MS + round(1000 * second), **place, **more})


def drive(entity: str, seed: int, pings: int = 80) -> list[Row]:
    """A vehicle that goes up and down a street, with its own pace."""
    rng = np.random.default_rng(seed)
    seconds = np.cumsum(rng.uniform(20, 40, pings))
    north = 2_000 * np.abs((seconds * rng.uniform(5, 12) / 2_000 + rng.uniform(0, 2)) % 2 - 1)
    return [row(entity, float(s), float(n)) for s, n in zip(seconds, north, strict=True)]


def by_time(*tracks: Sequence[Row]) -> list[Row]:
    return sorted((one for track in tracks for one in track), key=lambda one: one.ts_ms or 0)


FLEET = [drive(f"van-{n}", n) for n in range(5)]


def followed(rows: Sequence[Row]) -> list[tuple[int, bool]]:
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


def assert_same(one: Sums, other: Sums) -> None:
    for name in ("row", "n", "off_cm", "off_cm2"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name


def test_the_sums_are_those_of_a_loop_over_pings() -> None:
    expected: dict[tuple[int, int], list[list[int]]] = {}
    for number, track in enumerate(FLEET):
        bucket = int(sums.buckets(sums.entity_ids([f"van-{number}"]))[0])
        fixes = packed([msgspec.json.decode(one.value, type=Ping) for one in track])
        found = outcomes.of_tracks(fixes, np.array([0]))
        met: set[tuple[int, int]] = set()
        for at, ping in enumerate(found.row):
            ts_ms = int(fixes["ts_ms"][ping])
            for level in range(LEVELS):
                key = int(found.key[at, level])
                if (met_now := (key, ts_ms // sums.SLOT_MS)) in met:
                    continue
                met.add(met_now)
                for h in range(len(HORIZONS_S)):
                    if found.known_ms[at, h] != NEVER:
                        cell = expected.setdefault(
                            (ts_ms // DAY_MS, int(sums.rows_of(np.int64(key), np.int64(bucket)))),
                            [[0, 0, 0, 0] for _ in HORIZONS_S],
                        )[h]
                        east, north = found.off_cm[at, h].tolist()
                        for k, value in enumerate((1, east, north, east**2 + north**2)):
                            cell[k] += value
    built = of_rows(by_time(*FLEET)).days
    assert len(built) == 2
    assert [(day, row) for day, one in built.items() for row in one.sums.row.tolist()] == sorted(expected)
    for day, one in built.items():
        for place, key in enumerate(one.sums.row.tolist()):
            columns = one.sums.n[place], one.sums.off_cm[place], one.sums.off_cm2[place]
            assert np.column_stack(columns).tolist() == expected[day, key]


def test_neither_the_order_of_entities_nor_the_portions_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of_rows(by_time(*FLEET))
    one_by_one = of_rows([one for track in reversed(FLEET) for one in track])
    assert dumps(*whole.published()) == dumps(*one_by_one.published())
    monkeypatch.setattr(building, "CHUNK_ROWS", 7)
    portions = of_rows(by_time(*FLEET))
    assert list(portions.days) == list(whole.days)
    for day, one in whole.days.items():
        assert_same(portions.days[day].sums, one.sums)
    assert dumps(*portions.published()) == dumps(*whole.published())
    assert whole.published()[1] == {
        **{"entities": 5, "pings": 400, "half_life_days": 14.0, "min_entities": 3},
        **{"from_ms": min(t[0].ts_ms or 0 for t in FLEET), "to_ms": max(t[-1].ts_ms or 0 for t in FLEET)},
    }


def test_what_is_counted_without_an_entity_is_what_the_others_did() -> None:
    """So an entity is forgotten: the atlas is built anew from the log without it."""
    without, others = of_rows(by_time(*FLEET), without=["van-1"]), of_rows(by_time(FLEET[0], *FLEET[2:]))
    assert dumps(*without.published()) == dumps(*others.published())
    assert (without.left_out, others.left_out) == (80, 0)


def test_an_atlas_is_of_the_newest_days_and_of_few_keys_if_asked() -> None:
    rows = by_time(*FLEET)
    days = [row_of(json.loads(one.value) | {"ts": (one.ts_ms or 0) + n * DAY_MS}) for n in range(4) for one in rows]
    whole = of_rows(days)
    assert len(whole.days) == 5, "from before the first midnight until after the last"
    _, contains = whole.published(Rules(half_life_days=0.5))
    assert contains["from_ms"] // DAY_MS == START_MS // DAY_MS + 2, "a day that is two days old counts a sixteenth"
    few, _ = whole.published(Rules(max_cells=10))
    many, _ = whole.published()
    assert len(few) == 10 < len(many)
    assert set(few.key.tolist()) <= set(many.key.tolist())


def test_a_home_that_one_or_two_visit_is_not_published() -> None:
    home = [
        [row(name, second, 9_000 + seconds) for second, seconds in enumerate(range(0, 3_000, 30))]
        for name in ("x", "y")
    ]
    mixed, alone = of_rows(by_time(*FLEET, *home)), of_rows(by_time(*FLEET))

    def finest(built: Built, min_entities: int) -> set[int]:
        return {int(key) for key in built.published(Rules(min_entities=min_entities))[0].key if key >> 60 == LEVELS - 1}

    assert finest(mixed, 1) > finest(alone, 1)
    assert finest(mixed, 3) == finest(alone, 3) != set()


def test_an_entity_in_two_partitions_has_two_tracks_and_is_one_entity() -> None:
    """After partitions were added, its later pings are in another log, whose offsets begin anew."""
    builder, track = building.Builder(), drive("van", 1)
    for number, rows in enumerate((track[:40], track[40:])):
        offsets = range(1_000 * (1 - number), 2_000)
        records = [Record("pings", number, at, -1, one.key, one.value) for at, one in zip(offsets, rows, strict=False)]
        builder.add(Records.of(records))
    built = builder.built()
    contains = built.published()[1]
    assert (contains["pings"], contains["entities"], built.left_out) == (80, 1, 0)


def test_nothing_gives_an_empty_atlas() -> None:
    found, contains = loads(dumps(*of_rows([]).published()))
    assert (len(found), contains["pings"]) == (0, 0)


# -- the commands


def run(*arguments: object) -> Any:
    wide = {"COLUMNS": "1000"}  # no error is cut into lines, however long the paths are
    return CliRunner(env=wide).invoke(commands(), ["atlas", *map(str, arguments)])


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
    levels = json.loads(run("show", buses, "--json").stdout)["levels"]
    assert sum(one["keys"] for one in levels) == summary["keys"]
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
    found = json.loads(run("diff", one, other, "--json").stdout)
    assert sum(level["lost"] for level in found["levels"]) > 0
    assert len(found["changes"]) <= 10
    assert "keys gained" in run("diff", one, other).output
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
    for wrong in (("--level", 5), ("--horizon-s", 61), ("--least", 0)):
        assert run("export", out, "--out", tmp_path / "x.geojson", *wrong).exit_code == 2
    assert not (tmp_path / "x.geojson").exists()
