"""`pathcast fill` of NDJSON, GPX and Parquet: what was there stays, and what is new is marked."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import gpxpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from files_rig import STEP_S, T0, Fix, by_time, filled, run, track

from stream.adapters.files import read_in_order
from stream.atlas.building import Rules, of_rows
from stream.atlas.replaying import bytes_of

OURS = "{urn:pathcast:gpx:1}"


# -- NDJSON -----------------------------------------------------------------------------------------------------------


def test_lines_of_ndjson_keep_their_bytes(weights: str, tmp_path: Path) -> None:
    lines = [b'{"t": %d, "lat":%f,"lon" :%f, "entity_id":7, "mood":"\xc3\xa4"}' % one[1:] for one in track("7")]
    lines[2:2] = [b"", b"not JSON", b'  {"entity_id":"8","ts":"soon","lat":1,"lon":2}  ']
    path = tmp_path / "fleet.ndjson"
    path.write_bytes(b"\n".join(lines))  # the last has no end
    out, summary = filled(path, weights)
    copy = out.read_bytes().split(b"\n")
    new = [json.loads(line) for line in copy if b'"filled"' in line]
    assert [line for line in copy if b'"filled"' not in line] == lines
    assert [one["t"] for one in new] == [T0 + 1000 * STEP_S * n for n in range(8, 23)]
    assert {one["entity_id"] for one in new} == {7}
    assert list(new[0]) == ["entity_id", "t", "lat", "lon", "filled", "sigma_m"]
    assert new[0]["filled"] is True
    assert [(one["line"], one["code"]) for one in summary["first_rejects"]] == [
        (4, "invalid_json"),
        (5, "bad_timestamp"),
    ]
    assert summary["filled"] == len(new)


def test_a_filled_row_after_the_last_line_begins_a_line(weights: str, tmp_path: Path) -> None:
    """In a file in no order, the row before a gap may be the last line, without an end."""
    fixes = track("a")
    lines = [json.dumps(one._asdict()) for one in [*fixes[8:], *fixes[:8]]]
    path = tmp_path / "fleet.jsonl"
    path.write_text("\n".join(lines))
    out, summary = filled(path, weights)
    assert summary["order"] == "none"
    assert [json.loads(line)["ts"] for line in out.read_text().splitlines()][13:] == [
        T0 + 1000 * STEP_S * n for n in range(8, 23)
    ]


# -- GPX --------------------------------------------------------------------------------------------------------------


def gpx(*tracks: list[Fix], prefix: str = "", version: str = "1.1", end: str = "\n") -> str:
    space = f"http://www.topografix.com/GPX/{version.replace('.', '/')}"
    declared = f'xmlns{":" + prefix[:-1] if prefix else ""}="{space}"'
    root = f'<{prefix}gpx version="{version}" creator="me" {declared}>'
    parts = [f'<?xml version="1.0"?>{end}<!-- <trkpt> of a recorder -->{root}']
    for fixes in tracks:
        parts.append(f"<{prefix}trk><{prefix}name>{fixes[0].entity_id}</{prefix}name><{prefix}trkseg>")
        parts.append('<!-- </trkseg> of a "recorder" --><heart xmlns="urn:other" beats="70">&lt;&amp;é</heart>')
        for one in fixes:
            time = datetime.fromtimestamp(one.ts / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            parts.append(
                f'  <{prefix}trkpt lon="{one.lon:.6f}"\n lat="{one.lat:.6f}"><{prefix}ele>9.5</{prefix}ele>'
                f"<{prefix}time>{time}</{prefix}time></{prefix}trkpt>"
            )
        parts.append(f"</{prefix}trkseg></{prefix}trk>")
    return end.join([*parts, f"</{prefix}gpx>", ""])


def without_filled(copy: bytes) -> str:
    """The copy without its filled points, in canonical form, whatever its prefixes are."""
    root = ElementTree.fromstring(copy, ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True)))
    for segment in root.iterfind(".//{*}trkseg"):
        for point in list(segment):
            if point.find(f".//{OURS}filled") is not None:
                segment.remove(point)
    return canonical(ElementTree.tostring(root))


def canonical(text: bytes) -> str:
    return ElementTree.canonicalize(text.decode(), with_comments=True, rewrite_prefixes=True)


@pytest.mark.parametrize(
    ("prefix", "version", "end", "encoding"),
    [
        ("", "1.1", "\n", "utf-8"),
        ("", "1.0", "\r\n", "utf-8"),
        ("gpx:", "1.1", "", "utf-8"),
        ("", "1.1", "\n", "utf-16"),
    ],
)
def test_gpx_keeps_all_that_it_has_and_gets_marked_points(
    weights: str, tmp_path: Path, prefix: str, version: str, end: str, encoding: str
) -> None:
    path = tmp_path / "ride.gpx"
    text = gpx(track("a"), track("b", late_s=7), prefix=prefix, version=version, end=end)
    path.write_bytes(text.encode(encoding))
    out, summary = filled(path, weights)
    copy = out.read_bytes()
    assert summary["filled"] == 30
    assert without_filled(copy) == canonical(text[text.index(f"<{prefix}gpx") :].encode())
    tracks = ElementTree.fromstring(copy).findall("{*}trk/{*}trkseg")
    for segment in tracks:
        times = [datetime.fromisoformat(point.findtext("{*}time") or "") for point in segment.iterfind("{*}trkpt")]
        assert len(times) == 13 + 15
        assert {(b - a).total_seconds() for a, b in pairwise(times)} == {STEP_S}
        marks = [point.findtext(f".//{OURS}filled") for point in segment.iterfind("{*}trkpt")]
        assert marks == ["true" if 8 <= at < 23 else None for at in range(28)]
        spread = segment.findtext(f".//{OURS}sigma_m")
        assert float(spread or 0) > 0
    parsed = gpxpy.parse(copy.decode())
    assert [len(one.segments[0].points) for one in parsed.tracks] == [28, 28]
    extended = [bool(point.extensions) for point in parsed.tracks[0].segments[0].points]
    assert extended == [version == "1.1" and 8 <= at < 23 for at in range(28)]


def test_gpx_without_a_namespace_keeps_that_of_what_is_in_it(weights: str, tmp_path: Path) -> None:
    path = tmp_path / "ride.gpx"
    text = gpx(track("a")).replace(' xmlns="http://www.topografix.com/GPX/1/1"', "")
    path.write_text(text)
    out, summary = filled(path, weights)
    assert summary["filled"] == 15
    assert without_filled(out.read_bytes()) == canonical(text[text.index("<gpx") :].encode())


def test_a_point_without_a_time_is_kept_and_told_by_its_number(weights: str, tmp_path: Path) -> None:
    path = tmp_path / "ride.gpx"
    text = gpx(track("a")).replace("<trkseg>", '<trkseg>\n<trkpt lat="1" lon="2"/>')
    path.write_text(text)
    out, summary = filled(path, weights)
    assert [(one["point"], one["code"]) for one in summary["first_rejects"]] == [(1, "missing_field")]
    assert without_filled(out.read_bytes()) == canonical(text[text.index("<gpx") :].encode())


def test_filling_a_filled_gpx_adds_nothing(weights: str, tmp_path: Path) -> None:
    path = tmp_path / "ride.gpx"
    path.write_text(gpx(track("a")))
    once, _ = filled(path, weights)
    twice, summary = filled(once, weights)
    assert summary["filled"] == 0
    assert twice.read_bytes() == once.read_bytes()


# -- Parquet ----------------------------------------------------------------------------------------------------------


def parquet(path: Path, fixes: list[Fix], **more: Any) -> Path:
    columns = {
        "entity_id": pa.array([one.entity_id for one in fixes]),
        "t": pa.array([one.ts for one in fixes]),
        "lat": pa.array([one.lat for one in fixes]),
        "lon": pa.array([one.lon for one in fixes]),
    }
    pq.write_table(
        pa.table({"nr": pa.array(range(len(fixes)), pa.int16()), **columns, **more}), path, compression="zstd"
    )
    return path


@pytest.mark.parametrize(
    "what", ["int64 ms", "timestamp us", "timestamp ns zone", "int64 s", "text", "ids", "category"]
)
def test_parquet_keeps_columns_types_and_values(weights: str, tmp_path: Path, what: str) -> None:
    fixes = by_time(track("7"), track("8", late_s=7))
    ms = pa.array([one.ts for one in fixes])
    names = [one.entity_id for one in fixes]
    more: dict[str, Any] = {
        "colour": pa.array([{"r": at} for at in range(len(fixes))]),
        "tags": pa.array([["x"]] * len(fixes)),
    }
    more |= {
        "timestamp us": {"t": ms.cast(pa.timestamp("ms")).cast(pa.timestamp("us"))},
        "timestamp ns zone": {
            "t": ms.cast(pa.timestamp("ms", "Europe/Berlin")).cast(pa.timestamp("ns", "Europe/Berlin"))
        },
        "int64 s": {"t": pa.array([one.ts // 1000 for one in fixes])},
        "text": {"t": pa.array([datetime.fromtimestamp(one.ts / 1000, UTC).isoformat() for one in fixes])},
        "ids": {"entity_id": pa.array([int(name) for name in names], pa.uint32())},
        "category": {"entity_id": pa.array(names).dictionary_encode().cast(pa.dictionary(pa.int8(), pa.string()))},
    }.get(what, {})
    path = parquet(tmp_path / "fleet.parquet", fixes, **more)
    out, summary = filled(path, weights)
    before, after = pq.read_table(path), pq.read_table(out)
    assert after.schema.names == [*before.schema.names, "filled", "sigma_m"]
    assert [field.type for field in after.schema][: len(before.schema)] == [field.type for field in before.schema]
    kept = after.filter(pa.compute.invert(after["filled"])).drop_columns(["filled", "sigma_m"])
    assert kept.to_pylist() == before.to_pylist()
    new = after.filter(after["filled"]).to_pylist()
    assert summary["filled"] == len(new) == 30
    assert {str(one["entity_id"]) for one in new} == {"7", "8"}
    assert all(one["nr"] is one["colour"] is one["tags"] is None and one["sigma_m"] > 0 for one in new)
    times = after["t"].to_pylist()
    assert times == sorted(times)
    codecs = {pq.read_metadata(out).row_group(0).column(at).compression for at in range(5)}
    assert codecs == {"ZSTD"}


def test_parquet_keeps_its_metadata_and_geoparquet_gets_points(weights: str, tmp_path: Path) -> None:
    fixes = track("a")
    wkb = pa.array([struct.pack("<BIdd", 1, 1, one.lon, one.lat) for one in fixes])
    path = parquet(tmp_path / "fleet.parquet", fixes, geometry=wkb)
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Point"]}},
    }
    table = pq.read_table(path).replace_schema_metadata({b"geo": json.dumps(geo).encode(), b"mine": b"kept"})
    pq.write_table(table, path)
    out, _ = filled(path, weights)
    after = pq.read_table(out)
    assert after.schema.metadata[b"mine"] == b"kept"
    for one in after.to_pylist():
        assert struct.unpack("<BIdd", one["geometry"])[2:] == (one["lon"], one["lat"])


def test_parquet_of_several_groups_is_filled_across_them(weights: str, tmp_path: Path) -> None:
    path = tmp_path / "fleet.parquet"
    fixes = track("a")
    pq.write_table(pq.read_table(parquet(path, fixes)), path, row_group_size=2)
    out, summary = filled(path, weights)
    assert summary["filled"] == 15
    assert pq.read_table(out)["t"].to_pylist() == [T0 + 1000 * STEP_S * n for n in range(28)]


def test_parquet_is_not_written_to_a_pipe_and_a_folder_is_refused(weights: str, tmp_path: Path) -> None:
    path = parquet(tmp_path / "fleet.parquet", track("a"))
    assert run("fill", path, "--out", "-", "--weights", weights).exit_code == 2
    (tmp_path / "rides").mkdir()
    (tmp_path / "rides" / "one.gpx").write_text(gpx(track("a")))
    refused = run("fill", tmp_path / "rides", "--weights", weights)
    assert refused.exit_code == 2
    assert "not written again" in " ".join(refused.output.replace("│", " ").split())


# -- an atlas ---------------------------------------------------------------------------------------------------------


def round_the_corner(entity_id: str, begin_s: float, missing: range = range(0)) -> list[str]:
    """Reports of a vehicle that goes north for 20 minutes, at 8 m/s, and then east, without some of them."""
    lines = []
    for number in range(120):
        gone_m = 8.0 * STEP_S * number
        north_m, east_m = min(gone_m, 9_600.0), max(gone_m - 9_600.0, 0.0)
        place = {"lat": 30.0 + north_m / 111_195, "lon": -97.0 + east_m / 96_298}
        ts = T0 + round(1000 * (begin_s + STEP_S * number))
        if number not in missing:
            lines.append(json.dumps({"entity_id": entity_id, "ts": ts, **place}))
    return lines


def test_with_an_atlas_a_gap_is_filled_along_the_passages_of_others(weights: str, tmp_path: Path) -> None:
    """The corner is 1,600 m from the straight line between the ends of the gap."""
    fleet, ride = tmp_path / "fleet.ndjson", tmp_path / "ride.ndjson"
    others = [line for one in range(6) for line in round_the_corner(f"v{one}", 4_000.0 * one)]
    fleet.write_text("\n".join(others))
    ride.write_text("\n".join(round_the_corner("mine", 90_000.0, missing=range(46, 75))))
    atlas = tmp_path / "fleet.atlas"
    atlas.write_bytes(bytes_of(of_rows(read_in_order(fleet)), Rules()))
    off_m = {}
    for options in ((), ("--atlas", str(atlas))):
        out, summary = filled(ride, weights, "--out", str(tmp_path / f"{len(options)}.ndjson"), *options)
        new = {one["ts"]: one for one in map(json.loads, out.read_text().splitlines()) if one.get("filled")}
        assert len(new) == summary["filled"] == 29
        where = [json.loads(line) for line in round_the_corner("mine", 90_000.0)[46:75]]
        off = [
            (111_195 * (new[one["ts"]]["lat"] - one["lat"]), 96_298 * (new[one["ts"]]["lon"] - one["lon"]))
            for one in where
        ]
        off_m[len(options)] = max((north**2 + east**2) ** 0.5 for north, east in off)
    assert off_m[2] < 250 < 1_000 < off_m[0]
