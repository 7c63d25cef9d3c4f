"""Files that grow, are moved away and begun anew, or cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stream.ingest.feeds.following import FilePosition, FilePositions, GrowingFile


def taken(growing: GrowingFile) -> bytes:
    """All that is new, which Kafka has afterwards."""
    found = b""
    while (part := growing.next()) is not None:
        growing.took(part)
        found += part.lines
    return found


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_what_is_appended_comes_once_and_only_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    append(path, b"one\ntwo\nthr")
    growing = GrowingFile(path)
    assert taken(growing) == b"one\ntwo\n"
    assert taken(growing) == b""
    append(path, b"ee\n")
    assert taken(growing) == b"three\n"


def test_a_part_comes_again_until_kafka_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    append(path, b"one\n")
    growing = GrowingFile(path)
    first = growing.next()
    append(path, b"two\n")
    again = growing.next()
    assert first is not None
    assert again is not None
    assert (first.lines, again.lines) == (b"one\n", b"one\ntwo\n")


def test_a_file_that_is_moved_away_is_read_to_its_end_first(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    append(path, b"one\n")
    growing = GrowingFile(path)
    assert taken(growing) == b"one\n"
    path.rename(tmp_path / "a.1")
    append(tmp_path / "a.1", b"two\n")
    assert taken(growing) == b"two\n", "it may be written on under its new name"
    append(path, b"three\n")
    assert taken(growing) == b"three\n"


def test_a_file_that_was_cut_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.ndjson"
    append(path, b"one\ntwo\n")
    growing = GrowingFile(path)
    taken(growing)
    path.write_bytes(b"new\n")
    assert taken(growing) == b""
    assert taken(growing) == b"new\n"
    assert "was cut from 8 to 4 bytes" in caplog.text


def test_each_part_of_a_csv_has_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    append(path, b"entity_id,ts")
    growing = GrowingFile(path)
    assert growing.next() is None, "the header is being written"
    append(path, b",lat,lon\na,1,2,3\n")
    first = growing.next()
    assert first is not None
    assert (first.header, first.lines) == (b"entity_id,ts,lat,lon\n", b"a,1,2,3\n")
    growing.took(first)
    append(path, b"b,1,2,3\n")
    second = growing.next()
    assert second is not None
    assert (second.header, second.lines) == (b"entity_id,ts,lat,lon\n", b"b,1,2,3\n")


def test_a_new_process_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    path, kept = tmp_path / "a.csv", tmp_path / "places.json"
    append(path, b"h\none\ntwo\n")
    growing = GrowingFile(path, FilePositions(kept).of(path))
    part = growing.next()
    assert part is not None
    FilePositions(kept).put(path, part.place)
    append(path, b"three\n")
    again = GrowingFile(path, FilePositions(kept).of(path))
    assert taken(again) == b"three\n"
    assert again._header == b"h\n"
    assert json.loads(kept.read_text()) == {str(path): [path.stat().st_ino, 10]}


def test_a_place_of_another_file_of_the_same_name_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    append(path, b"one\n")
    growing = GrowingFile(path, FilePosition(inode=path.stat().st_ino + 1, offset=3))
    assert taken(growing) == b"one\n"


def test_a_file_of_places_that_is_none_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "places").write_text("nothing")
    with pytest.raises(ValueError, match="not a file of places"):
        FilePositions(tmp_path / "places")


def test_a_line_without_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.ingest.feeds.following.MAX_LINE_BYTES", 100)
    monkeypatch.setattr("stream.ingest.feeds.following.PART_BYTES", 40)
    path = tmp_path / "a.ndjson"
    append(path, b"x" * 90 + b"\n" + b"y" * 200)
    growing = GrowingFile(path)
    part = growing.next()
    assert part is not None
    assert len(part.lines) == 91
    growing.took(part)
    with pytest.raises(ValueError, match="a line of more than 100 bytes at byte 91"):
        growing.next()
