"""Reads NMEA 0183 of one GPS receiver: RMC sentences, with what GGA knows more. The receiver has a name of the user's.

    ts           date and time of RMC, UTC. A sentence without a date is no ping, so GGA alone is none
    lat, lon     of RMC, degrees and minutes
    speed_mps    of RMC, in knots
    heading_deg  of RMC: the course over the ground, degrees from true north
    alt_m, hdop, sats  of the GGA of the same second, or of the two before: receivers send GGA before RMC, or after

An RMC with status V, or mode N, is of a receiver without a fix: skipped. pynmea2 parses.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any, Final

import pynmea2

from stream.adapters.live.parsed import KNOT_MPS, Parsed, Skip, ping_of, reject
from stream.wire.escape import shown

SOURCE: Final = "nmea"
GGA_MS: Final = 2_000
_DAY_MS: Final = 24 * 3600 * 1000
_KINDS: Final = ("RMC", "GGA")


class Receiver:
    """One receiver. It remembers the last GGA."""

    def __init__(self, entity_id: str) -> None:
        self._entity_id = entity_id
        self._gga: dict[str, Any] = {}
        self._gga_ms = 0  # of the day

    def read(self, raw: bytes, came_ms: int) -> list[Parsed]:
        """Returns what one sentence comes to."""
        try:
            line = raw.strip().decode("ascii")
            if line[:1] == "$" and line[3:6] not in _KINDS:
                return [Skip("other_sentence")]  # of satellites, of other instruments, of the maker's own
            sentence = pynmea2.parse(line, check=True)
            return [self._gga_came(sentence) if sentence.sentence_type == "GGA" else self._rmc(sentence, came_ms)]
        except (pynmea2.ParseError, UnicodeDecodeError, ValueError, TypeError, AttributeError) as error:
            # The last two: pynmea2 leaves fields as text where it cannot convert them.
            return [reject("bad_message", f"not an NMEA sentence: {shown(_first_line(error))}")]

    def _gga_came(self, sentence: Any) -> Parsed:
        at = sentence.timestamp
        if isinstance(at, time):
            self._gga_ms = _ms_of_day(at)
            self._gga = {
                "alt_m": sentence.altitude,
                "hdop": _number(sentence.horizontal_dil),
                "sats": _number(sentence.num_sats),
            }
        return Skip("gga")

    def _rmc(self, sentence: Any, came_ms: int) -> Parsed:
        # RMC of NMEA 2.2 and older has no mode.
        if sentence.status != "A" or sentence.mode_indicator == "N" or not (sentence.lat and sentence.lon):
            return Skip("no_fix")
        if sentence.lat_dir not in ("N", "S") or sentence.lon_dir not in ("E", "W"):  # pynmea2 would give 0 degrees
            return reject("bad_message", "the RMC does not say which hemisphere it is in")
        day, at = sentence.datestamp, sentence.timestamp
        if not isinstance(day, date) or not isinstance(at, time):
            return reject("bad_timestamp", "the RMC has no date or no time")
        moment = datetime.combine(day, at.replace(tzinfo=None), UTC)
        fields = {
            "entity_id": self._entity_id,
            "ts": round(moment.timestamp() * 1000),
            "lat": sentence.latitude,
            "lon": sentence.longitude,
            "speed_mps": None if (knots := _number(sentence.spd_over_grnd)) is None else knots * KNOT_MPS,
            "heading_deg": _number(sentence.true_course),
            "source": SOURCE,
        }
        age_ms = (_ms_of_day(at) - self._gga_ms) % _DAY_MS
        return ping_of(fields | (self._gga if age_ms <= GGA_MS else {}), came_ms)


def _ms_of_day(at: time) -> int:
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1000 + at.microsecond // 1000


def _number(given: Any) -> float | None:
    """Returns a number that pynmea2 converted, or left as text; None for an absent one."""
    return None if given in (None, "") else float(given)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
