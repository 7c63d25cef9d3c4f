"""What `pathcast forget` does in an archive, and says of how long something stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from archive_rig import T0, begun, day_of_buses, expected, follow, landed, owned

from stream.adapters.archived.manifest import DAY_MS
from stream.commands.forget.findings import Outcome, in_words
from stream.commands.forget.run import forget_archived

HOUR_MS = 3_600_000


async def test_a_dry_run_counts_and_the_command_removes_what_it_counted(tmp_path: Path) -> None:
    catalog, log = begun(tmp_path), [*day_of_buses(0, 0, 50), *day_of_buses(1, 50, 50)]
    one = owned(catalog, 100)
    follow(one, log)
    one.land(T0 + 3 * DAY_MS)
    looked = await forget_archived(str(tmp_path), "bus-1", dry_run=True)
    assert (looked.outcome, looked.found.split()[0]) == (Outcome.FOUND, "20")
    assert landed(catalog) == expected(log)
    said = await forget_archived(str(tmp_path), "bus-1", dry_run=False)
    assert (said.outcome, said.found.split()[0]) == (Outcome.REMOVED, "20")
    assert landed(catalog) == expected(log, without="bus-1")
    assert (await forget_archived(str(tmp_path), "bus-1", dry_run=False)).outcome is Outcome.ABSENT


@pytest.mark.parametrize(
    ("hours", "said"), [(-1, "for ever"), (1, "1 hour"), (1.5, "1.5 hours"), (24, "1 day"), (36, "1.5 days")]
)
def test_a_retention_is_said_in_hours_or_days(hours: float, said: str) -> None:
    assert in_words(int(hours * HOUR_MS)) == said
