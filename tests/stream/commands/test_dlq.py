"""`pathcast dlq show`: nothing that a sender wrote passes for a line of ours."""

from __future__ import annotations

import pytest

from stream.commands.dlq.cli import _show_record
from stream.wire import Record


def test_a_line_of_a_value_is_indented_and_one_of_a_key_or_header_is_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    forged = "x\nplace    9:9, 2026-01-01 00:00:00\x1b[2J"
    record = Record("dlq", 1, 7, 0, forged.encode(), forged.encode(), ((forged, forged.encode()),))
    _show_record(record)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("place")] == ["place    1:7, 1970-01-01 00:00:00"]
    assert [line[:5] for line in lines] == ["place", "key  ", "heade", "value", "  x", "  pla"]
    assert not any("\x1b" in line for line in lines)
