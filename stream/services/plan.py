"""Describes a service to its member: what it reads, and the unit of state that it keeps for each partition number."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stream.config.security import PLAIN_KAFKA, KafkaSecurity
from stream.kafka.log import Seen, Start
from stream.kafka.records.record_columns import Records
from stream.members.inputs import Inputs
from stream.wire import NO_TIME_MS, Headers, Outgoing, Record


class Taken(NamedTuple):
    """Holds what is known of a number that is about to be ours. The owner before us cannot change it any more."""

    number: int
    starts: Mapping[str, Start]  # where the records go on that nobody has folded, by topic
    metadata: str | None = None  # what the unit's `metadata` was where they go on; None: nothing is committed


class Unit(Protocol):
    """Keeps the state of a service for one number, in memory. It is dropped after a failure, and made anew."""

    @property
    def waiting(self) -> int:
        """Returns about how many records `take_outgoing` would return now."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Returns what became of the records, for the metrics."""

    @property
    def needed(self) -> Mapping[str, int]:
        """Returns the offsets, by topic, from which on a successor has to fold records again, although they are folded
        here; absent where it need not. They are committed in place of the later ones."""

    def fold(self, records: Records) -> None:
        """Takes the next records of one input, in the order of their offsets. It raises for no record, whatever is in
        it."""

    def take_outgoing(self, quiet_ms: int | None) -> list[Outgoing]:
        """Returns what is to be published of all that was folded, and has not been returned before.

        `quiet_ms` is a time, in ms UTC by this machine's clock, when no input had a record beyond those that were
        folded; None if that is unknown.
        """

    def metadata(self) -> str:
        """Returns what a successor needs beside the offsets, in one line of 3,900 bytes at most."""


Begin = Callable[[Taken], Awaitable[Unit]]


@dataclass(frozen=True)
class Plan:
    """States what a service reads, and as which group."""

    name: str  # of the service, one word: in metrics and log lines
    inputs: tuple[str, ...]  # topics with as many partitions as each other
    group: str
    bootstrap: str = "127.0.0.1:9092"
    every_s: float = 1.0  # between two transactions of a number; 0: after each poll that brought records
    once: bool = False  # up to the present end
    kafka: KafkaSecurity = PLAIN_KAFKA

    @property
    def reads(self) -> Inputs:
        return Inputs(self.inputs, self.bootstrap, self.kafka, self.once, self.group)


def dump_metadata(metadata: str, seen: Seen) -> str:
    """Returns the metadata of a commit: the unit's, for its first input, and what is known of the log. A broker takes
    4,096 bytes."""
    return f"{metadata}\n{seen.text}"


def parts_of(text: str) -> tuple[str, Seen]:
    """Returns what `committed_text` was given. Earlier releases committed the unit's metadata alone."""
    metadata, _, seen = text.partition("\n")
    return metadata, Seen.of(seen)


def answer(topic: str, number: int, key: str, value: bytes | None, headers: Headers = ()) -> Outgoing:
    """Returns a record for the topic's partition of this number; None as its value is a tombstone."""
    return Outgoing(topic, key.encode(), value, headers, Record("", number, 0, NO_TIME_MS, None, None))
