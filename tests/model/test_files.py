"""A file appears whole or not at all, and a power cut takes none back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.files import write_whole, writing_whole


def test_a_file_is_on_the_disk_before_it_gets_its_name_and_then_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill does not show this: the page cache outlives it."""
    seen: list[int | str] = []

    def name(part: Path, path: Path) -> None:
        seen.append("named")
        part.replace(path)

    monkeypatch.setattr(os, "fsync", lambda number: seen.append(os.fstat(number).st_ino))
    with writing_whole(tmp_path / "file", name) as part:
        part.write_bytes(b"all")
    assert seen == [(tmp_path / "file").stat().st_ino, "named", tmp_path.stat().st_ino]


def test_what_fails_half_way_leaves_the_old_file_alone(tmp_path: Path) -> None:
    def half() -> Iterator[bytes]:
        yield b"half"
        assert (tmp_path / "file").read_bytes() == b"old"
        raise RuntimeError("no more")

    write_whole(tmp_path / "file", [b"o", memoryview(b"ld")])
    with pytest.raises(RuntimeError, match="no more"):
        write_whole(tmp_path / "file", half())
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_everybody_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "file", [b"weights"])
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
