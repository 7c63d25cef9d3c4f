"""An output appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.commands.files.outputs import writing


@pytest.mark.parametrize("force", [False, True])
def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path, force: bool) -> None:
    out = tmp_path / "out.csv"
    if force:
        out.write_text("precious")

    def fail() -> None:
        with writing(str(out), force=force) as sink:
            sink.write(b"half")
            sink.flush()
            assert out.exists() == force
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="full"):
        fail()
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == ([("out.csv", "precious")] if force else [])


def test_a_file_that_comes_meanwhile_is_not_replaced_without_force(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"

    def write() -> None:
        with writing(str(out), force=False) as sink:
            sink.write(b"ours")
            out.write_text("theirs")

    with pytest.raises(ValueError, match="--force"):
        write()
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("out.csv", "theirs")]


def test_it_gets_its_name_with_all_that_was_written(tmp_path: Path) -> None:
    for force in (False, True):
        out = tmp_path / f"{force}.csv"
        with writing(str(out), force=force) as sink:
            sink.write(b"all")
        assert out.read_bytes() == b"all"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["False.csv", "True.csv"]
