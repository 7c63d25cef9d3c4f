"""Folders of GPX files. Knows where GPX keeps who, when and where; gpxpy knows the rest.

The entity is the folder that a file lies in, below the one that was given; else the track's <name>, as `pathcast feed`
has it; else the file's stem. A recorder that names its tracks "Morning ride" makes an entity of each: put the files of
each person or vehicle into a folder of its name. Each <trkseg> is a trajectory, because the recorder was off between.

Speed and course are GPX 1.0's, or those of an extension: Garmin's <gpxtpx:speed> and <gpxtpx:course>, or whatever ends
so, in m/s and degrees as Garmin's schema has them.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np

from stream.adapters.table_builder import Piece, Progress, TableBuilder
from stream.adapters.tables import Table

EXTRA: Final = "GPX needs gpxpy: pip install 'pathcast[readers]'"
_DECLARATION: Final = re.compile(r"""\s*<\?xml\b[^>]*?(?:\bencoding\s*=\s*["']([\w.-]+)["'][^>]*)?\?>""")
_POINT: Final = re.compile(r"<trkpt\b([^>]*?)(/?)>")
_PLACE: Final = re.compile(r"""\b(?:lat|lon)\s*=\s*["']([^"']*)["']""")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def read(files: Sequence[Path], progress: Progress, *, root: Path) -> Table:
    """Raises ValueError naming the file that is no GPX if there is no other, RuntimeError saying what to install."""
    found, segments = TableBuilder(), count()

    def add(file: Path, within: Progress) -> None:
        for track in _parsed(file).tracks:
            entity = _folder(file, root) or (track.name or "").strip() or file.stem
            for segment in track.segments:
                _add(found, segment.points, entity, next(segments))

    found.each(files, progress, add)
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
        text = _text(file.read_bytes())
        try:
            return gpxpy.parse(text)
        except gpxpy.gpx.GPXXMLSyntaxException:
            raise
        except gpxpy.gpx.GPXException:  # a point of no place, for which gpxpy refuses all: to be nowhere costs it alone
            return gpxpy.parse(_POINT.sub(_somewhere_or_nowhere, text))
    except (gpxpy.gpx.GPXException, LookupError, ValueError) as error:
        raise ValueError(f"{file}: not GPX: {error}") from error


def _text(raw: bytes) -> str:
    """As its byte order mark or its XML declaration says; the declaration, true no longer, is left out."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = raw.decode("utf-16")
    else:
        raw = raw.removeprefix(codecs.BOM_UTF8)
        declared = _DECLARATION.match(raw[:200].decode("latin-1"))
        text = raw.decode((declared and declared[1]) or "utf-8")
    return _DECLARATION.sub("", text, count=1)


def _somewhere_or_nowhere(point: re.Match[str]) -> str:
    try:
        is_somewhere = len([float(place) for place in _PLACE.findall(point[1])]) == 2
    except ValueError:
        is_somewhere = False
    return point[0] if is_somewhere else f'<trkpt lat="nan" lon="nan"{point[2]}>'


def _add(found: TableBuilder, points: Sequence[Any], entity: str, segment: int) -> None:
    timed = [point for point in points if point.time is not None]
    found.dropped["no_time"] += len(points) - len(timed)
    ts_ms = np.array([_ms(point.time) for point in timed], np.int64)
    lat, lon = (np.array([getattr(point, name) for point in timed], np.float64) for name in ("latitude", "longitude"))
    speed, course = (np.array([_told(point, name) for point in timed], np.float64) for name in ("speed", "course"))
    found.add(Piece(entity, ts_ms, lat, lon, speed, course, segment))


def _told(point: Any, what: str) -> float:
    """NaN where the receiver does not say."""
    own = getattr(point, what)
    if own is not None:
        return float(own)
    elements = (element for extension in point.extensions for element in extension.iter())
    told = {str(element.tag).rpartition("}")[2].lower(): element.text for element in elements}
    for name in (what, *(name for name in told if name.endswith(what))):  # speed, and only then groundspeed
        try:
            return float(told[name])
        except (KeyError, TypeError, ValueError):
            continue
    return float("nan")


def _ms(time: datetime) -> int:
    # GPX times are UTC by definition; some recorders leave the Z out
    return (time.replace(tzinfo=time.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)
