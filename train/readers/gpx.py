"""Folders of GPX files. Knows where GPX keeps who, when and where; gpxpy knows the rest.

The entity is the folder that a file lies in, below the one that was given; else the track's <name>, as `pathcast feed`
has it; else the file's stem. A recorder that names its tracks "Morning ride" makes an entity of each: put the files of
each person or vehicle into a folder of its name. Each <trkseg> is a trajectory, because the recorder was off between.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from train.readers.gathered import Gathered, Piece, Progress, each
from train.tables import Table

EXTRA: Final = "GPX needs gpxpy: pip install 'pathcast[readers]'"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def read(files: Sequence[Path], progress: Progress, *, root: Path) -> Table:
    """Raises ValueError naming the file that is no GPX, RuntimeError saying what to install."""
    found, segments = Gathered(), 0
    for file, _ in each(files, progress):
        for track in _parsed(file).tracks:
            entity = _folder(file, root) or (track.name or "").strip() or file.stem
            for segment in track.segments:
                segments += 1
                _add(found, segment.points, entity, segments)
    return found.table()


def _folder(file: Path, root: Path) -> str | None:
    return file.parent.name if file != root and file.parent != root else None


def _parsed(file: Path) -> Any:
    try:
        import gpxpy
        import gpxpy.gpx
    except ModuleNotFoundError as error:
        raise RuntimeError(EXTRA) from error
    try:
        return gpxpy.parse(file.read_bytes().decode("utf-8-sig"))
    except (gpxpy.gpx.GPXException, ValueError) as error:
        raise ValueError(f"{file}: not GPX: {error}") from error


def _add(found: Gathered, points: Sequence[Any], entity: str, segment: int) -> None:
    timed = [point for point in points if point.time is not None]
    found.dropped["no_time"] += len(points) - len(timed)
    ts_ms = np.array([_ms(point.time) for point in timed], np.int64)
    lat, lon, speed, course = (
        np.array([getattr(point, name) for point in timed], np.float64)
        for name in ("latitude", "longitude", "speed", "course")
    )
    found.add(Piece(entity, ts_ms, lat, lon, speed, course, segment))


def _ms(time: datetime) -> int:
    # GPX times are UTC by definition; some recorders leave the Z out
    return (time.replace(tzinfo=time.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)
