"""Kafka records as they come and as they go out, the names of the topics, size limits, and the record by which workers
hear that an entity is to be forgotten.

That record lies in the pings topic, in every partition, because only senders know which one an entity is in:

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

from typing import Final, NamedTuple

Headers = tuple[tuple[str, bytes], ...]
MAX_ENTITY_ID_CHARS: Final = 128
MAX_RECORD_BYTES: Final = 64 * 1024  # a ping is 100-500 bytes; attrs may carry some more, a megabyte is a mistake
MAX_DEAD_LETTER_BYTES: Final = 32 * 1024 * 1024  # limit of the dead letter topic: any input record fits, with headers
MAX_CONTEXT_BYTES: Final = 8 * 1024  # limit of a dead letter's context headers and framing; most are below 1 KB
NO_TIME_MS: Final = -1  # the timestamp of a record that has none, as Kafka writes it
FORGOTTEN: Final = "forgotten"  # the code of its dead letter: each input record has one outcome
TYPE_HEADER: Final = "ce_type"
FORGET_TYPE: Final = b"pathcast.forget.v1"
FORGET_HEADERS: Final[Headers] = (("ce_specversion", b"1.0"), (TYPE_HEADER, FORGET_TYPE))


class Topics(NamedTuple):
    """The topic names under one prefix: those that every worker needs, and `models`."""

    pings: str
    forecasts: str
    gapfills: str
    dead_letters: str

    @classmethod
    def of(cls, prefix: str = "pathcast") -> Topics:
        pings = f"{prefix}.pings.v1"
        return cls(pings, f"{prefix}.forecasts.v1", f"{prefix}.gapfills.v1", f"{pings}.dlq")

    @property
    def models(self) -> str:
        """The topic that says which versions serve. No field, as only atlases need it: whoever goes through the topics
        does not create it."""
        return f"{self.prefix}.models.v1"

    @property
    def scores(self) -> str:
        """The topic of scores and drifts. No field, either: no worker needs it."""
        return f"{self.prefix}.scores.v1"

    @property
    def destinations(self) -> str:
        """The topic of destinations and geofences. No field: only `pathcast arrivals` needs it, and the next one."""
        return f"{self.prefix}.destinations.v1"

    @property
    def arrivals(self) -> str:
        """The topic of arrivals."""
        return f"{self.prefix}.arrivals.v1"

    @property
    def latest(self) -> str:
        """The compacted topic of newest forecasts. No field, either."""
        return f"{self.prefix}.latest.v1"

    @property
    def trips(self) -> str:
        """The compacted topic of trips under way. No field, either."""
        return f"{self.prefix}.trips.v1"

    @property
    def of_services(self) -> tuple[str, ...]:
        """The topics that are no fields."""
        return self.scores, self.latest, self.destinations, self.arrivals, self.trips, self.models

    @property
    def prefix(self) -> str:
        return self.pings.removesuffix(".pings.v1")


class Record(NamedTuple):
    """One Kafka record as it came, with no field interpreted."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int  # set by the producer or the broker, NO_TIME_MS if absent; `clean` checks event times against it
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Outgoing(NamedTuple):
    """One record to publish; `src` is the input record that it answers."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    src: Record


def parse_forget(record: Record) -> str | None:
    """Returns the entity that the record asks to forget; None if it asks for nothing."""
    if record.value is not None or not record.key or (TYPE_HEADER, FORGET_TYPE) not in record.headers:
        return None
    try:
        entity_id = record.key.decode()
    except UnicodeDecodeError:
        return None
    return entity_id if len(entity_id) <= MAX_ENTITY_ID_CHARS else None
