"""What `pathcast forget` says of an archive, and does there."""

from __future__ import annotations

from pathlib import Path

from archive_rig import T0, begun, day_of_buses, expected, follow, landed, owned

from stream.adapters.archived.manifest import DAY_MS
from stream.commands.forget import archived
from stream.commands.forget.findings import Outcome


def test_a_dry_run_counts_and_the_command_removes_what_it_counted(tmp_path: Path) -> None:
    catalog, log = begun(tmp_path), [*day_of_buses(0, 0, 50), *day_of_buses(1, 50, 50)]
    one = owned(catalog, 100)
    follow(one, log)
    one.land(T0 + 3 * DAY_MS)
    looked = archived.removed(str(tmp_path), "bus-1", dry_run=True)
    assert (looked.outcome, looked.found.split()[0]) == (Outcome.FOUND, "20")
    assert landed(catalog) == expected(log)
    said = archived.removed(str(tmp_path), "bus-1", dry_run=False)
    assert (said.outcome, said.found.split()[0]) == (Outcome.REMOVED, "20")
    assert landed(catalog) == expected(log, without="bus-1")
    assert archived.removed(str(tmp_path), "bus-1", dry_run=False).outcome is Outcome.ABSENT
