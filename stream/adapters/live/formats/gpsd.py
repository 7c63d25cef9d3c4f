"""Reads the JSON reports of gpsd: TPV, with what SKY knows more. The receiver has a name of the user's.

    ts           time, RFC 3339
    lat, lon     degrees
    alt_m        altMSL, or alt of gpsd before 3.20
    speed_mps    speed, in m/s
    heading_deg  track, degrees from true north
    accuracy_m   eph, the estimated error of the position
    hdop, sats   of the last SKY: hdop, and uSat, the satellites in use
    attrs        device, the receiver's path

A TPV of mode 0 or 1 is of a receiver without a fix: skipped, as all other reports are. The format:
https://gpsd.io/gpsd_json.html.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from stream.adapters.live.parsed import Parsed, Skip, ping_of, reject
from stream.wire import MAX_TEXT_CHARS

SOURCE: Final = "gpsd"
MODE_2D: Final = 2
_REPORT: Final = msgspec.json.Decoder(dict[str, Any])


class Receiver:
    """The receivers of one gpsd. It remembers the last SKY."""

    def __init__(self, entity_id: str) -> None:
        self._entity_id = entity_id
        self._sky: dict[str, Any] = {}

    def read(self, raw: bytes, came_ms: int) -> list[Parsed]:
        """Returns what one report comes to."""
        try:
            report = _REPORT.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return [reject("invalid_json", f"not a JSON object: {error}")]
        kind = report.get("class")
        if kind == "TPV":
            return [self._position(report, came_ms)]
        if kind == "SKY":
            self._sky = {"hdop": report.get("hdop"), "sats": report.get("uSat")}
        return [Skip("other_report")]

    def _position(self, report: dict[str, Any], came_ms: int) -> Parsed:
        mode = report.get("mode")
        if not isinstance(mode, int) or mode < MODE_2D or report.get("lat") is None or report.get("lon") is None:
            return Skip("no_fix")
        device = report.get("device")
        fields = {
            "entity_id": self._entity_id,
            "ts": report.get("time"),
            "lat": report["lat"],
            "lon": report["lon"],
            "alt_m": report.get("altMSL", report.get("alt")),
            "speed_mps": report.get("speed"),
            "heading_deg": report.get("track"),
            "accuracy_m": report.get("eph"),
            **self._sky,
            "source": SOURCE,
            "attrs": {"device": device} if isinstance(device, str) and len(device) <= MAX_TEXT_CHARS else None,
        }
        return ping_of(fields, came_ms)
