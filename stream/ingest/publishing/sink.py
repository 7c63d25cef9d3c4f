"""Publishes what adapters have read: pings to the pings topic, rejects to the dead letter topic.

`take` returns when the brokers have acknowledged all that it was given, so that a transport can acknowledge to its
source what is safe. It may put a ping twice, after an answer that was lost; a worker drops the second as a duplicate.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from aiokafka.errors import KafkaError

from stream.adapters.live.parsed import Parsed, Skip
from stream.config.security import PLAIN_KAFKA, KafkaSecurity, kafka_refusal
from stream.ingest.publishing.outbox import ACK_S, BATCH_BYTES, Outbox, OutgoingRecord, Unavailable
from stream.kafka import admin
from stream.tracing import TRACEPARENT
from stream.wire import MAX_DEAD_LETTER_BYTES, Ping, Record, Reject, Topics, dead_letter, dumps

if TYPE_CHECKING:  # who does not trace does not import it
    from stream.tracing.requests import Publishing, Request, RequestTracer

__all__ = ["Sink", "TakenCounts", "Unavailable", "merge_rejects"]

NO_OFFSET: Final = -1  # of the dead letter of a message that never was a record


def merge_rejects(parsed: Sequence[Parsed]) -> Iterator[Ping | Reject]:
    """Yields the pings, and the first reject of each code, which says how many more there are."""
    counts = Counter(one.code for one in parsed if isinstance(one, Reject))
    seen: set[str] = set()
    for one in parsed:
        if isinstance(one, Skip) or (isinstance(one, Reject) and one.code in seen):
            continue
        if isinstance(one, Reject):
            seen.add(one.code)
            more = counts[one.code] - 1
            yield one._replace(message=f"{one.message}; and {more} more {one.code} in the message") if more else one
        else:
            yield one


@dataclass
class TakenCounts:
    """The counts of what a sink was given so far."""

    pings: int = 0
    rejects: Counter[str] = field(default_factory=Counter)  # by code
    skips: Counter[str] = field(default_factory=Counter)  # by why
    refused: int = 0  # calls of `take` that raised

    def __add__(self, other: TakenCounts) -> TakenCounts:
        return TakenCounts(
            self.pings + other.pings,
            self.rejects + other.rejects,
            self.skips + other.skips,
            self.refused + other.refused,
        )

    def in_words(self) -> str:
        """Returns the counts in one line, for the log."""
        more = [_list_counts("rejects", self.rejects), _list_counts("skips", self.skips)]
        refused = f", {self.refused:,} messages not taken" if self.refused else ""
        return f"{self.pings:,} pings{''.join(more)}{refused}"

    def add(self, parsed: Sequence[Parsed]) -> None:
        for one in parsed:
            if isinstance(one, Ping):
                self.pings += 1
            elif isinstance(one, Reject):
                self.rejects[one.code] += 1
            else:
                self.skips[one.why] += 1


class Sink:
    """Publishes what adapters have read. Use it as an async context manager."""

    def __init__(
        self,
        bootstrap: str,
        topics: Topics,
        adapter: str,
        *,
        security: KafkaSecurity = PLAIN_KAFKA,
        ack_s: float = ACK_S,
        tracer: RequestTracer | None = None,
    ) -> None:
        """`adapter` names the format, in the dead letters. `ack_s` is how long the brokers may take to acknowledge.
        `tracer`: None if nothing is traced."""
        self.tracer = tracer
        self.by_adapter = {adapter: TakenCounts()}
        self._bootstrap = bootstrap
        self._topics = topics
        self._adapter = adapter
        self._security = security
        self._version = version("pathcast")
        self._letter_bytes = MAX_DEAD_LETTER_BYTES
        self._outbox = Outbox(bootstrap, (topics.pings, topics.dead_letters), security=security, ack_s=ack_s)

    async def __aenter__(self) -> Sink:
        """Connects. Raises Refused if a broker denies access, ConnectionError if none answers, ValueError if a topic is
        missing."""
        limits = await asyncio.to_thread(self._largest_batches)
        self._letter_bytes = limits.get(self._topics.dead_letters, MAX_DEAD_LETTER_BYTES)
        self._outbox.batch_bytes = min(BATCH_BYTES, *limits.values()) if limits else BATCH_BYTES
        try:
            await self._outbox.start()
        except (KafkaError, OSError) as error:
            refusal = kafka_refusal(self._bootstrap, self._security, error)
            raise refusal or admin.unreachable(self._bootstrap, error) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._outbox.close()

    @property
    def is_available(self) -> bool:
        """Returns whether Kafka took the last records that it was given, and there is room for more."""
        return self._outbox.is_available

    @property
    def taken(self) -> TakenCounts:
        """Returns the counts of all adapters together."""
        return sum(self.by_adapter.values(), TakenCounts())

    def counts_of(self, adapter: str | None = None) -> TakenCounts:
        """Returns the counts of one adapter, the sink's own if none is named; a transport may add to its skips."""
        return self.by_adapter.setdefault(self._adapter if adapter is None else adapter, TakenCounts())

    @property
    def waiting(self) -> int:
        """Returns how many records wait for an acknowledgement."""
        return self._outbox.waiting

    async def take(
        self,
        parsed: Sequence[Parsed],
        raw: bytes,
        origin: str,
        *,
        adapter: str | None = None,
        request: Request | None = None,
    ) -> None:
        """Publishes pings and rejects, and returns when the brokers have acknowledged all of them.

        Calls may overlap, and should where messages come fast: what comes while Kafka writes leaves together.

        `raw` is the message that they were read from, which a dead letter for each code holds byte-identical; `origin`
        says where it came from, such as "http:/webhook/samsara" or "mqtt:owntracks/jo/phone", and must hold no secret.
        `adapter` names its format, where one transport brings several; without it, that is the sink's own. `request`
        brought it, if that is traced.

        Raises Unavailable, at once while Kafka is known to be away, and Refused if a broker denies access.
        """
        adapter = self._adapter if adapter is None else adapter
        taken = self.counts_of(adapter)
        items = [self._make_item(one, raw, origin, adapter) for one in merge_rejects(parsed)]
        publishing = None
        if self.tracer is not None:
            publishing = self.tracer.begin_publishing(request)
            items = [self._add_trace(item, publishing) for item in items]
        if items:
            try:
                await self._outbox.put(items)
            except (ConnectionError, RuntimeError):
                taken.refused += 1
                if publishing is not None:
                    publishing.end(self._topics.pings, adapter, failed=True)
                raise
        if publishing is not None:
            publishing.end(self._topics.pings, adapter)
        taken.add(parsed)

    async def wait_until_available(self) -> None:
        """Returns when Kafka takes records, and there is room for some: for a transport that stops reading
        meanwhile."""
        await self._outbox.wait_until_available()

    def _largest_batches(self) -> dict[str, int]:
        with admin.connect(self._bootstrap, self._security) as client:
            names = (self._topics.pings, self._topics.dead_letters)
            for topic in names:
                admin.partitions_of(client, topic)
            return admin.largest_batches(client, names)

    def _add_trace(self, item: OutgoingRecord, publishing: Publishing) -> OutgoingRecord:
        """Returns a ping with the header of its trace, if it is sampled."""
        if item.topic != self._topics.pings or item.key is None:
            return item
        header = publishing.header(item.key.decode())
        return item if header is None else item._replace(headers=((TRACEPARENT, header),))

    def _make_item(self, one: Ping | Reject, raw: bytes, origin: str, adapter: str) -> OutgoingRecord:
        if isinstance(one, Ping):
            return OutgoingRecord(self._topics.pings, one.entity_id.encode(), dumps(one))
        src = Record(origin, 0, NO_OFFSET, time.time_ns() // 1_000_000, None, raw)
        letter = dead_letter(
            self._topics.dead_letters,
            src,
            one,
            version=self._version,
            adapter=adapter,
            limit_bytes=self._letter_bytes,
        )
        return OutgoingRecord(letter.topic, letter.key, letter.value, letter.headers)


def _list_counts(name: str, counts: Counter[str]) -> str:
    each = ", ".join(f"{one} {count:,}" for one, count in counts.most_common())
    return f", {counts.total():,} {name} ({each})" if counts else ""
