"""Which lines of a log people see."""

from __future__ import annotations

import pytest

from stream.up.screen import is_shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("2026-11-30T07:20:53.783Z WARNING no pings for 30 s", True),
        ("2026-11-30T07:20:53.783Z INFO compiling kernels: 82 so far, 40 s", True),
        ("2026-11-30T07:20:53.783Z INFO ready: partitions 0, 1", True),
        ('{"time":"2026-11-30T07:20:53.783Z","level":"info","logger":"a","message":"ready: partitions 0, 1"}', True),
        ("2026-11-30 07:20:42,428 ERROR away", True),
        ("error: no Kafka answers", True),
        ("warning: the environment variable PATHCAST_X is no setting", True),
        ("Traceback (most recent call last):", True),
        ('{"time":"2026-11-30T07:20:53.783Z","level":"warning","message":"away"}', True),
        ("2026-11-30T07:20:53.783Z INFO who is not ready: partitions", False),
        ("2026-11-30T07:20:53.783Z INFO a WARNING is told of", False),
        ('{"time":"2026-11-30T07:20:53.783Z","level":"info","message":"an error: none"}', False),
        ("", False),
        ("    raise ValueError", False),
    ],
)
def test_what_warns_or_is_waited_for_is_shown_and_nothing_else(line: str, shown: bool) -> None:
    assert is_shown(line) is shown
