"""Reads aircraft.json of readsb and dump1090-fa: all aircraft that a receiver hears now.

    entity_id    hex, the address of 24 bits in lower case; ~ marks one that is not of the ICAO
    ts           now minus seen_pos: when the position was received. now is in seconds (milliseconds in readsb's API)
    lat, lon     degrees
    alt_m        alt_geom (above the ellipsoid), or else alt_baro (by pressure); feet. None for alt_baro "ground"
    speed_mps    gs, the speed over the ground in knots
    heading_deg  track, over the ground, degrees from true north
    trip_id      flight, the callsign
    category     category, the emitter's: A3, C1 and so on
    attrs        on_ground, registration, aircraft_type, squawk, and position_type: adsb_icao, mlat and so on

An aircraft without a position, and one whose last position is too old for readsb to show, is skipped. The format:
README-json.md of readsb (wiedehopf/readsb), and of dump1090 (flightaware/dump1090).
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from stream.adapters.live.json_messages import number
from stream.adapters.live.parsed import FOOT_M, KNOT_MPS, Parsed, Skip, ping_of, reject
from stream.adapters.live.snapshots import Sighting
from stream.wire import MAX_TEXT_CHARS, Reject
from stream.wire.ping_rules import SECONDS_BELOW

SOURCE: Final = "adsb"
ON_GROUND: Final = "ground"
# `seen_pos` and `now` are rounded, to 0.1 s by older versions: the same position seems to move in time by that much.
TOLERANCE_MS: Final = 250
_TEXTS: Final = {"r": "registration", "t": "aircraft_type", "squawk": "squawk", "type": "position_type"}


class _Document(msgspec.Struct):
    now: float
    aircraft: list[msgspec.Raw] | None = None
    ac: list[msgspec.Raw] | None = None  # what the API of readsb calls it


_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_AIRCRAFT: Final = msgspec.json.Decoder(dict[str, Any])


def read(raw: bytes, came_ms: int) -> list[Parsed]:
    """Returns a ping, a reject or a skip for each aircraft; one reject if it is no aircraft.json."""
    return [one.parsed for one in sightings(raw, came_ms)]


def sightings(raw: bytes, came_ms: int) -> list[Sighting]:
    """Does the same, and says of each which aircraft it is, and which part of the document."""
    try:
        document = _DOCUMENT.decode(raw)
    except msgspec.ValidationError as error:
        return [_no_snapshot(reject("bad_message", f"not an aircraft.json: {error}"), raw)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return [_no_snapshot(reject("invalid_json", f"not JSON: {error}"), raw)]
    aircraft = document.ac if document.aircraft is None else document.aircraft
    if aircraft is None:
        return [_no_snapshot(reject("bad_message", "not an aircraft.json: it has no list named aircraft"), raw)]
    now_s = document.now / 1000 if abs(document.now) >= SECONDS_BELOW else document.now
    return [_read_sighting(one, now_s, came_ms) for one in aircraft]


def _no_snapshot(found: Reject, raw: bytes) -> Sighting:
    return Sighting("", found.code, found, raw)


def _read_sighting(raw: msgspec.Raw, now_s: float, came_ms: int) -> Sighting:
    try:
        one = _AIRCRAFT.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        found = reject("wrong_type", f"an aircraft is no object: {error}")
        return Sighting("", found.code, found, _single_out(now_s, raw))
    who = one["hex"].strip().lower() if isinstance(one.get("hex"), str) else ""
    ts_ms = _ts_ms(now_s, number(one.get("seen_pos")))
    parsed = _parse(one, who, ts_ms, came_ms)
    if isinstance(parsed, Reject):
        return Sighting(who, parsed.code if ts_ms is None else ts_ms, parsed, _single_out(now_s, raw))
    return Sighting(who, ts_ms or 0, parsed)


def _ts_ms(now_s: float, age_s: float | None) -> int | None:
    ms = math.inf if age_s is None else (now_s - age_s) * 1000
    if not math.isfinite(ms):
        return None
    # A number below SECONDS_BELOW would pass for seconds; such a time is too old either way.
    return round(ms) if ms >= SECONDS_BELOW else min(round(ms), 0)


def _parse(one: dict[str, Any], who: str, ts_ms: int | None, came_ms: int) -> Parsed:
    if one.get("lat") is None and one.get("lon") is None:
        return Skip("no_position")
    if ts_ms is None:
        return reject("missing_field", "seen_pos absent: how old is the position?")
    fields = {
        "entity_id": who or None,
        "ts": ts_ms,
        "lat": one.get("lat"),
        "lon": one.get("lon"),
        "alt_m": _altitude_m(one),
        "speed_mps": _scale(one.get("gs"), KNOT_MPS),
        "heading_deg": number(one.get("track")),
        "trip_id": _text(one.get("flight")),
        "category": _text(one.get("category")),
        "source": SOURCE,
        "attrs": _attrs(one) or None,
    }
    return ping_of(fields, came_ms)


def _altitude_m(one: dict[str, Any]) -> float | None:
    geometric = _scale(one.get("alt_geom"), FOOT_M)
    return _scale(one.get("alt_baro"), FOOT_M) if geometric is None else geometric


def _attrs(one: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"on_ground": True} if one.get("alt_baro") == ON_GROUND else {}
    found |= {ours: text for theirs, ours in _TEXTS.items() if (text := _text(one.get(theirs))) is not None}
    return found


def _scale(given: Any, factor: float) -> float | None:
    plain = number(given)
    return None if plain is None else plain * factor


def _text(given: Any) -> str | None:
    text = given.strip() if isinstance(given, str) else ""
    return text if 0 < len(text) <= MAX_TEXT_CHARS else None


def _single_out(now_s: float, raw: msgspec.Raw) -> bytes:
    """Returns a document with one aircraft alone, which the reader reads alike."""
    return b'{"now":%s,"aircraft":[%s]}' % (msgspec.json.encode(now_s), bytes(raw))
