"""Reads the file of an atlas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model.atlas.published import Published
from model.atlas.version import AtlasError, loads


def read(file: Path) -> tuple[Published, dict[str, Any]]:
    """Returns an atlas, and which pings it contains. Raises OSError, or ValueError if it is none."""
    try:
        return loads(file.read_bytes())
    except AtlasError as error:
        raise ValueError(f"{file}: {error}") from error
