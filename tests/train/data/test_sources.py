"""Which reader takes which path, what a column map says, and the two commands on formats that are not tables."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from train_worlds import MakeCorpus, WriteFile, fleet, track, wander
from typer.testing import CliRunner

from model.api import ModelConfig
from stream.adapters.column_names import ColumnMap
from stream.adapters.sources import FORMATS, parse
from train.data.corpus import load
from train.evaluation.cli import evaluate as evaluate_command
from train.fit.cli import train as train_command

MINUTE = [60.0 * i for i in range(12)]
ROAD = [500.0 * i for i in range(12)]
BEIJING_AHEAD_S = 8 * 3600

APP = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)
APP.command(name="train")(train_command)
APP.command(name="evaluate")(evaluate_command)
RUN = CliRunner()


def renamed(columns: dict[str, list[Any]], **names: str) -> dict[str, list[Any]]:
    return {names.get(name, name): values for name, values in columns.items()}


def utc(ms: int, ahead_s: int = 0) -> np.datetime64:
    return np.datetime64(ms + 1000 * ahead_s, "ms")


# -- which reader -----------------------------------------------------------------------------------------------------


def test_a_prefix_names_the_format_and_a_path_may_show_it(tmp_path: Path) -> None:
    for name in ("walk.gpx", "feed.pb", "feed.pb.gz", "a.plt", "a.csv", "a.CSV", "a.csv.gz", "a.parquet"):
        (tmp_path / name).touch()
    for name in ("a.csv", "a.CSV"):
        (tmp_path / name).write_text("entity_id,t,lat,lon\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"entity_id,t,lat,lon\n"))
    pq.write_table(pa.table({name: [1] for name in ("entity_id", "t", "lat", "lon")}), tmp_path / "a.parquet")
    shown = {path.name: parse(path).format for path in tmp_path.iterdir()}
    assert shown == {
        "walk.gpx": "gpx",
        "feed.pb": "gtfs",
        "feed.pb.gz": "gtfs",
        "a.plt": "geolife",
        **dict.fromkeys(("a.csv", "a.CSV", "a.csv.gz", "a.parquet"), "table"),
    }
    for name in FORMATS:
        source = parse(f"{name}:{tmp_path / 'a.csv'}")
        assert (source.format, source.path, source.name) == (name, tmp_path / "a.csv", f"{name}:a.csv")


def test_names_in_capitals_are_as_good(tmp_path: Path) -> None:
    names = {
        "gpx": ["A.GPX", "b.gpx"],
        "geolife": ["010/LABELS.TXT", "010/Trajectory/X.PLT"],
        "gtfs": ["F.PB", "G.pb.GZ"],
        "ais": ["AIS.CSV", "AIS.ZIP"],
        "tdrive": ["1.TXT"],
    }
    for format, files in names.items():
        for name in files:
            (tmp_path / format / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / format / name).touch()
        found = parse(f"{format}:{tmp_path / format}").files()
        assert [file.relative_to(tmp_path / format).as_posix() for file in found] == files
        if FORMATS[format].shows:
            assert parse(tmp_path / format).format == parse(found[-1]).format == format


def test_another_edition_of_a_reader_is_another_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.txt").write_text("".join(f"1,2008-02-02 15:36:0{i},116.5,39.9\n" for i in range(3)))
    first = load([f"tdrive:{tmp_path / '1.txt'}"], tmp_path / "cache").fingerprint
    monkeypatch.setitem(FORMATS, "tdrive", FORMATS["tdrive"]._replace(edition=1))
    assert load([f"tdrive:{tmp_path / '1.txt'}"], tmp_path / "cache").fingerprint != first


def test_a_path_of_two_formats_or_of_none_must_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.gpx").touch()
    (tmp_path / "b.pb").touch()
    with pytest.raises(ValueError, match="has gpx and gtfs; say which: geolife:"):
        parse(tmp_path)
    with pytest.raises(ValueError, match="unknown format 'shapefile', expected one of geolife, tdrive"):
        parse("shapefile:roads")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        parse("gpx:nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no \*\.pb or \*\.pb\.gz in it"):
        parse(f"gtfs:{tmp_path / 'empty'}").files()


def test_a_file_with_a_colon_in_its_name_is_a_file(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file(track("a", MINUTE, ROAD), "monday:one.parquet")
    assert parse(path).format == "table"
    assert load([path], tmp_path / "cache").files == ("monday:one.parquet",)


def test_the_order_of_a_folders_files_is_not_the_disks(tmp_path: Path) -> None:
    for name in ("b/2.txt", "a/10.txt", "a/9.txt"):
        (tmp_path / "taxis" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "taxis" / name).write_text("1,2008-02-02 15:36:08,116.5,39.9\n")
    files = parse(f"tdrive:{tmp_path / 'taxis'}").files()
    assert [file.name for file in files] == ["10.txt", "9.txt", "2.txt"]


def test_a_fingerprint_is_of_contents_and_of_names_below_the_folder(tmp_path: Path) -> None:
    def taxis(root: str, *files: tuple[str, str]) -> str:
        folder = tmp_path / root / "taxis"
        folder.mkdir(parents=True)
        for name, second in files:
            rows = "".join(f"1,2008-02-02 15:36:{second}{i},116.5,39.9\n" for i in range(3))
            (folder / name).write_text(rows)
            os.utime(folder / name, (1, 1))
        return load([f"tdrive:{folder}"], tmp_path / "cache").fingerprint

    one = taxis("one", ("1.txt", "0"), ("2.txt", "1"))
    assert taxis("two", ("1.txt", "0"), ("2.txt", "1")) == one
    assert taxis("three", ("1.txt", "0"), ("2.txt", "2")) != one
    assert taxis("four", ("1.txt", "0"), ("3.txt", "1")) != one


# -- column maps ------------------------------------------------------------------------------------------------------


def test_a_map_says_what_a_file_calls_our_columns(make_corpus: MakeCorpus) -> None:
    columns = {**track("007", MINUTE, ROAD), "mode": ["bus"] * 12}
    plain = make_corpus(columns, name="plain.parquet")
    theirs = renamed(columns, t="when", lat="y", lon="x", entity_id="car", mode="how")
    for name in ("theirs.parquet", "theirs.csv"):
        corpus = make_corpus(theirs, name=name, mapped="t=when, lat=y,lon=x,entity_id=car,mode=how")
        np.testing.assert_array_equal(corpus.ts_ms, plain.ts_ms)
        np.testing.assert_array_equal(corpus.lon, plain.lon)
        assert (corpus.names, corpus.modes) == (("007",), ("bus",))


CLOCKS: dict[str, tuple[str, int, Callable[[int], float]]] = {
    "whole seconds": ("s", 1_211_018_404_000, lambda t: t // 1000),
    "seconds": ("s", 1_081_560_907_896, lambda t: t / 1000),  # which times 1000 are 1081560907895.9999
    "microseconds": ("us", 1_211_018_404_000, lambda t: 1000 * t + 999),
    "nanoseconds": ("ns", 1_211_018_404_000, lambda t: 1_000_000 * t + 999_999),
}


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
@pytest.mark.parametrize("clock", CLOCKS)
def test_times_in_other_units_are_taken_when_declared(make_corpus: MakeCorpus, name: str, clock: str) -> None:
    unit, start_ms, written = CLOCKS[clock]
    columns = track("a", MINUTE, ROAD, start_ms=start_ms)
    corpus = make_corpus({**columns, "t": list(map(written, columns["t"]))}, name=name, mapped=f"t:{unit}=t")
    assert corpus.ts_ms.tolist() == columns["t"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["s.parquet", "s.csv"])
def test_seconds_that_no_calendar_has_are_no_time(make_corpus: MakeCorpus, name: str) -> None:
    columns = track("a", MINUTE, ROAD)
    columns["t"] = [t / 1000 for t in columns["t"][:-3]] + [1e300, -1e300, 253_402_300_800.0]
    corpus = make_corpus(columns, name=name, mapped="t:s=t")
    assert len(corpus.ts_ms) == 9
    assert corpus.dropped["no_entity_or_time"] == 3


@pytest.mark.parametrize("name", ["text.parquet", "text.csv"])
def test_rfc_3339_text_is_taken_when_declared_and_its_zone_counts(make_corpus: MakeCorpus, name: str) -> None:
    columns = track("a", MINUTE[:5], ROAD[:5])
    start = columns["t"][0]
    columns["t"] = [
        f"{utc(start)}Z",
        f"{utc(start + 60_000, BEIJING_AHEAD_S)}+08:00",
        str(utc(start + 120_000)).replace("T", " ")[:-4] + "Z",  # a space, and no fraction
        "at noon",
        str(utc(start + 240_000)),  # whose time?
    ]
    corpus = make_corpus(columns, name=name, mapped="t:rfc3339=t")
    assert corpus.ts_ms.tolist() == [start, start + 60_000, start + 120_000]
    assert corpus.dropped["no_entity_or_time"] == 2


def test_a_map_is_part_of_the_fingerprint_and_its_order_is_not(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file({**track("a", MINUTE, ROAD), "x": [1.0] * 12}, "a.parquet")
    maps = [None, ColumnMap.parse("lon=x,lat=lat"), ColumnMap.parse("lat=lat,lon=x")]
    plain, one, other = (load([parse(path, columns)], tmp_path / "cache").fingerprint for columns in maps)
    assert one == other != plain


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("lat", "'lat' is not ours=yours"),
        ("lat=", "'lat=' is not ours=yours"),
        ("height=z", "'height=z' is not ours=yours, with ours once of entity_id, traj_id"),
        ("lat=y,lat=z", "'lat=z' is not ours=yours, with ours once"),
        ("t=when,ts=then", "'ts=then' is not ours=yours, with ours once"),
        ("lat:s=y", "only t may be marked"),
        ("t:hours=when", "only t may be marked, as one of ms, s, us, ns, rfc3339"),
    ],
)
def test_a_map_that_makes_no_sense_shows_the_part(spec: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ColumnMap.parse(spec)


@pytest.mark.parametrize("name", ["odd.parquet", "odd.csv"])
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("entity_id=vehicle", "no column vehicle \\(for entity_id\\); it has entity_id, t, lat, lon"),
        (
            "t:s=t",
            "column t has 1211018\\d{6}, expected seconds since 1970 UTC: milliseconds\\? \\(--columns t:ms=t\\)",
        ),
        ("t:us=t", "column t has 1211018\\d{6}, expected microseconds"),
        ("t:rfc3339=entity_id", "column entity_id has 'a', expected RFC 3339"),
    ],
)
def test_a_map_that_does_not_fit_names_file_and_column(
    make_corpus: MakeCorpus, name: str, spec: str, said: str
) -> None:
    with pytest.raises(ValueError, match=rf"odd\.(parquet|csv): {said}"):
        make_corpus(track("a", MINUTE, ROAD), name=name, mapped=spec)


# -- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def taxis(tmp_path: Path) -> Path:
    """Thirty vehicles in T-Drive's layout."""
    folder = tmp_path / "taxis"
    folder.mkdir()
    for number in range(30):
        columns = wander(str(number), 50, number)
        rows = zip(columns["t"], columns["lon"], columns["lat"], strict=True)
        lines = [f"{number},{str(utc(t, BEIJING_AHEAD_S))[:-4].replace('T', ' ')},{x},{y}\n" for t, x, y in rows]
        (folder / f"{number}.txt").write_text("".join(lines))
    return folder


def invoke(*args: str) -> dict[str, Any]:
    result = RUN.invoke(APP, list(args))
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_both_commands_take_a_format_by_its_name(taxis: Path, tmp_path: Path) -> None:
    (taxis / "readme.txt").write_text("hello\n")
    data = ("--data", f"tdrive:{taxis}", "--cache", str(tmp_path / "cache"), "--json")
    (tmp_path / "size.json").write_text(ModelConfig(name="tiny", d=16, heads=2, window=16).dumps())
    small = ("--steps", "2", "--size", str(tmp_path / "size.json"), "--set", "rows=4", "--set", "tokens=40")
    trained = invoke("train", *data, "--out", str(tmp_path / "run"), *small)
    assert trained["steps"] == 2
    assert trained["train"]["tracks"] > trained["val"]["tracks"] > 0
    assert trained["dropped"]["unreadable_file"] == 1
    assert trained["first_unreadable"] == ["tdrive:taxis/readme.txt"]
    (judged,) = invoke("evaluate", *data, "--weights", str(tmp_path / "run"), "--no-fit")["data"]
    assert judged["file"] == "tdrive:taxis"
    assert judged["anchors"] > 0


def test_evaluate_takes_a_column_map_beside_another_format(taxis: Path, tmp_path: Path, write_file: WriteFile) -> None:
    columns = fleet(12, 50)
    columns["t"] = [t // 1000 for t in columns["t"]]
    path = write_file(renamed(columns, t="timestamp", lat="y", lon="x", entity_id="vehicle"), "trucks.csv")
    given = ("--columns", "t:s=timestamp,lat=y,lon=x,entity_id=vehicle", "--split", "all", "--json")
    where = ("--weights", "none", "--cache", str(tmp_path / "cache"))
    judged = invoke("evaluate", *given, *where, "--data", str(path), f"tdrive:{taxis}")["data"]
    assert [(report["file"], report["entities"]) for report in judged] == [("trucks.csv", 12), ("tdrive:taxis", 30)]


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_source_given_twice_is_bad_usage_by_whatever_path(command: str, taxis: Path, tmp_path: Path) -> None:
    """It was read, trained on and judged twice, without a word."""
    link = tmp_path / "link"
    link.symlink_to(taxis)
    for again in (taxis, tmp_path / "." / "taxis" / ".." / "taxis", link):
        args = [command, "--data", f"tdrive:{taxis}", f"tdrive:{again}"]
        more = ["--out", str(tmp_path / "run"), "--steps", "1"] if command == "train" else ["--weights", "none"]
        result = RUN.invoke(APP, [*args, *more, "--cache", str(tmp_path / "cache")])
        assert result.exit_code == 2, result.output
        assert "once more" in result.output


@pytest.mark.parametrize(
    "args",
    [
        ["evaluate", "--data", "shapefile:roads"],
        ["evaluate", "--data", "porto:nowhere.csv"],
        ["evaluate", "--data", "tdrive:{taxis}", "--columns", "lat=y"],
        ["train", "--out", "{taxis}-run", "--data", "{taxis}"],
        ["train", "--out", "{taxis}-run", "--columns", "lat"],
        ["train", "--out", "{taxis}-run"],
    ],
)
def test_bad_usage_exits_with_2(args: list[str], taxis: Path) -> None:
    result = RUN.invoke(APP, [arg.format(taxis=taxis) for arg in args])
    assert result.exit_code == 2, result.output
    assert not Path(f"{taxis}-run").exists()
