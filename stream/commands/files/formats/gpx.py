"""Copies GPX with filled track points. All bytes of the file are kept; filled points come between them.

A filled point is marked by two elements of a namespace of their own, in its <extensions> (GPX 1.1), or directly in it
(GPX 1.0, which has no <extensions>):

    <trkpt lat="30.2863000" lon="-97.7418000"><time>2026-11-25T13:22:48Z</time><extensions>
    <pathcast:filled xmlns:pathcast="urn:pathcast:gpx:1">true</pathcast:filled>
    <pathcast:sigma_m xmlns:pathcast="urn:pathcast:gpx:1">41.3</pathcast:sigma_m></extensions></trkpt>

The reader (`stream.adapters.formats.gpx_points`) gives the points of a file in the order of their ends; here the places
of these ends are found by the same parser, expat.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple
from xml.parsers import expat

from stream.adapters.column_names import ColumnMap
from stream.adapters.formats.gpx_points import points
from stream.commands.files.formats.marking import FILLED, GPX_NAMESPACE, SIGMA
from stream.commands.files.plan import Cursor, Point
from stream.commands.files.times import like
from stream.wire.fields import event_time_ms

_CHUNK: Final = 1 << 20
_WIDE: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class End(NamedTuple):
    """Where a track point ends: the byte after it, the line on which it begins, and its prefix (`gpx:` or nothing)."""

    byte: int
    line: int
    prefix: str


def sample(path: Path, columns: ColumnMap | None) -> str | None:
    """Returns the first text that is a time, None if there is none."""
    return next((text for point in points(path) if event_time_ms(text := point.get("ts")) is not None), None)


def copy(path: Path, columns: ColumnMap | None, form: Any, cursor: Cursor, sink: BinaryIO) -> None:
    """Writes the file with the filled points of the cursor's plan; `form` is what `sample` gave."""
    finder, copied = Ends(), 0
    with path.open("rb") as parsed, path.open("rb") as file:
        head = parsed.read(2)
        parsed.seek(0)
        encoding = _WIDE.get(head, "ascii")
        for row, end in enumerate(finder.of(parsed)):
            cursor.at(row, end.line)
            filled = cursor.after(row)
            if filled:
                _through(file, end.byte - copied, sink)
                copied = end.byte
                text = "".join("\n" + _text(point, form, end.prefix, finder.version) for point in filled)
                sink.write(text.encode(encoding))
        while chunk := file.read(_CHUNK):
            sink.write(chunk)


def _through(file: BinaryIO, count: int, sink: BinaryIO) -> None:
    while count > 0:
        chunk = file.read(min(count, _CHUNK))
        count -= len(chunk)
        sink.write(chunk)


def _text(point: Point, form: Any, prefix: str, version: str) -> str:
    marks = "".join(
        f'<pathcast:{name} xmlns:pathcast="{GPX_NAMESPACE}">{value}</pathcast:{name}>'
        for name, value in ((FILLED, "true"), (SIGMA, point.sigma_m))
    )
    if version != "1.0":
        marks = f"<{prefix}extensions>{marks}</{prefix}extensions>"
    time = f"<{prefix}time>{like(form, point.ts_ms)}</{prefix}time>"
    return f'<{prefix}trkpt lat="{point.lat:.7f}" lon="{point.lon:.7f}">{time}{marks}</{prefix}trkpt>'


class Ends:
    """Finds the ends of track points. `version` is that of GPX, once the root element is read."""

    def __init__(self) -> None:
        self.version = ""
        self._parser = parser = expat.ParserCreate()
        self._found: list[End] = []
        self._begins = 0
        self._ended: tuple[int, str] | None = None  # line and prefix of a point whose end tag is read
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.DefaultHandler = self._other

    def of(self, file: BinaryIO) -> Iterator[End]:
        while chunk := file.read(_CHUNK):
            self._parser.Parse(chunk, False)
            yield from self._take()
        self._parser.Parse(b"", True)
        yield from self._take()

    def _take(self) -> list[End]:
        found, self._found = self._found, []
        return found

    # An event begins where the one before it has ended, so the next event after an end tag says where the tag ends.

    def _close(self) -> None:
        if self._ended is not None:
            self._found.append(End(self._parser.CurrentByteIndex, *self._ended))
            self._ended = None

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._close()
        own = name.rpartition(":")[2]
        if own == "trkpt":
            self._begins = self._parser.CurrentLineNumber
        elif own == "gpx" and not self.version:
            self.version = attributes.get("version", "1.1")

    def _end(self, name: str) -> None:
        self._close()
        prefix, colon, own = name.rpartition(":")
        if own == "trkpt":
            self._ended = self._begins, prefix + colon

    def _other(self, data: str) -> None:
        self._close()
