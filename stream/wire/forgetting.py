"""The record by which workers hear that an entity is to be forgotten.

It lies in the pings topic, in every partition, because only senders know which one an entity is in:

    key      the entity's id
    value    None
    headers  ce_specversion 1.0, ce_type pathcast.forget.v1

From its offset on the entity is one that never was: its track, its state and its place in quarantine are gone, and its
next ping, if there is any, is its first. So what is forgotten depends on the log alone: whoever replays it, forgets at
the same place, and as a topic is deleted from its beginning, the record outlives the pings that it is about.

A record without a value and without these headers is a mistake of its sender, and forgets nothing. A worker older than
this record makes both the same dead letter, `empty`.
"""

from __future__ import annotations

from typing import Final

from stream.wire.record import MAX_ENTITY_ID_CHARS, Headers, Record

FORGOTTEN: Final = "forgotten"  # the code of its dead letter: each input record has one outcome
TYPE_HEADER: Final = "ce_type"
FORGET_TYPE: Final = b"pathcast.forget.v1"
FORGET_HEADERS: Final[Headers] = (("ce_specversion", b"1.0"), (TYPE_HEADER, FORGET_TYPE))


def forgets(record: Record) -> str | None:
    """Returns the entity that the record asks to forget; None if it asks for nothing."""
    if record.value is not None or not record.key or (TYPE_HEADER, FORGET_TYPE) not in record.headers:
        return None
    try:
        entity_id = record.key.decode()
    except UnicodeDecodeError:
        return None
    return entity_id if len(entity_id) <= MAX_ENTITY_ID_CHARS else None
