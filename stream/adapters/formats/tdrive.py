"""Reads T-Drive (Beijing taxis, 2008): text lines `taxi_id,YYYY-MM-DD HH:MM:SS,longitude,latitude`.

Longitude comes first. Times are Beijing's, eight hours ahead of UTC all year. The entity is the taxi's number
unchanged, "1131". Some files of the original are empty, which is not an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from stream.adapters import text
from stream.adapters.table_builder import Piece, Progress, TableBuilder
from stream.adapters.tables import Table

BEIJING_AHEAD_H: Final = 8.0
COLUMNS: Final = ("taxi_id", "time", "lon", "lat")


def read(files: Sequence[Path], progress: Progress) -> Table:
    """Reads the files. If no file has a readable line, raises ValueError, which names a file and the line."""
    found = TableBuilder()
    found.each(files, progress, lambda file, within: text.gather(found, file, COLUMNS, _make_piece, within))
    return found.table()


def _make_piece(sheet: Any) -> Piece:
    return Piece(
        entity=sheet["taxi_id"],
        ts_ms=text.local_ms(sheet["time"], ahead_h=BEIJING_AHEAD_H),
        lat=text.numbers(sheet["lat"]),
        lon=text.numbers(sheet["lon"]),
    )
