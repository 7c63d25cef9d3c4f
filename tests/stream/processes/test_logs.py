"""Lines, and logs that do not grow for ever."""

from __future__ import annotations

from pathlib import Path

from stream.processes.logs import LINE_BYTES, Lines, bound, tail


def test_lines_are_the_same_however_they_are_cut() -> None:
    raw = b"one\ntwo\n\nthree \xc3\xa4"
    for size in range(1, len(raw) + 1):
        lines = Lines()
        found = [line for at in range(0, len(raw), size) for line in lines.feed(raw[at : at + size])]
        assert found + lines.end() == ["one", "two", "", "three ä"]
        assert lines.end() == []


def test_a_line_without_end_takes_no_more_memory_than_its_limit() -> None:
    lines = Lines()
    for _ in range(100):
        assert all(len(line) == LINE_BYTES for line in lines.feed(b"x" * 60_000))
    assert len(lines.end()[0]) < LINE_BYTES


def test_a_log_beyond_its_limit_is_moved_while_a_writer_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "one.log"
    bound(path, 10)  # there is none yet
    with path.open("ab", buffering=0) as writer:
        writer.write(b"0123456789")
        bound(path, 10)
        assert path.read_bytes() == b"0123456789"
        writer.write(b"a")
        bound(path, 10)
        writer.write(b"b")
    assert path.read_bytes() == b"b"
    assert (tmp_path / "one.log.1").read_bytes() == b"0123456789a"


def test_the_last_lines_are_those_that_say_something(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(path) == []
    path.write_bytes(b"x" * 50_000 + b"\none\n\n\xfftwo\n   \n")
    assert tail(path, 2) == ["one", "\N{REPLACEMENT CHARACTER}two"]
