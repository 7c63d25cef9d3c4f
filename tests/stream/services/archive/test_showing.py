"""What `pathcast dev archive` and `forget --archive-only` say of an archive."""

from __future__ import annotations

import json
from pathlib import Path

from archive_rig import T0, begun, follow, owned, record
from typer.testing import CliRunner

from stream.commands.main import build


def told(archive: Path, *command: str) -> str:
    ran = CliRunner().invoke(build(), [*command, "--archive", str(archive)])
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_one_day_of_one_ping_in_one_file_is_singular(tmp_path: Path) -> None:
    member = owned(begun(tmp_path), 1)
    follow(member, [record(0, T0)], 1)
    member.land(T0)
    assert told(tmp_path, "dev", "archive", "--days").splitlines()[-1].startswith("1 day, 1 ping in 1 file, ")
    assert [day["files"] for day in json.loads(told(tmp_path, "dev", "archive", "--days", "--json"))] == [1]
    assert "; 1 ping in 1 file; " in told(tmp_path, "dev", "archive")
    assert "1 ping in " in told(tmp_path, "forget", "bus-1", "--archive-only")
    assert "; forgotten: 1 entity\n" in told(tmp_path, "dev", "archive")


def test_an_archive_in_which_nothing_has_landed_says_so(tmp_path: Path) -> None:
    begun(tmp_path)
    assert told(tmp_path, "dev", "archive", "--days") == "0 days, 0 pings in 0 files, 0.0 MB\n"
