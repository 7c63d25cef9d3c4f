r"""Reads AIS as receivers send it: NMEA sentences !AIVDM and !AIVDO, a line each, with or without a TAG block.

    entity_id    the MMSI, nine digits
    ts           see `fix_time_ms`
    lat, lon     degrees; 91 and 181 mean that the transponder has no position: skipped
    speed_mps    the speed over the ground in knots; 102.3, or 63 in type 27, means absent
    heading_deg  the course over the ground; 360, or 511 in type 27, means absent
    category     of the ship's type, from an earlier message 5, 19 or 24 of the same ship
    attrs        bow_deg, the direction of the bow, where it is not 511; status, the navigation status

Positions are in messages 1, 2 and 3 (class A), 18 and 19 (class B) and 27 (satellites). Messages 5 and 24 have a ship's
type, which is remembered. All others are skipped: base stations, buoys, search aircraft, texts.

    !AIVDM,1,1,,A,15MqdBP000G@qoLEi69PVGaN0D0=,0*3A
    \s:station,c:1577762601*hh\!AIVDM,...     c is when the station received it: seconds, or milliseconds

pyais decodes. Parts of one message are put together here, as its own queue keeps parts for ever, and would join the
first part of one message and the second of a later one with the same number. The format: ITU-R M.1371-5, and
https://gpsd.gitlab.io/gpsd/AIVDM.html.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, Final

from pyais.messages import AISSentence, NMEASentenceFactory

from stream.adapters.live.parsed import KNOT_MPS, Parsed, Piece, Skip, ping_of, reject
from stream.wire.escape import shown
from stream.wire.ping_rules import SECONDS_BELOW

_BY_TYPE: Final = {
    30: "fishing",
    31: "towing",
    32: "towing",
    33: "dredging",
    34: "diving",
    35: "military",
    36: "sailing",
    37: "pleasure_craft",
    50: "pilot",
    51: "search_and_rescue",
    52: "tug",
    53: "port_tender",
    54: "anti_pollution",
    55: "law_enforcement",
    58: "medical",
}
# By the first of two digits; the second is about the cargo.
_BY_TEN: Final = {2: "wing_in_ground", 4: "high_speed_craft", 6: "passenger", 7: "cargo", 8: "tanker", 9: "other"}


def category(ship_type: int) -> str | None:
    """Returns the category of a type; None for 0 (not available) and for types that the table keeps for later use."""
    return _BY_TYPE.get(ship_type) or _BY_TEN.get(ship_type // 10)


SOURCE: Final = "ais"
POSITIONS: Final = (1, 2, 3, 18, 19, 27)
LONG_RANGE: Final = 27
STATIC: Final = (5, 24)

NO_LAT: Final = 91.0
NO_LON: Final = 181.0
NO_COURSE: Final = 360.0
NO_STATUS: Final = 15
NO_SPEED_KNOTS: Final = 102.3
NO_SPEED_LONG_RANGE_KNOTS: Final = 63.0

MAX_SHIPS: Final = 200_000  # whose type is remembered, some 200 bytes each; all that report in a day are 100,000
MAX_PARTS: Final = 64  # messages of which a part is missing yet: a receiver has ten numbers on two channels
PART_MS: Final = 30_000  # the other part of a message comes in the next line, or does not come
AHEAD_MS: Final = 5_000  # how far our clock may be behind that of the ships
MAX_MMSI: Final = 999_999_999
MAX_TIME_DIGITS: Final = 13  # milliseconds
_MINUTE_MS: Final = 60_000
_WORD: Final = re.compile("([a-z])([A-Z])")  # of pyais's names: UnderWayUsingEngine


def fix_time_ms(came_ms: int, second: int | None) -> int:
    """Returns when a position was, in ms since 1970 UTC.

    A ship sends no more of the time than the second of the minute, `second`. `came_ms` is when the message was
    received: by the station, if a TAG block says so, or else by us. The position is of the last moment with that second
    that is at most AHEAD_MS after `came_ms`. So one message that several stations heard has one time, and it is right
    if the way to us took less than 55 s. A second of 60 and more says that the ship does not know: then it is
    `came_ms`.
    """
    if second is None or not 0 <= second < 60:
        return came_ms
    newest_ms = came_ms + AHEAD_MS
    ts_ms = newest_ms - newest_ms % _MINUTE_MS + second * 1000
    return ts_ms if ts_ms <= newest_ms else ts_ms - _MINUTE_MS


class Receiver:
    """One stream of sentences, or several that are told apart by `via`. It remembers parts, and types of ships."""

    def __init__(self, most_ships: int = MAX_SHIPS) -> None:
        self._most_ships = most_ships
        self._types: OrderedDict[str, str] = OrderedDict()  # by MMSI
        self._parts: OrderedDict[tuple[Any, ...], _Parts] = OrderedDict()

    def read(self, raw: bytes, came_ms: int) -> list[Parsed]:
        """Returns what one line comes to."""
        return [self.hear(raw, came_ms).parsed]

    def hear(self, raw: bytes, came_ms: int, via: str = "") -> Piece:
        """Does the same, with the lines of the whole message. A part whose message is not whole yet is a skip."""
        line = raw.strip()
        begins = line[line.find(b"\\", 1) + 1 :][:1] if line.startswith(b"\\") else line[:1]
        if begins in (b"$", b"#", b""):  # of other instruments, or a comment
            return Piece(Skip("other_sentence"), raw)
        try:
            return self._hear(line, came_ms, via)
        except Exception as error:  # pyais raises what its parts raise: of bits, enumerations and numbers
            why = shown(str(error) or type(error).__name__)
            return Piece(reject("bad_message", f"not an AIS sentence: {why}"), raw)

    def _hear(self, line: bytes, came_ms: int, via: str) -> Piece:
        sentence = NMEASentenceFactory.produce(line)
        if not isinstance(sentence, AISSentence):
            return Piece(Skip("other_sentence"), line)
        if not sentence.is_valid:
            return Piece(reject("bad_message", "the checksum of the sentence is wrong"), line)
        tags = _tags(sentence)
        if sentence.frag_cnt == 1:
            return Piece(self._message(sentence, _reception_ms(tags, came_ms)), line)
        key = (via, tags.get("s"), sentence.seq_id, sentence.channel, sentence.frag_cnt)
        parts = self._parts.pop(key, None)
        if parts is None or came_ms - parts.came_ms > PART_MS or sentence.frag_num in parts.sentences:
            parts = _Parts(came_ms)
        parts.add(sentence, line, _reception_ms(tags, came_ms))
        if len(parts.sentences) < sentence.frag_cnt:
            self._parts[key] = parts
            if len(self._parts) > MAX_PARTS:
                self._parts.popitem(last=False)
            return Piece(Skip("part"), line)
        whole = AISSentence.assemble_from_iterable([parts.sentences[n] for n in sorted(parts.sentences)])
        return Piece(self._message(whole, parts.received_ms), b"\n".join(parts.lines))

    def _message(self, sentence: AISSentence, received_ms: int) -> Parsed:
        if not sentence.payload:
            return reject("bad_message", "the sentence has no payload")
        kind = sentence.ais_id
        if kind not in POSITIONS and kind not in STATIC:
            return Skip("other_message")
        message: Any = sentence.decode()
        if message.mmsi is None:
            return reject("bad_message", "the message is too short for an MMSI")
        mmsi = f"{int(message.mmsi):09d}"
        self._note_type(mmsi, getattr(message, "ship_type", None))
        if kind in STATIC:
            return Skip("static_data")
        if message.lat is None or message.lon is None:
            return reject("bad_message", f"message {kind} is too short for a position")
        if message.lat == NO_LAT or message.lon == NO_LON:
            return Skip("no_position")
        if not 0 < int(mmsi) <= MAX_MMSI:
            return reject("bad_entity_id", f"the MMSI is {mmsi}: was the transponder never set up?")
        return ping_of(_map_fields(kind, message, mmsi, self._types.get(mmsi), received_ms), received_ms)

    def _note_type(self, mmsi: str, ship_type: int | None) -> None:
        if ship_type is None or (name := category(int(ship_type))) is None:
            return
        self._types[mmsi] = name
        self._types.move_to_end(mmsi)
        if len(self._types) > self._most_ships:
            self._types.popitem(last=False)


class _Parts:
    """The parts of one message that have come, by their numbers."""

    def __init__(self, came_ms: int) -> None:
        self.came_ms = came_ms  # the first of them
        self.received_ms = came_ms
        self.sentences: dict[int, AISSentence] = {}
        self.lines: list[bytes] = []

    def add(self, sentence: AISSentence, line: bytes, received_ms: int) -> None:
        if not self.sentences or received_ms < self.received_ms:  # often the first part alone has a TAG block
            self.received_ms = received_ms
        self.sentences[sentence.frag_num] = sentence
        self.lines.append(line)


def _map_fields(kind: int, message: Any, mmsi: str, ship: str | None, received_ms: int) -> dict[str, Any]:
    long_range = kind == LONG_RANGE
    no_speed_knots = NO_SPEED_LONG_RANGE_KNOTS if long_range else NO_SPEED_KNOTS
    speed_knots, course_deg = message.speed, message.course
    return {
        "entity_id": mmsi,
        "ts": fix_time_ms(received_ms, getattr(message, "second", None)),
        "lat": message.lat,
        "lon": message.lon,
        "speed_mps": speed_knots * KNOT_MPS if speed_knots is not None and speed_knots < no_speed_knots else None,
        "heading_deg": course_deg if course_deg is not None and course_deg < NO_COURSE else None,
        "category": ship,
        "source": SOURCE,
        "attrs": _attrs(message) or None,
    }


def _attrs(message: Any) -> dict[str, Any]:
    bow_deg, status = getattr(message, "heading", None), getattr(message, "status", None)
    found: dict[str, Any] = {}
    if bow_deg is not None and bow_deg < 360:  # 511: the ship does not know
        found["bow_deg"] = bow_deg
    if status is not None and int(status) < NO_STATUS:
        found["status"] = _WORD.sub(r"\1_\2", status.name).lower()
    return found


def _tags(sentence: AISSentence) -> dict[str, str | None]:
    """Returns the station and the time of a TAG block; nothing of one that is damaged."""
    block = sentence.tag_block
    if block is None:
        return {}
    try:
        block.init()
    except ValueError:  # without a checksum, or without a number in it
        return {}
    return {"s": block.source_station, "c": block.receiver_timestamp} if block.is_valid else {}


def _reception_ms(tags: dict[str, str | None], came_ms: int) -> int:
    """Returns when a station received the message: seconds, or milliseconds in some feeds; else when it came to us."""
    text = tags.get("c") or ""
    if not text.isascii() or not text.isdigit() or len(text) > MAX_TIME_DIGITS:
        return came_ms
    return int(text) * 1000 if int(text) < SECONDS_BELOW else int(text)
