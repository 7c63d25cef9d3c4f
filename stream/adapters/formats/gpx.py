"""Reads the track points of GPX files, one after the other, by ElementTree: one bad point costs only itself.

`points_of` gives the points of one file with the fields that a ping can have, as texts; the entity is the track's
<name>, otherwise the file's stem with the track's number.

`read` reads folders into columns. The entity is the file's folder there, if that is below the given one; otherwise the
track's <name>; otherwise the file's stem. If a recorder names its tracks "Morning ride", each name is an entity: put
the files of each person or vehicle into a folder of its name. Each <trkseg> is a trajectory, because the recorder was
off between them. Speed and course are GPX 1.0's, or those of an extension: Garmin's <gpxtpx:speed> and
<gpxtpx:course>, or any name with these endings, in m/s and degrees as in Garmin's schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from xml.etree import ElementTree

if TYPE_CHECKING:  # numpy and Arrow, for which `feed` need not wait
    from stream.adapters.table_builder import Piece, Progress
    from stream.adapters.tables import Table

_FIELDS: Final = {
    "ele": "alt_m",
    "time": "ts",
    "speed": "speed_mps",
    "course": "heading_deg",
    "hdop": "hdop",
    "sat": "sats",
}


class TrackPoint(NamedTuple):
    """A <trkpt>. Its element is valid until the next one is asked for."""

    track: int  # the first of a file is 1
    name: str | None  # of the track
    segment: int  # of the file
    element: ElementTree.Element


def track_points(path: Path) -> Iterator[TrackPoint]:
    """Yields the points of a file. Raises ValueError, which names the file, if it is not GPX."""
    track, segment, name, root, in_segment = 0, 0, None, "", False
    try:
        for event, element in ElementTree.iterparse(path, events=("start", "end")):
            tag = element.tag.rpartition("}")[2]
            root = root or tag
            if event == "start" and tag == "trk":
                track, name = track + 1, None
            elif tag == "trkseg":
                in_segment = event == "start"
                segment += in_segment
            elif event == "end" and tag == "name" and name is None and not in_segment:
                name = (element.text or "").strip() or None
            elif event == "end" and tag == "trkpt":
                yield TrackPoint(track, name, segment, element)
                element.clear()
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an encoding that is unknown
        raise ValueError(f"{path}: not GPX: {error}") from error
    if root != "gpx":
        raise ValueError(f"{path}: not GPX: its root is <{root}>")


def points_of(path: Path) -> Iterator[dict[str, str]]:
    """Yields the fields of each point, entity_id included. Raises as `track_points`."""
    for point in track_points(path):
        fields = {name: text for name in ("lat", "lon") if (text := point.element.get(name))}
        for child in point.element.iter():  # in extensions, speed and course are nested
            field = _FIELDS.get(child.tag.rpartition("}")[2])
            if field is not None and child.text and child.text.strip():
                fields[field] = child.text
        yield {"entity_id": point.name or f"{path.stem}-{point.track}", **fields}


def read(files: Sequence[Path], progress: Progress, *, root: Path) -> Table:
    """Reads the files. If none is GPX, raises ValueError, which names one."""
    from stream.adapters.table_builder import TableBuilder

    builder, segments = TableBuilder(), 0

    def add(file: Path, within: Progress) -> None:
        nonlocal segments
        folder = file.parent.name if file != root and file.parent != root else None
        for (_, name, _), points in groupby(track_points(file), key=lambda point: point[:3]):
            segments += 1
            builder.add(_make_piece(points, folder or name or file.stem, segments, builder.dropped))

    builder.each(files, progress, add)
    return builder.table()


def _make_piece(points: Iterator[TrackPoint], entity: str, segment: int, dropped: Any) -> Piece:
    import numpy as np

    from stream.adapters.table_builder import Piece
    from stream.adapters.text import NO_TIME, time_ms

    rows = []
    for point in points:
        time = next((child.text for child in point.element if child.tag.rpartition("}")[2] == "time"), None)
        if (ts_ms := time_ms(time, zoned=None)) == NO_TIME:
            dropped["no_time"] += 1
            continue
        place = (_parse_number(point.element.get(name)) for name in ("lat", "lon"))
        rows.append((ts_ms, *place, *(_read_reported(point.element, name) for name in ("speed", "course"))))
    times = np.array([ts_ms for ts_ms, *_ in rows], np.int64)
    lat, lon, speed, course = np.array([numbers for _, *numbers in rows], np.float64).reshape(-1, 4).T
    return Piece(entity, times, lat, lon, speed, course, segment)


def _read_reported(point: ElementTree.Element, what: str) -> float:
    """Returns a reported value; NaN if there is none."""
    values = {child.tag.rpartition("}")[2].lower(): child.text for child in point.iter()}
    for name in (what, *(name for name in values if name.endswith(what))):  # speed, and only then groundspeed
        if (number := _parse_number(values.get(name))) == number:
            return number
    return float("nan")


def _parse_number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
