"""Where the files of versions lie."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

SUFFIX: Final = ".atlas"
STALE_S: Final = 86_400.0
# Of a version, or what `model.files` leaves if it is killed; that of earlier releases ended otherwise.
_WRITTEN: Final = re.compile(r"([0-9a-f]{16})\.atlas|\.([0-9a-f]{16})\.atlas[.-][\w.]+")


def path_of(folder: Path, version: str) -> Path:
    """Returns where the file of a version lies."""
    return folder / f"{version}{SUFFIX}"


def delete_stale(folder: Path, known: Collection[str], stale_s: float = STALE_S) -> None:
    """Deletes the files of versions that are not known, and files that were not finished, if they are older than
    `stale_s`: those of makers that died. Raises OSError.
    """
    for path in folder.iterdir():
        found = _WRITTEN.fullmatch(path.name)
        if found is not None and found[1] not in known and time.time() - path.stat().st_mtime >= stale_s:
            path.unlink(missing_ok=True)
