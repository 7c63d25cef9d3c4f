"""Where the files of versions lie, and how files are written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

SUFFIX: Final = ".atlas"


def path_of(folder: Path, version: str) -> Path:
    """Returns where the file of a version lies."""
    return folder / f"{version}{SUFFIX}"


def write_whole(out: Path, raw: bytes) -> None:
    """Writes a file whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=out.absolute().parent, prefix=f".{out.name}-", delete=False) as part:
        try:
            part.write(raw)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).chmod(0o644)
            Path(part.name).replace(out)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
