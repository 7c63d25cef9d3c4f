"""Copies GPX with filled track points.

A copy has the elements, attributes, texts and comments of the file, written anew as UTF-8; all of it is in memory. A
filled point is marked by two elements of a namespace of their own, in its <extensions> (GPX 1.1), or directly in it
(GPX 1.0, which has no <extensions>):

    <trkpt lat="30.2863000" lon="-97.7418000"><time>2026-11-25T13:22:48Z</time><extensions>
    <pathcast:filled>true</pathcast:filled><pathcast:sigma_m>41.3</pathcast:sigma_m></extensions></trkpt>

By ElementTree and not by gpxpy, which loses what it does not know, such as prefixed points and times that are none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.sax.saxutils import quoteattr

from stream.adapters.column_names import ColumnMap
from stream.adapters.formats.gpx import points_of
from stream.commands.files.plan import FILLED, SIGMA, Cursor, FilledPoint
from stream.commands.files.times import like
from stream.wire.ping_rules import event_time_ms

OURS: Final = "urn:pathcast:gpx:1"


def sample(path: Path, columns: ColumnMap | None) -> str | None:
    """Returns the first text that is a time, None if there is none."""
    return next((text for point in points_of(path) if event_time_ms(text := point.get("ts")) is not None), None)


def copy(path: Path, columns: ColumnMap | None, form: Any, cursor: Cursor, sink: BinaryIO) -> None:
    """Writes the file with the filled points of the cursor's plan; `form` is what `sample` gave."""
    builder = _Builder(insert_comments=True, insert_pis=True)
    gpx = ElementTree.parse(path, ElementTree.XMLParser(target=builder))
    root = gpx.getroot()
    space = root.tag[1:].partition("}")[0] if root.tag.startswith("{") else ""
    holder = "" if root.get("version") == "1.0" else "extensions"

    def element_of(point: FilledPoint) -> Element:
        marks = {FILLED: "true", SIGMA: point.sigma_m}
        text = point_of(point.lat, point.lon, like(form, point.ts_ms), holder, **marks)
        return ElementTree.fromstring(f'<gpx xmlns={quoteattr(space)} xmlns:pathcast="{OURS}">{text}</gpx>')[0]

    _fill(root, cursor, element_of, 0)
    # The root's namespace is the default of the copy, as few readers find points that have a prefix.
    for prefix, uri in {"pathcast": OURS, **builder.spaces, "": space}.items():
        with suppress(ValueError):  # ns0 and the like are ElementTree's own
            ElementTree.register_namespace(prefix, uri)
    gpx.write(sink, "utf-8", xml_declaration=True)
    sink.write(b"\n")


class _Builder(ElementTree.TreeBuilder):
    """Remembers the prefixes of namespaces, so that a copy has them: of a prefix its first meaning, the root's."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.spaces: dict[str, str] = {}

    def start_ns(self, prefix: str | None, uri: str) -> None:
        self.spaces.setdefault(prefix or "", uri)


def _fill(parent: Element, cursor: Cursor, element_of: Callable[[FilledPoint], Element], row: int) -> int:
    """Puts the filled points below `parent` behind the points after which they come, in the order of the reader
    (`stream.adapters.formats.gpx`), which is that of their ends. Returns the number of the next point."""
    kept = []
    for child in parent:
        row = _fill(child, cursor, element_of, row)
        kept.append(child)
        if isinstance(child.tag, str) and child.tag.rpartition("}")[2] == "trkpt":  # that of a comment is a function
            for point in cursor.after(row):
                kept.append(element_of(point))
                kept[-1].tail = child.tail
            row += 1
    parent[:] = kept
    return row


def point_of(lat: float, lon: float, time: str, holder: str = "", **marks: Any) -> str:
    """Returns a track point, whose marks are in the element `holder`, or directly in the point."""
    ours = "".join(f"<pathcast:{name}>{value}</pathcast:{name}>" for name, value in marks.items())
    held = f"<{holder}>{ours}</{holder}>" if holder else ours
    return f'<trkpt lat="{lat:.7f}" lon="{lon:.7f}"><time>{time}</time>{held}</trkpt>'
