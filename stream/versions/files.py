"""Where the files of versions lie, and how files are written."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

SUFFIX: Final = ".atlas"
STALE_S: Final = 86_400.0
# Of a version, or what `write_whole` leaves if it is killed.
_WRITTEN: Final = re.compile(r"([0-9a-f]{16})\.atlas|\.([0-9a-f]{16})\.atlas-\w+")


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


def write_whole(out: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Writes a file of these pieces, whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=out.absolute().parent, prefix=f".{out.name}-", delete=False) as part:
        try:
            part.writelines(pieces)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).chmod(0o644)
            Path(part.name).replace(out)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
