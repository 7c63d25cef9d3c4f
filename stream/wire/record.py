"""Kafka records as they come and as they go out, the names of the topics, and size limits."""

from __future__ import annotations

from typing import Final, NamedTuple

Headers = tuple[tuple[str, bytes], ...]
MAX_ENTITY_ID_CHARS: Final = 128
MAX_RECORD_BYTES: Final = 64 * 1024  # a ping is 100-500 bytes; attrs may carry some more, a megabyte is a mistake
MAX_DEAD_LETTER_BYTES: Final = 32 * 1024 * 1024  # limit of the dead letter topic: any input record fits, with headers
MAX_CONTEXT_BYTES: Final = 8 * 1024  # limit of a dead letter's context headers and framing; most are below 1 KB
NO_TIME_MS: Final = -1  # the timestamp of a record that has none, as Kafka writes it


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
        """The topic of what became of forecasts. No field, either: no worker needs it."""
        return f"{self.prefix}.scores.v1"

    @property
    def destinations(self) -> str:
        """The topic of where entities are to go. No field: only `pathcast arrivals` needs it, and the next one."""
        return f"{self.prefix}.destinations.v1"

    @property
    def arrivals(self) -> str:
        """The topic of when they arrive."""
        return f"{self.prefix}.arrivals.v1"

    @property
    def latest(self) -> str:
        """The compacted topic of newest forecasts. No field, either."""
        return f"{self.prefix}.latest.v1"

    @property
    def of_services(self) -> tuple[str, ...]:
        """The topics that are no fields."""
        return self.scores, self.latest, self.destinations, self.arrivals, self.models

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
