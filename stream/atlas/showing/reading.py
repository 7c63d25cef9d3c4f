"""Reads the file of an atlas."""

from __future__ import annotations

from pathlib import Path

from model.atlas.atlas import Atlas
from model.atlas.version import AtlasError


def read(file: Path) -> Atlas:
    """Returns the atlas that a file holds. Raises OSError, or ValueError if it is none or of another layout."""
    try:
        return Atlas.load(file)
    except AtlasError as error:
        raise ValueError(f"{file}: {error}") from error
