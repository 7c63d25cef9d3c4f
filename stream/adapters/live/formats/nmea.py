"""Reads NMEA 0183 of GPS receivers: RMC sentences, with what GGA knows more.

    entity_id    a sentence has none: it is the name that the user gave to where the sentence comes from, or the source
                 of its TAG block (`\\s:van-7*hh\\$GPRMC,...`); of a sentence of AIS, which starts with !, the MMSI
    ts           date and time of RMC, UTC. A sentence without a date is no ping, so GGA alone is none
    lat, lon     of RMC, degrees and minutes
    speed_mps    of RMC, in knots
    heading_deg  of RMC: the course over the ground, degrees from true north
    alt_m, hdop, sats  of the GGA of the same second, or of the two before: receivers send GGA before RMC, or after

An RMC with status V, or mode N, is of a receiver without a fix: skipped. pynmea2 parses. Sentences of AIS, which a
boat's multiplexer mixes in, are read as `ais` does, but for those of the boat itself (VDO), whose RMC has its name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING, Any, Final

import pynmea2

from stream.adapters.live.parsed import KNOT_MPS, Parsed, Piece, Skip, ping_of, reject
from stream.wire import MAX_ENTITY_ID_CHARS, Ping
from stream.wire.escape import shown

if TYPE_CHECKING:
    from stream.adapters.live.formats import ais

SOURCE: Final = "nmea"
MAX_RECEIVERS: Final = 10_000  # whose last GGA is remembered, some 500 bytes each
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


class Receivers:
    """All receivers that send to one place. They are told apart by `via`, the address from which a sentence came."""

    def __init__(self, names: Mapping[str, str], otherwise: str | None = None) -> None:
        """`names` has entity ids by the IP address of their receivers; `otherwise` is that of all others, if any."""
        self._names = names
        self._otherwise = otherwise
        self._known: OrderedDict[str, Receiver] = OrderedDict()  # by entity id
        self._ships: ais.Receiver | None = None

    def hear(self, raw: bytes, came_ms: int, via: str = "") -> Piece:
        """Returns what one sentence comes to, with the lines that it consists of."""
        host = via.rpartition(":")[0].strip("[]").removeprefix("::ffff:")
        name = self._names.get(host, self._otherwise)
        block, line = _cut_tag_block(raw.strip())
        if line.startswith(b"!"):
            is_own = name is not None and line[3:6] == b"VDO"
            return Piece(Skip("own_ship"), raw) if is_own else self._hear_ship(raw, came_ms, via)
        name = name or _source_of(block)
        if name is not None:
            return Piece(self._receiver(name).read(line, came_ms)[0], raw)
        (found,) = Receiver("without a name").read(line, came_ms)
        if not isinstance(found, Ping):
            return Piece(found, raw)
        give = f"--entity {host}=NAME" if host else "--entity NAME"
        return Piece(reject("missing_field", f"entity_id absent: {give} gives one, or a TAG block with a source"), raw)

    def _receiver(self, name: str) -> Receiver:
        found = self._known.pop(name, None) or Receiver(name)
        self._known[name] = found  # at the end: it was heard last
        if len(self._known) > MAX_RECEIVERS:
            self._known.popitem(last=False)
        return found

    def _hear_ship(self, raw: bytes, came_ms: int, via: str) -> Piece:
        if self._ships is None:
            from stream.adapters.live.formats import ais  # whose library most receivers do not need

            self._ships = ais.Receiver()
        return self._ships.hear(raw, came_ms, via)


def _cut_tag_block(line: bytes) -> tuple[bytes, bytes]:
    """Returns the TAG block in front of a sentence, without its backslashes, and the sentence."""
    if not line.startswith(b"\\"):
        return b"", line
    block, _, rest = line[1:].partition(b"\\")
    return block, rest


def _source_of(block: bytes) -> str | None:
    """Returns the source (`s:`) of a TAG block; None if it has none or is damaged."""
    fields, _, checksum = block.rpartition(b"*")
    if not fields or checksum.upper() != b"%02X" % reduce(xor, fields):
        return None
    found = next((one[2:] for one in fields.split(b",") if one.startswith(b"s:")), b"")
    return found.decode() if found.isascii() and 0 < len(found) <= MAX_ENTITY_ID_CHARS else None


def _ms_of_day(at: time) -> int:
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1000 + at.microsecond // 1000


def _number(given: Any) -> float | None:
    """Returns a number that pynmea2 converted, or left as text; None for an absent one."""
    return None if given in (None, "") else float(given)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
