"""Makes and reads dead letters, which keep a record that has no forecast, with the reason.

The codes are stable, because consumers switch on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from stream.wire.record import (
    MAX_CONTEXT_BYTES,
    MAX_DEAD_LETTER_BYTES,
    MAX_ENTITY_ID_CHARS,
    MAX_RECORD_BYTES,
    Outgoing,
    Record,
)


class Reject(NamedTuple):
    """The reason why an input record has no forecast.

    `code` is a stable slug from CODES; `message` is for people; `retryable`: the same record may get a forecast later;
    `unread`: the decision was made without the entity's stored track, which could not be read.
    """

    code: str
    message: str
    stage: str = "clean"
    retryable: bool = False
    unread: bool = False


# Every code that a dead letter can carry, and what it tells the sender. Stable: consumers switch on them.
CODES: Final[dict[str, str]] = {
    "unreadable": "the batch of the record is damaged, or unfolds to more than a worker reads",
    "empty": "the record has no value",
    "forgotten": "the record asks to forget its entity (`pathcast forget`), which is done",
    "too_large": f"the value is larger than {MAX_RECORD_BYTES} bytes",
    "schema_framed": "the value begins with the framing of a Schema Registry, plain JSON is expected",
    "invalid_utf8": "the value or the key is not UTF-8",
    "invalid_json": "the value is not JSON, or not one JSON object",
    "bad_message": "a message of another system is not of its format, or is damaged",
    "too_deep": "the value nests deeper than any ping",
    "no_position": "a message of another system (--map) that holds no position, such as a last will",
    "several_positions": "a message of another system (--map) with several positions, and one record holds one ping",
    "missing_field": "entity_id, ts, lat or lon is absent",
    "wrong_type": "entity_id, ts, lat or lon has a type that it must not have",
    "bad_entity_id": f"entity_id is empty, longer than {MAX_ENTITY_ID_CHARS} characters, or has control characters",
    "key_mismatch": "the record's key is absent or is not its entity_id, so its partition has no single owner",
    "bad_timestamp": "ts is neither milliseconds nor seconds since 1970 nor an RFC 3339 time",
    "ts_too_old": "ts is before the year 2000",
    "ts_in_future": "ts is more than a day after the record was published",
    "not_finite": "ts, lat or lon is NaN or infinite",
    "lat_out_of_range": "lat is outside -90..90",
    "lon_out_of_range": "lon is outside -180..180",
    "null_island": "lat and lon are both exactly 0: a receiver without a fix",
    "bad_field": "an optional field is outside its range: only letters of earlier releases, now the field is dropped",
    "marked_invalid": "the receiver itself marked the fix invalid",
    "too_late": "older than the allowed lateness, or than all that a full window still holds",
    "impossible_jump": "the implied speed is beyond anything that moves on the ground or at sea",
    "step_failed": "the program or the model raised at this record, which is no fault of its sender",
    "entity_quota_exceeded": "a new entity, and its partition has as many already as the store is to hold",
    "entity_quarantined": "an earlier record of the entity is a step_failed, and program and model are the same still",
}


JSON_PINGS: Final = "json"  # the adapter of records of the pings topic; others are of `stream.ingest`
ERROR_HEADER_PREFIX: Final = "__pathcast.errors."
UNREAD_TRACK: Final = "unread"  # value of the context header `track` of a dead letter: see Reject
UNREAD: Final = (
    "__pathcast.unread"  # header with the reason, of a record whose batch could not be unpacked (stream.kafka.fetcher)
)


def dead_letter(
    topic: str,
    src: Record,
    reject: Reject,
    *,
    version: str,
    adapter: str = JSON_PINGS,
    limit_bytes: int = MAX_DEAD_LETTER_BYTES,
) -> Outgoing:
    """Returns the dead letter of a record: key, value and headers byte-identical, with context headers appended.

    `adapter` names the format of the value, `limit_bytes` is the largest record that the topic takes.

    A record that does not fit into the dead letter topic, as a compressed one may not, or that could not be unpacked at
    all, stays in its topic: its letter has context headers alone, among them `omitted` with its size, where that is
    known. If the brokers refused the letter, that would stop the worker.
    """
    size = len(src.key or b"") + len(src.value or b"") + sum(_header_bytes(*header) for header in src.headers)
    unread = explain_unread(src) is not None
    fits = size <= limit_bytes - MAX_CONTEXT_BYTES and not unread
    context: Iterable[tuple[str, str]] = (
        ("topic", src.topic),
        ("partition", str(src.partition)),
        ("offset", str(src.offset)),
        ("timestamp", str(src.timestamp_ms)),
        ("stage", reject.stage),
        ("code", reject.code),
        ("message", reject.message),
        ("adapter", adapter),
        ("version", version),
        ("retryable", "true" if reject.retryable else "false"),
        *(() if fits else (("omitted", "unknown" if unread else str(size)),)),
        *((("track", UNREAD_TRACK),) if reject.unread else ()),
    )
    extra = tuple((ERROR_HEADER_PREFIX + name, text.encode()) for name, text in context)
    if not fits:
        return Outgoing(topic, None, None, extra, src)
    return Outgoing(topic, src.key, src.value, (*src.headers, *extra), src)


def context_of(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Returns what the context headers of a dead letter say, by their names without the prefix; nothing for a record
    that has none. If the rejected record itself had a header of such a name, ours is the last one.
    """
    return {
        name.removeprefix(ERROR_HEADER_PREFIX): (value or b"").decode(errors="replace")
        for name, value in headers
        if name.startswith(ERROR_HEADER_PREFIX)
    }


def code_of(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """Returns the code of the dead letter with these headers; None if they are not those of a dead letter."""
    code = dict(headers).get(ERROR_HEADER_PREFIX + "code")  # if the sender wrote that name, too, ours is the last one
    return None if code is None else code.decode(errors="replace")


def explain_unread(record: Record) -> str | None:
    """Returns the reason if the record stands for one whose batch could not be unpacked (`stream.kafka.fetcher`)."""
    if record.key is not None or record.value is not None:
        return None
    return next(((value or b"").decode(errors="replace") for name, value in record.headers if name == UNREAD), None)


def _header_bytes(name: str, value: bytes | None) -> int:
    """Returns the most bytes that a header may take: four per character, and its framing."""
    return 4 * len(name) + len(value or b"") + 10
