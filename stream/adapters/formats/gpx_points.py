"""Reads the track points of one GPX file lazily, with all fields that a ping can have. The values are the texts of the
file, not numbers. (`gpx` reads whole folders, into columns.)"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

_FIELDS: Final = {
    "ele": "alt_m",
    "time": "ts",
    "speed": "speed_mps",
    "course": "heading_deg",
    "hdop": "hdop",
    "sat": "sats",
}


def points(path: Path) -> Iterator[dict[str, str]]:
    """Yields the fields of each point. The entity is the track's name, or the file's stem with the track's number.

    Raises ValueError, which names the file, if it is not GPX.
    """
    number, name = 0, None
    try:
        for event, element in ElementTree.iterparse(path, events=("start", "end")):
            tag = element.tag.rpartition("}")[2]
            if event == "start" and tag == "trk":
                number, name = number + 1, None
            elif event == "end" and tag == "name" and name is None:
                name = (element.text or "").strip() or None
            elif event == "end" and tag == "trkpt":
                yield {"entity_id": name or f"{path.stem}-{number}", **_reported(element)}
                element.clear()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: not GPX: {error}") from error


def _reported(point: ElementTree.Element) -> dict[str, str]:
    fields = {name: text for name in ("lat", "lon") if (text := point.get(name))}
    for child in point.iter():  # in extensions, speed and course are nested
        name = _FIELDS.get(child.tag.rpartition("}")[2])
        if name is not None and child.text and child.text.strip():
            fields[name] = child.text
    return fields
