"""Reads AIS as NOAA's Marine Cadastre publishes it: one CSV a day, or its .zip or .zst.

The entity is the MMSI unchanged. Times are UTC. SOG is in knots, and 102.3 means unknown; COG is in degrees, and 360
means unknown. The heading of a ping is COG, the direction of the movement. The column Heading, the direction of the bow
(511: unknown), is not used, not even if COG is unknown: the bow of a ship at anchor or in a current points elsewhere.
The files from 2025 on have the same columns under names like base_date_time and latitude.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from stream.adapters import text
from stream.adapters.table_builder import Piece, Progress, TableBuilder
from stream.adapters.tables import Table

MPS_PER_KNOT: Final = 1852 / 3600
# Our name of each column, and NOAA's names, in lower case and without underscores.
COLUMNS: Final = {
    "MMSI": ("mmsi",),
    "BaseDateTime": ("basedatetime",),
    "LAT": ("lat", "latitude"),
    "LON": ("lon", "longitude"),
    "SOG": ("sog",),
    "COG": ("cog",),
}


def read(files: Sequence[Path], progress: Progress) -> Table:
    """Reads the files. If none can be read, raises ValueError, which names a file and what is wrong with it."""
    found = TableBuilder()

    def add(file: Path, within: Progress) -> None:
        place = _find_columns(file)
        text.gather(found, file, list(place.values()), partial(_make_piece, place=place), within, named=True)

    found.each(files, progress, add)
    return found.table()


def _find_columns(file: Path) -> dict[str, str]:
    """Returns the file's name for each of our columns. Raises ValueError, which names what is missing."""
    present = text.header(file)
    plain = {name.lower().replace("_", ""): name for name in present}
    place = {ours: plain[name] for ours, names in COLUMNS.items() for name in names if name in plain}
    missing = [ours for ours in COLUMNS if ours not in place]
    if missing:
        raise ValueError(f"{file}, line 1: no column {', '.join(missing)}; its columns are {', '.join(present)}")
    return place


def _make_piece(sheet: Any, *, place: dict[str, str]) -> Piece:
    return Piece(
        entity=sheet[place["MMSI"]],
        ts_ms=text.local_ms(sheet[place["BaseDateTime"]]),
        lat=text.numbers(sheet[place["LAT"]]),
        lon=text.numbers(sheet[place["LON"]]),
        speed_mps=text.numbers(sheet[place["SOG"]]) * MPS_PER_KNOT,
        heading_deg=text.numbers(sheet[place["COG"]]),
    )
