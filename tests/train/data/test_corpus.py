"""Files become a corpus: what is read, what is dropped, where tracks end, and what the cache promises."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from train_worlds import MakeCorpus, WriteFile, together, track, wander

from model.api import ABSENT
from stream.adapters.column_names import ColumnMap
from stream.adapters.sources import Source, parse
from train.data.corpus import Corpus, default_cache, load
from train.data.cutting import EVALUATION, TRAINING, Cut

MINUTE = [60.0 * i for i in range(12)]
ROAD = [500.0 * i for i in range(12)]


def ranges(corpus: Corpus) -> list[tuple[int, int]]:
    return [(int(first), int(last)) for first, last in corpus.tracks]


def test_parquet_and_csv_of_the_same_rows_are_the_same_corpus(make_corpus: MakeCorpus) -> None:
    columns = {**track("007", MINUTE, ROAD), "speed_mps": [8.25] * 11 + [None], "heading_deg": [90.0] * 12}
    one = make_corpus(columns, name="a.parquet")
    other = make_corpus(columns, name="a.csv")
    assert one.names == other.names == ("007",)  # not the number 7
    for column in ("ts_ms", "lat", "lon", "speed_mps", "heading_deg", "tracks"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
    assert np.isnan(one.speed_mps[11])
    assert one.speed_mps[10] == 8.25


def test_tracks_may_keep_some_of_their_pings(write_file: WriteFile, tmp_path: Path) -> None:
    """The first file loses every other ping, the second none; what the tracks are stays."""
    files = [write_file(track(name, MINUTE, ROAD), f"{name}.csv") for name in ("a", "b")]
    whole = load(files, tmp_path / "cache")
    fewer = whole.keep(np.array([*range(0, 12, 2), *range(12, 24)]))
    assert ranges(fewer) == [(0, 6), (6, 18)]
    assert fewer.file_start.tolist() == [0, 6, 18]
    np.testing.assert_array_equal(fewer.ts_ms[:6], whole.ts_ms[:12:2])
    np.testing.assert_array_equal(fewer.lon[6:], whole.lon[12:])
    assert (fewer.names, fewer.files, fewer.entity.tolist()) == (whole.names, whole.files, whole.entity.tolist())


def test_the_time_column_may_be_called_ts_and_may_be_a_timestamp(make_corpus: MakeCorpus) -> None:
    columns: dict[str, Any] = track("a", MINUTE, ROAD)
    times = columns.pop("t")
    plain = make_corpus({**columns, "ts": times}, name="plain.parquet")
    typed = make_corpus({**columns, "ts": pa.array(times, pa.timestamp("ms", "UTC"))}, name="typed.parquet")
    np.testing.assert_array_equal(plain.ts_ms, typed.ts_ms)
    assert plain.ts_ms[0] == times[0]


@pytest.mark.parametrize("gone", ["entity_id", "t", "lat", "lon"])
@pytest.mark.parametrize("name", ["gone.parquet", "gone.csv"])
def test_a_missing_column_is_named_with_its_file(make_corpus: MakeCorpus, gone: str, name: str) -> None:
    columns = track("a", MINUTE, ROAD)
    del columns[gone]
    with pytest.raises(ValueError, match=rf"gone\.(parquet|csv): no column is plainly .* \({gone}\)"):
        make_corpus(columns, name=name)


@pytest.mark.parametrize(
    ("column", "values", "name"),
    [
        ("t", ["noon"] * 12, "wrong.parquet"),
        ("t", [1.5] * 12, "wrong.csv"),
        ("lat", ["north"] * 12, "wrong.parquet"),
        ("lon", ["west"] * 12, "wrong.csv"),
    ],
)
def test_a_column_of_the_wrong_type_is_named_with_its_file(
    make_corpus: MakeCorpus, column: str, values: list[Any], name: str
) -> None:
    columns = {**track("a", MINUTE, ROAD), column: values}
    came = f"'{values[0]}'" if name.endswith("csv") else "(string|double)"
    said = rf"wrong\.(parquet|csv): column {column} (has|is) {came}, expected (a number|int64)"
    with pytest.raises(ValueError, match=said):
        make_corpus(columns, name=name)


@pytest.mark.parametrize("name", ["tracks.parquet", "tracks.csv"])
@pytest.mark.parametrize(
    ("factor", "unit", "mark"),
    [(0.001, "seconds", "s"), (1000, "microseconds", "us"), (1_000_000, "nanoseconds", "ns")],
)
def test_other_units_in_place_of_milliseconds_are_refused(
    make_corpus: MakeCorpus, name: str, factor: float, unit: str, mark: str
) -> None:
    """Microseconds were taken for milliseconds of the year 40,352, without a word."""
    columns = track("a", MINUTE, ROAD)
    columns["t"] = [int(t * factor) for t in columns["t"]]
    came = str(columns["t"][0])[:4]
    said = rf"{name}: column t has {came}\d+, expected milliseconds .* {unit}\? \(--columns t:{mark}=t\)"
    with pytest.raises(ValueError, match=said):
        make_corpus(columns, name=name)


def test_zeros_for_unknown_do_not_hide_that_times_are_microseconds(make_corpus: MakeCorpus) -> None:
    columns = track("a", MINUTE, ROAD)
    columns["t"] = [0, *(1000 * t for t in columns["t"][1:])]
    with pytest.raises(ValueError, match="microseconds\\?"):
        make_corpus(columns)


def test_milliseconds_may_begin_at_0(make_corpus: MakeCorpus) -> None:
    """For a hundred days most of them are numbers that seconds of today are, too."""
    assert len(make_corpus(track("a", [86_400.0 * day for day in range(100)], [0.0] * 100, start_ms=0)).ts_ms) == 100


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_a_timestamp_column_tells_its_unit_itself(make_corpus: MakeCorpus, unit: str, zone: str | None) -> None:
    columns: dict[str, Any] = track("a", MINUTE, ROAD)
    times = pa.array(columns["t"], pa.timestamp("ms")).cast(pa.timestamp(unit), safe=False)
    corpus = make_corpus({**columns, "t": times.cast(pa.timestamp(unit, zone))})
    np.testing.assert_array_equal(corpus.ts_ms, columns["t"])


def test_a_time_that_no_calendar_has_is_none(make_corpus: MakeCorpus) -> None:
    columns = track("a", MINUTE, ROAD)
    columns["t"][-3:] = [2**62, -(2**63), 253_402_300_800_000]
    corpus = make_corpus(columns)
    assert len(corpus.ts_ms) == 9
    assert corpus.dropped["no_entity_or_time"] == 3


def test_a_csv_may_be_compressed_and_may_not_be_empty(write_file: WriteFile, tmp_path: Path) -> None:
    plain = write_file(track("a", MINUTE, ROAD), "a.csv")
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert len(load([packed], tmp_path / "cache").lat) == 12
    plain.write_text("")
    with pytest.raises(ValueError, match=r"a\.csv: Empty"):
        load([plain], tmp_path / "cache")


@pytest.mark.parametrize("clock", ["ms", "s", "rfc3339"])
def test_a_csv_without_a_row_is_told_so_plainly(tmp_path: Path, clock: str) -> None:
    path, map_ = tmp_path / "a.csv", ColumnMap.parse(f"t:{clock}=t")
    path.write_text("entity_id,t,lat,lon\n")
    with pytest.raises(ValueError, match=r"a\.csv: not one row below the header, entity_id, t, lat, lon"):
        load([parse(path, map_)], tmp_path / "cache")
    path.write_text("entity_id,t,lat,lon\na,1\n" + "x," * 9 + "\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 2: expected entity_id, t, lat, lon, and neither this nor any"):
        load([parse(path, map_)], tmp_path / "cache")


CLOCKS: dict[str, tuple[str, Callable[[int], str]]] = {
    "ms": ("t:ms=t", lambda t: str(t)),
    "us": ("t:us=t", lambda t: str(1000 * t)),
    "s": ("t:s=t", lambda t: str(t / 1000)),
    "rfc3339": ("t:rfc3339=t", lambda t: f"{np.datetime64(t, 'ms')}Z"),
    "inferred": ("t=t", lambda t: f"{np.datetime64(t, 'ms')}Z"),
    "inferred, without a zone": ("t=t", lambda t: str(np.datetime64(t, "ms"))),
}


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_cell_or_a_ragged_row_of_a_csv_costs_itself_alone(tmp_path: Path, clock: str, packed: bool) -> None:
    """One `abc` in lat, one `oops` in t or one short row refused the whole table."""
    columns = {**track("007", MINUTE, ROAD), "speed_mps": [5.0] * 12}
    map_, written = CLOCKS[clock]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    for row in rows:
        row[1] = written(row[1])
    rows[0][2], rows[3][1], rows[5][4] = "abc", "oops", "fast"
    rows[7:7] = [["007", "1"], ["007"] * 9, ['"007', *rows[7][1:]]]
    plain = ",".join(columns) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(plain.encode()) if packed else plain.encode())
    corpus = load([parse(path, ColumnMap.parse(map_))], tmp_path / "cache")
    left = [i for i in range(12) if i not in (0, 3)]
    assert corpus.names == ("007",)
    assert corpus.ts_ms.tolist() == [columns["t"][i] for i in left]
    np.testing.assert_array_equal(corpus.lon, [columns["lon"][i] for i in left])
    np.testing.assert_array_equal(corpus.speed_mps, [np.nan if i == 5 else 5.0 for i in left])
    assert corpus.dropped == {
        "no_entity_or_time": 1,
        "impossible_position": 1,
        "repeated_time": 0,
        "unreadable_row": 3,
    }


def test_a_csv_column_that_says_nothing_is_no_wrong_column(tmp_path: Path) -> None:
    columns = {**track("a", MINUTE, ROAD), "speed_mps": ["N/A"] * 12, "heading_deg": [""] * 12}
    path = tmp_path / "a.csv"
    rows = [",".join(map(str, row)) + "\n" for row in zip(*columns.values(), strict=True)]
    path.write_text(",".join(columns) + "\n" + "".join(rows) + "a,oops,1,2,,\n")
    assert np.isnan(load([path], tmp_path / "cache").speed_mps).all()
    path.write_text(path.read_text().replace("N/A", "fast"))
    with pytest.raises(ValueError, match="column speed_mps has 'fast', expected a number"):
        load([path], tmp_path / "cache")


def test_files_that_are_no_tracks_are_refused_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match=r"broken\.parquet"):
        load([broken], tmp_path)
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt.*\.parquet"):
        load([notes], tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        load([tmp_path / "nowhere.csv"], tmp_path)
    with pytest.raises(ValueError, match="no data files"):
        load([], tmp_path)


def test_rows_that_are_no_pings_are_dropped_and_counted(make_corpus: MakeCorpus) -> None:
    rows = track("a", MINUTE, ROAD)
    bad = {
        "entity_id": ["a", "a", "a", "a", None, "a"],
        "t": [rows["t"][0] + 1000 * i for i in (1, 2, 3, 4, 5)] + [None],
        "lat": [91.0, float("nan"), 0.0, None, 37.0, 37.0],
        "lon": [-122.0, -122.0, 0.0, -122.0, -122.0, -122.0],
    }
    corpus = make_corpus(together(rows, bad))
    assert corpus.dropped == {"no_entity_or_time": 2, "impossible_position": 4, "repeated_time": 0}
    assert ranges(corpus) == [(0, 12)]


@pytest.mark.parametrize("name", ["blank.csv", "blank.parquet"])
@pytest.mark.parametrize("blank", [None, ""])
def test_pings_whose_id_is_blank_are_nobodys_and_counted(make_corpus: MakeCorpus, name: str, blank: str | None) -> None:
    """They were one vehicle named "" where a file was CSV, and tracks of strangers were joined."""
    strangers: dict[str, Any] = {**track("b", MINUTE, ROAD), "entity_id": [blank] * 12}
    corpus = make_corpus(together(track("a", MINUTE, ROAD), strangers, track("NA", MINUTE, ROAD)), name=name)
    assert corpus.names == ("NA", "a")  # NA is as good an id as another
    assert ranges(corpus) == [(0, 12), (12, 24)]
    assert corpus.dropped == {"no_entity_or_time": 12, "impossible_position": 0, "repeated_time": 0}


@pytest.mark.parametrize("name", ["blank.csv", "blank.parquet"])
def test_a_blank_mode_or_trajectory_is_none_and_a_blank_number_absent(make_corpus: MakeCorpus, name: str) -> None:
    columns = {
        **track("a", MINUTE, ROAD),
        "mode": [None] * 3 + [""] * 3 + ["bus"] * 6,
        "speed_mps": [None, *[5.0] * 11],
    }
    corpus = make_corpus({**columns, "traj_id": [None, ""] * 3 + ["x"] * 6}, name=name)
    assert corpus.modes == ("bus",)
    assert corpus.mode.tolist() == [-1, 0]
    assert ranges(corpus) == [(0, 6), (6, 12)]
    assert np.isnan(corpus.speed_mps).tolist() == [True] + [False] * 11


def test_of_two_fixes_at_one_time_the_first_in_the_file_stays(make_corpus: MakeCorpus) -> None:
    rows = track("a", MINUTE, ROAD)
    again = {name: values[3:5] for name, values in rows.items()}  # one exact duplicate, and one elsewhere
    again["lat"] = [rows["lat"][3], 37.76]
    corpus = make_corpus(together(rows, again))
    assert corpus.dropped["repeated_time"] == 2
    assert corpus.lat.tolist() == rows["lat"]


def test_reported_values_outside_their_range_are_absent(make_corpus: MakeCorpus) -> None:
    # AIS writes 102.3 kn and 360 deg for "unknown"
    columns = {
        **track("ship", MINUTE, ROAD),
        "speed_mps": [52.63, -1.0] + [5.0] * 10,
        "heading_deg": [360.0] + [0.0] * 11,
    }
    corpus = make_corpus(columns)
    assert np.isnan(corpus.speed_mps).tolist() == [True, True] + [False] * 10
    assert np.isnan(corpus.heading_deg).tolist() == [True] + [False] * 11


def test_times_before_1970_are_times(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(track("round", MINUTE, ROAD, start_ms=-188_438_400_000))
    assert corpus.ts_ms[0] == -188_438_400_000
    assert ranges(corpus) == [(0, 12)]


def test_rows_in_any_order_are_the_same_corpus(make_corpus: MakeCorpus) -> None:
    rows = together(wander("b", 40, 1), wander("a", 30, 2))
    shuffle = np.random.default_rng(3).permutation(70)
    mixed = {name: [values[i] for i in shuffle] for name, values in rows.items()}
    straight, sorted_again = make_corpus(rows, name="one.parquet"), make_corpus(mixed, name="two.parquet")
    np.testing.assert_array_equal(straight.lat, sorted_again.lat)
    np.testing.assert_array_equal(straight.tracks, sorted_again.tracks)
    assert [straight.names[i] for i in straight.entity] == ["a", "b"]


def test_a_track_ends_at_a_long_silence_and_the_judge_is_stricter(make_corpus: MakeCorpus) -> None:
    times = [60.0 * i for i in range(12)] + [60.0 * 11 + 301 + 60.0 * i for i in range(12)]
    columns = track("a", times, [10.0 * i for i in range(24)])
    assert ranges(make_corpus(columns, cut=TRAINING)) == [(0, 24)]
    assert ranges(make_corpus(columns, cut=EVALUATION)) == [(0, 12), (12, 24)]
    times[12:] = [t - 1 for t in times[12:]]  # 300 s of silence, and no more
    assert ranges(make_corpus(track("a", times, [10.0 * i for i in range(24)]), cut=EVALUATION)) == [(0, 24)]


def test_a_slow_source_is_cut_at_three_of_its_cadences(make_corpus: MakeCorpus) -> None:
    times = [120.0 * i for i in range(10)]
    times += [times[-1] + 355 + 120.0 * i for i in range(10)]  # over 5 min, under 6
    times += [times[-1] + 365 + 120.0 * i for i in range(10)]
    assert ranges(make_corpus(track("bus", times, [100.0 * i for i in range(30)]), cut=EVALUATION)) == [
        (0, 20),
        (20, 30),
    ]


def test_a_night_in_the_depot_is_no_cadence() -> None:
    """Of a bus that reports every two minutes, little by day."""
    nights = [40_000.0] * 4
    assert EVALUATION.longest_silence_s(np.array([120.0, 120.0, 120.0, *nights])) == 360.0
    assert EVALUATION.longest_silence_s(np.array(nights)) == EVALUATION.gap_s


def test_a_track_ends_at_an_impossible_speed(make_corpus: MakeCorpus) -> None:
    east = [500.0 * i for i in range(6)] + [500.0 * i + 60 * 51 for i in range(6, 12)]
    assert ranges(make_corpus(track("a", MINUTE, east))) == [(0, 6), (6, 12)]
    assert ranges(make_corpus(track("a", MINUTE, [49.0 * t for t in MINUTE]), name="fast.parquet")) == [(0, 12)]


def test_a_track_ends_with_its_trajectory_its_entity_and_its_file(write_file: WriteFile, tmp_path: Path) -> None:
    one = {**track("a", MINUTE, ROAD), "traj_id": ["x"] * 5 + ["y"] * 7}
    two = together(track("a", [t + 720 for t in MINUTE], ROAD), track("b", MINUTE, ROAD))
    corpus = load([write_file(one, "one.parquet"), write_file(two, "two.csv")], tmp_path / "cache")
    assert ranges(corpus) == [(0, 5), (5, 12), (12, 24), (24, 36)]
    assert [corpus.names[i] for i in corpus.entity] == ["a", "a", "a", "b"]
    assert [corpus.files[i] for i in corpus.file] == ["one.parquet", "one.parquet", "two.csv", "two.csv"]
    assert corpus.file_start.tolist() == [0, 12, 36]


def test_tracks_too_short_to_use_are_left_out(make_corpus: MakeCorpus) -> None:
    columns = together(track("a", [0.0], [0.0]), track("b", MINUTE[:8], ROAD[:8]))
    assert ranges(make_corpus(columns)) == [(1, 9)]
    assert ranges(make_corpus(columns, cut=Cut(min_pings=9))) == []


def test_columns_are_mapped_read_only_and_written_once(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file(wander("a", 50, 0))
    corpus = load([path], tmp_path / "cache")
    for column in (corpus.ts_ms, corpus.lat, corpus.lon, corpus.speed_mps, corpus.heading_deg):
        assert isinstance(column, np.memmap)
        assert not column.flags.writeable
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.npy")}
    assert len(files) == 10
    assert load([path], tmp_path / "cache").fingerprint == corpus.fingerprint
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.npy")} == files


def test_other_contents_under_the_same_name_are_another_corpus(make_corpus: MakeCorpus) -> None:
    first = make_corpus(wander("a", 50, 0))
    second = make_corpus(wander("a", 50, 1))
    assert first.fingerprint != second.fingerprint
    assert first.lat[1] != second.lat[1]


def test_what_a_killed_run_left_in_the_cache_is_written_anew(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file(wander("a", 50, 0))
    fingerprint = load([path], tmp_path / "cache").fingerprint
    (tmp_path / "cache" / fingerprint / "meta.json").unlink()
    (tmp_path / "cache" / fingerprint / "lat.npy").write_bytes(b"half")
    assert len(load([path], tmp_path / "cache").lat) == 50
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [fingerprint]  # no scratch directory stays


@pytest.mark.parametrize("column", ["names", "modes"])
def test_a_cache_in_which_a_blank_text_is_a_name_is_written_anew(
    write_file: WriteFile, tmp_path: Path, column: str
) -> None:
    path = write_file({**wander("a", 50, 0), "mode": ["bus"] * 50}, "a.csv")
    meta = tmp_path / "cache" / load([path], tmp_path / "cache").fingerprint / "meta.json"
    written = meta.read_text()
    meta.write_text(json.dumps({**json.loads(written), column: [""]}))  # what an earlier reader left there
    corpus = load([path], tmp_path / "cache")
    assert (corpus.names, corpus.modes) == (("a",), ("bus",))
    assert meta.read_text() == written


def test_a_corpus_whose_times_were_microseconds_is_read_again(write_file: WriteFile, tmp_path: Path) -> None:
    path = write_file(wander("a", 50, 0))
    corpus = load([path], tmp_path / "cache")
    times = tmp_path / "cache" / corpus.fingerprint / "ts_ms.npy"
    wanted = np.array(corpus.ts_ms)
    np.save(times, 1000 * wanted)  # what an earlier reader left there
    np.testing.assert_array_equal(load([path], tmp_path / "cache").ts_ms, wanted)


def test_a_file_without_one_ping_is_refused(make_corpus: MakeCorpus) -> None:
    right = track("a", MINUTE, ROAD)
    swapped = {**right, "lat": right["lon"], "lon": right["lat"]}
    with pytest.raises(ValueError, match=r"tracks\.parquet: .* 12 at an impossible position; are lat and lon swapped"):
        make_corpus(swapped)
    nobody = {**swapped, "entity_id": [*right["entity_id"][:11], None]}
    with pytest.raises(ValueError, match=r": 1 without an entity or a time, 11 at an impossible position$"):
        make_corpus(nobody)


def test_the_default_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/pathcast/corpora")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "pathcast" / "corpora"


def test_fixes_are_rounded_as_in_serving(make_corpus: MakeCorpus) -> None:
    columns = {
        **track("a", MINUTE, ROAD),
        "speed_mps": [None, 12.346] + [1.0] * 10,
        "heading_deg": [359.999] + [None] * 11,
    }
    fixes = make_corpus(columns).fixes(slice(0, 2))
    assert fixes["ts_ms"].tolist() == columns["t"][:2]
    assert fixes["lat_e7"].tolist() == [377_500_000, 377_500_000]
    assert fixes["speed_cms"].tolist() == [ABSENT, 1235]
    assert fixes["heading_cdeg"].tolist() == [36_000, ABSENT]


def test_a_corpus_that_another_process_wrote_meanwhile_is_taken(
    tmp_path: Path, write_file: WriteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks start on an empty cache: the slower one finds the name taken, by the same columns."""
    path, read, raced = write_file(together(wander("v0", 50, 0))), Source.read, []

    def slow_read(source: Source, *told: Any) -> Any:
        if not raced:
            raced.append(True)
            load([path], tmp_path / "cache")
        return read(source, *told)

    monkeypatch.setattr(Source, "read", slow_read)
    assert load([path], tmp_path / "cache").pings == 50
    assert [found.name[0] == "." for found in (tmp_path / "cache").iterdir()] == [False]


def test_a_track_ends_where_the_travel_mode_changes_and_knows_its_own(make_corpus: MakeCorpus) -> None:
    mode = ["walk"] * 3 + [None] * 4 + ["bus"] * 5
    corpus = make_corpus({**track("a", MINUTE, ROAD), "mode": mode})
    assert ranges(corpus) == [(0, 3), (3, 7), (7, 12)]
    assert [corpus.modes[code] if code >= 0 else None for code in corpus.mode] == ["walk", None, "bus"]
    assert corpus.select(np.array([False, True, True])).mode.tolist() == [-1, 0]


def test_modes_of_several_files_share_one_list_and_a_file_without_has_none(
    write_file: WriteFile, tmp_path: Path
) -> None:
    columns = track("a", MINUTE, ROAD)
    files = [
        write_file({**columns, "mode": ["walk"] * 12}, "one.parquet"),
        write_file(columns, "two.parquet"),
        write_file({**columns, "mode": ["bus"] * 12}, "three.csv"),
    ]
    corpus = load(files, tmp_path / "cache")
    assert corpus.modes == ("bus", "walk")
    assert corpus.mode.tolist() == [1, -1, 0]
