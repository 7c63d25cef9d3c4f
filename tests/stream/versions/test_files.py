"""Files of versions that nobody knows."""

from __future__ import annotations

import os
from pathlib import Path

from stream.versions.files import delete_stale


def test_old_files_that_no_announcement_names_are_deleted_and_no_others(tmp_path: Path) -> None:
    known, unknown, fresh = "0" * 16, "1" * 16, "2" * 16
    unfinished, others = f".{unknown}.atlas-a_b1", ("fleet.atlas", "0123.atlas", f"{unknown}.atlas.bak")
    for name in (f"{known}.atlas", f"{unknown}.atlas", unfinished, *others, f"{fresh}.atlas"):
        (tmp_path / name).touch()
        if fresh not in name:
            os.utime(tmp_path / name, (1_000, 1_000))
    delete_stale(tmp_path, [known])
    assert {path.name for path in tmp_path.iterdir()} == {f"{known}.atlas", f"{fresh}.atlas", *others}
