"""The rules that every ping must follow, whatever format it came in.

A record of the pings topic (`stream.tracks.clean`) and a message of another format (`stream.adapters.live`) are checked
here alike, so that what an adapter publishes is accepted by a worker.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from stream.wire.dead_letters import Reject
from stream.wire.escape import shown
from stream.wire.fields import SECONDS_BELOW
from stream.wire.messages import MAX_TS_MS, MIN_TS_MS, Ping
from stream.wire.record import MAX_ENTITY_ID_CHARS

MAX_AHEAD_MS: Final = 24 * 3600 * 1000  # a day: local time sent as UTC is off by 14 hours at most
MARKED_INVALID: Final = Reject("marked_invalid", "the receiver marked the fix invalid")

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def checked(ping: Ping, published_ms: int) -> Ping | Reject:
    """Returns the ping with its time in milliseconds and its heading below 360, or the first rule that it breaks.

    `published_ms` is when the ping came, in milliseconds since 1970 UTC, or NO_TIME_MS if that is not known: then its
    time is checked against the absolute bounds alone. Whether the receiver marked it invalid is left to the caller.
    """
    ts, lat, lon = ping.ts, ping.lat, ping.lon
    if -SECONDS_BELOW < ts < SECONDS_BELOW:
        ts *= 1000
        ping = msgspec.structs.replace(ping, ts=ts)
    if not -90.0 <= lat <= 90.0:
        return Reject("lat_out_of_range", f"lat is {shown(lat)}, expected -90..90")
    if not -180.0 <= lon <= 180.0:
        return Reject("lon_out_of_range", f"lon is {shown(lon)}, expected -180..180")
    if lat == 0.0 and lon == 0.0:
        return Reject("null_island", "lat and lon are both exactly 0: does the receiver have a fix?")
    if not MIN_TS_MS <= ts <= MAX_TS_MS or ts > published_ms + MAX_AHEAD_MS > MAX_AHEAD_MS:
        return _out_of_time(ts, published_ms)
    if (reject := _id_reject(ping.entity_id)) is not None:
        return reject
    return msgspec.structs.replace(ping, heading_deg=0.0) if ping.heading_deg == 360.0 else ping


def _out_of_time(ts: int, published_ms: int) -> Reject:
    # A record without a timestamp (Kafka writes -1) is checked against the absolute bounds alone.
    if ts < MIN_TS_MS:
        return Reject(
            "ts_too_old", f"ts is {shown(ts)} ms, before the year 2000 (MIN_TS_MS in stream/wire/messages.py)"
        )
    if ts > MAX_TS_MS:
        return Reject(
            "ts_in_future", f"ts is {shown(ts)} ms, after the year 2099 (MAX_TS_MS in stream/wire/messages.py)"
        )
    published = f"the record was published at {published_ms} ms"
    ahead = f"at most {MAX_AHEAD_MS} ms ahead are taken (MAX_AHEAD_MS in stream/wire/ping_rules.py)"
    return Reject("ts_in_future", f"ts is {shown(ts)} ms, {published}; {ahead}")


def _id_reject(entity_id: str) -> Reject | None:
    if not entity_id.isprintable() and _CONTROL.search(entity_id):
        return Reject("bad_entity_id", f"entity_id has control characters: {shown(entity_id)}")
    if not 0 < len(entity_id) <= MAX_ENTITY_ID_CHARS:
        limit = f"1..{MAX_ENTITY_ID_CHARS} (MAX_ENTITY_ID_CHARS in stream/wire/record.py)"
        return Reject("bad_entity_id", f"entity_id has {len(entity_id)} characters, expected {limit}")
    return None
