"""Writes forecasts as GPX 1.1: a track for each, from the row that it starts from over its horizons."""

from __future__ import annotations

from typing import BinaryIO, Final
from xml.sax.saxutils import escape

from stream.commands.files.ahead import rows
from stream.commands.files.formats.marking import GPX_NAMESPACE, SIGMA
from stream.commands.files.times import like
from stream.wire import Forecast

_HEAD: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<gpx version="1.1" creator="pathcast" xmlns="http://www.topografix.com/GPX/1/1" '
    f'xmlns:pathcast="{GPX_NAMESPACE}">\n'
)
_UTC: Final = "1970-01-01T00:00:00Z"  # the form of times


class Gpx:
    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        sink.write(_HEAD.encode())

    def write(self, said: Forecast) -> None:
        anchor = said.anchor
        points = [_point(anchor.lat, anchor.lon, anchor.ts)]
        points += [_point(one.lat, one.lon, one.forecast_ts, one.sigma_m) for one in rows(said)]
        track = f"<trk><name>{escape(said.entity_id)}</name><trkseg>\n{''.join(points)}</trkseg></trk>\n"
        self._sink.write(track.encode())

    def close(self) -> None:
        self._sink.write(b"</gpx>\n")


def _point(lat: float, lon: float, ts_ms: int, sigma_m: float | None = None) -> str:
    marks = "" if sigma_m is None else f"<extensions><pathcast:{SIGMA}>{sigma_m}</pathcast:{SIGMA}></extensions>"
    return f'<trkpt lat="{lat:.7f}" lon="{lon:.7f}"><time>{like(_UTC, ts_ms)}</time>{marks}</trkpt>\n'
