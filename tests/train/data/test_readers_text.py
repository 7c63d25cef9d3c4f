"""GeoLife, T-Drive, Porto and AIS: tiny files in their real layouts, and what must come out, worked by hand."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from train_worlds import reasons

from stream.adapters import text
from train.data.corpus import Corpus, load

PLT_HEAD = (
    "Geolife trajectory\r\nWGS 84\r\nAltitude is in Feet\r\nReserved 3\r\n0,2,255,My Track,0,0,2,8421376\r\n0\r\n"
)
# 2008-10-24 02:09:59 UTC is 14176 days and 7799 s after 1970
PLT_START_MS = (14_176 * 86_400 + 7_799) * 1000
AIS_HEAD = "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,IMO,CallSign\n"
PORTO_HEAD = (
    '"TRIP_ID","CALL_TYPE","ORIGIN_CALL","ORIGIN_STAND","TAXI_ID","TIMESTAMP","DAY_TYPE","MISSING_DATA","POLYLINE"\n'
)


def plt(folder: Path, user: str, stem: str, rows: list[str]) -> Path:
    path = folder / user / "Trajectory" / f"{stem}.plt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((PLT_HEAD + "".join(f"{row}\r\n" for row in rows)).encode())
    return path


def porto_row(trip: str, taxi: str, start_s: int | str, polyline: str, missing: str = "False") -> str:
    return f'"{trip}","C","","","{taxi}","{start_s}","A","{missing}","{polyline}"\n'


def tracks(corpus: Corpus) -> list[tuple[str, list[int]]]:
    return [
        (corpus.names[entity], corpus.ts_ms[first:last].tolist())
        for (first, last), entity in zip(corpus.tracks, corpus.entity, strict=True)
    ]


# -- GeoLife ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def geolife(tmp_path: Path) -> Path:
    folder = tmp_path / "Data"
    plt(
        folder,
        "010",
        "20081024020959",
        [
            "39.906631,116.385564,0,492,39745.0902662037,2008-10-24,02:09:59",
            "39.906554,116.385625,0,-777,39745.0903240741,2008-10-24,02:10:04",
            "39.906493,116.385651,0,492,39745.0903819444,2008-10-24,02:10:09",
            "39.906400,116.385700,0,492,39745.0904398148,2008-10-24,02:10:14",
            "400.16666,116.385700,0,492,39745.0904976852,2008-10-24,02:10:19",
            "39.9064,116.3857,0,492",
        ],
    )
    plt(folder, "010", "20081024030000", [f"39.9,116.38560{i},0,492,39745.125,2008-10-24,03:00:0{i}" for i in range(3)])
    plt(folder, "153", "20081024020959", [f"40.0,116.38560{i},0,492,39745.125,2008-10-24,03:00:0{i}" for i in range(2)])
    (folder / "010" / "labels.txt").write_text(
        "Start Time\tEnd Time\tTransportation Mode\n"
        "2008/10/24 02:09:59\t2008/10/24 02:10:04\twalk\n"
        "2008/10/24 02:10:09\t2008/10/24 02:10:14\tbus\n"
    )
    return folder


def test_a_geolife_user_is_an_entity_and_each_file_and_mode_a_track(geolife: Path, open_corpus: Any) -> None:
    corpus = open_corpus(f"geolife:{geolife}")
    later = PLT_START_MS + 50 * 60_000 + 1000
    assert tracks(corpus) == [
        ("010", [PLT_START_MS, PLT_START_MS + 5_000]),  # the second fix has no altitude, and is a fix
        ("010", [PLT_START_MS + 10_000, PLT_START_MS + 15_000]),
        ("010", [later, later + 1000, later + 2000]),
        ("153", [later, later + 1000]),
    ]
    assert corpus.modes == ("bus", "walk")
    assert corpus.mode.tolist() == [1, 0, -1, -1]
    assert (corpus.lat[0], corpus.lon[0]) == (39.906631, 116.385564)
    assert reasons(corpus) == {"impossible_position": 1, "unreadable_row": 1}
    assert corpus.files == ("geolife:Data",)


def test_a_folder_of_plt_files_needs_no_prefix_and_one_user_may_be_given(geolife: Path, open_corpus: Any) -> None:
    assert open_corpus(geolife).files == ("geolife:Data",)
    assert open_corpus(geolife / "010").names == ("010",)
    assert set(open_corpus(geolife / "010").mode.tolist()) == {1, 0, -1}
    (file,) = (geolife / "153" / "Trajectory").iterdir()
    assert open_corpus(file).names == ("153",)


def test_a_plt_without_a_byte_among_others_is_counted_and_a_byte_order_mark_is_no_part_of_it(
    geolife: Path, open_corpus: Any
) -> None:
    before = open_corpus(geolife)
    (path,) = (geolife / "153" / "Trajectory").iterdir()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    plt(geolife, "000", "empty", []).write_bytes(b"")
    plt(geolife, "154", "page", []).write_bytes(b"<html>busy</html>")
    corpus = open_corpus(geolife)
    assert tracks(corpus) == tracks(before)
    assert reasons(corpus) == {**reasons(before), "unreadable_file": 2}
    assert corpus.unreadable == ("geolife:Data/000/Trajectory/empty.plt",)


def test_the_later_of_two_overlapping_labels_tells_and_the_earlier_goes_on(tmp_path: Path, open_corpus: Any) -> None:
    times = [f"03:00:0{i}" for i in range(6)]
    plt(tmp_path / "Data", "010", "a", [f"39.9,116.38560{i},0,0,39745.1,2008-10-24,{t}" for i, t in enumerate(times)])
    (tmp_path / "Data" / "010" / "labels.txt").write_text(
        "Start Time\tEnd Time\tTransportation Mode\n"
        "2008/10/24 03:00:02\t2008/10/24 03:00:03\tbus\n"
        "2008/10/24 03:00:00\t2008/10/24 03:00:05\twalk\n"
    )
    corpus = open_corpus(tmp_path / "Data")
    assert [corpus.modes[code] for code in corpus.mode] == ["walk", "bus", "walk"]
    assert [last - first for first, last in corpus.tracks] == [2, 2, 2]


def test_a_new_label_is_another_corpus(geolife: Path, open_corpus: Any) -> None:
    before = open_corpus(geolife).fingerprint
    labels = geolife / "010" / "labels.txt"
    labels.write_text(labels.read_text().replace("bus", "car"))
    labels.rename(labels.with_name("Labels.TXT"))
    assert open_corpus(geolife).fingerprint != before
    assert open_corpus(geolife).modes == ("car", "walk")


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("lat,lon\n1,2\n", r"wrong\.plt, line 1"),
        ("Geolife trajectory\nWGS 84\n", r"wrong\.plt, line 3"),
        (PLT_HEAD + "north,116.3,0,492,39745.1,2008-10-24,02:09:59\n", r"wrong\.plt, line 7"),
    ],
)
def test_a_broken_plt_is_named_with_its_line(tmp_path: Path, open_corpus: Any, body: str, line: str) -> None:
    path = plt(tmp_path, "000", "wrong", [])
    path.write_text(body)
    with pytest.raises(ValueError, match=line):
        open_corpus(path)


def test_a_broken_label_is_named_with_its_line(geolife: Path, open_corpus: Any) -> None:
    (geolife / "010" / "labels.txt").write_text("Start Time\tEnd Time\tTransportation Mode\n\n2008-10-24\tbus\n")
    with pytest.raises(ValueError, match=r"labels\.txt, line 3"):
        open_corpus(geolife)


# -- T-Drive ----------------------------------------------------------------------------------------------------------

# 2008-02-02 is 13911 days after 1970; 15:36:08 in Beijing is 07:36:08 UTC
TDRIVE_START_MS = (13_911 * 86_400 + 7 * 3_600 + 36 * 60 + 8) * 1000


def test_tdrive_has_longitude_first_and_beijing_time(tmp_path: Path, open_corpus: Any) -> None:
    folder = tmp_path / "taxis"
    folder.mkdir()
    (folder / "1.txt").write_text(
        "1,2008-02-02 15:36:08,116.51172,39.92123\n"
        "1,2008-02-02 15:46:08,116.51135,39.93883\n"
        "1,2008-02-02 15:46:08,116.51135,39.93883\n"
        "1,2008-02-31 15:46:08,116.51135,39.93883\n"
        "1,2008-02-02 15:56:08,116.5,\n"
        "1,2008-02-02\n"
    )
    (folder / "10.txt").write_text("")
    (folder / "2.txt").write_text(
        "2,2008-02-02 13:33:52,116.36422,39.88781\n2,2008-02-02 13:37:16,116.37481,39.88782\n"
    )
    corpus = open_corpus(f"tdrive:{folder}")
    assert tracks(corpus) == [
        ("1", [TDRIVE_START_MS, TDRIVE_START_MS + 600_000]),
        ("2", [TDRIVE_START_MS - 7_336_000, TDRIVE_START_MS - 7_132_000]),
    ]
    assert (corpus.lat[0], corpus.lon[0]) == (39.92123, 116.51172)
    assert reasons(corpus) == {"repeated_time": 1, "unreadable_row": 3}
    assert tracks(open_corpus(f"tdrive:{folder / '2.txt'}"))[0][0] == "2"


def test_a_folder_of_text_is_not_taken_for_taxis_unasked(tmp_path: Path, open_corpus: Any) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("hello\n")
    with pytest.raises(ValueError, match=r"nothing that shows its format.*tdrive:"):
        open_corpus(tmp_path / "notes")
    with pytest.raises(ValueError, match=r"readme\.txt, line 1: expected taxi_id, time, lon, lat"):
        open_corpus(f"tdrive:{tmp_path / 'notes'}")


# -- Porto ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def porto(tmp_path: Path) -> Path:
    path = tmp_path / "train.csv"
    path.write_text(
        PORTO_HEAD
        + porto_row("T2", "20000589", 1372637303, "[[-8.639847,41.159826],[-8.640351,41.159871]]")
        + porto_row("T1", "20000589", 1372636858, "[[-8.618643,41.141412],[-8.618499,41.141376],[-8.620326,41.14251]]")
        + porto_row("T3", "20000320", 1372636951, "[]")
        + porto_row("T4", "20000320", 1372636951, "[[-8.612964,41.140359],[-8.613378,41.14035]]", missing="True")
        + porto_row("T1", "20000589", 1372636858, "[[-8.618643,41.141412],[-8.618499,41.141376],[-8.620326,41.14251]]")
        + porto_row("T5", "20000403", 1372637000, "[[-8.1,41.1],[-8.1001,41.1]]")
    )
    return path


def test_a_porto_trip_is_a_track_of_points_15_s_apart(porto: Path, open_corpus: Any) -> None:
    corpus = open_corpus(f"porto:{porto}")
    assert tracks(corpus) == [
        ("20000403", [1372637000_000, 1372637015_000]),
        ("20000589", [1372636858_000, 1372636873_000, 1372636888_000]),
        ("20000589", [1372637303_000, 1372637318_000]),
    ]
    assert (corpus.lat[2], corpus.lon[2]) == (41.141412, -8.618643)
    assert reasons(corpus) == {"missing_data": 1, "empty_trip": 1, "repeated_time": 3}


TWO_POINTS = "[[-8.1,41.1],[-8.1001,41.1]]"
UNREADABLE = [  # how many rows each costs: points that have a place are counted one by one
    *((polyline, 1372638000, 1) for polyline in (
        "[[-8.6,41.1],[-8.6",
        "[[-8.6,41.1,3.0],[-8.6]]",
        "[[-8.61,41.14,5],[-8.62,41.15,6]]",  # six numbers, and not three points
        "[-8.6,41.1]",
        f"[[{10**400},41.1,5]]",  # more than a float holds
        "",
        "[[-8.6,here]]",
        "7",
        "[[",
        "[" * 50_000,
    )),
    *((TWO_POINTS, start_s, 2) for start_s in ("noon", "", "1e300", "-1e300", "inf", "253402300800")),
]  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("polyline", "start_s", "rows"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_porto_trip_that_cannot_be_read_or_whose_time_no_calendar_has_costs_itself_alone(
    porto: Path, open_corpus: Any, polyline: str, start_s: int | str, rows: int
) -> None:
    with porto.open("a") as file:
        file.write(porto_row("T6", "20000403", start_s, polyline))
    corpus = open_corpus(f"porto:{porto}")
    assert len(corpus) == 3
    assert reasons(corpus)["unreadable_row"] == rows
    assert (corpus.lat[2], corpus.lon[2]) == (41.141412, -8.618643)


def test_a_file_of_another_format_is_refused_with_the_columns_it_lacks(tmp_path: Path, open_corpus: Any) -> None:
    path = tmp_path / "other.csv"
    path.write_text("entity_id,t,lat,lon\na,1,2,3\n")
    with pytest.raises(ValueError, match=r"other\.csv, line 1: no column TAXI_ID, TIMESTAMP, MISSING_DATA, POLYLINE"):
        open_corpus(f"porto:{path}")
    with pytest.raises(ValueError, match=r"other\.csv, line 1: no column MMSI, BaseDateTime, SOG, COG"):
        open_corpus(f"ais:{path}")


# -- AIS --------------------------------------------------------------------------------------------------------------

AIS_ROWS = (
    "367000001,2022-01-02T03:30:09,32.70990,-117.23449,10.0,283.4,511.0,SEA LARK,,WDA1\n"
    "367000001,2022-01-02T03:31:19,32.71090,-117.23649,102.3,360.0,90.0,SEA LARK,,WDA1\n"
    "367000001,2022-01-02T03:32:29,32.71190,-117.23849,,,511.0,SEA LARK,,WDA1\n"
    "367000001,2022-01-02T03:33:39,91.0,181.0,0.0,0.0,511.0,SEA LARK,,WDA1\n"
    "367000001,yesterday,32.71190,-117.23849,0.0,0.0,511.0,SEA LARK,,WDA1\n"
    ",2022-01-02T03:34:29,32.71190,-117.23849,,,511.0,SEA LARK,,WDA1\n"
)
AIS_START_MS = (18_994 * 86_400 + 3 * 3_600 + 30 * 60 + 9) * 1000  # 2022-01-02 is 18994 days after 1970


def assert_ais(corpus: Corpus) -> None:
    assert tracks(corpus) == [("367000001", [AIS_START_MS, AIS_START_MS + 70_000, AIS_START_MS + 140_000])]
    np.testing.assert_allclose(corpus.speed_mps, [5.14444, np.nan, np.nan], rtol=1e-5)
    np.testing.assert_allclose(corpus.heading_deg, [283.4, np.nan, np.nan], rtol=1e-6)  # never Heading's 511, nor 90
    assert reasons(corpus) == {"impossible_position": 1, "unreadable_row": 1, "no_entity_or_time": 1}


HEAD_OF_2025 = "mmsi,base_date_time,latitude,longitude,sog,cog,heading,vessel_name,imo,call_sign\n"
ALIKE = {
    "as it was": AIS_HEAD + AIS_ROWS,
    "under the names of 2025": HEAD_OF_2025 + AIS_ROWS.replace("T", " "),
    # A quote within a cell is a character: a file of which each row has one was refused.
    **{f"of {name}": AIS_HEAD + AIS_ROWS.replace("SEA LARK", name) for name in ('O"NEIL', 'LARK"', '5" GUN 3"')},
}


@pytest.mark.parametrize("written", ALIKE.values(), ids=ALIKE)
def test_ais_is_in_knots_and_unknown_is_absent(tmp_path: Path, open_corpus: Any, written: str) -> None:
    path = tmp_path / "AIS_2022_01_02.csv"
    path.write_text(written)
    assert_ais(open_corpus(f"ais:{path}"))


@pytest.mark.parametrize("beside", [[], ["yesterday"]])
def test_a_time_keeps_its_milliseconds_whatever_is_beside_it(beside: list[str]) -> None:
    """A column whose cells are all times is converted as a whole, another cell by cell."""
    assert text.local_ms(pa.array(["2022-01-02T03:30:09.290", *beside]))[0] == AIS_START_MS + 290
    assert text.zoned_ms(pa.array(["2022-01-02T04:30:09.290+01:00", *beside]))[0] == AIS_START_MS + 290


def test_ais_may_be_packed_and_a_folder_holds_many_days(tmp_path: Path, open_corpus: Any) -> None:
    folder = tmp_path / "days"
    folder.mkdir()
    with zipfile.ZipFile(folder / "AIS_2022_01_02.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("AIS_2022_01_02.csv", AIS_HEAD + AIS_ROWS)
    assert_ais(open_corpus(f"ais:{folder}"))
    other = AIS_ROWS.replace("367000001", "367000002")
    (folder / "AIS_2022_01_03.csv.gz").write_bytes(gzip.compress((AIS_HEAD + other).encode()))
    assert open_corpus(f"ais:{folder}").names == ("367000001", "367000002")


def test_a_day_that_is_cut_off_leaves_none_of_its_rows(
    tmp_path: Path, open_corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 10_000)
    lat = np.random.default_rng(0).uniform(32, 33, 20_000)
    rows = [f"{9**9 + i},2022-01-02T03:30:{i % 70:02},{lat[i]},-117.2,1,2,3,,,\n" for i in range(len(lat))]
    whole = gzip.compress((AIS_HEAD + "".join(rows)).encode())
    (tmp_path / "days").mkdir()
    (tmp_path / "days" / "1.csv.gz").write_bytes(whole[:-99])
    with pytest.raises(ValueError, match=r"1\.csv\.gz: "):
        open_corpus(f"ais:{tmp_path / 'days'}")
    (tmp_path / "days" / "2.csv").write_text(AIS_HEAD + AIS_ROWS)
    corpus = open_corpus(f"ais:{tmp_path / 'days'}")
    assert corpus.names == ("367000001",)
    assert corpus.dropped.pop("unreadable_file") == 1
    assert_ais(corpus)


def test_what_macos_lays_beside_a_file_is_not_read(tmp_path: Path, open_corpus: Any) -> None:
    folder = tmp_path / "days"
    (folder / "__MACOSX").mkdir(parents=True)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("day/a.csv", AIS_HEAD + AIS_ROWS)
        for name in ("__MACOSX/day/._a.csv", "day/._a.csv", "__MACOSX/a.csv"):
            archive.writestr(name, b"\0\5\x16\7")
    for name in ("._a.zip", "__MACOSX/b.zip"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert_ais(open_corpus(f"ais:{folder}"))
    assert_ais(open_corpus(f"ais:{folder / 'a.zip'}"))


def test_a_damaged_archive_is_named(tmp_path: Path, open_corpus: Any) -> None:
    for name, raw in (("a.zip", b"PK no"), ("a.csv.gz", gzip.compress(AIS_HEAD.encode() * 99)[:40])):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(ValueError, match=rf"{name}: "):
            open_corpus(f"ais:{tmp_path / name}")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", AIS_HEAD)
        archive.writestr("b.csv", AIS_HEAD)
    with pytest.raises(ValueError, match=r"two\.zip: has 2 CSV files"):
        open_corpus(f"ais:{tmp_path / 'two.zip'}")


RAGGED = {
    "short": "1,2\n",
    "long": "x," * 40 + "\n",
    "open quote": '"never closed,' + "," * 7 + "\n",
    "open beside a character": '5" pipe,"never closed,' + "," * 6 + "\n",
}


@pytest.mark.parametrize("ragged", RAGGED.values(), ids=RAGGED.keys())
@pytest.mark.parametrize("place", ["first", "among", "last"])
def test_a_ragged_row_of_ais_or_porto_costs_itself_alone(
    tmp_path: Path, open_corpus: Any, ragged: str, place: str
) -> None:
    """On the first row the whole file was refused, as its header was read with the rows; and an open quote anywhere
    took in all that followed."""
    trips = [porto_row(f"T{i}", "20000403", 1372637000 + 60 * i, "[[-8.1,41.1],[-8.1001,41.1]]") for i in range(3)]
    ships = AIS_ROWS.splitlines(keepends=True)[:3]
    ships[1] = ships[1].replace("SEA LARK", '"LARK, SEA"')
    at = {"first": 0, "among": 2, "last": 3}[place]
    for name, head, rows in (("porto", PORTO_HEAD, trips), ("ais", AIS_HEAD, ships)):
        path = tmp_path / f"{name}.csv"
        path.write_text(head + "".join([*rows[:at], ragged, *rows[at:]]))
        corpus = open_corpus(f"{name}:{path}")
        assert len(corpus.ts_ms) == {"porto": 6, "ais": 3}[name]
        assert reasons(corpus) == {"unreadable_row": 1}


@pytest.mark.parametrize("block", [80, 101, 200])
def test_an_open_quote_costs_its_row_wherever_blocks_end(
    tmp_path: Path, open_corpus: Any, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """Blocks end within quotes, too, and there a closed one looks open."""
    monkeypatch.setattr(text, "BLOCK_BYTES", block)
    rows = [f'367000001,2022-01-02T03:{i // 60:02}:{i % 60:02},32.7,-117.2,1,2,3,"LARK, SEA",,\n' for i in range(600)]
    rows[250] = rows[250].replace('"LARK, SEA"', '"LARK, SEA')
    path = tmp_path / "ais.csv"
    path.write_text(AIS_HEAD + "".join(rows))
    corpus = open_corpus(f"ais:{path}")
    assert len(corpus.ts_ms) == 599
    assert reasons(corpus) == {"unreadable_row": 1}


def test_what_leaves_a_quote_open_is_what_arrow_leaves_open() -> None:
    """The count of quotes did not tell: `O"NEIL` lost a good row, and `a"b,"open` kept one that took in the rest."""
    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice(list('a," '), rng.integers(1, 12))) for _ in range(600)]
    ends_alone = [arrows_last_row(f"{line}\nend\n") == "end" for line in lines]
    assert ends_alone == [not text.leaves_open(line.encode()) for line in lines]
    assert 100 < sum(ends_alone) < 500


def arrows_last_row(plain: str) -> str | None:
    """The last of the rows that have one cell."""
    reading = pa.csv.ReadOptions(column_names=["cell"])
    parsing = pa.csv.ParseOptions(invalid_row_handler=lambda row: "skip")
    cells = pa.csv.read_csv(pa.BufferReader(plain.encode()), reading, parsing)["cell"].to_pylist()
    return cells[-1] if cells else None


@pytest.mark.parametrize("name", ["x" * 700, f'"{"x" * 700}"', f'"{"x" * 900}'])
def test_a_line_longer_than_a_block_is_refused_and_no_end(
    tmp_path: Path, open_corpus: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In quotes, it was taken for the end: all the rows after it were lost, and nobody was told."""
    monkeypatch.setattr(text, "BLOCK_BYTES", 500)
    path = tmp_path / "ais.csv"
    path.write_text(AIS_HEAD + AIS_ROWS + AIS_ROWS.replace("SEA LARK", name, 1) + AIS_ROWS)
    with pytest.raises(ValueError, match=r"ais\.csv: a line of 500 bytes or more: is a line's end or a closing quote"):
        open_corpus(f"ais:{path}")


@pytest.mark.parametrize("stray", ['"', '""', '"""'])
def test_a_stray_quote_where_no_format_has_quotes_costs_its_row_alone(
    tmp_path: Path, open_corpus: Any, stray: str
) -> None:
    """It took in all the good rows after it and counted one, as Arrow went on to look for the closing quote."""
    taxi = [f"1,2008-02-02 15:36:{i:02},116.5,39.9" for i in range(20)]
    walk = [f"39.9,116.38,0,492,39745.125,2008-10-24,03:00:{i:02}" for i in range(20)]
    taxi[5] = taxi[5].replace(",116.5", f",{stray}116.5")
    walk[5] = walk[5].replace(",116.38", f",{stray}116.38")
    (tmp_path / "1.txt").write_text("".join(f"{row}\n" for row in taxi))
    for given in (f"tdrive:{tmp_path / '1.txt'}", plt(tmp_path, "010", "a", walk)):
        corpus = open_corpus(given)
        assert len(corpus.ts_ms) == 19
        assert reasons(corpus) == {"unreadable_row": 1}


# -- what they share --------------------------------------------------------------------------------------------------


def test_a_file_larger_than_a_block_is_read_whole(
    tmp_path: Path, open_corpus: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 1000)
    path = tmp_path / "1.txt"
    path.write_text("".join(f"1,2008-02-02 15:{i // 60:02}:{i % 60:02},116.5,39.9\n" for i in range(600)))
    shares: list[float] = []
    corpus = load([f"tdrive:{path}"], tmp_path / "cache", reading=lambda source, share: shares.append(share))
    assert len(corpus.lat) == 600
    assert len(shares) > 10
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
