"""Reads folders of GPX files, with gpxpy.

The entity is the file's folder, if that is below the given one; otherwise the track's <name>, as in `pathcast feed`;
otherwise the file's stem. If a recorder names its tracks "Morning ride", each name is an entity: put the files of each
person or vehicle into a folder of its name. Each <trkseg> is a trajectory, because the recorder was off between them.

Speed and course are GPX 1.0's, or those of an extension: Garmin's <gpxtpx:speed> and <gpxtpx:course>, or any name with
these endings, in m/s and degrees as in Garmin's schema.
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
    """Reads the files. If none is GPX, raises ValueError, which names one; if gpxpy is absent, RuntimeError, which says
    what to install."""
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
        except gpxpy.gpx.GPXException:  # gpxpy refuses a file with an invalid position: NaN there costs only its point
            return gpxpy.parse(_POINT.sub(_somewhere_or_nowhere, text))
    except (gpxpy.gpx.GPXException, LookupError, ValueError) as error:
        raise ValueError(f"{file}: not GPX: {error}") from error


def _text(raw: bytes) -> str:
    """Decodes by the byte order mark or the XML declaration. The declaration is removed, as it is wrong afterwards."""
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
    speed, course = (np.array([_reported(point, name) for point in timed], np.float64) for name in ("speed", "course"))
    found.add(Piece(entity, ts_ms, lat, lon, speed, course, segment))


def _reported(point: Any, what: str) -> float:
    """Returns a reported value; NaN if there is none."""
    own = getattr(point, what)
    if own is not None:
        return float(own)
    elements = (element for extension in point.extensions for element in extension.iter())
    values = {str(element.tag).rpartition("}")[2].lower(): element.text for element in elements}
    for name in (what, *(name for name in values if name.endswith(what))):  # speed, and only then groundspeed
        try:
            return float(values[name])
        except (KeyError, TypeError, ValueError):
            continue
    return float("nan")


def _ms(time: datetime) -> int:
    # GPX times are UTC by definition; some recorders leave the Z out
    return (time.replace(tzinfo=time.tzinfo or UTC) - _EPOCH) // timedelta(milliseconds=1)
