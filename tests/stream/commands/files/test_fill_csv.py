"""`pathcast fill` of CSV: what was there stays, and what is new is marked."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from files_rig import STEP_S, T0, Fix, by_time, filled, run, track
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.adapters.files import read, read_in_order
from stream.commands.replay import engine_of, records_of
from stream.config.settings import Settings
from stream.wire import loads_gapfill

FILLED = re.compile(rb"[,;]a[,;]\d{13}(?:[,;]-?\d+\.\d{7}){2}[,;]{2}true[,;]\d+\.\d\r?\n")  # a filled row of entity a


def write(path: Path, rows: list[Fix], *, end: str = "\n", delimiter: str = ",") -> Path:
    lines = [["colour", "entity_id", "t", "lat", "lon", "note"]]
    lines += [
        ["red", one.entity_id, str(one.ts), f"{one.lat:.6f}", f"{one.lon:.6f}", f"n {at}"]
        for at, one in enumerate(rows)
    ]
    path.write_bytes("".join(delimiter.join(line) + end for line in lines).encode())
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_a_gap_is_filled_with_the_rows_that_a_worker_publishes(weights: str, tmp_path: Path) -> None:
    path = write(tmp_path / "fleet.csv", by_time(track("a"), track("b", late_s=7)))
    out, summary = filled(path, weights)
    assert out == tmp_path / "fleet.filled.csv"
    rows = rows_of(out)
    new = [row for row in rows if row["filled"] == "true"]
    told = Settings(weights=weights)
    records = records_of(list(read_in_order(path)), 0, told.topics.pings, T0)
    answers = asyncio.run(engine_of(told).process(records, started_ms=0.0, fetched_ms=0.0))
    fills = [loads_gapfill(one.value or b"") for one in answers if one.topic == told.topics.gapfills]
    points = {(f.entity_id, p.ts): p for f in fills if f.status == "final" for p in f.points}
    assert len(points) == 2 * 15 == len(new) == summary["filled"]
    for row in new:
        point = points[row["entity_id"], int(row["t"])]
        assert (float(row["lat"]), float(row["lon"])) == (round(point.lat, 7), round(point.lon, 7))
        assert float(row["sigma_m"]) > 0
        assert row["colour"] == row["note"] == ""
    assert [row["note"] for row in rows if row["filled"] == "false"] == [f"n {at}" for at in range(26)]
    assert (summary["gaps"], summary["rejects"], summary["order"]) == (2, 0, "time")


def test_each_row_of_the_file_keeps_its_text(weights: str, tmp_path: Path) -> None:
    """Foreign columns, a byte order mark, quotes, a cell of two lines, CRLF, blank lines, a short row, bytes that are
    no UTF-8, and no line end at the end."""
    head, records = b'name;entity_id;"t";lat;lon;x', [b""]
    for at, one in enumerate(track("a")):
        note = [b'"say ""hi"""', b'"two\r\nlines"', b"\xff\xfe", b""][at % 4]
        records.append(b"%s;a;%d;%f;%f" % (note, one.ts, one.lat, one.lon) + (b"" if at == 3 else b";1"))
    path, mark = tmp_path / "odd.csv", b"\xef\xbb\xbf"
    path.write_bytes(mark + b"\r\n".join([head, *records]))
    out, summary = filled(path, weights)
    assert summary["filled"] == 15
    expected = [head + b";filled;sigma_m"]
    expected += [one and one + (b";" if at == 4 else b"") + b";false;" for at, one in enumerate(records)]
    assert FILLED.sub(b"", out.read_bytes()) == mark + b"\r\n".join(expected)


def test_rows_that_are_no_pings_are_kept_and_told_by_their_lines(weights: str, tmp_path: Path) -> None:
    path = write(tmp_path / "fleet.csv", track("a"))
    lines = path.read_text().splitlines()
    lines[3:3] = ["red,a,yesterday,30,-97,bad", "", "only this", "red,a,1700000041000,91,-97,far,too,many"]
    path.write_text("\n".join(lines) + "\n")
    out, summary = filled(path, weights)
    assert [(one["line"], one["code"]) for one in summary["first_rejects"]] == [
        (4, "bad_timestamp"), (6, "missing_field"), (7, "lat_out_of_range"),
    ]  # fmt: skip
    kept = [line for line in out.read_text().splitlines() if ",true," not in line]
    assert kept[3:7] == [
        "red,a,yesterday,30,-97,bad,false,",
        "",
        "only this",
        "red,a,1700000041000,91,-97,far,too,many",
    ]
    assert len(kept) == len(lines)
    told = run("fill", path, "--weights", weights, "--force")
    assert "line 4: bad_timestamp" in told.stderr
    assert "15 rows filled, 3 rejects, " in told.stderr


@pytest.mark.parametrize("order", ["time", "entity", "none"])
def test_filled_rows_come_where_their_times_belong(weights: str, tmp_path: Path, order: str) -> None:
    tracks = track("b", late_s=7), track("a")
    fixes = by_time(*tracks) if order == "time" else [*tracks[0], *tracks[1]]
    if order == "none":
        fixes = fixes[::-1]
    out, summary = filled(write(tmp_path / "fleet.csv", fixes), weights)
    rows = rows_of(out)
    assert summary["order"] == order
    times = [(row["entity_id"], int(row["t"])) for row in rows]
    assert len(times) == len(set(times)) == 2 * (13 + 15)
    if order == "time":
        assert [at for _, at in times] == sorted(at for _, at in times)
    elif order == "entity":
        assert times == sorted(times, key=lambda one: (one[0] == "a", one[1]))
    else:  # after the row of its entity that precedes it in time
        begins = {name: T0 + 1000 * late + 7 * STEP_S * 1000 for name, late in (("a", 0), ("b", 7))}
        for name, begin in begins.items():
            mine = [at for other, at in times if other == name]
            where = mine.index(begin)
            assert mine[where : where + 16] == [begin + 1000 * STEP_S * n for n in range(16)]


def test_the_same_rows_are_filled_whatever_the_order(weights: str, tmp_path: Path) -> None:
    found = []
    for at, fixes in enumerate([by_time(track("a"), track("b", late_s=7)), [*track("b", late_s=7), *track("a")][::-1]]):
        out, _ = filled(write(tmp_path / f"{at}.csv", fixes), weights)
        found.append(
            {(r["entity_id"], r["t"], r["lat"], r["lon"], r["sigma_m"]) for r in rows_of(out) if r["filled"] == "true"}
        )
    assert found[0] == found[1]


def test_a_silence_at_an_end_or_of_more_than_an_hour_is_not_filled(weights: str, tmp_path: Path) -> None:
    fixes = [*track("a", missing=200), Fix("b", T0 + 9_000_000, 31.0, -97.0)]
    out, summary = filled(write(tmp_path / "fleet.csv", fixes), weights)
    assert summary["filled"] == 0
    assert [row["filled"] for row in rows_of(out)] == ["false"] * len(fixes)


def test_times_keep_their_form_and_are_whole_seconds_where_the_file_has_no_others(weights: str, tmp_path: Path) -> None:
    """A cadence of 20.5 s on average must not bring half seconds into a column of integers."""
    seconds = [0, 20, 41, 61, 82, 102, 123, 400, 420]
    rows = [f"7,{T0 // 1000 + at},{30 + at * 1e-5:.6f},-97" for at in seconds]
    path = tmp_path / "s.csv"
    path.write_text("vehicle,when,lat,lon\n" + "\n".join(rows) + "\n")
    out, _ = filled(path, weights, "--columns", "t:s=when,entity_id=vehicle")
    new = [row for row in rows_of(out) if row["filled"] == "true"]
    assert new
    assert all(row["when"].isdecimal() and row["vehicle"] == "7" for row in new)
    path.write_text("vehicle,when,lat,lon\n" + "".join(
        f"7,2023-11-14 23:{13 + at // 60:02}:{at % 60:02}.25+01:00,{30 + at * 1e-5:.6f},-97\n" for at in seconds
    ))  # fmt: skip
    out, _ = filled(path, weights, "--columns", "t:rfc3339=when,entity_id=vehicle", "--force")
    times = [row["when"] for row in rows_of(out)]
    assert all(text.startswith("2023-11-14 23:") and text.endswith("+01:00") and "." in text for text in times)
    assert times == sorted(times)


def test_every_says_how_far_apart_filled_rows_are(weights: str, tmp_path: Path) -> None:
    path = write(tmp_path / "fleet.csv", track("a"))
    out, summary = filled(path, weights, "--every", "1s")
    times = [int(row["t"]) for row in rows_of(out) if row["filled"] == "true"]
    assert summary["filled"] == 16 * STEP_S - 1 == len(times)
    assert {b - a for a, b in pairwise(times)} == {1000}


def test_filling_twice_adds_nothing(weights: str, tmp_path: Path) -> None:
    once, _ = filled(write(tmp_path / "fleet.csv", track("a")), weights)
    twice, summary = filled(once, weights)
    assert summary["filled"] == 0
    assert twice.read_bytes() == once.read_bytes()


def test_a_packed_file_stays_packed_and_has_the_same_bytes_each_time(weights: str, tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.csv", track("a"))
    packed = tmp_path / "fleet.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    out, _ = filled(packed, weights)
    assert out.name == "fleet.filled.csv.gz"
    assert gzip.decompress(out.read_bytes()) == filled(plain, weights)[0].read_bytes()
    first = out.read_bytes()
    assert filled(packed, weights, "--force")[0].read_bytes() == first


def test_nothing_is_overwritten_without_force_and_a_failure_leaves_nothing(weights: str, tmp_path: Path) -> None:
    path = write(tmp_path / "fleet.csv", track("a"))
    out = tmp_path / "out.csv"
    out.write_text("precious")
    refused = run("fill", path, "--out", out, "--weights", weights)
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert out.read_text() == "precious"
    failing = run("fill", path, "--out", out, "--weights", tmp_path, "--force")  # no weights there
    assert failing.exit_code == 1
    assert out.read_text() == "precious"
    nothing = write(tmp_path / "nothing.csv", [])
    nothing.write_text(nothing.read_text() + "red,a,soon,30,-97,\n")
    none = run("fill", nothing, "--weights", weights)
    assert isinstance(none.exception, ValueError)
    assert "none of 1 rows is a ping" in str(none.exception)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fleet.csv", "nothing.csv", "out.csv"]
    assert run("fill", path, "--out", out, "--weights", weights, "--force").exit_code == 0
    assert out.read_text().startswith("colour,")


def test_standard_input_and_output(weights: str, tmp_path: Path) -> None:
    path = write(tmp_path / "fleet.csv", track("a"))
    result = run("fill", "-", "--format", "csv", "--weights", weights, stdin=path.read_bytes())
    assert result.exit_code == 0, result.output
    assert result.stdout.encode() == filled(path, weights)[0].read_bytes()
    empty = run("fill", "-", "--weights", weights, "--json")
    assert json.loads(empty.stderr)["rows"] == 0


@settings(max_examples=20)
@given(st.lists(st.text(st.sampled_from('a1,;"\r\n\x00é 7.-'), max_size=30), max_size=8), st.integers(0, 2**32))
def test_no_byte_of_any_csv_is_lost(
    weights: str, tmp_path_factory: pytest.TempPathFactory, junk: list[str], seed: int
) -> None:
    """Whatever stands between good rows: without what was added, the copy is the file."""
    path = tmp_path_factory.mktemp("fuzz") / "fleet.csv"
    good = write(path, track("a")).read_text().splitlines(keepends=True)
    at = 1 + seed % len(good)
    raw = "".join([*good[:at], *(one + "\n" for one in junk), *good[at:]]).encode()
    path.write_bytes(raw)
    if all(one.ts_ms is None for one in read(path)):  # an open quote took all the rest into one cell
        with pytest.raises(ValueError, match="is a ping"):
            filled(path, weights)
        return
    out, summary = filled(path, weights)
    copy = out.read_bytes()
    assert len(FILLED.findall(copy)) == summary["filled"]
    assert _bare(FILLED.sub(b"", copy)) == _bare(raw)
    assert summary["rows"] == len(list(read(path)))


def _bare(raw: bytes) -> bytes:
    """Without the cells that a copy adds."""
    return raw.replace(b",filled,sigma_m", b"").replace(b",false,", b"")
