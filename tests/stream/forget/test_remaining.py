"""What `pathcast forget` says of how long something stays."""

from __future__ import annotations

import pytest

from stream.commands.forget.remaining import _in_words

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("hours", "said"), [(-1, "for ever"), (1, "1 hour"), (1.5, "1.5 hours"), (24, "1 day"), (36, "1.5 days")]
)
def test_a_retention_is_said_in_hours_or_days(hours: float, said: str) -> None:
    assert _in_words(int(hours * HOUR_MS)) == said
