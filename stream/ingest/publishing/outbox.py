"""Publishes records in rounds, says at once when Kafka takes none, and connects again by itself.

While a round is on its way, the records that come gather for the next one. So a ping that comes alone leaves at once,
and many that come together leave in few large batches, in the order in which they came.

A round that the brokers have not acknowledged after ACK_S has failed, and its producer is thrown away: aiokafka's
idempotent producer would keep the round's batches for ever, publish them behind the sender's back when Kafka is there
again, and, if a partition had no leader when a batch became too old, have every later batch of it refused as out of
order (aiokafka issue 1017). A new producer has nothing of that. What the old one had sent may be there all the same, so
a record that is given again may be there twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from stream.config.security import PLAIN_KAFKA, KafkaSecurity, Refused, in_words, kafka_refusal
from stream.kafka.partitioner import hashed
from stream.wire import Headers

log: Final = logging.getLogger(__name__)

ACK_S: Final = 10.0  # a round that the brokers have not acknowledged by then counts as not taken
RETRY_S: Final = 1.0  # between two attempts to connect again
CLOSE_S: Final = 2.0  # for a producer whose broker is dead
MAX_WAITING: Final = 20_000  # records of callers that wait; beyond them it says at once that it is full
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024  # of their values
BATCH_BYTES: Final = 256 * 1024  # a batch of one partition; a broker takes 1 MB unless it is told otherwise
_NAMES: Final = 65_536  # of entities whose hash is remembered: 10 us each in Python, and 10 MB in all
# What aiokafka raises when brokers are away or refuse; a connection that cannot be opened is an OSError.
_hashed: Final = lru_cache(_NAMES)(hashed)
_FAILURES: Final = (KafkaError, TimeoutError, OSError)


class Unavailable(ConnectionError):
    """Kafka does not take records now. Nothing of what was given is acknowledged; give it again later."""


class OutgoingRecord(NamedTuple):
    """A record to publish."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(eq=False)
class _Round:
    items: list[OutgoingRecord] = field(default_factory=list)
    # None once all are acknowledged, else why they are not. Not an exception, which each caller would raise again.
    done: asyncio.Future[str | Refused | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Outbox:
    """Publishes what it is given. `start` it, and `close` it."""

    def __init__(
        self, bootstrap: str, topics: Sequence[str], *, security: KafkaSecurity = PLAIN_KAFKA, ack_s: float = ACK_S
    ) -> None:
        """`topics` are those that must be there before it calls Kafka available."""
        self.batch_bytes = BATCH_BYTES
        self._bootstrap = bootstrap
        self._topics = topics
        self._security = security
        self._ack_s = ack_s
        self._waiting = self._waiting_bytes = 0
        self._some = asyncio.Event()  # set while a round has gathered something
        self._room = asyncio.Event()  # set while there is room for more
        self._room.set()
        self._there = asyncio.Event()  # set while Kafka takes records
        self._there.set()
        self._why = ""  # it does not
        self._producer: AIOKafkaProducer | None = None
        self._work: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Returns how many records wait for an acknowledgement."""
        return self._waiting

    @property
    def is_available(self) -> bool:
        return self._there.is_set() and self._room.is_set()

    async def start(self) -> None:
        """Connects. Raises KafkaError, TimeoutError or OSError."""
        self._next = _Round()
        self._producer = await self._connect_producer()
        self._work = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Ends. What waits is not taken."""
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError):
                await self._work
        if self._producer is not None:
            await _discard(self._producer)

    async def put(self, items: Sequence[OutgoingRecord]) -> None:
        """Publishes items and returns when the brokers have acknowledged all of them.

        Raises Unavailable, and Refused if a broker denies access.
        """
        size = sum(len(item.value or b"") for item in items)
        assert self._work is not None, "it is not started"
        assert not self._work.done(), "it is closed, or broken"
        if not self._there.is_set():
            raise Unavailable(self._why)
        if self._waiting and not self._has_room(len(items), size):
            raise Unavailable(f"{self._waiting:,} records wait for Kafka already")
        ours = self._next
        ours.items += items
        self._some.set()
        self._wait_for(len(items), size)
        try:
            why = await asyncio.shield(ours.done)
        finally:
            self._wait_for(-len(items), -size)
        if isinstance(why, Refused):
            raise Refused(*why.args)
        if why is not None:
            raise Unavailable(why)

    async def wait_until_available(self) -> None:
        """Returns when Kafka takes records, and there is room for some."""
        while not self.is_available:
            await self._there.wait()
            await self._room.wait()

    def _has_room(self, more: int, more_bytes: int) -> bool:
        return self._waiting + more <= MAX_WAITING and self._waiting_bytes + more_bytes <= MAX_WAITING_BYTES

    def _wait_for(self, more: int, more_bytes: int) -> None:
        self._waiting += more
        self._waiting_bytes += more_bytes
        (self._room.set if self._has_room(0, 0) else self._room.clear)()

    # -- rounds, one after the other

    async def _run(self) -> None:
        ours = self._next
        try:
            while True:
                await self._some.wait()
                ours, self._next = self._next, _Round()
                self._some.clear()
                why = await self._publish(ours.items)
                ours.done.set_result(why)
                if why is not None:
                    await self._wait_for_kafka(str(why))
        finally:
            for one in (ours, self._next):
                if not one.done.done():
                    one.done.set_result("this process ends")

    async def _publish(self, items: Sequence[OutgoingRecord]) -> str | Refused | None:
        sent: list[asyncio.Future[Any]] = []
        until_s = time.monotonic() + self._ack_s
        try:
            async with asyncio.timeout(self._ack_s):
                await self._send(items, sent)
            # Not inside the timeout, which would cancel these, and then nobody would retrieve how they end.
            done, pending = await asyncio.wait(sent, timeout=max(until_s - time.monotonic(), 0.0))
            for one in done:
                one.result()
            if pending:
                raise TimeoutError(f"nothing acknowledged within {self._ack_s:g} s")
        except _FAILURES as error:
            refusal = kafka_refusal(self._bootstrap, self._security, error)
            return refusal or f"Kafka at {self._bootstrap} takes no records: {in_words(error)}"
        finally:
            for one in sent:
                one.add_done_callback(_retrieve)
        return None

    async def _send(self, items: Sequence[OutgoingRecord], sent: list[asyncio.Future[Any]]) -> None:
        assert self._producer is not None
        parts: dict[tuple[str, int], list[OutgoingRecord]] = {}
        counts: dict[str, int] = {}
        for number, item in enumerate(items):
            if item.topic not in counts:
                counts[item.topic] = len(await self._producer.partitions_for(item.topic))
            partition = (number if item.key is None else _hashed(item.key)) % counts[item.topic]
            parts.setdefault((item.topic, partition), []).append(item)
        for (topic, partition), ours in parts.items():
            for batch in _batches(self._producer, ours):
                # This waits until the previous batch is being sent; it need not have arrived.
                acknowledged = await self._producer.send_batch(batch, topic, partition=partition)
                sent.append(acknowledged)

    # -- while Kafka is away

    async def _wait_for_kafka(self, why: str) -> None:
        """Returns when a new producer is connected. Meanwhile nothing is taken."""
        began_s = time.monotonic()
        self._why = why
        self._there.clear()
        self._next.done.set_result(why)  # what has gathered has been waiting for longer than a round may take
        self._next = _Round()
        self._some.clear()
        log.warning("%s", why)
        assert self._producer is not None
        await _discard(self._producer)
        self._producer = None
        while self._producer is None:
            try:
                self._producer = await self._connect_producer()
            except _FAILURES as error:
                log.debug("not connected yet: %s", in_words(error))
                await asyncio.sleep(RETRY_S)
        self._there.set()
        log.info("Kafka at %s takes records again, after %.0f s", self._bootstrap, time.monotonic() - began_s)

    async def _connect_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap.split(","),
            **self._security.arguments(),
            acks="all",
            enable_idempotence=True,  # so that a retry within a round neither doubles nor reorders
            linger_ms=0,  # a round has gathered already
            max_batch_size=self.batch_bytes,
            request_timeout_ms=int(self._ack_s * 1000),
        )
        try:
            async with asyncio.timeout(self._ack_s):
                await producer.start()
                for topic in self._topics:
                    await producer.partitions_for(topic)
        except BaseException:
            await _discard(producer)
            raise
        return producer


async def _discard(producer: AIOKafkaProducer) -> None:
    """Closes a producer without waiting for what it still has to send."""
    producer._message_accumulator.fail_all(ProducerClosed())  # `stop` would wait for these, with a dead broker for ever
    with suppress(Exception):  # the sender's task may find that a batch was taken from it
        async with asyncio.timeout(CLOSE_S):
            await producer.stop()
    with suppress(Exception):
        await producer.client.close()


def _batches(producer: AIOKafkaProducer, items: Sequence[OutgoingRecord]) -> Iterator[Any]:
    batch = producer.create_batch()
    for item in items:
        what = {"key": item.key, "value": item.value, "headers": list(item.headers)}
        # None means that the batch is full; an empty batch takes any record, however large.
        while batch.append(timestamp=None, **what) is None:
            yield batch
            batch = producer.create_batch()
    yield batch


def _retrieve(future: asyncio.Future[Any]) -> None:
    """Asks for the error, which asyncio would complain about otherwise."""
    if not future.cancelled():
        future.exception()
